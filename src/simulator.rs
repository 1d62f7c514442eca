//! Simulator of Marketo: Marketo's rules and limits, injected faults, and a log of all calls.
//!
//! [`model`] is Marketo as a plain value whose every method takes the time. The socket and the injected [`Fault`]s are
//! around it. It is written from Adobe's documentation and shares only the shapes of the bodies with the client, so
//! that both cannot have the same mistake: it refuses what Marketo refuses.
//!
//! Cells of an uploaded file can control its import, and scripts can read the simulator's log; [`HELP`] explains both.

mod admission;
pub mod call_log;
mod control;
mod create_request;
mod error;
mod faults;
mod http;
pub mod model;
mod queue;
mod report_shape;
mod request_body;
mod response;
mod route;
mod row_outcomes;
mod server;
mod settings;
mod shared_model;

#[cfg(test)]
mod tests;

pub use admission::Admission;
pub use call_log::{Call, CallLog};
pub use control::HELP;
pub use error::{ApiRefusal, Code};
pub use faults::{Corruption, Fault, FaultEffect};
pub use report_shape::{ReportLineEnd, ReportOrder, ReportQuotes, ReportShape};
pub use server::{Simulator, run};
pub use settings::Settings;
