-- The tables of the tracking and registry server. One text for SQLite and PostgreSQL, but for two words that
-- `store/migrations.rs` puts in: SERIAL_KEY is a number that the database gives and never gives again, CLUSTERED ends a
-- table whose rows lie in the order of its primary key.
-- Times are milliseconds since 1970-01-01 UTC. A metric that is not a number has `is_nan` 1 and `value` 0: SQLite would
-- store NaN as NULL. Infinities are stored as the largest finite numbers, as MLflow does.

CREATE TABLE experiment (
  id SERIAL_KEY,
  name TEXT NOT NULL UNIQUE,
  artifact_location TEXT NOT NULL,
  lifecycle TEXT NOT NULL,          -- active, deleted
  created_at BIGINT NOT NULL,
  updated_at BIGINT NOT NULL
);
CREATE TABLE experiment_tag (
  experiment_id BIGINT NOT NULL REFERENCES experiment (id) ON DELETE CASCADE,
  key TEXT NOT NULL,
  value TEXT NOT NULL,
  PRIMARY KEY (experiment_id, key)
) CLUSTERED;
CREATE INDEX experiment_tag_value ON experiment_tag (key, substr(value, 1, 100));

-- `no` joins; `id` (32 hexadecimal digits) is what clients know.
CREATE TABLE run (
  no SERIAL_KEY,
  id TEXT NOT NULL UNIQUE,
  experiment_id BIGINT NOT NULL REFERENCES experiment (id),
  name TEXT NOT NULL,
  user_id TEXT NOT NULL,
  status TEXT NOT NULL,             -- RUNNING, SCHEDULED, FINISHED, FAILED, KILLED
  started_at BIGINT NOT NULL,       -- 0 when the client does not say
  ended_at BIGINT,
  lifecycle TEXT NOT NULL,          -- active, deleted
  deleted_at BIGINT,
  artifact_uri TEXT NOT NULL
);
CREATE INDEX run_of_experiment ON run (experiment_id, lifecycle, started_at DESC, id);
CREATE INDEX run_deleted ON run (deleted_at) WHERE deleted_at IS NOT NULL;

CREATE TABLE run_tag (
  run_no BIGINT NOT NULL REFERENCES run (no) ON DELETE CASCADE,
  key TEXT NOT NULL,
  value TEXT NOT NULL,
  PRIMARY KEY (run_no, key)
) CLUSTERED;
-- The first characters are enough to find rows; PostgreSQL allows no longer entries of an index.
CREATE INDEX run_tag_value ON run_tag (key, substr(value, 1, 100), run_no);

CREATE TABLE param (
  run_no BIGINT NOT NULL REFERENCES run (no) ON DELETE CASCADE,
  key TEXT NOT NULL,
  value TEXT NOT NULL,
  PRIMARY KEY (run_no, key)
) CLUSTERED;
CREATE INDEX param_value ON param (key, substr(value, 1, 100), run_no);

CREATE TABLE metric (
  run_no BIGINT NOT NULL REFERENCES run (no) ON DELETE CASCADE,
  key TEXT NOT NULL,
  step BIGINT NOT NULL,
  time BIGINT NOT NULL,
  value DOUBLE PRECISION NOT NULL,
  is_nan BIGINT NOT NULL,
  PRIMARY KEY (run_no, key, time, step, value, is_nan)
) CLUSTERED;
CREATE TABLE latest_metric (
  run_no BIGINT NOT NULL REFERENCES run (no) ON DELETE CASCADE,
  key TEXT NOT NULL,
  step BIGINT NOT NULL,
  time BIGINT NOT NULL,
  value DOUBLE PRECISION NOT NULL,
  is_nan BIGINT NOT NULL,
  PRIMARY KEY (run_no, key)
) CLUSTERED;
CREATE INDEX latest_metric_value ON latest_metric (key, value, run_no, is_nan);

CREATE TABLE dataset (
  no SERIAL_KEY,
  experiment_id BIGINT NOT NULL REFERENCES experiment (id) ON DELETE CASCADE,
  name TEXT NOT NULL,
  digest TEXT NOT NULL,
  source_type TEXT NOT NULL,
  source TEXT NOT NULL,
  schema TEXT,
  profile TEXT,
  UNIQUE (experiment_id, name, digest)
);
CREATE TABLE run_dataset (
  run_no BIGINT NOT NULL REFERENCES run (no) ON DELETE CASCADE,
  dataset_no BIGINT NOT NULL REFERENCES dataset (no) ON DELETE CASCADE,
  tags TEXT NOT NULL,               -- a JSON list of {key, value}
  context TEXT,                     -- the value of the tag mlflow.data.context
  PRIMARY KEY (run_no, dataset_no)
) CLUSTERED;
CREATE INDEX run_of_dataset ON run_dataset (dataset_no, run_no);
-- Logged models that a run read or made.
CREATE TABLE run_model (
  run_no BIGINT NOT NULL REFERENCES run (no) ON DELETE CASCADE,
  direction TEXT NOT NULL,          -- input, output
  model_id TEXT NOT NULL,
  step BIGINT NOT NULL,
  PRIMARY KEY (run_no, direction, model_id, step)
) CLUSTERED;

