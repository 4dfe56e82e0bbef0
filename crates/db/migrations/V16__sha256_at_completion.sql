-- The SHA-256 of content in parts may be given at completion. Until then the upload has none. NOT VALID, so that no table is read
-- under the lock: all former rows have one.
ALTER TABLE uploads ALTER COLUMN sha256 DROP NOT NULL;
ALTER TABLE uploads ADD CONSTRAINT uploads_sha256 CHECK (
    sha256 IS NOT NULL OR (part_size IS NOT NULL AND state <> 'completed')
) NOT VALID;
