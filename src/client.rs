//! Client of the native API over the Unix socket: routes, uploads and the event stream.

mod events;
mod http_client;
mod upload;

pub use events::EventStream;
pub use http_client::{Cancel, Client, ClientError, DEFAULT_SOCKET, DEFAULT_TIMEOUT, Download, JobFile};
pub use upload::{AddedJob, NewFile};
