-- The queue. Times are milliseconds since 1970 (UTC), sizes and places in a file are bytes.
-- The checks make rows impossible that the table of legal moves (src/job/states.rs) can't lead to.

CREATE TABLE job (
    id              INTEGER PRIMARY KEY AUTOINCREMENT,
    instance        TEXT    NOT NULL,
    state           TEXT    NOT NULL
                    CHECK (state IN ('receiving', 'pending', 'running', 'complete', 'failed', 'cancelled')),
    target          TEXT    NOT NULL CHECK (target IN ('leads', 'custom-object', 'program-members')),
    lookup_field    TEXT,
    list_id         INTEGER,
    partition_name  TEXT,
    object_name     TEXT,
    program_id      INTEGER,
    member_status   TEXT,
    filename        TEXT    NOT NULL,
    format          TEXT    NOT NULL CHECK (format IN ('csv', 'tsv', 'ssv')),
    priority        INTEGER NOT NULL DEFAULT 0,
    job_group       TEXT,
    idempotency_key TEXT,
    content_sha256  BLOB    CHECK (length(content_sha256) = 32),
    -- The file as it was dropped in; its header stands at header_from..header_to.
    bytes           INTEGER NOT NULL DEFAULT 0 CHECK (bytes >= 0),
    header_from     INTEGER NOT NULL DEFAULT 0,
    header_to       INTEGER NOT NULL DEFAULT 0 CHECK (header_to >= header_from AND header_to <= bytes),
    rows            INTEGER NOT NULL DEFAULT 0 CHECK (rows >= 0),
    -- The job whose failed rows this one sends again.
    retry_of        INTEGER REFERENCES job (id) ON DELETE SET NULL,
    created_at      INTEGER NOT NULL,
    started_at      INTEGER,
    finished_at     INTEGER,
    error           TEXT,
    CHECK ((target = 'custom-object') = (object_name IS NOT NULL)),
    CHECK ((target = 'program-members') = (program_id IS NOT NULL)),
    CHECK ((target = 'program-members') = (member_status IS NOT NULL)),
    CHECK (target = 'leads' OR (lookup_field IS NULL AND list_id IS NULL AND partition_name IS NULL)),
    CHECK ((state IN ('complete', 'failed', 'cancelled')) = (finished_at IS NOT NULL)),
    CHECK (state <> 'failed' OR error IS NOT NULL)
) STRICT;

