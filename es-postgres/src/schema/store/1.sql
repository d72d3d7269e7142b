-- The format of the schema. Transaction ids start again in another cluster: after a dump was restored there, the offset
-- keeps the order of the feed.
CREATE TABLE {schema}.store (
    format integer NOT NULL,
    tx_offset bigint NOT NULL
);
INSERT INTO {schema}.store (format, tx_offset) VALUES (1, 0);

-- A row is a commit. The primary key provides optimistic concurrency: all writers that start from the same version insert
-- the same key. Rows are never updated, except that their events are erased when their stream is deleted or archived,
-- and brought back when it is restored.
CREATE TABLE {schema}.commits (
    stream text COLLATE "C" NOT NULL,
    -- The versions of the first and the last event.
    first bigint NOT NULL,
    last bigint NOT NULL,
    -- The last version of the append, if it has several commits.
    until bigint,
    id uuid NOT NULL,
    at timestamptz NOT NULL,
    -- The transaction and the order of inserts, which are the order of the feed.
    tx bigint NOT NULL DEFAULT (pg_current_xact_id()::text::bigint),
    n bigint GENERATED ALWAYS AS IDENTITY,
    -- The length of the events as text.
    bytes integer NOT NULL,
    -- As json, not jsonb, texts are returned byte for byte.
    metadata json,
    events json NOT NULL,
    PRIMARY KEY (stream, first)
);
CREATE INDEX commits_feed ON {schema}.commits (tx, n);

-- The events up to and including the commit (tx, n) end at this position of the feed.
CREATE TABLE {schema}.feed_marks (
    position bigint PRIMARY KEY,
    tx bigint NOT NULL,
    n bigint NOT NULL
);
INSERT INTO {schema}.feed_marks (position, tx, n) VALUES (0, 0, 0);

CREATE TABLE {schema}.snapshots (
    stream text COLLATE "C" PRIMARY KEY,
    version bigint NOT NULL,
    at timestamptz NOT NULL,
    fingerprint bigint NOT NULL,
    checksum bigint NOT NULL,
    state text NOT NULL
);

CREATE TABLE {schema}.claims (
    name text COLLATE "C" NOT NULL,
    value text COLLATE "C" NOT NULL,
    stream text COLLATE "C" NOT NULL,
    PRIMARY KEY (name, value)
);
-- For the deletion of a stream.
CREATE INDEX claims_stream ON {schema}.claims (stream);

-- The stream is empty for the keys of transactions.
CREATE TABLE {schema}.idempotency (
    stream text COLLATE "C" NOT NULL,
    key text COLLATE "C" NOT NULL,
    id uuid NOT NULL,
    expires timestamptz NOT NULL,
    fingerprint text,
    ranges json NOT NULL,
    PRIMARY KEY (stream, key)
);
CREATE INDEX idempotency_expires ON {schema}.idempotency (expires);

CREATE TABLE {schema}.documents (
    collection text COLLATE "C" NOT NULL,
    name text COLLATE "C" NOT NULL,
    revision uuid NOT NULL,
    body text NOT NULL,
    PRIMARY KEY (collection, name)
) WITH (fillfactor = 80);
