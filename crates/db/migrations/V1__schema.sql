-- Migrations are forward-only and run while the previous release still serves: add, never rename or drop in the release
-- that stops using something. Times are set by the functions, so that one clock decides.

CREATE TABLE spaces (
    id uuid PRIMARY KEY,
    kind text NOT NULL CHECK (kind IN ('personal', 'shared')),
    -- Whose personal space this is.
    owner_id text UNIQUE,
    -- What members call a shared space.
    name text,
    -- The number of the newest change. The row lock of its update is what makes numbers gapless and in commit order.
    last_sequence bigint NOT NULL DEFAULT 0 CHECK (last_sequence >= 0),
    created_at timestamptz NOT NULL,
    CHECK ((kind = 'personal') = (owner_id IS NOT NULL)),
    CHECK ((kind = 'shared') = (name IS NOT NULL))
);

CREATE TABLE members (
    space_id uuid NOT NULL REFERENCES spaces (id),
    user_id text NOT NULL,
    role text NOT NULL CHECK (role IN ('owner', 'editor', 'viewer')),
    added_at timestamptz NOT NULL,
    PRIMARY KEY (space_id, user_id)
);
CREATE INDEX members_user_id ON members (user_id);

CREATE TABLE files (
    id uuid PRIMARY KEY,
    space_id uuid NOT NULL REFERENCES spaces (id),
    -- Bytewise order, so that listing by prefix is a range of the index.
    path text COLLATE "C" NOT NULL CHECK (octet_length(path) <= 1024),
    version bigint NOT NULL CHECK (version > 0),
    created_at timestamptz NOT NULL,
    deleted_at timestamptz
);
-- A path holds one file; deleted ones are out of its way.
CREATE UNIQUE INDEX files_live_path ON files (space_id, path) WHERE deleted_at IS NULL;

CREATE TABLE versions (
    file_id uuid NOT NULL REFERENCES files (id),
    version bigint NOT NULL CHECK (version > 0),
    size bigint NOT NULL CHECK (size >= 0),
    sha256 bytea NOT NULL CHECK (octet_length(sha256) = 32),
    object_key text NOT NULL UNIQUE,
    content_type text,
    user_id text NOT NULL,
    device_id uuid,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (file_id, version)
);

CREATE TABLE changes (
    space_id uuid NOT NULL REFERENCES spaces (id),
    sequence bigint NOT NULL CHECK (sequence > 0),
    event_id uuid NOT NULL UNIQUE,
    event_type text NOT NULL
        CHECK (event_type IN ('FILE_UPDATED', 'FILE_MOVED', 'FILE_DELETED', 'SPACE_SHARED', 'SPACE_LEFT')),
    -- Who did it, and on which device.
    user_id text NOT NULL,
    device_id uuid,
    -- What a FILE_* change is about.
    file_id uuid REFERENCES files (id),
    path text COLLATE "C",
    version bigint,
    size bigint,
    sha256 bytea,
    -- What a SPACE_* change is about.
    subject_space_id uuid REFERENCES spaces (id),
    subject_role text,
    occurred_at timestamptz NOT NULL,
    PRIMARY KEY (space_id, sequence),
    CHECK (event_type NOT LIKE 'FILE%' OR (file_id IS NOT NULL AND path IS NOT NULL AND version IS NOT NULL)),
    CHECK (event_type NOT LIKE 'SPACE%' OR subject_space_id IS NOT NULL)
);

CREATE TABLE uploads (
    id uuid PRIMARY KEY,
    space_id uuid NOT NULL REFERENCES spaces (id),
    user_id text NOT NULL,
    device_id uuid,
    path text COLLATE "C" NOT NULL CHECK (octet_length(path) <= 1024),
    size bigint NOT NULL CHECK (size >= 0),
    sha256 bytea NOT NULL CHECK (octet_length(sha256) = 32),
    content_type text,
    base_version bigint CHECK (base_version >= 0),
    state text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'completed', 'aborted')),
    -- S3's id of a multipart upload, and the size of all its parts but the last.
    multipart_id text,
    part_size bigint,
    idempotency_key text,
    -- SHA-256 of the request that came with the key, to tell a retry from a reuse.
    request_hash bytea,
    -- The change that completing made.
    event_id uuid REFERENCES changes (event_id),
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    UNIQUE (user_id, idempotency_key),
    CHECK ((state = 'completed') = (event_id IS NOT NULL))
);
CREATE INDEX uploads_pending_expires_at ON uploads (expires_at) WHERE state = 'pending';

-- Changes that may not have reached the queue yet.
CREATE TABLE outbox (
    event_id uuid PRIMARY KEY REFERENCES changes (event_id),
    created_at timestamptz NOT NULL,
    -- Until then somebody is sending it: first the function that made it, then whoever claims it.
    leased_until timestamptz NOT NULL
);
CREATE INDEX outbox_leased_until ON outbox (leased_until);

CREATE TABLE connections (
    connection_id text PRIMARY KEY,
    user_id text NOT NULL,
    device_id uuid,
    connected_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL
);
CREATE INDEX connections_user_id ON connections (user_id);
CREATE INDEX connections_expires_at ON connections (expires_at);

CREATE TABLE tickets (
    -- SHA-256 of the ticket, which itself is stored nowhere.
    hash bytea PRIMARY KEY CHECK (octet_length(hash) = 32),
    user_id text NOT NULL,
    device_id uuid,
    expires_at timestamptz NOT NULL
);
CREATE INDEX tickets_expires_at ON tickets (expires_at);
