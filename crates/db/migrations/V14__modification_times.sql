-- Of content, as its uploader gave them: the modification time, and whether it is executable.
ALTER TABLE uploads ADD COLUMN modified_at timestamptz;
ALTER TABLE uploads ADD COLUMN executable boolean;
ALTER TABLE versions ADD COLUMN modified_at timestamptz;
ALTER TABLE versions ADD COLUMN executable boolean;
-- A feed keeps them when the version is gone, as it keeps the size.
ALTER TABLE changes ADD COLUMN modified_at timestamptz;
ALTER TABLE changes ADD COLUMN executable boolean;
