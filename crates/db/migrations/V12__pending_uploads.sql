-- The pending uploads of a user, oldest first.
CREATE INDEX uploads_pending_user_id ON uploads (user_id, id) WHERE state = 'pending';
