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

-- Runs over a range of the past, made one after the other as far as max_active allows.
CREATE TABLE backfill (
    id              TEXT   PRIMARY KEY,
    dag_version_id  TEXT   NOT NULL REFERENCES dag_version (id),
    dag             TEXT   NOT NULL,
    params          TEXT   NOT NULL, -- JSON object, keys sorted
    range_start     BIGINT NOT NULL,
    range_end       BIGINT NOT NULL,
    rerun           TEXT   NOT NULL CHECK (rerun IN ('missing', 'failed', 'all')),
    max_active      BIGINT NOT NULL,
    state           TEXT   NOT NULL CHECK (state IN ('running', 'ended', 'cancelled')),
    done_until      BIGINT NOT NULL, -- end of the last data interval that was looked at
    skipped         BIGINT NOT NULL DEFAULT 0, -- intervals that had a run that need not be done again
    created_at      BIGINT NOT NULL,
    finished_at     BIGINT
);

CREATE INDEX backfill_running ON backfill (id) WHERE state = 'running';

CREATE TABLE run (
    id              TEXT   PRIMARY KEY,
    dag_version_id  TEXT   NOT NULL REFERENCES dag_version (id),
    dag             TEXT   NOT NULL,
    params          TEXT   NOT NULL, -- JSON object, keys sorted
    cause           TEXT   NOT NULL CHECK (cause IN ('manual', 'schedule', 'backfill', 'asset', 'dag', 'stream')),
    backfill_id     TEXT   REFERENCES backfill (id),
    parent_run_id   TEXT   REFERENCES run (id), -- whose task started it
    parent_key      TEXT, -- idempotency key of that task; once the task has told that this run failed, with the run's id
    interval_start  BIGINT, -- the data interval that the run is about
    interval_end    BIGINT,
    batch           BIGINT, -- its number, in a continuous DAG
    state           TEXT   NOT NULL CHECK (state IN ('queued', 'running', 'succeeded', 'succeeded_with_failures', 'failed', 'cancelled')),
    timeout_at      BIGINT, -- when its time is up, once it runs
    deadline_at     BIGINT, -- when an alert is raised unless it has ended; none once that was done
    stop_at         BIGINT, -- when it was told to stop, by a person or by its time-out
    stop_error      TEXT, -- why it then counts as failed; none for a person's wish
    failures        BIGINT NOT NULL DEFAULT 0,
    error           TEXT,
    created_at      BIGINT NOT NULL,
    started_at      BIGINT,
    finished_at     BIGINT,
    logs_removed    BIGINT NOT NULL DEFAULT 0 CHECK (logs_removed IN (0, 1)) -- by age, or about to be
);

CREATE INDEX run_unfinished ON run (dag_version_id) WHERE state IN ('queued', 'running');
CREATE INDEX run_queued ON run (id) WHERE state = 'queued';
CREATE INDEX run_timeout ON run (timeout_at) WHERE state = 'running' AND stop_at IS NULL;
CREATE INDEX run_deadline ON run (deadline_at) WHERE state IN ('queued', 'running') AND deadline_at IS NOT NULL;
CREATE INDEX run_stopping ON run (id) WHERE state = 'running' AND stop_at IS NOT NULL;
CREATE INDEX run_of_dag ON run (dag, id);
CREATE INDEX run_in_flight ON run (dag) WHERE cause = 'stream' AND state IN ('queued', 'running');
-- However many schedulers see an interval end, it has one run.
CREATE UNIQUE INDEX run_of_interval ON run (dag, interval_start) WHERE cause = 'schedule';
CREATE UNIQUE INDEX run_of_backfill ON run (backfill_id, interval_start) WHERE backfill_id IS NOT NULL;
-- However often a task is tried, it starts one run.
CREATE UNIQUE INDEX run_of_task ON run (parent_key) WHERE parent_key IS NOT NULL;
CREATE INDEX run_of_parent ON run (parent_run_id) WHERE parent_run_id IS NOT NULL;
-- What is old enough to be removed.
CREATE INDEX run_finished ON run (finished_at) WHERE finished_at IS NOT NULL;
CREATE INDEX run_with_logs ON run (finished_at) WHERE logs_removed = 0 AND finished_at IS NOT NULL;
CREATE INDEX run_of_version ON run (dag_version_id);

-- What happened to runs, for those who follow them. A change is written in its transaction, and has no position yet: on
-- PostgreSQL a transaction may commit before one that began earlier, and whoever has read up to position 7 must never
-- meet a 6. What is committed is given positions afterwards, by one process at a time.
CREATE TABLE run_change (
    run_id      TEXT   NOT NULL REFERENCES run (id),
    number      BIGINT NOT NULL, -- of the change among those of its run, from 1
    position    BIGINT, -- among all changes
    state       TEXT   NOT NULL CHECK (state IN ('queued', 'running', 'succeeded', 'succeeded_with_failures', 'failed', 'cancelled')),
    changed_at  BIGINT NOT NULL, -- not before the change of the run that came before it
    PRIMARY KEY (run_id, number)
);

