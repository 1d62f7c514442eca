-- How many imports the lost answers of a batch may have left behind until `ghost_until`: one for each.
ALTER TABLE batch ADD COLUMN ghosts INTEGER NOT NULL DEFAULT 0 CHECK (ghosts >= 0);
UPDATE batch SET ghosts = 1 WHERE ghost_until IS NOT NULL;

-- A person's pause that lies under one of another kind, and holds again when that is over.
ALTER TABLE instance ADD COLUMN under_reason TEXT;
ALTER TABLE instance ADD COLUMN under_at INTEGER;
