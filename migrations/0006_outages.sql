-- An upload that fails counts as an attempt only if a create of another batch has succeeded since the batch's last upload.
-- Uploads of an instance are numbered in the order in which they end, so that a clock that is set back changes nothing.
ALTER TABLE instance ADD COLUMN uploads_ended INTEGER NOT NULL DEFAULT 0 CHECK (uploads_ended >= 0);
-- The number of the last upload that Marketo accepted; 0 where none was.
ALTER TABLE instance ADD COLUMN last_success INTEGER NOT NULL DEFAULT 0 CHECK (last_success BETWEEN 0 AND uploads_ended);
-- The batch whose upload failed last since then, for a reason that may be the instance's or the batch's.
ALTER TABLE instance ADD COLUMN failed_job INTEGER;
ALTER TABLE instance ADD COLUMN failed_part INTEGER CHECK ((failed_job IS NULL) = (failed_part IS NULL));

-- The number of the batch's last upload that ended; null before the first, and after a person said to send it again.
ALTER TABLE batch ADD COLUMN last_upload INTEGER;
-- For how long the batch has been tried while nothing else of the instance waited.
ALTER TABLE batch ADD COLUMN alone_ms INTEGER NOT NULL DEFAULT 0 CHECK (alone_ms >= 0);
-- The batch failed by its attempts, not by a refusal: its content is kept for someone to send it again.
ALTER TABLE batch ADD COLUMN given_up INTEGER NOT NULL DEFAULT 0 CHECK (given_up = 0 OR state = 'failed');
UPDATE batch SET given_up = 1 WHERE state = 'failed' AND message LIKE 'given up after % attempts%';

CREATE INDEX batch_given_up ON batch (job_id) WHERE given_up = 1;
