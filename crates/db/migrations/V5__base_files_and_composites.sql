-- The file that an upload's base version is a version of.
ALTER TABLE uploads ADD COLUMN base_file_id uuid;

-- Of content that was put in parts: the size of all parts but the last, and the SHA-256 of the parts' SHA-256s, which storage
-- has checked, each against its bytes. Former versions have neither. NOT VALID, so that no table is read under the lock.
ALTER TABLE versions ADD COLUMN part_size bigint;
ALTER TABLE versions ADD COLUMN composite_sha256 bytea;
ALTER TABLE versions ADD CONSTRAINT versions_composite CHECK (
    (part_size IS NULL) = (composite_sha256 IS NULL) AND part_size > 0 AND octet_length(composite_sha256) = 32
) NOT VALID;
