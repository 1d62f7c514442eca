-- Who dropped a job's file in: a user id on the socket, a client's id over TCP, or a path in the drop folder. Jobs from
-- before this know it not.
ALTER TABLE job ADD COLUMN source TEXT CHECK (source IN ('socket', 'client', 'drop'));
ALTER TABLE job ADD COLUMN source_name TEXT CHECK ((source IS NULL) = (source_name IS NULL));

CREATE INDEX job_of_client ON job (source_name, id) WHERE source = 'client';

-- A key is its client's own: another client that happens to use the same one must neither be refused for it nor get the
-- other's job.
DROP INDEX job_idempotency_key;
CREATE UNIQUE INDEX job_idempotency_key ON job (idempotency_key, iif(source = 'client', source_name, ''))
    WHERE idempotency_key IS NOT NULL;
