-- When a call began and ended by the machine's uptime (milliseconds) of which boot, and how long it may take at most. The time of
-- day does not tell how long ago a call was where the clock was set meanwhile. Calls from before this have no boot, and count
-- in full from the next start.
ALTER TABLE call ADD COLUMN boot TEXT;
ALTER TABLE call ADD COLUMN began_up INTEGER;
ALTER TABLE call ADD COLUMN ended_up INTEGER;
ALTER TABLE call ADD COLUMN may_take INTEGER NOT NULL DEFAULT 120000;
