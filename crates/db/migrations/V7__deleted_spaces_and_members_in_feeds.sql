-- A deleted space can be restored for a time. Its members keep their rows, so that it comes back as it was.
ALTER TABLE spaces ADD COLUMN deleted_at timestamptz;
ALTER TABLE spaces ADD COLUMN deleted_by text;

-- The members of spaces that are not deleted: those who have access.
CREATE VIEW active_members AS
SELECT m.space_id, m.user_id, m.role, m.added_at
FROM members m
JOIN spaces s ON s.id = m.space_id
WHERE s.deleted_at IS NULL;

-- What a MEMBER_* change is about, and the name of a SPACE_RENAMED change.
ALTER TABLE changes ADD COLUMN member_id text;
ALTER TABLE changes ADD COLUMN space_name text;

-- NOT VALID, so that no table is read under the lock: every row satisfied the narrower former constraint.
ALTER TABLE changes DROP CONSTRAINT changes_event_type_check;
ALTER TABLE changes ADD CONSTRAINT changes_event_type_check CHECK (
    event_type IN (
        'FILE_UPDATED', 'FILE_MOVED', 'FILE_DELETED', 'SPACE_SHARED', 'SPACE_LEFT', 'SPACE_RENAMED', 'SPACE_DELETED',
        'SPACE_RESTORED', 'MEMBER_CHANGED', 'MEMBER_REMOVED'
    )
) NOT VALID;
ALTER TABLE changes ADD CONSTRAINT changes_member CHECK (event_type NOT LIKE 'MEMBER%' OR member_id IS NOT NULL) NOT VALID;
ALTER TABLE changes ADD CONSTRAINT changes_space_name CHECK (event_type <> 'SPACE_RENAMED' OR space_name IS NOT NULL) NOT VALID;

-- A feed keeps the changes of files and spaces that are gone.
ALTER TABLE changes DROP CONSTRAINT changes_file_id_fkey;
ALTER TABLE changes DROP CONSTRAINT changes_subject_space_id_fkey;
