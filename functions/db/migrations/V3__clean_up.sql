-- For freeing what storage holds of uploads that came to nothing.
CREATE INDEX uploads_aborted_expires_at ON uploads (expires_at, id) WHERE state = 'aborted';

-- For an audience in pages, by user and connection.
CREATE INDEX connections_user_id_connection_id ON connections (user_id, connection_id);
