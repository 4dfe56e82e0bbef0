-- For the newest change of a file: what a repeated move or delete answers.
CREATE INDEX changes_file_id ON changes (file_id, sequence) WHERE file_id IS NOT NULL;

-- Who made a shared space, and under what key, so that a repeated request makes none.
ALTER TABLE spaces ADD COLUMN created_by text;
ALTER TABLE spaces ADD COLUMN idempotency_key text;
ALTER TABLE spaces ADD CONSTRAINT spaces_idempotency_key UNIQUE (created_by, idempotency_key);
