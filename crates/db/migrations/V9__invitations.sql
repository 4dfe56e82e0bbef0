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

-- Invitations to shared spaces, by user id or by address. An invitation that has ended keeps its row until it would have
-- expired, so that a repeated request finds what it did.
CREATE TABLE invitations (
    id uuid PRIMARY KEY,
    space_id uuid NOT NULL REFERENCES spaces (id) ON DELETE CASCADE,
    -- Who is invited: one of the two. The address is in lower case, and may have no account yet.
    user_id text,
    email text,
    role text NOT NULL CHECK (role IN ('owner', 'editor', 'viewer')),
    inviter_id text NOT NULL,
    state text NOT NULL CHECK (state IN ('pending', 'accepted', 'declined', 'withdrawn')),
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    CHECK ((user_id IS NULL) <> (email IS NULL))
);
CREATE UNIQUE INDEX invitations_pending_user ON invitations (space_id, user_id) WHERE state = 'pending';
CREATE UNIQUE INDEX invitations_pending_email ON invitations (space_id, email) WHERE state = 'pending';
CREATE INDEX invitations_pending ON invitations (space_id, id) WHERE state = 'pending';
CREATE INDEX invitations_user_id ON invitations (user_id, id);
CREATE INDEX invitations_email ON invitations (email, id);
CREATE INDEX invitations_inviter_id ON invitations (inviter_id);
CREATE INDEX invitations_expires_at ON invitations (expires_at);

-- Users who want no more invitations of somebody. The inviter does not learn of it: further invitations are made as usual,
-- and not shown.
CREATE TABLE refused_inviters (
    user_id text NOT NULL,
    inviter_id text NOT NULL,
    refused_at timestamptz NOT NULL,
    PRIMARY KEY (user_id, inviter_id)
);
CREATE INDEX refused_inviters_inviter_id ON refused_inviters (inviter_id);

-- A user erases the account: the row is marked at once, and deleted when nothing names the user any more.
ALTER TABLE users ADD COLUMN erased_at timestamptz;
CREATE INDEX users_erased_at ON users (erased_at) WHERE erased_at IS NOT NULL;

-- Users whose rows are deleted, for as long as a token of theirs may be valid: SHA-256 of the user id.
CREATE TABLE erased_users (
    hash bytea PRIMARY KEY CHECK (octet_length(hash) = 32),
    erased_at timestamptz NOT NULL
);

-- What names a user.
CREATE INDEX changes_user_id ON changes (user_id);
CREATE INDEX changes_member_id ON changes (member_id) WHERE member_id IS NOT NULL;
CREATE INDEX versions_user_id ON versions (user_id);
CREATE INDEX spaces_deleted_by ON spaces (deleted_by) WHERE deleted_by IS NOT NULL;

-- As before, and SY003 if the user has erased the account.
CREATE OR REPLACE FUNCTION admit(caller text, known_epoch uuid) RETURNS boolean LANGUAGE plpgsql STABLE AS $$
BEGIN
    IF EXISTS (SELECT FROM users u WHERE u.user_id = caller AND u.blocked_at IS NOT NULL) THEN
        RAISE EXCEPTION 'the user is blocked' USING ERRCODE = 'SY001';
    END IF;
    IF EXISTS (SELECT FROM users u WHERE u.user_id = caller AND u.erased_at IS NOT NULL)
        OR EXISTS (SELECT FROM erased_users e WHERE e.hash = sha256(convert_to(caller, 'UTF8'))) THEN
        RAISE EXCEPTION 'the user has erased the account' USING ERRCODE = 'SY003';
    END IF;
    IF known_epoch IS NOT NULL AND NOT EXISTS (SELECT FROM history h WHERE h.epoch = known_epoch) THEN
        RAISE EXCEPTION 'the epoch is not the current one' USING ERRCODE = 'SY002';
    END IF;
    RETURN true;
END
$$;
