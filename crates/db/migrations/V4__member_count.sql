-- How many members a space has, so that its limit is checked without counting them.
--
-- By trigger, since the release that still serves adds and removes members too. Once per statement: a row at a time, adding many members in one
-- transaction would leave as many versions of the space's row.
ALTER TABLE spaces ADD COLUMN member_count integer NOT NULL DEFAULT 0 CHECK (member_count >= 0);

CREATE FUNCTION count_added_members() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE spaces s
    SET member_count = s.member_count + added.members
    FROM (SELECT space_id, count(*) AS members FROM added_members GROUP BY space_id) added
    WHERE s.id = added.space_id;
    RETURN NULL;
END
$$;
CREATE FUNCTION count_removed_members() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE spaces s
    SET member_count = s.member_count - removed.members
    FROM (SELECT space_id, count(*) AS members FROM removed_members GROUP BY space_id) removed
    WHERE s.id = removed.space_id;
    RETURN NULL;
END
$$;
-- These wait for all who write members and keep them away until the end of the migration, so that the count below misses nobody.
CREATE TRIGGER members_added AFTER INSERT ON members
    REFERENCING NEW TABLE AS added_members FOR EACH STATEMENT EXECUTE FUNCTION count_added_members();
CREATE TRIGGER members_removed AFTER DELETE ON members
    REFERENCING OLD TABLE AS removed_members FOR EACH STATEMENT EXECUTE FUNCTION count_removed_members();

UPDATE spaces s
SET member_count = counted.members
FROM (SELECT space_id, count(*) AS members FROM members GROUP BY space_id) counted
WHERE s.id = counted.space_id;

-- Whether a space has another owner.
CREATE INDEX members_owners ON members (space_id, user_id) WHERE role = 'owner';
