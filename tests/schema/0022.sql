-- A database of version 22 with rows in every table and state. Job ids are told apart by their hundreds: 100 jobs that wait,
-- 200 jobs at work, 300 those that ended.
INSERT INTO job (id, instance, state, target, lookup_field, list_id, partition_name, object_name, program_id, member_status,
                 filename, format, priority, job_group, idempotency_key, content_sha256, bytes, header_from, header_to,
                 rows, retry_of, created_at, started_at, finished_at, error)
VALUES
 (90, 'default', 'receiving', 'leads', NULL, NULL, NULL, NULL, NULL, NULL, 'half.csv', 'csv', 0, NULL, NULL, NULL, 0, 0, 0, 0, NULL, 1000, NULL, NULL, NULL),
 (100, 'default', 'pending', 'leads', 'email', 7, 'EU', NULL, NULL, NULL, 'a.csv', 'csv', 5, 'g', 'key', zeroblob(32), 22, 0, 6, 1, NULL, 1000, NULL, NULL, NULL),
 (101, 'default', 'pending', 'custom-object', NULL, NULL, NULL, 'car_c', NULL, NULL, 'b.tsv', 'tsv', 0, NULL, NULL, NULL, 22, 0, 6, 1, NULL, 1000, NULL, NULL, NULL),
 (102, 'eu', 'pending', 'leads', NULL, 8, NULL, NULL, NULL, NULL, 'w.csv', 'csv', 0, NULL, NULL, NULL, 70, 0, 6, 4, NULL, 1000, NULL, NULL, NULL),
 (200, 'default', 'running', 'program-members', NULL, NULL, NULL, NULL, 1044, 'Member', 'c.ssv', 'ssv', -1, NULL, NULL, NULL, 86, 0, 6, 5, NULL, 1000, 2000, NULL, NULL),
 (300, 'default', 'complete', 'leads', NULL, NULL, NULL, NULL, NULL, NULL, 'd.csv', 'csv', 0, NULL, NULL, NULL, 22, 0, 6, 1, NULL, 1000, 2000, 3000, NULL),
 (301, 'default', 'failed', 'leads', NULL, NULL, NULL, NULL, NULL, NULL, 'e.csv', 'csv', 0, NULL, NULL, NULL, 22, 0, 6, 1, 300, 1000, 2000, 3000, 'Marketo said no'),
 (302, 'default', 'cancelled', 'leads', NULL, NULL, NULL, NULL, NULL, NULL, 'f.csv', 'csv', 0, NULL, NULL, NULL, 22, 0, 6, 1, NULL, 1000, NULL, 3000, NULL);

INSERT INTO batch (job_id, part, state, byte_from, byte_to, rows, attempts, marketo_batch_id, not_before, wait, message,
                   processed, failed, warned, uploaded_at, accepted_at, importing_at, polled_at, ended_at, query_failures,
                   unconfirmed_until, failures_bytes, warnings_bytes)
