-- The tables of rollouts. One text for SQLite and PostgreSQL, but for one word that `store/migrations.rs` puts in: a number
-- that the database gives. Times are milliseconds since 1970-01-01 UTC.

CREATE TABLE rollout (
  id TEXT PRIMARY KEY,
  key TEXT UNIQUE,                  -- who starts it again with the same key gets the same
  model TEXT NOT NULL,
  alias TEXT NOT NULL,
  stable BIGINT NOT NULL,           -- the version that the alias named
  candidate BIGINT NOT NULL,        -- the version that it is to name
  plan TEXT NOT NULL,               -- JSON
  actor TEXT NOT NULL,
  phase TEXT NOT NULL,
  step BIGINT NOT NULL,             -- from 0
  note TEXT NOT NULL,               -- why it is in its phase; may be empty
  revision BIGINT NOT NULL,         -- greater after each change
  holder TEXT,                      -- who drives it
  fence BIGINT NOT NULL,            -- greater for each holder
  lease_until BIGINT NOT NULL,      -- until then nobody else drives it
  created_at BIGINT NOT NULL,
  updated_at BIGINT NOT NULL,
  ended_at BIGINT
);

-- An alias has one rollout at a time.
CREATE UNIQUE INDEX rollout_under_way ON rollout (model, alias) WHERE ended_at IS NULL;

-- What happened, for people.
CREATE TABLE rollout_event (
  no SERIAL_KEY,
  rollout TEXT NOT NULL REFERENCES rollout (id),
  at BIGINT NOT NULL,
  phase TEXT NOT NULL,              -- of the rollout afterwards, and its step
  step BIGINT NOT NULL,
  text TEXT NOT NULL
);
CREATE INDEX rollout_event_of ON rollout_event (rollout, no);
