-- Alerts: events other than a job's end of which an operator is still to be told, and when that is tried next. A row is
-- written in the transaction that records the event, where `notification_enabled` has a row. The row has all that is
-- told, since a pause may be over by then. That the disk is full is not here: no row could be written.
CREATE TABLE pending_alert (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    event       TEXT    NOT NULL CHECK (event IN ('instance-paused', 'batch-held')),
    instance    TEXT,
    -- Of a pause.
    pause       TEXT    CHECK (pause IN ('operator', 'credentials', 'quota')),
    pause_until INTEGER,
    -- The batch that is held.
    job_id      INTEGER REFERENCES job (id) ON DELETE CASCADE,
    part        INTEGER,
    reason      TEXT    NOT NULL,
    enqueued_at INTEGER NOT NULL,
    attempts    INTEGER NOT NULL DEFAULT 0 CHECK (attempts >= 0),
    next_at     INTEGER NOT NULL,
    CHECK ((event = 'instance-paused') = (instance IS NOT NULL)),
    CHECK ((event = 'instance-paused') = (pause IS NOT NULL)),
    CHECK ((event = 'batch-held') = (job_id IS NOT NULL)),
    CHECK ((event = 'batch-held') = (part IS NOT NULL))
) STRICT;

CREATE INDEX pending_alert_next ON pending_alert (next_at);
CREATE INDEX pending_alert_of_job ON pending_alert (job_id) WHERE job_id IS NOT NULL;