VALUES
 (100, 1, 'pending', 6, 22, 1, 0, NULL, 2500, 'queue-full', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, NULL, NULL, NULL),
 (101, 1, 'pending', 6, 22, 1, 1, NULL, NULL, NULL, 'the answer was lost', NULL, NULL, NULL, 1500, NULL, NULL, NULL, NULL, 0, 9000000, NULL, NULL),
 (102, 1, 'pending', 6, 22, 1, 0, NULL, 2500, 'list-busy', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, NULL, NULL, NULL),
 (102, 2, 'pending', 22, 38, 1, 0, NULL, 2500, 'calls', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, NULL, NULL, NULL),
 (102, 3, 'pending', 38, 54, 1, 0, NULL, 2500, 'instance', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, NULL, NULL, NULL),
 (102, 4, 'pending', 54, 70, 1, 0, NULL, 2500, 'service', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, NULL, NULL, NULL),
 (200, 1, 'uploading', 6, 22, 1, 1, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 2000, NULL, NULL, NULL, NULL, 0, NULL, NULL, NULL),
 (200, 2, 'queued', 22, 38, 1, 1, '1002', NULL, NULL, NULL, NULL, NULL, NULL, 2000, 2100, NULL, NULL, NULL, 0, NULL, NULL, NULL),
 (200, 3, 'importing', 38, 54, 1, 1, '1003', NULL, NULL, NULL, 1, 0, 0, 2000, 2100, 2200, 2200, NULL, 2, NULL, NULL, NULL),
 (200, 4, 'collecting', 54, 70, 1, 1, '1004', NULL, NULL, NULL, 0, 1, 1, 2000, 2100, 2200, 2300, NULL, 0, NULL, NULL, NULL),
 (200, 5, 'held', 70, 86, 1, 1, NULL, NULL, NULL, 'the answer was lost', NULL, NULL, NULL, 2000, NULL, NULL, NULL, NULL, 0, 9000000, NULL, NULL),
 (300, 1, 'complete', 6, 22, 1, 1, '1006', NULL, NULL, NULL, 0, 1, 1, 2000, 2100, 2200, 2300, 3000, 0, NULL, 5, 5),
 (301, 1, 'failed', 6, 22, 1, 8, NULL, NULL, NULL, 'Marketo said no', NULL, NULL, NULL, 2000, NULL, NULL, NULL, 3000, 0, NULL, NULL, NULL),
 (302, 1, 'cancelled', 6, 22, 1, 0, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 3000, 0, NULL, NULL, NULL);

-- "email\n" and "a1@example.com.\n", which zstd leaves as they are, in a frame.
INSERT INTO chunk (job_id, kind, part, byte_from, bytes, packed)
VALUES
 (90, 'file', 0, 0, 22, x'28b52ffd2016b10000656d61696c0a6131406578616d706c652e636f6d2e0a'),
 (100, 'file', 0, 0, 22, x'28b52ffd2016b10000656d61696c0a6131406578616d706c652e636f6d2e0a'),
 (300, 'failures', 1, 0, 5, x'28b52ffd20052900006e6f74650a'),
 (300, 'warnings', 1, 0, 5, x'28b52ffd20052900006e6f74650a');

INSERT INTO history (job_id, part, at, event, state, message, request_id)
VALUES
 (100, NULL, 1000, 'received', 'pending', NULL, NULL),
 (301, 1, 3000, 'rejected', 'failed', 'Marketo said no', 'r#1');

INSERT INTO instance (name, pause, pause_reason, paused_at, pause_until, observed_slot_limit, slot_probe_at, service_failures, backoff_until)
VALUES
 ('default', NULL, NULL, NULL, NULL, 3, 2600, 1, 2700),
 ('eu', 'quota', 'the day is over', 2000, 9000000, NULL, NULL, 0, NULL),
 ('ap', 'credentials', 'Marketo does not know them', 2000, NULL, NULL, NULL, 0, NULL),
 ('us', 'operator', 'an operator asked for it', 2000, NULL, NULL, NULL, 0, NULL);

INSERT INTO api_call (instance, started_at, ended_at) VALUES ('default', 2000, 2100), ('default', 2200, NULL);
INSERT INTO api_call_day (instance, day, calls) VALUES ('default', 0, 17);

UPDATE batch SET unconfirmed_imports = 2 WHERE unconfirmed_until IS NOT NULL;
UPDATE instance SET suspended_reason = 'an operator asked for it', suspended_at = 1900 WHERE name = 'eu';

UPDATE job SET source = 'socket', source_name = '1000' WHERE id = 100;
UPDATE job SET source = 'client', source_name = 'crm', idempotency_key = 'key' WHERE id = 101;
UPDATE job SET source = 'drop', source_name = 'default/program-members/1044/Member/c.ssv' WHERE id = 200;

