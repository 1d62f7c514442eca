-- The earliest time at which a job's rows may be uploaded; null where there is none. It is a time of day that somebody
-- named, so it does not move when the clock is set.
ALTER TABLE job ADD COLUMN not_before INTEGER;

-- When the next of an instance's jobs may begin.
CREATE INDEX job_not_before ON job (instance, not_before)
    WHERE not_before IS NOT NULL AND state IN ('pending', 'running');
