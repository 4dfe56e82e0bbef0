-- For freeing what storage holds of uploads that came to nothing.
CREATE INDEX uploads_aborted_expires_at ON uploads (expires_at, id) WHERE state = 'aborted';
