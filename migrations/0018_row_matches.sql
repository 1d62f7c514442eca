-- The line on which a batch's first row begins in the submitted file, counted from 1; null in batches of earlier versions.
ALTER TABLE batch ADD COLUMN first_line INTEGER CHECK (first_line >= 1);

-- For each row of a batch's report the row that was sent; see src/delimited/row_match.rs. It is erased with the report.
CREATE TABLE row_match (
    job_id     INTEGER NOT NULL REFERENCES job (id) ON DELETE CASCADE,
    part       INTEGER NOT NULL,
    kind       TEXT    NOT NULL CHECK (kind IN ('failures', 'warnings')),
    -- As of the batch, also for those of earlier versions.
    first_line INTEGER NOT NULL CHECK (first_line >= 1),
    -- The size of the encoded match, and the match compressed with zstd.
    bytes      INTEGER NOT NULL CHECK (bytes > 0),
    packed     BLOB    NOT NULL,
    PRIMARY KEY (job_id, part, kind)
) STRICT;
