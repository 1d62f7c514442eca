//! HTTP API of the daemon: the native routes, Marketo's own routes, metrics and the OpenAPI description.

pub mod auth;
pub mod dto;
pub mod handlers;
mod instance_rows;
mod job_view;
pub mod marketo_compat;
mod metrics;
mod openapi;
pub(crate) mod problem;
mod router;
mod state;
mod ui;

pub(crate) use handlers::job_reasons;
pub use metrics::Metrics;
pub use router::router;
pub use state::AppState;