CREATE TABLE logged_model (
  no SERIAL_KEY,
  id TEXT NOT NULL UNIQUE,          -- m- and 32 hexadecimal digits
  experiment_id BIGINT NOT NULL REFERENCES experiment (id),
  name TEXT NOT NULL,
  artifact_location TEXT NOT NULL,
  status TEXT NOT NULL,             -- PENDING, READY, FAILED
  status_message TEXT,
  model_type TEXT,
  source_run_id TEXT,
  lifecycle TEXT NOT NULL,
  deleted_at BIGINT,
  created_at BIGINT NOT NULL,
  updated_at BIGINT NOT NULL
);
CREATE INDEX logged_model_of_experiment ON logged_model (experiment_id, lifecycle, created_at DESC, id);
CREATE INDEX logged_model_of_run ON logged_model (source_run_id);
CREATE INDEX logged_model_deleted ON logged_model (deleted_at) WHERE deleted_at IS NOT NULL;
CREATE TABLE logged_model_tag (
  model_no BIGINT NOT NULL REFERENCES logged_model (no) ON DELETE CASCADE,
  key TEXT NOT NULL,
  value TEXT NOT NULL,
  PRIMARY KEY (model_no, key)
) CLUSTERED;
CREATE TABLE logged_model_param (
  model_no BIGINT NOT NULL REFERENCES logged_model (no) ON DELETE CASCADE,
  key TEXT NOT NULL,
  value TEXT NOT NULL,
  PRIMARY KEY (model_no, key)
) CLUSTERED;
CREATE TABLE logged_model_metric (
  model_no BIGINT NOT NULL REFERENCES logged_model (no) ON DELETE CASCADE,
  run_id TEXT NOT NULL,
  key TEXT NOT NULL,
  step BIGINT NOT NULL,
  time BIGINT NOT NULL,
  value DOUBLE PRECISION NOT NULL,
  is_nan BIGINT NOT NULL,
  dataset_name TEXT,
  dataset_digest TEXT,
  PRIMARY KEY (model_no, key, time, step, run_id)
) CLUSTERED;

-- `next_version` counts versions without gaps or repeats; `versions` and `updated_at` spare a look at the versions.
CREATE TABLE registered_model (
  no SERIAL_KEY,
  name TEXT NOT NULL UNIQUE,
  description TEXT,
  next_version BIGINT NOT NULL,
  created_at BIGINT NOT NULL,
  updated_at BIGINT NOT NULL
);
CREATE INDEX registered_model_updated ON registered_model (updated_at, name);
CREATE TABLE registered_model_tag (
  model_no BIGINT NOT NULL REFERENCES registered_model (no) ON DELETE CASCADE,
  key TEXT NOT NULL,
  value TEXT NOT NULL,
  PRIMARY KEY (model_no, key)
) CLUSTERED;
CREATE INDEX registered_model_tag_value ON registered_model_tag (key, substr(value, 1, 100), model_no);
CREATE TABLE model_version (
  model_no BIGINT NOT NULL REFERENCES registered_model (no) ON DELETE CASCADE,
  version BIGINT NOT NULL,
  description TEXT,
  user_id TEXT,
  stage TEXT NOT NULL,              -- None, Staging, Production, Archived
  source TEXT NOT NULL,
  storage_location TEXT NOT NULL,   -- where the files are
  run_id TEXT,
  run_link TEXT,
  model_id TEXT,
  status TEXT NOT NULL,             -- PENDING_REGISTRATION, FAILED_REGISTRATION, READY
  status_message TEXT,
  created_at BIGINT NOT NULL,
  updated_at BIGINT NOT NULL,
  PRIMARY KEY (model_no, version)
) CLUSTERED;
CREATE INDEX model_version_of_stage ON model_version (model_no, stage, version);
CREATE INDEX model_version_of_run ON model_version (run_id);
CREATE INDEX model_version_updated ON model_version (updated_at, model_no, version);
CREATE INDEX model_version_of_model_updated ON model_version (model_no, updated_at, version);
CREATE TABLE model_version_tag (
  model_no BIGINT NOT NULL,
  version BIGINT NOT NULL,
  key TEXT NOT NULL,
  value TEXT NOT NULL,
  PRIMARY KEY (model_no, version, key),
  FOREIGN KEY (model_no, version) REFERENCES model_version (model_no, version) ON DELETE CASCADE
) CLUSTERED;
CREATE INDEX model_version_tag_value ON model_version_tag (key, substr(value, 1, 100), model_no, version);
CREATE TABLE model_alias (
  model_no BIGINT NOT NULL REFERENCES registered_model (no) ON DELETE CASCADE,
  name TEXT NOT NULL,
  version BIGINT NOT NULL,
  PRIMARY KEY (model_no, name)
) CLUSTERED;

