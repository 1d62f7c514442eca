//! How does one speak to Marketo? Wire shapes, token, limits, what each error asks for, the client.

mod answer;
mod asks;
mod cause;
mod client;
mod daemon_id;
mod limits;
mod multipart;
pub mod outbound;
mod paths;
mod token;
pub mod wire;

pub use answer::{is_file, read_envelope};
pub use asks::{Ask, asks};
pub use client::{AskFault, Client, CreateFault, Created, File, Report, ReportKind, Status, Upload};
pub use daemon_id::{DAEMON_HEADER, answering_daemon, daemon_id, is_own_call};
pub use limits::{Earlier, Gate, Look, Permit, Window};
pub use multipart::{Frame, content_limit};
pub use token::{AccessToken, TokenFault, Trial};
