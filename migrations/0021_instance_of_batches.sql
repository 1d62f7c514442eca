-- The name of the instance stands in the batch too, so that the indexes of batches lead to those of one instance: a daemon
-- may have hundreds.

ALTER TABLE batch ADD COLUMN instance TEXT NOT NULL DEFAULT '';

DROP INDEX batch_pending;
DROP INDEX batch_due;
DROP INDEX batch_unconfirmed;
DROP INDEX batch_given_up;
DROP INDEX import_in_flight;
DROP INDEX import_ended;

UPDATE batch SET instance = (SELECT j.instance FROM job j WHERE j.id = batch.job_id);

CREATE INDEX batch_pending ON batch (instance, job_id, part) WHERE state = 'pending';
CREATE INDEX batch_due ON batch (instance, not_before) WHERE not_before IS NOT NULL AND state = 'pending';
CREATE INDEX batch_unconfirmed ON batch (instance, unconfirmed_until) WHERE unconfirmed_until IS NOT NULL;
CREATE INDEX batch_given_up ON batch (instance, job_id) WHERE given_up = 1;
CREATE INDEX import_in_flight ON batch (instance, job_id, part)
    WHERE state IN ('uploading', 'queued', 'importing', 'collecting', 'held') AND leads_import = 1;
CREATE INDEX import_ended ON batch (instance, ended_at) WHERE state = 'complete' AND leads_import = 1;

CREATE INDEX job_running ON job (instance) WHERE state = 'running';
