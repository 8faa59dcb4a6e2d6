-- A page of the runs in one state, however long the history.
CREATE INDEX run_of_state ON run (state, id);
