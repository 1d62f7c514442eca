//! Tables of the store: one module for each table or question, with its SQL statements as methods of a transaction.

pub(super) mod api_tokens;
pub(super) mod batch_columns;
pub(super) mod batch_events;
pub(super) mod batch_rules;
pub(super) mod batches;
pub(super) mod call_ledger;
pub(super) mod candidates;
pub(super) mod chunks;
pub(super) mod clock;
pub(super) mod column_values;
pub(super) mod commands;
pub(super) mod duplicate_batch_ids;
pub(super) mod erase;
pub(super) mod history;
pub(super) mod incomplete_submissions;
pub(super) mod instances;
pub(super) mod job_columns;
pub(super) mod jobs;
pub(super) mod notifications;
pub(super) mod occupied_slots;
pub(super) mod query_failures;
pub(super) mod retention;
pub(super) mod row_mapping;
pub(super) mod row_matches;
pub(super) mod snapshot;
pub(super) mod submissions;
