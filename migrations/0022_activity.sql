-- Counts of what happened in spans of five minutes, for plots. They outlast the erasure of jobs. Triggers count in the
-- transaction of what is counted, so that no write can forget it.

CREATE TABLE activity (
    -- Start of the span, in milliseconds since 1970.
    began_at       INTEGER NOT NULL CHECK (began_at % 300000 = 0),
    instance       TEXT    NOT NULL,
    -- The client whose jobs these are; empty for those of the socket and of the drop folder, and for calls.
    client         TEXT    NOT NULL,
    jobs_complete  INTEGER NOT NULL DEFAULT 0,
    jobs_failed    INTEGER NOT NULL DEFAULT 0,
    jobs_cancelled INTEGER NOT NULL DEFAULT 0,
    -- Marketo's counts of imports that ended. Rows with a warning are not among the first.
    rows_imported  INTEGER NOT NULL DEFAULT 0,
    rows_warned    INTEGER NOT NULL DEFAULT 0,
    rows_failed    INTEGER NOT NULL DEFAULT 0,
    -- Uploads that Marketo accepted.
    uploads        INTEGER NOT NULL DEFAULT 0,
    calls          INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (began_at, instance, client)
) STRICT, WITHOUT ROWID;

-- What earlier versions have recorded. Of calls they kept no more than the day's number.
INSERT INTO activity (began_at, instance, client, jobs_complete, jobs_failed, jobs_cancelled)
SELECT finished_at - finished_at % 300000, instance, iif(source = 'client', source_name, ''),
       sum(state = 'complete'), sum(state = 'failed'), sum(state = 'cancelled')
FROM job WHERE finished_at >= 0 GROUP BY 1, 2, 3;

INSERT INTO activity (began_at, instance, client, rows_imported, rows_warned, rows_failed)
SELECT b.ended_at - b.ended_at % 300000, b.instance, iif(j.source = 'client', j.source_name, ''),
       sum(max(coalesce(b.processed, 0) - coalesce(b.warned, 0), 0)), sum(coalesce(b.warned, 0)), sum(coalesce(b.failed, 0))
FROM batch b JOIN job j ON j.id = b.job_id WHERE b.ended_at >= 0 GROUP BY 1, 2, 3
ON CONFLICT DO UPDATE SET rows_imported = excluded.rows_imported, rows_warned = excluded.rows_warned,
                          rows_failed = excluded.rows_failed;

INSERT INTO activity (began_at, instance, client, uploads)
SELECT b.accepted_at - b.accepted_at % 300000, b.instance, iif(j.source = 'client', j.source_name, ''), count(*)
FROM batch b JOIN job j ON j.id = b.job_id WHERE b.accepted_at >= 0 AND b.leads_import = 1 GROUP BY 1, 2, 3
ON CONFLICT DO UPDATE SET uploads = excluded.uploads;

CREATE TRIGGER activity_of_job AFTER UPDATE OF state ON job
WHEN NEW.finished_at >= 0 AND OLD.finished_at IS NULL
BEGIN
    INSERT INTO activity (began_at, instance, client, jobs_complete, jobs_failed, jobs_cancelled)
    VALUES (NEW.finished_at - NEW.finished_at % 300000, NEW.instance, iif(NEW.source = 'client', NEW.source_name, ''),
            NEW.state = 'complete', NEW.state = 'failed', NEW.state = 'cancelled')
    ON CONFLICT DO UPDATE SET jobs_complete = jobs_complete + excluded.jobs_complete,
                              jobs_failed = jobs_failed + excluded.jobs_failed,
                              jobs_cancelled = jobs_cancelled + excluded.jobs_cancelled;
END;

CREATE TRIGGER activity_of_import AFTER UPDATE OF state ON batch
WHEN NEW.ended_at >= 0 AND OLD.ended_at IS NULL AND (NEW.processed > 0 OR NEW.failed > 0)
BEGIN
    INSERT INTO activity (began_at, instance, client, rows_imported, rows_warned, rows_failed)
    SELECT NEW.ended_at - NEW.ended_at % 300000, NEW.instance, iif(j.source = 'client', j.source_name, ''),
           max(coalesce(NEW.processed, 0) - coalesce(NEW.warned, 0), 0), coalesce(NEW.warned, 0), coalesce(NEW.failed, 0)
    FROM job j WHERE j.id = NEW.job_id
    ON CONFLICT DO UPDATE SET rows_imported = rows_imported + excluded.rows_imported,
                              rows_warned = rows_warned + excluded.rows_warned,
                              rows_failed = rows_failed + excluded.rows_failed;
END;

CREATE TRIGGER activity_of_upload AFTER UPDATE OF accepted_at ON batch
WHEN NEW.accepted_at >= 0 AND NEW.accepted_at IS NOT OLD.accepted_at AND NEW.leads_import = 1
BEGIN
    INSERT INTO activity (began_at, instance, client, uploads)
    SELECT NEW.accepted_at - NEW.accepted_at % 300000, NEW.instance, iif(j.source = 'client', j.source_name, ''), 1
    FROM job j WHERE j.id = NEW.job_id
    ON CONFLICT DO UPDATE SET uploads = uploads + 1;
END;

CREATE TRIGGER activity_of_call AFTER INSERT ON api_call
WHEN NEW.started_at >= 0
BEGIN
    INSERT INTO activity (began_at, instance, client, calls)
    VALUES (NEW.started_at - NEW.started_at % 300000, NEW.instance, '', 1)
    ON CONFLICT DO UPDATE SET calls = calls + 1;
END;