CREATE UNIQUE INDEX run_change_position ON run_change (position) WHERE position IS NOT NULL;
CREATE INDEX run_change_unplaced ON run_change (changed_at, number, run_id) WHERE position IS NULL;

-- One row: the last position that was given. Whoever gives positions locks it.
CREATE TABLE run_change_last (
    position  BIGINT NOT NULL
);

INSERT INTO run_change_last (position) VALUES (0);

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
    labels        TEXT, -- that a worker must have: JSON object, keys sorted
    cpu_millis    BIGINT NOT NULL DEFAULT 0, -- what an attempt needs of a machine
    memory_bytes  BIGINT NOT NULL DEFAULT 0,
    gpus          BIGINT NOT NULL DEFAULT 0,
    attempts      BIGINT NOT NULL DEFAULT 0, -- number of the last attempt, the fencing token
    failed        BIGINT NOT NULL DEFAULT 0, -- attempts that count against the retries
    lost_in_a_row BIGINT NOT NULL DEFAULT 0, -- attempts whose process died, since the last that ended
    item          TEXT, -- JSON, kind 'item' only
    cache_key     TEXT, -- under which its output is in the cache
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

CREATE INDEX task_instance_labels ON task_instance (labels) WHERE state = 'ready' AND labels IS NOT NULL;

-- Outputs that later tasks may take instead of being done.
CREATE TABLE cached_output (
    key         TEXT   PRIMARY KEY, -- SHA-256 of the kind of job and what it was given
    run_id      TEXT   NOT NULL REFERENCES run (id), -- that made it
    output      TEXT   NOT NULL, -- JSON
    items       BIGINT NOT NULL,
    summary     TEXT   NOT NULL,
    created_at  BIGINT NOT NULL
);

CREATE INDEX cached_output_of_run ON cached_output (run_id);

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

-- What people and programs are to be told of a run.
CREATE TABLE alert (
    id           TEXT   PRIMARY KEY,
    run_id       TEXT   NOT NULL REFERENCES run (id),
    entry        BIGINT NOT NULL, -- place in the DAG's list of alerts
    event        TEXT   NOT NULL CHECK (event IN ('failure', 'retry', 'deadline', 'success')),
    message      TEXT   NOT NULL, -- JSON object, as it is told
    state        TEXT   NOT NULL CHECK (state IN ('waiting', 'sent', 'failed')),
    tries        BIGINT NOT NULL DEFAULT 0,
    next_try_at  BIGINT NOT NULL,
    error        TEXT, -- why it could not be told the last time
    created_at   BIGINT NOT NULL,
    ended_at     BIGINT
);

CREATE INDEX alert_waiting ON alert (next_try_at) WHERE state = 'waiting';
CREATE INDEX alert_of_run ON alert (run_id);

-- Updates of assets, by tasks and from outside.
CREATE TABLE asset_event (
    id          TEXT   PRIMARY KEY,
    asset       TEXT   NOT NULL,
    run_id      TEXT   REFERENCES run (id),
    task        TEXT,
    created_at  BIGINT NOT NULL
);

CREATE INDEX asset_event_of_asset ON asset_event (asset, id);
CREATE INDEX asset_event_of_run ON asset_event (run_id) WHERE run_id IS NOT NULL;
CREATE INDEX asset_event_from_outside ON asset_event (created_at) WHERE run_id IS NULL;

-- Continuous DAGs.
CREATE TABLE stream (
    dag           TEXT   PRIMARY KEY,
    batches       BIGINT NOT NULL DEFAULT 0, -- so far
    next_read_at  BIGINT NOT NULL DEFAULT 0, -- when its source is read again; while it is read, when its reader counts as dead
    error         TEXT -- why it could not be read the last time
);

-- What came in for them. Items stay: what is known is not taken again.
CREATE TABLE stream_item (
    dag         TEXT   NOT NULL,
    id          TEXT   NOT NULL, -- its name and version in its source
    item        TEXT   NOT NULL, -- JSON
    run_id      TEXT, -- its batch, which may be cleaned away; none: it waits
    arrived_at  BIGINT NOT NULL,
    PRIMARY KEY (dag, id)
);

CREATE INDEX stream_item_waiting ON stream_item (dag, arrived_at, id) WHERE run_id IS NULL;
CREATE INDEX stream_item_of_run ON stream_item (run_id) WHERE run_id IS NOT NULL;

-- Which assets start which DAGs.
CREATE TABLE asset_wait (
    dag       TEXT NOT NULL,
    asset     TEXT NOT NULL,
    event_id  TEXT, -- the newest update since the last run that it started; none: there was none
    PRIMARY KEY (dag, asset)
);

CREATE INDEX asset_wait_of_asset ON asset_wait (asset);

-- Runs whose logs are still to be removed, and with 'whole' their work folders, too: such a run is gone.
CREATE TABLE removal (
    run_id  TEXT   PRIMARY KEY,
    dag     TEXT   NOT NULL,
    whole   BIGINT NOT NULL CHECK (whole IN (0, 1))
);
