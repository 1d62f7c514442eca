-- How the batches of a job depend on each other. No job of an earlier version has such a rule.
ALTER TABLE job ADD COLUMN in_order INTEGER NOT NULL DEFAULT 0 CHECK (in_order BETWEEN 0 AND 1);
-- The rows of a first batch for which the others wait.
ALTER TABLE job ADD COLUMN canary INTEGER CHECK (canary > 0);
ALTER TABLE job ADD COLUMN max_failed_percent INTEGER CHECK (max_failed_percent BETWEEN 0 AND 99);
-- Why no further batch is uploaded, and the kind of the reason.
ALTER TABLE job ADD COLUMN stop_cause TEXT CHECK (stop_cause IN ('threshold', 'dependency'));
ALTER TABLE job ADD COLUMN stop_reason TEXT CHECK ((stop_reason IS NULL) = (stop_cause IS NULL));
