//! Client of the native API over the Unix socket: routes, uploads and the event stream.

mod download;
mod error;
mod events;
mod http_client;
mod jobs;
mod response;
mod stats;
mod status;
mod upload;

pub use download::{Download, FileView, JobFile};
pub use error::ClientError;
pub use events::{EventStream, StreamEvent};
pub use http_client::{Client, DEFAULT_SOCKET, DEFAULT_TIMEOUT};
pub use jobs::{Cancel, JobQuery, RetryScope};
pub use status::ReadinessReport;
pub use upload::{AddedJob, BatchOptions, CorrectedFile, NewFile};
