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

-- A DAG by its name, as it stands now.
CREATE TABLE dag (
    name             TEXT   PRIMARY KEY,
    dag_version_id   TEXT   NOT NULL REFERENCES dag_version (id), -- of new runs
    file             TEXT, -- where a server read it; none: its schedule rests
    max_active_runs  BIGINT NOT NULL,
    active_runs      BIGINT NOT NULL DEFAULT 0, -- in state running
    paused           BIGINT NOT NULL DEFAULT 0 CHECK (paused IN (0, 1)), -- its schedule rests
    done_until       BIGINT -- end of the last data interval that the schedule made a run for, or need not
);

CREATE TABLE run (
    id              TEXT   PRIMARY KEY,
    dag_version_id  TEXT   NOT NULL REFERENCES dag_version (id),
    dag             TEXT   NOT NULL,
    params          TEXT   NOT NULL, -- JSON object, keys sorted
    cause           TEXT   NOT NULL CHECK (cause IN ('manual', 'schedule', 'backfill', 'asset', 'dag', 'stream')),
    interval_start  BIGINT, -- the data interval that the run is about
    interval_end    BIGINT,
    state           TEXT   NOT NULL CHECK (state IN ('queued', 'running', 'succeeded', 'succeeded_with_failures', 'failed', 'cancelled')),
    timeout_at      BIGINT, -- when its time is up, once it runs
    stop_at         BIGINT, -- when it was told to stop, by a person or by its time-out
    stop_error      TEXT, -- why it then counts as failed; none for a person's wish
    failures        BIGINT NOT NULL DEFAULT 0,
    error           TEXT,
    created_at      BIGINT NOT NULL,
    started_at      BIGINT,
    finished_at     BIGINT
);

CREATE INDEX run_unfinished ON run (dag_version_id) WHERE state IN ('queued', 'running');
CREATE INDEX run_queued ON run (id) WHERE state = 'queued';
CREATE INDEX run_timeout ON run (timeout_at) WHERE state = 'running' AND stop_at IS NULL;
CREATE INDEX run_stopping ON run (id) WHERE state = 'running' AND stop_at IS NOT NULL;
CREATE INDEX run_of_dag ON run (dag, id);
-- However many schedulers see an interval end, it has one run.
CREATE UNIQUE INDEX run_of_interval ON run (dag, interval_start) WHERE cause = 'schedule';

-- A task is one row with map_index -1: kind 'single' runs itself, kind 'map' stands for the rows of kind 'item' with
-- map_index 0, 1, ... that are made when its list is known. Items beyond the task's own limit are waiting.
CREATE TABLE task_instance (
    id            TEXT   PRIMARY KEY,
    run_id        TEXT   NOT NULL REFERENCES run (id),
    task          TEXT   NOT NULL,
    map_index     BIGINT NOT NULL,
    kind          TEXT   NOT NULL CHECK (kind IN ('single', 'map', 'item')),
    position      BIGINT NOT NULL, -- of the task in topological order
    state         TEXT   NOT NULL CHECK (state IN ('waiting', 'ready', 'running', 'succeeded', 'failed', 'skipped', 'upstream_failed', 'cancelled')),
    ready_at      BIGINT NOT NULL, -- not before this moment
    priority      BIGINT NOT NULL DEFAULT 0,
    turn          BIGINT NOT NULL DEFAULT 0, -- the smallest goes first: ready_at, a minute earlier for each step of priority
    queue         TEXT, -- workers that may run it; none: any
    pool          TEXT, -- whose slots it takes while it runs
    slots         BIGINT NOT NULL DEFAULT 1,
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
CREATE INDEX task_instance_ready ON task_instance (turn, position, map_index) WHERE state = 'ready';

CREATE TABLE attempt (
    id                TEXT   PRIMARY KEY,
    task_instance_id  TEXT   NOT NULL REFERENCES task_instance (id),
    number            BIGINT NOT NULL, -- the fencing token
    state             TEXT   NOT NULL CHECK (state IN ('running', 'succeeded', 'failed', 'lost', 'cancelled')),
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
CREATE INDEX attempt_lease ON attempt (lease_until) WHERE state = 'running';

-- Slots that tasks of all runs share. A pool that a task names and nobody made has one slot.
CREATE TABLE pool (
    name   TEXT   PRIMARY KEY,
    slots  BIGINT NOT NULL,
    used   BIGINT NOT NULL DEFAULT 0 CHECK (used >= 0)
);
