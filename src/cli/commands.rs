//! Commands: one module each, with its arguments and what it does.

pub(super) mod add;
pub(super) mod backup;
pub(super) mod cancel;
pub(super) mod check;
pub(super) mod completions;
pub(super) mod download;
pub(super) mod erase;
pub(super) mod events;
pub(super) mod explain;
pub(super) mod health;
pub(super) mod list;
pub(super) mod man;
pub(super) mod pause;
pub(super) mod reasons;
pub(super) mod retry;
pub(super) mod serve;
pub(super) mod settle;
pub(super) mod show;
pub(super) mod simulate;
pub(super) mod stats;
pub(super) mod status;
pub(super) mod wait;