CREATE UNIQUE INDEX job_idempotency_key ON job (idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE INDEX job_queue ON job (instance, priority DESC, id) WHERE state IN ('pending', 'running');
CREATE INDEX job_group_order ON job (instance, job_group, id) WHERE state IN ('pending', 'running');
CREATE INDEX job_by_state ON job (state, id);
CREATE INDEX job_retry_of ON job (retry_of) WHERE retry_of IS NOT NULL;

CREATE TABLE batch (
    job_id           INTEGER NOT NULL REFERENCES job (id) ON DELETE CASCADE,
    part             INTEGER NOT NULL CHECK (part >= 1),
    state            TEXT    NOT NULL
                     CHECK (state IN ('pending', 'uploading', 'queued', 'importing', 'collecting', 'complete',
                                      'failed', 'cancelled', 'held')),
    -- Its rows in the job's file; the upload is the header and these.
    byte_from        INTEGER NOT NULL CHECK (byte_from >= 0),
    byte_to          INTEGER NOT NULL CHECK (byte_to > byte_from),
    rows             INTEGER NOT NULL CHECK (rows >= 0),
    attempts         INTEGER NOT NULL DEFAULT 0 CHECK (attempts >= 0),
    marketo_batch_id TEXT,
    -- The next upload, poll or fetch is not before this.
    not_before       INTEGER,
    -- What an upload that was put back waits for.
    wait             TEXT    CHECK (wait IN ('queue-full', 'list-busy', 'calls', 'instance', 'service')),
    message          TEXT,
    processed        INTEGER,
    failed           INTEGER,
    warned           INTEGER,
    uploaded_at      INTEGER,
    accepted_at      INTEGER,
    importing_at     INTEGER,
    polled_at        INTEGER,
    ended_at         INTEGER,
    -- Questions about the import (status, files) that failed since the last good answer.
    ask_failures     INTEGER NOT NULL DEFAULT 0,
    -- An upload whose answer was lost may have made an import that nobody can see: till then it counts as one.
    ghost_until      INTEGER,
    -- Sizes of the stored files; null where there is none.
    failures_bytes   INTEGER,
    warnings_bytes   INTEGER,
    PRIMARY KEY (job_id, part),
    CHECK (state NOT IN ('queued', 'importing', 'collecting', 'complete') OR marketo_batch_id IS NOT NULL),
    CHECK (state NOT IN ('pending', 'uploading', 'held') OR marketo_batch_id IS NULL),
    CHECK (state NOT IN ('queued', 'importing') OR accepted_at IS NOT NULL),
    CHECK ((state IN ('complete', 'failed', 'cancelled')) = (ended_at IS NOT NULL))
) STRICT, WITHOUT ROWID;

CREATE INDEX batch_in_flight ON batch (job_id, part)
    WHERE state IN ('uploading', 'queued', 'importing', 'collecting', 'held');
CREATE INDEX batch_pending ON batch (job_id, part) WHERE state = 'pending';
CREATE INDEX batch_due ON batch (not_before) WHERE not_before IS NOT NULL;
CREATE INDEX batch_ghost ON batch (ghost_until) WHERE ghost_until IS NOT NULL;
CREATE INDEX batch_ended ON batch (ended_at) WHERE state = 'complete';

-- Every file is here in pieces: the file dropped in (part 0), each batch's failure and warning files.
CREATE TABLE chunk (
    job_id    INTEGER NOT NULL REFERENCES job (id) ON DELETE CASCADE,
    kind      TEXT    NOT NULL CHECK (kind IN ('file', 'failures', 'warnings')),
    part      INTEGER NOT NULL,
    byte_from INTEGER NOT NULL,
    bytes     INTEGER NOT NULL CHECK (bytes > 0),
    -- zstd
    packed    BLOB    NOT NULL,
    PRIMARY KEY (job_id, kind, part, byte_from),
    CHECK ((kind = 'file') = (part = 0))
) STRICT;

CREATE TABLE history (
    id         INTEGER PRIMARY KEY,
    job_id     INTEGER NOT NULL REFERENCES job (id) ON DELETE CASCADE,
    part       INTEGER,
    at         INTEGER NOT NULL,
    event      TEXT    NOT NULL,
    state      TEXT    NOT NULL,
    message    TEXT,
    request_id TEXT
) STRICT;

CREATE INDEX history_of_job ON history (job_id, id);

-- What is true of an instance as a whole. An instance without a row is running and has refused nothing.
CREATE TABLE instance (
    name             TEXT    PRIMARY KEY,
    pause            TEXT    CHECK (pause IN ('person', 'credentials', 'quota')),
    pause_reason     TEXT,
    paused_at        INTEGER,
    pause_until      INTEGER,
    -- How many imports Marketo let us have when it last said that its queue is full, and when to try one more.
    slots            INTEGER CHECK (slots >= 0),
    slots_probe_at   INTEGER,
    -- Marketo as a whole did not answer, or said that it is down: how often in a row, and when to try again.
    service_failures INTEGER NOT NULL DEFAULT 0,
    quiet_until      INTEGER,
    CHECK ((pause IS NULL) = (paused_at IS NULL)),
    CHECK ((pause IS NULL) = (pause_reason IS NULL)),
    CHECK (pause IS NOT NULL OR pause_until IS NULL)
) STRICT, WITHOUT ROWID;

-- Calls that may still count in Marketo's window, written down before each leaves: a restart forgets none.
CREATE TABLE call (
    id         INTEGER PRIMARY KEY,
    instance   TEXT    NOT NULL,
    started_at INTEGER NOT NULL,
    ended_at   INTEGER
) STRICT;

CREATE INDEX call_of_instance ON call (instance, started_at);

-- Calls of a day; `day` is the moment it began.
CREATE TABLE call_day (
    instance TEXT    NOT NULL,
    day      INTEGER NOT NULL,
    calls    INTEGER NOT NULL,
    PRIMARY KEY (instance, day)
) STRICT, WITHOUT ROWID;
