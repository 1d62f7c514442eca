//! HTTP server: listeners (Unix socket, TCP, TLS), the connection limit, and connections with time limits.

mod accept;
mod body;
mod connection;
mod connection_limit;
mod fd_limit;
mod listener;
mod peer;
mod request_line;
mod socket;
mod stall_timer;
mod tcp;
mod timed_stream;
mod tls;
mod uid_map;

pub use accept::{Server, SplitServer};
pub(crate) use connection_limit::ConnectionPermit;
pub use fd_limit::{FdLimitError, max_connections};
pub use listener::{Accepted, Listener};
pub use peer::Peer;
pub use socket::{ListenError, Socket};
pub use tcp::{BindError, Tcp};
pub use tls::{Tls, TlsError};
