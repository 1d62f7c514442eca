-- When the content of an ended job was erased, and its failure and warning files. What is left of them by then is listed
-- in `erasing` and goes a few pieces at a time.
ALTER TABLE job ADD COLUMN content_erased_at INTEGER;
ALTER TABLE job ADD COLUMN reports_erased_at INTEGER;

CREATE INDEX job_content_due ON job (finished_at) WHERE finished_at IS NOT NULL AND content_erased_at IS NULL;
CREATE INDEX job_reports_due ON job (finished_at) WHERE finished_at IS NOT NULL AND reports_erased_at IS NULL;
CREATE INDEX job_record_due ON job (finished_at) WHERE finished_at IS NOT NULL;

CREATE TABLE erasing (
    job_id INTEGER NOT NULL REFERENCES job (id) ON DELETE CASCADE,
    what   TEXT    NOT NULL CHECK (what IN ('content', 'reports')),
    PRIMARY KEY (job_id, what)
) STRICT, WITHOUT ROWID;

-- Ended jobs of which somebody is still to be told, and when that is tried next. A job ends with its line here in one
-- transaction, where `notify` has a row; it has one while the configuration names somebody.
CREATE TABLE notify (
    id INTEGER PRIMARY KEY CHECK (id = 1)
) STRICT;

CREATE TABLE notice (
    job_id   INTEGER PRIMARY KEY REFERENCES job (id) ON DELETE CASCADE,
    owed_at  INTEGER NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0 CHECK (attempts >= 0),
    next_at  INTEGER NOT NULL
) STRICT;

CREATE INDEX notice_next ON notice (next_at);
