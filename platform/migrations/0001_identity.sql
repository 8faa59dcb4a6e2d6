-- The tables of identity. One text for SQLite and PostgreSQL. Times are milliseconds since 1970-01-01 UTC; `roles` are
-- names between commas; hashes are SHA-256 in hexadecimal, of texts with 256 random bits.

CREATE TABLE user_account (
  id TEXT PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,        -- in small letters
  password_hash TEXT NOT NULL,      -- argon2id, in PHC form
  roles TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  disabled_at BIGINT
);

CREATE TABLE api_token (
  id TEXT PRIMARY KEY,
  name TEXT NOT NULL,
  user_id TEXT REFERENCES user_account (id),  -- nobody's for a service
  hash TEXT NOT NULL UNIQUE,
  prefix TEXT NOT NULL,             -- the first characters, for people
  roles TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  expires_at BIGINT NOT NULL,
  revoked_at BIGINT
);
CREATE INDEX api_token_of_user ON api_token (user_id);

-- A login and what was refreshed from it.
CREATE TABLE login_session (
  id TEXT PRIMARY KEY,
  user_id TEXT NOT NULL REFERENCES user_account (id),
  created_at BIGINT NOT NULL,
  expires_at BIGINT NOT NULL,
  revoked_at BIGINT
);
CREATE INDEX login_session_of_user ON login_session (user_id);

-- One that was used stays until its session ends: to see it again means that somebody else has it.
CREATE TABLE refresh_token (
  hash TEXT PRIMARY KEY,
  session_id TEXT NOT NULL REFERENCES login_session (id) ON DELETE CASCADE,
  created_at BIGINT NOT NULL,
  used_at BIGINT
);
CREATE INDEX refresh_token_of_session ON refresh_token (session_id);

-- Access tokens that are refused although their session goes on, until they would have ended anyway.
CREATE TABLE revoked_token (
  jti TEXT PRIMARY KEY,
  expires_at BIGINT NOT NULL
);

CREATE TABLE signing_key (
  kid TEXT PRIMARY KEY,
  public_key TEXT NOT NULL,         -- x of the JWK, Ed25519
  sealed_key TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  retired_at BIGINT
);

-- Guesses of passwords, for accounts (whether they exist or not) and addresses.
CREATE TABLE login_failure (
  subject TEXT PRIMARY KEY,
  failures BIGINT NOT NULL,
  last_at BIGINT NOT NULL
);

CREATE TABLE audit_event (
  id TEXT PRIMARY KEY,              -- in the order of time
  at BIGINT NOT NULL,
  actor TEXT NOT NULL,
  action TEXT NOT NULL,
  subject TEXT NOT NULL,
  address TEXT NOT NULL,
  detail TEXT NOT NULL
);
CREATE INDEX audit_event_at ON audit_event (at);
