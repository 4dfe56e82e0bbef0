-- The newest change of a file: what a repeated move or delete answers.
ALTER TABLE files ADD COLUMN event_id uuid REFERENCES changes (event_id);

UPDATE files f
SET event_id = (SELECT c.event_id FROM changes c WHERE c.file_id = f.id ORDER BY c.sequence DESC LIMIT 1);

-- Who made a shared space, and under what key, so that a repeated request makes none.
ALTER TABLE spaces ADD COLUMN created_by text;
ALTER TABLE spaces ADD COLUMN idempotency_key text;
ALTER TABLE spaces ADD CONSTRAINT spaces_idempotency_key UNIQUE (created_by, idempotency_key);
