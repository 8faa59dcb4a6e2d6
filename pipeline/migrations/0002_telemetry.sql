-- How far the changes of runs were told to a receiver outside. One process at a time tells them.
CREATE TABLE telemetry (
    receiver     TEXT   PRIMARY KEY CHECK (receiver IN ('openlineage', 'traces')),
    position     BIGINT NOT NULL, -- of the last change that was told
    owner        TEXT, -- who tells; random, one for each process
    lease_until  BIGINT NOT NULL
);
