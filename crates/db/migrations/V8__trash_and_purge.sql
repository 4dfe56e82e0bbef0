-- The sum of the sizes of the distinct objects in storage that versions of the space's files name. A restored version
-- names the object of an older one.
ALTER TABLE spaces ADD COLUMN bytes bigint NOT NULL DEFAULT 0 CHECK (bytes >= 0);

-- Rows with purge_at are invisible, cannot be restored and are about to be deleted, with their objects.
ALTER TABLE files ADD COLUMN deleted_by text;
ALTER TABLE files ADD COLUMN purge_at timestamptz;
ALTER TABLE files ADD CONSTRAINT files_purged_are_deleted CHECK (purge_at IS NULL OR deleted_at IS NOT NULL) NOT VALID;
-- Versions before this one are deleted or about to be.
ALTER TABLE files ADD COLUMN kept_from bigint NOT NULL DEFAULT 1;
-- When the next version was added.
ALTER TABLE versions ADD COLUMN superseded_at timestamptz;
ALTER TABLE versions ADD COLUMN purge_at timestamptz;

ALTER TABLE versions DROP CONSTRAINT versions_object_key_key;
-- With purge_at, so that finding a version that keeps an object does not read those that do not.
CREATE INDEX versions_object_key ON versions (object_key, purge_at);

-- By trigger, since the release that still serves adds versions too. Both counters are exact because whoever adds or
-- deletes versions holds the lock of their space. With the owner's rights, since the role of the release that still serves
-- may not update versions.
CREATE FUNCTION count_added_versions() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    UPDATE versions v
    SET superseded_at = a.created_at
    FROM added_versions a
    WHERE v.file_id = a.file_id AND v.version = a.version - 1;

    UPDATE spaces s
    SET bytes = s.bytes + added.size
    FROM (
        SELECT f.space_id, sum(a.size)::bigint AS size
        FROM (
            SELECT file_id, object_key, size, count(*) AS versions
            FROM added_versions
            GROUP BY file_id, object_key, size
        ) a
        JOIN files f ON f.id = a.file_id
        -- No version named the object before.
        WHERE a.versions = (SELECT count(*) FROM versions v WHERE v.object_key = a.object_key)
        GROUP BY f.space_id
    ) added
    WHERE s.id = added.space_id;
    RETURN NULL;
END
$$;
CREATE FUNCTION count_removed_versions() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE spaces s
    SET bytes = s.bytes - removed.size
    FROM (
        SELECT f.space_id, sum(r.size)::bigint AS size
        FROM (SELECT DISTINCT file_id, object_key, size FROM removed_versions) r
        JOIN files f ON f.id = r.file_id
        WHERE NOT EXISTS (SELECT FROM versions v WHERE v.object_key = r.object_key)
        GROUP BY f.space_id
    ) removed
    WHERE s.id = removed.space_id;
    RETURN NULL;
END
$$;
-- These wait for all who write versions and keep them away until the end of the migration, so that the statements below
-- miss no version.
CREATE TRIGGER versions_added AFTER INSERT ON versions
    REFERENCING NEW TABLE AS added_versions FOR EACH STATEMENT EXECUTE FUNCTION count_added_versions();
CREATE TRIGGER versions_removed AFTER DELETE ON versions
    REFERENCING OLD TABLE AS removed_versions FOR EACH STATEMENT EXECUTE FUNCTION count_removed_versions();

UPDATE versions v
SET superseded_at = n.created_at
FROM versions n
WHERE n.file_id = v.file_id AND n.version = v.version + 1;

UPDATE spaces s
SET bytes = counted.size
FROM (
    SELECT f.space_id, sum(v.size)::bigint AS size
    FROM versions v
    JOIN files f ON f.id = v.file_id
    GROUP BY f.space_id
) counted
WHERE s.id = counted.space_id;

-- The release that still serves does not record who deletes a file.
CREATE FUNCTION record_deletion() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE files
    SET deleted_by = NEW.user_id
    WHERE id = NEW.file_id AND deleted_at IS NOT NULL AND deleted_by IS NULL;
    RETURN NULL;
END
$$;
CREATE TRIGGER file_deleted AFTER INSERT ON changes
    FOR EACH ROW WHEN (NEW.event_type = 'FILE_DELETED') EXECUTE FUNCTION record_deletion();

UPDATE files f
SET deleted_by = (
    SELECT c.user_id
    FROM changes c
    WHERE c.file_id = f.id AND c.event_type = 'FILE_DELETED'
    ORDER BY c.sequence DESC
    LIMIT 1
)
WHERE f.deleted_at IS NOT NULL;

-- The trash of a space, newest first, and the oldest files in any trash.
CREATE INDEX files_trash ON files (space_id, deleted_at, id) WHERE deleted_at IS NOT NULL AND purge_at IS NULL;
CREATE INDEX files_trash_deleted_at ON files (deleted_at) WHERE deleted_at IS NOT NULL AND purge_at IS NULL;
-- Files by the number of versions that they keep.
CREATE INDEX files_kept ON files ((version - kept_from)) WHERE purge_at IS NULL;
CREATE INDEX versions_superseded_at ON versions (superseded_at) WHERE superseded_at IS NOT NULL AND purge_at IS NULL;
-- What is about to be deleted.
CREATE INDEX files_purge_at ON files (id) WHERE purge_at IS NOT NULL;
CREATE INDEX versions_purge_at ON versions (file_id, version) WHERE purge_at IS NOT NULL;
CREATE INDEX spaces_deleted_at ON spaces (deleted_at) WHERE deleted_at IS NOT NULL;
