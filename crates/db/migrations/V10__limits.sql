-- Counters live in rows that the statements lock anyway, so a limit is checked without counting rows.
--
-- Of a user: pending uploads, and the changes since the beginning of the current minute. The maximums replace the stack's
-- parameters for this user.
ALTER TABLE users ADD COLUMN pending_uploads integer NOT NULL DEFAULT 0;
ALTER TABLE users ADD COLUMN changes integer NOT NULL DEFAULT 0;
ALTER TABLE users ADD COLUMN changes_since timestamptz;
ALTER TABLE users ADD COLUMN max_pending_uploads bigint;
ALTER TABLE users ADD COLUMN max_changes_per_minute bigint;
ALTER TABLE users ADD COLUMN max_spaces bigint;

-- Replaces the stack's parameter for the space; bytes has the use.
ALTER TABLE spaces ADD COLUMN max_bytes bigint;

-- Of a personal space: the number of shared spaces that its owner is a member of.
ALTER TABLE spaces ADD COLUMN memberships integer NOT NULL DEFAULT 0;

-- Who has deleted files, for erasing a person.
CREATE INDEX files_deleted_by ON files (deleted_by) WHERE deleted_by IS NOT NULL;

-- By triggers, since the release that still serves writes these tables too; once per statement, as for member_count.
CREATE FUNCTION count_pending_uploads() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        UPDATE users u
        SET pending_uploads = u.pending_uploads + c.uploads
        FROM (SELECT user_id, count(*) AS uploads FROM new_uploads WHERE state = 'pending' GROUP BY user_id) c
        WHERE u.user_id = c.user_id;
    ELSE
        UPDATE users u
        SET pending_uploads = u.pending_uploads + c.uploads
        FROM (
            SELECT n.user_id, sum((n.state = 'pending')::integer - (o.state = 'pending')::integer) AS uploads
            FROM new_uploads n
            JOIN old_uploads o ON o.id = n.id
            GROUP BY n.user_id
        ) c
        WHERE u.user_id = c.user_id AND c.uploads <> 0;
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER uploads_opened AFTER INSERT ON uploads
    REFERENCING NEW TABLE AS new_uploads FOR EACH STATEMENT EXECUTE FUNCTION count_pending_uploads();
CREATE TRIGGER uploads_ended AFTER UPDATE ON uploads
    REFERENCING OLD TABLE AS old_uploads NEW TABLE AS new_uploads FOR EACH STATEMENT EXECUTE FUNCTION count_pending_uploads();

CREATE FUNCTION count_memberships() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        UPDATE spaces p
        SET memberships = p.memberships + c.members
        FROM (
            SELECT m.user_id, count(*) AS members
            FROM new_members m
            JOIN spaces s ON s.id = m.space_id AND s.kind = 'shared'
            GROUP BY m.user_id
        ) c
        WHERE p.owner_id = c.user_id;
    ELSE
        UPDATE spaces p
        SET memberships = p.memberships - c.members
        FROM (
            SELECT m.user_id, count(*) AS members
            FROM old_members m
            JOIN spaces s ON s.id = m.space_id AND s.kind = 'shared'
            GROUP BY m.user_id
        ) c
        WHERE p.owner_id = c.user_id;
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER memberships_begun AFTER INSERT ON members
    REFERENCING NEW TABLE AS new_members FOR EACH STATEMENT EXECUTE FUNCTION count_memberships();
CREATE TRIGGER memberships_ended AFTER DELETE ON members
    REFERENCING OLD TABLE AS old_members FOR EACH STATEMENT EXECUTE FUNCTION count_memberships();

UPDATE users u
SET pending_uploads = c.uploads
FROM (SELECT user_id, count(*) AS uploads FROM uploads WHERE state = 'pending' GROUP BY user_id) c
WHERE u.user_id = c.user_id;
UPDATE spaces p
SET memberships = c.members
FROM (
    SELECT m.user_id, count(*) AS members
    FROM members m
    JOIN spaces s ON s.id = m.space_id AND s.kind = 'shared'
    GROUP BY m.user_id
) c
WHERE p.owner_id = c.user_id;

-- True if a use is within a maximum. Otherwise the statement fails with SQLSTATE SY004, and its detail names the limit, the
-- maximum and the seconds until the use falls, or 0 if it does not fall by itself. A failed statement changes nothing.
CREATE FUNCTION within(limit_name text, used bigint, maximum bigint, retry_after bigint) RETURNS boolean LANGUAGE plpgsql STABLE AS $$
BEGIN
    IF used > maximum THEN
        RAISE EXCEPTION 'the limit % is exceeded', limit_name
            USING ERRCODE = 'SY004', DETAIL = limit_name || ' ' || maximum || ' ' || retry_after;
    END IF;
    RETURN true;
END
$$;
