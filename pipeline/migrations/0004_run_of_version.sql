-- The runs of a version that have not ended, without a look at the others. With an index for the version and another for
-- the unfinished SQLite takes the first.
DROP INDEX run_of_version;
DROP INDEX run_unfinished;
CREATE INDEX run_of_version ON run (dag_version_id, state);
