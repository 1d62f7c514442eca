//! Marketo client: calls, response types, access token, rate limiter and the classification of errors.

mod call_error;
mod client;
mod create_import;
mod daemon_id;
mod endpoints;
mod error_codes;
mod http_clients;
mod multipart;
pub mod outbound;
mod rate_limiter;
mod report;
mod response;
mod token;
pub mod types;

pub use call_error::{QueryError, UploadError};
pub use client::{Client, ImportStatus};
pub use create_import::{CreatedImport, UploadRequest};
pub use daemon_id::{DAEMON_HEADER, answering_daemon, daemon_id, is_own_call};
pub use error_codes::{ErrorAction, classify};
pub use multipart::{MultipartFrame, max_content_bytes};
pub use rate_limiter::{CallLimits, CallPermit, Decision, EarlierCallTimes, RateLimiter, SlidingWindow};
pub use report::{Report, ReportFile};
pub use response::{is_file, read_envelope};
pub use token::{AccessToken, CredentialStatus, TokenError};
