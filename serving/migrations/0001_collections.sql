-- The tables of people's collections. One text for SQLite and PostgreSQL, but for one word that
-- `collections/store/migrations.rs` puts in: a number that the database gives and never gives again.
-- Times are milliseconds since 1970-01-01 UTC, days are days since then.

-- A person who has a collection. Others know them by `handle` and `name`, never by `person`, which may be an address.
CREATE TABLE collector (
  person TEXT PRIMARY KEY,
  handle TEXT NOT NULL UNIQUE,
  name TEXT NOT NULL,
  hidden BIGINT NOT NULL,           -- 1: not shown to others
  created_at BIGINT NOT NULL,
  updated_at BIGINT NOT NULL
);

-- A photograph that sightings refer to. Its bytes are the object `object`, whose name no other photograph ever has.
CREATE TABLE picture (
  sha256 TEXT PRIMARY KEY,
  object TEXT NOT NULL UNIQUE,
  media_type TEXT NOT NULL,
  size BIGINT NOT NULL,
  created_at BIGINT NOT NULL
);

-- Objects that no picture names yet, or not any more. The latter are `doomed`, and nobody may take them.
CREATE TABLE stray_object (
  object TEXT PRIMARY KEY,
  doomed BIGINT NOT NULL,
  noted_at BIGINT NOT NULL
);
CREATE INDEX stray_object_noted ON stray_object (noted_at);

-- What a person has seen. One that was deleted keeps its key, so that a late repeat does not bring it back, and nothing else.
CREATE TABLE sighting (
  no SERIAL_KEY,
  id TEXT NOT NULL UNIQUE,
  person TEXT NOT NULL REFERENCES collector (person),
  key TEXT NOT NULL,                -- the client's name of the request
  digest TEXT NOT NULL,             -- sha256 of what the request said
  species TEXT NOT NULL,
  is_leaf BIGINT NOT NULL,          -- 1: one of the model's vocabulary, which counts; 0: a wider name
  source TEXT NOT NULL,             -- detection, photograph, named
  confidence DOUBLE PRECISION,
  model TEXT,
  detection TEXT,
  picture TEXT REFERENCES picture (sha256),
  seen_at BIGINT,
  sorted_at BIGINT NOT NULL,        -- seen_at, else created_at
  sorted_day BIGINT NOT NULL,
  latitude DOUBLE PRECISION,
  longitude DOUBLE PRECISION,
  accuracy_m DOUBLE PRECISION,
  -- The place, and the middle of its cell of the grid, as points of the unit sphere: nearness is plain arithmetic.
  x DOUBLE PRECISION,
  y DOUBLE PRECISION,
  z DOUBLE PRECISION,
  cell_x DOUBLE PRECISION,
  cell_y DOUBLE PRECISION,
  cell_z DOUBLE PRECISION,
  created_at BIGINT NOT NULL,
  updated_at BIGINT NOT NULL,
  deleted_at BIGINT,
  UNIQUE (person, key)
);
CREATE INDEX sighting_of_person ON sighting (person, sorted_at, id);
CREATE INDEX sighting_by_day ON sighting (sorted_day, id) WHERE deleted_at IS NULL;
CREATE INDEX sighting_of_species ON sighting (species, sorted_day, id) WHERE deleted_at IS NULL;
CREATE INDEX sighting_of_time ON sighting (sorted_at) WHERE deleted_at IS NULL;
CREATE INDEX sighting_of_picture ON sighting (picture) WHERE picture IS NOT NULL;

-- The key that signs the tokens of detections: one row.
CREATE TABLE token_key (
  no BIGINT PRIMARY KEY,
  secret TEXT NOT NULL
);
