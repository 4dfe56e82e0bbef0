-- Counters of invitations. Pending ones are counted for the space and for the invited person, and the ones that a user has made
-- since a time for the user. The maximums replace the stack's parameters.
ALTER TABLE spaces ADD COLUMN pending_invitations integer NOT NULL DEFAULT 0 CHECK (pending_invitations >= 0);
ALTER TABLE spaces ADD COLUMN max_pending_invitations bigint;
ALTER TABLE users ADD COLUMN invitations integer NOT NULL DEFAULT 0;
ALTER TABLE users ADD COLUMN invitations_since timestamptz;
ALTER TABLE users ADD COLUMN max_invitations_per_day bigint;
ALTER TABLE users ADD COLUMN max_received_invitations bigint;

-- People with pending invitations. An address may have no account yet, so these are no columns of users.
CREATE TABLE invited_people (
    -- See invited_person.
    person text PRIMARY KEY,
    pending integer NOT NULL CHECK (pending > 0)
);

-- An invitation names a user id or an address.
CREATE FUNCTION invited_person(user_id text, email text) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT coalesce('user ' || user_id, 'email ' || email)
$$;

-- Adds to the counters of spaces and people, by position. Whoever calls it has locked the spaces. Rows of people are locked in one
-- order and last, so this cannot deadlock.
CREATE FUNCTION add_pending_invitations(space_ids uuid[], people text[], numbers integer[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    UPDATE spaces s
    SET pending_invitations = s.pending_invitations + c.number
    FROM (
        SELECT space_id, sum(number) AS number
        FROM unnest(space_ids, numbers) AS changed (space_id, number)
        GROUP BY space_id
    ) c
    WHERE s.id = c.space_id;

    PERFORM FROM invited_people p WHERE p.person = ANY (people) ORDER BY p.person FOR UPDATE;
    DELETE FROM invited_people p
    USING (
        SELECT person, sum(number) AS number
        FROM unnest(people, numbers) AS changed (person, number)
        GROUP BY person
    ) c
    WHERE p.person = c.person AND p.pending + c.number = 0;
    INSERT INTO invited_people AS p (person, pending)
    SELECT person, sum(number)
    FROM unnest(people, numbers) AS changed (person, number)
    WHERE number > 0
    GROUP BY person
    ORDER BY person
    ON CONFLICT (person) DO UPDATE
    SET pending = p.pending + excluded.pending;
    UPDATE invited_people p
    SET pending = p.pending + c.number
    FROM (
        SELECT person, sum(number) AS number
        FROM unnest(people, numbers) AS changed (person, number)
        WHERE number < 0
        GROUP BY person
    ) c
    WHERE p.person = c.person;
END
$$;

-- By triggers, since the release that still serves makes and ends invitations too, once per statement. With the owner's rights,
-- since the role of that release has none on the new table.
CREATE FUNCTION count_made_invitations() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    PERFORM add_pending_invitations(array_agg(n.space_id), array_agg(invited_person(n.user_id, n.email)), array_agg(1))
    FROM made_invitations n
    WHERE n.state = 'pending'
    HAVING count(*) > 0;
    RETURN NULL;
END
$$;
CREATE FUNCTION count_ended_invitations() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    PERFORM add_pending_invitations(array_agg(n.space_id), array_agg(invited_person(n.user_id, n.email)), array_agg(-1))
    FROM new_invitations n
    JOIN old_invitations o ON o.id = n.id
    WHERE o.state = 'pending' AND n.state <> 'pending'
    HAVING count(*) > 0;
    RETURN NULL;
END
$$;
CREATE FUNCTION count_deleted_invitations() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    PERFORM add_pending_invitations(array_agg(o.space_id), array_agg(invited_person(o.user_id, o.email)), array_agg(-1))
    FROM old_invitations o
    WHERE o.state = 'pending'
    HAVING count(*) > 0;
    RETURN NULL;
END
$$;
-- These wait for all who write invitations and keep them away until the end of the migration, so that the counts below miss none.
CREATE TRIGGER invitations_made AFTER INSERT ON invitations
    REFERENCING NEW TABLE AS made_invitations FOR EACH STATEMENT EXECUTE FUNCTION count_made_invitations();
CREATE TRIGGER invitations_ended AFTER UPDATE ON invitations
    REFERENCING OLD TABLE AS old_invitations NEW TABLE AS new_invitations
    FOR EACH STATEMENT EXECUTE FUNCTION count_ended_invitations();
CREATE TRIGGER invitations_deleted AFTER DELETE ON invitations
    REFERENCING OLD TABLE AS old_invitations FOR EACH STATEMENT EXECUTE FUNCTION count_deleted_invitations();

UPDATE spaces s
SET pending_invitations = c.invitations
FROM (SELECT space_id, count(*) AS invitations FROM invitations WHERE state = 'pending' GROUP BY space_id) c
WHERE s.id = c.space_id;
INSERT INTO invited_people (person, pending)
SELECT invited_person(user_id, email), count(*)
FROM invitations
WHERE state = 'pending'
GROUP BY 1;

-- True if a use stays within a maximum when something is added. Otherwise as the function with four parameters, which the
-- release that still serves calls, and the hint is the use.
CREATE FUNCTION within(limit_name text, used bigint, added bigint, maximum bigint, retry_after bigint) RETURNS boolean
LANGUAGE plpgsql STABLE AS $$
BEGIN
    IF used + added > maximum THEN
        RAISE EXCEPTION 'the limit % is exceeded', limit_name
            USING ERRCODE = 'SY004', DETAIL = limit_name || ' ' || maximum || ' ' || greatest(retry_after, 0), HINT = used;
    END IF;
    RETURN true;
END
$$;
