-- Plain names for tables, columns, indices and stored values. No row is lost and nothing else changes.
-- Tables:  erasing -> pending_erasure, notice -> pending_notification, notify -> notification_enabled, call -> api_call,
--          call_day -> api_call_day.
-- Columns: batch.ghost_until -> unconfirmed_until, batch.ghosts -> unconfirmed_imports, batch.ask_failures -> query_failures,
--          batch.ask_refusals -> query_rejections, instance.slots -> observed_slot_limit,
--          instance.slots_probe_at -> slot_probe_at, instance.quiet_until -> backoff_until, instance.under_* -> suspended_*,
--          notice.owed_at -> enqueued_at.
-- Values:  instance.pause 'person' -> 'operator'; history.event 'put-back' -> 'requeued', 'ask-failed' -> 'query-failed',
--          'given-up' -> 'attempts-exhausted', 'halved' -> 'split'.

ALTER TABLE erasing RENAME TO pending_erasure;
ALTER TABLE notify RENAME TO notification_enabled;
ALTER TABLE notice RENAME TO pending_notification;
ALTER TABLE pending_notification RENAME COLUMN owed_at TO enqueued_at;
ALTER TABLE call RENAME TO api_call;
ALTER TABLE call_day RENAME TO api_call_day;

DROP INDEX notice_next;
CREATE INDEX pending_notification_next ON pending_notification (next_at);
DROP INDEX call_of_instance;
CREATE INDEX api_call_of_instance ON api_call (instance, started_at);

ALTER TABLE batch RENAME COLUMN ghost_until TO unconfirmed_until;
ALTER TABLE batch RENAME COLUMN ghosts TO unconfirmed_imports;
ALTER TABLE batch RENAME COLUMN ask_failures TO query_failures;
ALTER TABLE batch RENAME COLUMN ask_refusals TO query_rejections;
DROP INDEX batch_ghost;
CREATE INDEX batch_unconfirmed ON batch (unconfirmed_until) WHERE unconfirmed_until IS NOT NULL;

-- A CHECK can't be changed in place, so the table is built anew. No other table refers to it.
CREATE TABLE instance_new (
    name                TEXT    PRIMARY KEY,
    pause               TEXT    CHECK (pause IN ('operator', 'credentials', 'quota')),
    pause_reason        TEXT,
    paused_at           INTEGER,
    pause_until         INTEGER,
    -- An operator's pause that is suspended by one of another kind, and applies again when that is over.
    suspended_reason    TEXT,
    suspended_at        INTEGER,
    -- How many imports Marketo accepted before it last answered that its queue is full, and when to try one more.
    observed_slot_limit INTEGER CHECK (observed_slot_limit >= 0),
    slot_probe_at       INTEGER,
    -- Failed uploads in a row for which the instance is, or may be, the cause, and the end of the backoff.
    service_failures    INTEGER NOT NULL DEFAULT 0,
    backoff_until       INTEGER,
    -- Uploads are numbered in the order in which they end, so that a clock that is set back changes nothing.
    uploads_ended       INTEGER NOT NULL DEFAULT 0 CHECK (uploads_ended >= 0),
    -- The number of the last upload that Marketo accepted; 0 where none was.
    last_success        INTEGER NOT NULL DEFAULT 0 CHECK (last_success BETWEEN 0 AND uploads_ended),
    -- The batch whose upload failed last since then, for a reason that may be the instance's or the batch's.
    failed_job          INTEGER,
    failed_part         INTEGER CHECK ((failed_job IS NULL) = (failed_part IS NULL)),
    CHECK ((pause IS NULL) = (paused_at IS NULL)),
    CHECK ((pause IS NULL) = (pause_reason IS NULL)),
    CHECK (pause IS NOT NULL OR pause_until IS NULL)
) STRICT, WITHOUT ROWID;

INSERT INTO instance_new (name, pause, pause_reason, paused_at, pause_until, suspended_reason, suspended_at,
                          observed_slot_limit, slot_probe_at, service_failures, backoff_until, uploads_ended, last_success,
                          failed_job, failed_part)
SELECT name, iif(pause = 'person', 'operator', pause), pause_reason, paused_at, pause_until, under_reason, under_at,
       slots, slots_probe_at, service_failures, quiet_until, uploads_ended, last_success, failed_job, failed_part
FROM instance;
DROP TABLE instance;
ALTER TABLE instance_new RENAME TO instance;

UPDATE history
SET event = CASE event
                WHEN 'put-back' THEN 'requeued'
                WHEN 'ask-failed' THEN 'query-failed'
                WHEN 'given-up' THEN 'attempts-exhausted'
                ELSE 'split'
            END
WHERE event IN ('put-back', 'ask-failed', 'given-up', 'halved');
