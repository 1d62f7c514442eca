-- What was last known of the clock, so that a restart does not hide that it was set. Times that are measured from a moment
-- (`batch.ghost_until`, `abandoned.until`) are moved by what the clock was set, in the transaction that writes this row.
CREATE TABLE clock (
    id              INTEGER PRIMARY KEY CHECK (id = 1),
    -- Which start of the machine the uptimes count from.
    boot            TEXT    NOT NULL,
    -- Time of day minus uptime, in milliseconds.
    offset_ms       INTEGER NOT NULL,
    -- The uptime since which the clock has run evenly, in milliseconds.
    steady_since_up INTEGER NOT NULL,
    -- Uptime and time of day of the last call, or of the last time that the clock was set.
    seen_up         INTEGER NOT NULL,
    seen_wall       INTEGER NOT NULL
) STRICT;

-- Of the calls of a day, those that a clock of which the word was not taken would have counted for a later day. Should it
-- have been right, they count there too.
ALTER TABLE call_day ADD COLUMN doubtful INTEGER NOT NULL DEFAULT 0 CHECK (doubtful >= 0);
