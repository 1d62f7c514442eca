-- How many of `ask_failures` were refusals: a question that got no answer at all says nothing about the import.
ALTER TABLE batch ADD COLUMN ask_refusals INTEGER NOT NULL DEFAULT 0 CHECK (ask_refusals BETWEEN 0 AND ask_failures);
