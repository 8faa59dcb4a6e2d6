-- Pages of runs by DAG and state, and by cause, however long the history. The first also finds the runs of a DAG that have
-- not ended, so that the index of a version need not follow every change of state.
CREATE INDEX run_of_dag_state ON run (dag, state, id);
CREATE INDEX run_of_cause ON run (cause, id);
DROP INDEX run_of_version;
CREATE INDEX run_of_version ON run (dag_version_id);
-- A backfill looks for the runs of each interval.
CREATE INDEX run_about_interval ON run (dag, interval_start) WHERE interval_start IS NOT NULL;
-- The index of states finds these runs as fast.
DROP INDEX run_queued;
DROP INDEX run_stopping;
