//! Errors of the client.

use std::path::PathBuf;

use crate::api::dto::Problem;

/// The longest path in a Unix socket's address on Linux, without the closing zero, in bytes.
pub(super) const MAX_SOCKET_PATH_BYTES: usize = 107;

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The path does not fit into a socket address.
    #[error(
        "the socket path {} is {} bytes long, and the path of a Unix socket has at most {MAX_SOCKET_PATH_BYTES}",
        .0.display(), .0.as_os_str().len()
    )]
    SocketPathTooLong(PathBuf),
    /// No daemon listens at the socket. Nothing was sent.
    #[error(
        "no daemon answers at {} ({reason}): start one with \"marqueue serve\", or name its socket with --socket or MARQUEUE_SOCKET",
        .socket.display()
    )]
    NoDaemon {
        /// Path of the socket.
        socket: PathBuf,
        /// The system's error.
        reason: String,
    },
    /// This user has no permission for the socket. Nothing was sent.
    #[error(
        "the socket {} may not be opened ({reason}): its owner and its group may use the daemon (api.socket_mode)",
        .socket.display()
    )]
    NotAllowed {
        /// Path of the socket.
        socket: PathBuf,
        /// The system's error.
        reason: String,
    },
    /// The daemon accepted the connection and sends nothing. It may still carry out the request.
    #[error(
        "the daemon at {} does not answer ({reason}): it is stopped or has too much to do, and may still carry out the request",
        .socket.display()
    )]
    Silent {
        /// Path of the socket.
        socket: PathBuf,
        /// What was waited for.
        reason: String,
    },
    /// The daemon refused the request.
    #[error("{}", .0.detail)]
    Refused(Problem),
    /// The connection was lost, or the response can't be parsed. The daemon may have carried out the request.
    #[error("the daemon's response can't be read: {0}")]
    Broken(String),
    /// The content of the upload can't be read. The daemon keeps nothing of it.
    #[error("{0}")]
    Content(std::io::Error),
}

impl ClientError {
    /// Returns whether the daemon refused to wait because too many clients do.
    pub fn is_too_many_waiting(&self) -> bool {
        matches!(self, ClientError::Refused(problem) if problem.is_too_many_waiting())
    }

    /// Returns whether a retry may succeed: the daemon is stopped, busy, or has a disk error.
    pub fn is_transient(&self) -> bool {
        match self {
            ClientError::NoDaemon { .. } | ClientError::Broken(_) | ClientError::Silent { .. } => true,
            ClientError::Refused(problem) => problem.status >= 500,
            ClientError::SocketPathTooLong(_) | ClientError::NotAllowed { .. } | ClientError::Content(_) => false,
        }
    }
}
