-- Where attempts of a task run: 'worker' or 'kubernetes'; none: where the installation says.
ALTER TABLE task_instance ADD COLUMN executor TEXT CHECK (executor IN ('worker', 'kubernetes'));
