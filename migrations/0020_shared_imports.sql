-- Jobs of one instance with equal shapes may share an import; null in a job that goes alone. Jobs of earlier versions do.
ALTER TABLE job ADD COLUMN pack_shape BLOB CHECK (length(pack_shape) = 32);
-- How many bytes of the header's line end are added behind the last row, which has none, where other rows follow.
ALTER TABLE job ADD COLUMN pack_line_end INTEGER NOT NULL DEFAULT 0 CHECK (pack_line_end BETWEEN 0 AND 2);
-- The most bytes of an import that the job may share: an import of more bytes was refused as too large.
ALTER TABLE job ADD COLUMN pack_max_bytes INTEGER CHECK (pack_max_bytes >= 0);

CREATE INDEX job_pack ON job (instance, pack_shape, priority DESC, id)
    WHERE pack_shape IS NOT NULL AND state = 'pending';

-- An import of the rows of several jobs, until all of its batches have ended.
CREATE TABLE shared_import (
    id        INTEGER PRIMARY KEY AUTOINCREMENT,
    -- How many batches it was made of.
    batches   INTEGER NOT NULL CHECK (batches > 1),
    -- Marketo's counts of all its rows.
    processed INTEGER,
    failed    INTEGER,
    warned    INTEGER
) STRICT;

-- Its batches, in the order of their rows in the upload.
CREATE TABLE shared_import_batch (
    shared_import INTEGER NOT NULL REFERENCES shared_import (id) ON DELETE CASCADE,
    position      INTEGER NOT NULL,
    job_id        INTEGER NOT NULL REFERENCES job (id) ON DELETE CASCADE,
    part          INTEGER NOT NULL,
    -- The rows as they were sent; the batch of a job that was retried may have been split since.
    byte_from     INTEGER NOT NULL,
    byte_to       INTEGER NOT NULL CHECK (byte_to > byte_from),
    line_end      INTEGER NOT NULL,
    rows          INTEGER NOT NULL,
    PRIMARY KEY (shared_import, position)
) STRICT, WITHOUT ROWID;

CREATE INDEX shared_import_batch_job ON shared_import_batch (job_id);

-- The import that a batch shares, while it does; its events are those of all batches that share it.
ALTER TABLE batch ADD COLUMN shared_import INTEGER;
-- How many other jobs are in the import that its state is about.
ALTER TABLE batch ADD COLUMN shared_with INTEGER NOT NULL DEFAULT 0 CHECK (shared_with >= 0);
-- One batch of a shared import stands for it: it has the worker and counts for the slot.
ALTER TABLE batch ADD COLUMN leads_import INTEGER NOT NULL DEFAULT 1 CHECK (leads_import BETWEEN 0 AND 1);
-- The rows of the shared import.
ALTER TABLE batch ADD COLUMN import_rows INTEGER;
-- The rows whose outcome is unknown, where that of the others is known; see src/delimited/row_match/encoding.rs.
ALTER TABLE batch ADD COLUMN unknown_rows BLOB;

CREATE INDEX batch_shared_import ON batch (shared_import) WHERE shared_import IS NOT NULL;

-- Slots and durations are those of imports, and hundreds of batches may share one.
DROP INDEX batch_in_flight;
CREATE INDEX import_in_flight ON batch (job_id, part)
    WHERE state IN ('uploading', 'queued', 'importing', 'collecting', 'held') AND leads_import = 1;
DROP INDEX batch_ended;
CREATE INDEX import_ended ON batch (ended_at) WHERE state = 'complete' AND leads_import = 1;
