-- State of the orchestrator. The types are the common part of SQLite and PostgreSQL: TEXT, and BIGINT for numbers and
-- for moments in milliseconds since 1970 UTC.

CREATE TABLE dag_version (
    id          TEXT   PRIMARY KEY,
    dag         TEXT   NOT NULL,
    sha256      TEXT   NOT NULL,
    yaml        TEXT   NOT NULL,
    created_at  BIGINT NOT NULL,
    UNIQUE (dag, sha256)
);

CREATE TABLE run (
    id              TEXT   PRIMARY KEY,
    dag_version_id  TEXT   NOT NULL REFERENCES dag_version (id),
    dag             TEXT   NOT NULL,
    params          TEXT   NOT NULL, -- JSON object, keys sorted
    state           TEXT   NOT NULL CHECK (state IN ('queued', 'running', 'succeeded', 'succeeded_with_failures', 'failed', 'cancelled')),
    failures        BIGINT NOT NULL DEFAULT 0,
    error           TEXT,
    created_at      BIGINT NOT NULL,
    started_at      BIGINT,
    finished_at     BIGINT
);

CREATE INDEX run_unfinished ON run (dag_version_id) WHERE state IN ('queued', 'running');

-- A task is one row with map_index -1: kind 'single' runs itself, kind 'map' stands for the rows of kind 'item' with
-- map_index 0, 1, ... that are made when its list is known.
CREATE TABLE task_instance (
    id            TEXT   PRIMARY KEY,
    run_id        TEXT   NOT NULL REFERENCES run (id),
    task          TEXT   NOT NULL,
    map_index     BIGINT NOT NULL,
    kind          TEXT   NOT NULL CHECK (kind IN ('single', 'map', 'item')),
    position      BIGINT NOT NULL, -- of the task in topological order
    state         TEXT   NOT NULL CHECK (state IN ('waiting', 'ready', 'running', 'succeeded', 'failed', 'skipped', 'upstream_failed')),
    ready_at      BIGINT NOT NULL, -- not before this moment
    attempts      BIGINT NOT NULL DEFAULT 0, -- number of the last attempt, the fencing token
    failed        BIGINT NOT NULL DEFAULT 0, -- attempts that count against the retries
    lost_in_a_row BIGINT NOT NULL DEFAULT 0, -- attempts whose process died, since the last that ended
    item          TEXT, -- JSON, kind 'item' only
    instances     BIGINT, -- how many items, kind 'map' only, once known
    output        TEXT, -- JSON
    items         BIGINT NOT NULL DEFAULT 0, -- what the job counted as done
    failures      BIGINT NOT NULL DEFAULT 0, -- items that failed without failing the task
    summary       TEXT   NOT NULL DEFAULT '',
    error         TEXT,
    started_at    BIGINT,
    finished_at   BIGINT,
    UNIQUE (run_id, task, map_index)
);

CREATE INDEX task_instance_state ON task_instance (run_id, state, position, map_index);

CREATE TABLE attempt (
    id                TEXT   PRIMARY KEY,
    task_instance_id  TEXT   NOT NULL REFERENCES task_instance (id),
    number            BIGINT NOT NULL, -- the fencing token
    state             TEXT   NOT NULL CHECK (state IN ('running', 'succeeded', 'failed', 'lost')),
    owner_host        TEXT   NOT NULL,
    owner_pid         BIGINT NOT NULL,
    owner_key         TEXT   NOT NULL, -- random, one for each runner
    lease_until       BIGINT NOT NULL,
    started_at        BIGINT NOT NULL,
    finished_at       BIGINT,
    error             TEXT,
    UNIQUE (task_instance_id, number)
);

CREATE INDEX attempt_running ON attempt (owner_key) WHERE state = 'running';
