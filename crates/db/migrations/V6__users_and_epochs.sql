-- People, as the claims of their tokens describe them. A user has a row from the first request on.
CREATE TABLE users (
    user_id text PRIMARY KEY,
    name text,
    -- A verified address, in lower case.
    email text,
    -- The time of a request of the user, not more than a day before the last one.
    seen_at timestamptz NOT NULL,
    -- An operator has blocked the user since then.
    blocked_at timestamptz
);
CREATE INDEX users_email ON users (email) WHERE email IS NOT NULL;

-- The release that still serves makes personal spaces without a row in users.
CREATE FUNCTION add_user_of_personal_space() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO users (user_id, seen_at)
    VALUES (NEW.owner_id, NEW.created_at)
    ON CONFLICT (user_id) DO NOTHING;
    RETURN NULL;
END
$$;
CREATE TRIGGER personal_space_added AFTER INSERT ON spaces
    FOR EACH ROW WHEN (NEW.owner_id IS NOT NULL) EXECUTE FUNCTION add_user_of_personal_space();

INSERT INTO users (user_id, seen_at)
SELECT owner_id, created_at
FROM spaces
WHERE owner_id IS NOT NULL
ON CONFLICT (user_id) DO NOTHING;

-- The history of this database. It has one row.
CREATE TABLE history (
    id boolean PRIMARY KEY DEFAULT true CHECK (id),
    -- A new one begins when the database has been restored from a backup.
    epoch uuid NOT NULL,
    -- False in the first epoch.
    restored boolean NOT NULL,
    -- The database that had this epoch first: its RDS resource id, if it has one.
    database_id text
);
INSERT INTO history (epoch, restored) VALUES (gen_random_uuid(), false);

-- The epoch of the space's newest change, and the number of the newest change before this epoch. A space whose epoch is
-- not the current one has had no change since the current one began.
ALTER TABLE spaces ADD COLUMN epoch uuid;
ALTER TABLE spaces ADD COLUMN restored_at_sequence bigint;

-- True if a request of this caller may be served. Every statement that reads or writes for a caller calls it, so the
-- answer is one with the statement's. Otherwise it fails with an SQLSTATE of its own: SY001 if the user is blocked, SY002
-- if the client knows another epoch than the current one.
CREATE FUNCTION admit(caller text, known_epoch uuid) RETURNS boolean LANGUAGE plpgsql STABLE AS $$
BEGIN
    IF EXISTS (SELECT FROM users u WHERE u.user_id = caller AND u.blocked_at IS NOT NULL) THEN
        RAISE EXCEPTION 'the user is blocked' USING ERRCODE = 'SY001';
    END IF;
    IF known_epoch IS NOT NULL AND NOT EXISTS (SELECT FROM history h WHERE h.epoch = known_epoch) THEN
        RAISE EXCEPTION 'the epoch is not the current one' USING ERRCODE = 'SY002';
    END IF;
    RETURN true;
END
$$;
