-- Runs of an experiment that have a tag or param of some value, newest first, are found along an index: tags and params know
-- their run's experiment and start, which never change.
ALTER TABLE run_tag ADD COLUMN experiment_id BIGINT NOT NULL DEFAULT 0;
ALTER TABLE run_tag ADD COLUMN started_at BIGINT NOT NULL DEFAULT 0;
UPDATE run_tag SET experiment_id = (SELECT r.experiment_id FROM run r WHERE r.no = run_tag.run_no),
  started_at = (SELECT r.started_at FROM run r WHERE r.no = run_tag.run_no);
DROP INDEX run_tag_value;
CREATE INDEX run_tag_value ON run_tag (key, substr(value, 1, 100), experiment_id, started_at DESC, run_no);

ALTER TABLE param ADD COLUMN experiment_id BIGINT NOT NULL DEFAULT 0;
ALTER TABLE param ADD COLUMN started_at BIGINT NOT NULL DEFAULT 0;
UPDATE param SET experiment_id = (SELECT r.experiment_id FROM run r WHERE r.no = param.run_no),
  started_at = (SELECT r.started_at FROM run r WHERE r.no = param.run_no);
DROP INDEX param_value;
CREATE INDEX param_value ON param (key, substr(value, 1, 100), experiment_id, started_at DESC, run_no);
