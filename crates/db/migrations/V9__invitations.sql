-- Changes of a space in its own feed are about no other space. NOT VALID, so that no table is read under the lock: every
-- row satisfied the narrower former constraint.
ALTER TABLE changes DROP CONSTRAINT changes_check1;
ALTER TABLE changes ADD CONSTRAINT changes_subject_space CHECK (
    event_type NOT IN ('SPACE_SHARED', 'SPACE_LEFT', 'SPACE_INVITED') OR subject_space_id IS NOT NULL
) NOT VALID;

-- SPACE_INVITED is new.
ALTER TABLE changes DROP CONSTRAINT changes_event_type_check;
ALTER TABLE changes ADD CONSTRAINT changes_event_type_check CHECK (
    event_type IN (
        'FILE_UPDATED', 'FILE_MOVED', 'FILE_DELETED', 'SPACE_SHARED', 'SPACE_LEFT', 'SPACE_INVITED', 'SPACE_RENAMED',
        'SPACE_DELETED', 'SPACE_RESTORED', 'MEMBER_CHANGED', 'MEMBER_REMOVED'
    )
) NOT VALID;
