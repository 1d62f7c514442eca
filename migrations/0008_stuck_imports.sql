-- How long an import has been waited for by a clock that can be believed, and since when it is held because Marketo has
-- not ended it within max_import_time. Its state stays what Marketo last said: it is polled, and keeps its slot.
ALTER TABLE batch ADD COLUMN waited_ms INTEGER NOT NULL DEFAULT 0 CHECK (waited_ms >= 0);
ALTER TABLE batch ADD COLUMN overdue_at INTEGER;
-- Marketo gave the import's id for another upload too, so that nobody knows whose its counts and files are.
ALTER TABLE batch ADD COLUMN id_given_twice INTEGER NOT NULL DEFAULT 0 CHECK (id_given_twice BETWEEN 0 AND 1);

-- Imports that an operator gave up and that Marketo had not ended: until then each counts as one of ours.
CREATE TABLE abandoned (
    id               INTEGER PRIMARY KEY,
    instance         TEXT    NOT NULL,
    marketo_batch_id TEXT    NOT NULL,
    until            INTEGER NOT NULL
) STRICT;

CREATE INDEX abandoned_of_instance ON abandoned (instance, until);

-- Every id that Marketo gave for an upload, also those of batches that were sent again.
CREATE INDEX history_import ON history (message) WHERE event IN ('accepted', 'settled');
