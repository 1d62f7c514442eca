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
pub use asks::{ErrorAction, classify};
pub use client::{
    Client, CreatedImport, ImportStatus, QueryError, Report, ReportFile, ReportKind, UploadError, UploadRequest,
};
pub use daemon_id::{DAEMON_HEADER, answering_daemon, daemon_id, is_own_call};
pub use limits::{CallPermit, Decision, EarlierCallTimes, RateLimiter, SlidingWindow};
pub use multipart::{MultipartFrame, max_content_bytes};
pub use token::{AccessToken, CredentialStatus, TokenError};
