//! Operations of the store: each names its write and runs it as a method of `StoreTx`, or reads through a `ReadTx`.

mod activity;
mod alerts;
mod api_tokens;
mod batches;
pub(super) mod clock;
mod instances;
mod jobs;
mod maintenance;
mod notifications;
mod row_matches;
mod submissions;