UPDATE job SET content_erased_at = 4000 WHERE id IN (300, 301);
UPDATE job SET reports_erased_at = 4000 WHERE id = 301;
INSERT INTO pending_erasure (job_id, what) VALUES (300, 'content'), (301, 'reports');
INSERT INTO notification_enabled (id) VALUES (1);
INSERT INTO pending_notification (job_id, enqueued_at, attempts, next_at) VALUES (302, 3000, 2, 9000);

UPDATE batch SET query_rejections = 1 WHERE query_failures = 2;

INSERT INTO api_token (token_sha256, client_id, secret_check, issued_at)
VALUES (randomblob(32), 'crm', randomblob(32), 2000), (randomblob(32), '', randomblob(32), 2000);

UPDATE api_call SET boot = 'b', began_up = 1500, may_take = 60000;
UPDATE api_call SET ended_up = 1600 WHERE ended_at IS NOT NULL;
UPDATE batch SET waited_ms = 100 WHERE marketo_batch_id IS NOT NULL;
UPDATE batch SET overdue_at = 2500 WHERE job_id = 200 AND part = 3;
UPDATE batch SET id_given_twice = 1 WHERE job_id = 300;
INSERT INTO abandoned (instance, marketo_batch_id, until) VALUES ('default', '1009', 9000000);

INSERT INTO clock (id, boot, offset_ms, steady_since_up, seen_up, seen_wall) VALUES (1, 'b', 1000, 0, 1600, 2600);
UPDATE api_call_day SET doubtful = 2;

UPDATE job SET not_before = 2000 WHERE id IN (100, 300);

UPDATE batch SET first_line = 2 WHERE part = 1;
-- One row, which is the first of the batch: "\x01\x01\0\0\0", in a frame.
INSERT INTO row_match (job_id, part, kind, first_line, bytes, packed)
VALUES (300, 1, 'failures', 2, 5, x'28b52ffd20052900000101000000'), (300, 1, 'warnings', 2, 5, x'28b52ffd20052900000101000000');

UPDATE job SET in_order = 1, canary = 1, max_failed_percent = 5 WHERE id = 100;
UPDATE job SET stop_cause = 'threshold', stop_reason = '1 of the 2 rows failed' WHERE id = 301;
UPDATE job SET stop_cause = 'dependency', stop_reason = 'part 1 failed' WHERE id = 302;

INSERT INTO pending_alert (event, instance, pause, pause_until, reason, enqueued_at, attempts, next_at)
VALUES ('instance-paused', 'eu', 'quota', 90000, '607', 2000, 1, 9000),
       ('instance-paused', 'us', 'operator', NULL, 'an operator paused it', 2000, 0, 9000),
       ('instance-paused', 'ap', 'credentials', NULL, '603', 2000, 0, 9000);
INSERT INTO pending_alert (event, job_id, part, reason, enqueued_at, next_at)
VALUES ('batch-held', 200, 5, 'its answer was lost', 2000, 9000);

UPDATE job SET pack_shape = zeroblob(32), pack_line_end = 1, pack_max_bytes = 100 WHERE id IN (100, 101);
INSERT INTO shared_import (id, batches, processed, failed, warned) VALUES (7, 2, 3, NULL, 0);
INSERT INTO shared_import_batch (shared_import, position, job_id, part, byte_from, byte_to, line_end, rows)
VALUES (7, 0, 300, 1, 6, 8, 1, 1), (7, 1, 301, 1, 6, 8, 0, 1);
UPDATE batch SET shared_import = 7, shared_with = 1, import_rows = 2 WHERE job_id IN (300, 301) AND part = 1;
UPDATE batch SET leads_import = 0, unknown_rows = x'00' WHERE job_id = 301 AND part = 1;
UPDATE batch SET instance = (SELECT j.instance FROM job j WHERE j.id = batch.job_id);

INSERT INTO activity (began_at, instance, client, jobs_complete, rows_imported, rows_warned, rows_failed, uploads, calls)
VALUES (300000, 'default', '', 1, 7, 2, 1, 1, 9), (300000, 'default', 'crm', 1, 7, 2, 1, 1, 0)
ON CONFLICT DO NOTHING;