-- Who moved an alias, when, why, from where to where, and what the gates said. Rows stay when the model goes; another of
-- its name has another `model_no`.
CREATE TABLE promotion (
  no SERIAL_KEY,
  model_no BIGINT NOT NULL,
  model TEXT NOT NULL,
  alias TEXT NOT NULL,
  kind TEXT NOT NULL,               -- promote, rollback, set, delete
  from_version BIGINT,
  to_version BIGINT,
  actor TEXT NOT NULL,
  reason TEXT NOT NULL,
  gates TEXT NOT NULL,              -- a JSON list: what each gate wanted and found
  outcome TEXT NOT NULL,            -- moved, refused, lost
  at BIGINT NOT NULL
);
CREATE INDEX promotion_of_model ON promotion (model, no);
CREATE INDEX promotion_of_alias ON promotion (model_no, alias, outcome, no);
CREATE TABLE approval (
  model_no BIGINT NOT NULL,
  version BIGINT NOT NULL,
  alias TEXT NOT NULL,
  role TEXT NOT NULL,
  actor TEXT NOT NULL,
  comment TEXT NOT NULL,
  at BIGINT NOT NULL,
  PRIMARY KEY (model_no, version, alias, role, actor),
  FOREIGN KEY (model_no, version) REFERENCES model_version (model_no, version) ON DELETE CASCADE
) CLUSTERED;

CREATE TABLE webhook (
  id TEXT PRIMARY KEY,
  name TEXT NOT NULL,
  description TEXT,
  url TEXT NOT NULL,
  secret TEXT,                      -- sealed, never as it was given
  status TEXT NOT NULL,             -- ACTIVE, DISABLED
  created_at BIGINT NOT NULL,
  updated_at BIGINT NOT NULL
);
CREATE TABLE webhook_event (
  event TEXT NOT NULL,              -- such as model_version.created
  webhook_id TEXT NOT NULL REFERENCES webhook (id) ON DELETE CASCADE,
  position BIGINT NOT NULL,
  PRIMARY KEY (event, webhook_id)
) CLUSTERED;
CREATE INDEX webhook_event_of_webhook ON webhook_event (webhook_id, position);
-- What is to be told, written with the change that it tells of.
CREATE TABLE webhook_delivery (
  no SERIAL_KEY,
  webhook_id TEXT NOT NULL REFERENCES webhook (id) ON DELETE CASCADE,
  change_id TEXT NOT NULL,          -- the same for all webhooks that are told of one change
  event TEXT NOT NULL,
  payload TEXT NOT NULL,
  status TEXT NOT NULL,             -- PENDING, DELIVERED, GIVEN_UP
  attempts BIGINT NOT NULL,
  due_at BIGINT NOT NULL,           -- the next attempt; while one is under way, when it is thought dead
  response_status BIGINT,
  error TEXT,
  created_at BIGINT NOT NULL,
  done_at BIGINT
);
CREATE INDEX webhook_delivery_due ON webhook_delivery (due_at) WHERE status = 'PENDING';
CREATE INDEX webhook_delivery_done ON webhook_delivery (done_at) WHERE done_at IS NOT NULL;
CREATE INDEX webhook_delivery_of_webhook ON webhook_delivery (webhook_id, no);

-- Files that nothing names any more, to be removed by `safari registry gc` when their grace period is over.
CREATE TABLE orphan (
  no SERIAL_KEY,
  uri TEXT NOT NULL,
  reason TEXT NOT NULL,             -- run, experiment, logged_model, version
  since BIGINT NOT NULL
);
CREATE INDEX orphan_since ON orphan (since);

-- Uploads in parts. Those that are complete stay a while, for clients that ask again.
CREATE TABLE upload (
  id TEXT PRIMARY KEY,
  path TEXT NOT NULL,
  parts BIGINT NOT NULL,
  store_id TEXT NOT NULL,           -- the store's own name of the upload
  created_at BIGINT NOT NULL,
  done_at BIGINT
);
CREATE INDEX upload_created ON upload (created_at);
