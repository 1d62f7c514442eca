//! Tables of the store: one module for each table or kind of query, with its SQL statements.

pub(super) mod api_tokens;
pub(super) mod batches;
pub(super) mod call_ledger;
pub(super) mod chunks;
pub(super) mod clock;
pub(super) mod commands;
pub(super) mod duplicate_batch_ids;
pub(super) mod erase;
pub(super) mod history;
pub(super) mod incomplete_submissions;
pub(super) mod instances;
pub(super) mod jobs;
pub(super) mod notifications;
pub(super) mod retention;
pub(super) mod row_mapping;
pub(super) mod snapshot;
pub(super) mod submissions;
pub(super) mod target_columns;
