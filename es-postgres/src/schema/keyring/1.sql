-- The format of the schema.
CREATE TABLE {schema}.keyring (
    format integer NOT NULL
);
INSERT INTO {schema}.keyring (format) VALUES (1);

-- A row is the key of a subject, wrapped by a master key. A row without a key is the tombstone of a subject that was
-- forgotten. Rows are never deleted. An update leaves the old row behind until the next vacuum, so the table is vacuumed
-- after every update.
CREATE TABLE {schema}.keys (
    subject text COLLATE "C" PRIMARY KEY,
    wrapped text,
    -- The id of the master key.
    master_key text,
    CHECK ((wrapped IS NULL) = (master_key IS NULL))
) WITH (autovacuum_vacuum_threshold = 0, autovacuum_vacuum_scale_factor = 0);
