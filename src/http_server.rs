//! Where does the daemon listen? The Unix socket: taken over from a daemon that died, left to one that lives.
//!
//! [`Clients`] serves what comes in, here and on any other [`Listener`].

use std::fs::{self, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tokio::net::{UnixListener, UnixStream};

mod accept;
mod body;
mod connection;
mod connection_limit;
mod fd_limit;
mod peer;
mod request_line;
mod stall_timer;
mod tcp;
mod timed_stream;
mod tls;
mod uid_map;

pub use accept::{Listener, Server};
pub(crate) use connection_limit::ConnectionPermit;

pub use fd_limit::{FdLimitError, max_connections};
pub use peer::Peer;
pub use tcp::{BindError, Tcp};
pub use tls::{Tls, TlsError};

/// Why the socket can't be listened on.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    #[error("a daemon already answers at {0}: stop it first, or give this one another api.socket")]
    InUse(PathBuf),
    #[error("{0} is there and is no socket: move it away, or choose another api.socket")]
    NoSocket(PathBuf),
    #[error("the socket {path} can't be listened on: {cause}")]
    Io { path: PathBuf, cause: std::io::Error },
}

/// A socket that is listened on. Its file goes when this does.
pub struct Socket {
    listener: UnixListener,
    /// None where the socket is systemd's, which keeps it over a restart.
    _file: Option<SocketFile>,
}

struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // It may have been removed by hand; then there is nothing to do.
        let _ = fs::remove_file(&self.0);
    }
}

impl Socket {
    /// Listens on `path`, with `mode` as the file's permissions.
    pub async fn listen(path: &Path, mode: u32) -> Result<Socket, ListenError> {
        let io = |cause| ListenError::Io { path: path.to_owned(), cause };
        match fs::symlink_metadata(path) {
            Ok(there) if !there.file_type().is_socket() => return Err(ListenError::NoSocket(path.to_owned())),
            Ok(_) => match UnixStream::connect(path).await {
                Ok(_) => return Err(ListenError::InUse(path.to_owned())),
                // Nobody listens: what is left of a daemon that died.
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => fs::remove_file(path).map_err(io)?,
                Err(error) => return Err(io(error)),
            },
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(io(error)),
        }
        let listener = UnixListener::bind(path).map_err(io)?;
        let file = SocketFile(path.to_owned());
        fs::set_permissions(path, Permissions::from_mode(mode)).map_err(io)?;
        Ok(Socket { listener, _file: Some(file) })
    }

    /// Takes a socket over that somebody else listens on for us, and that stays when this daemon goes: clients who come
    /// in between wait in it.
    ///
    /// # Errors
    /// What the runtime reports of the socket.
    pub fn inherited(listener: std::os::unix::net::UnixListener) -> std::io::Result<Socket> {
        listener.set_nonblocking(true)?;
        Ok(Socket { listener: UnixListener::from_std(listener)?, _file: None })
    }

    /// Serves who comes until the stop.
    pub async fn serve(self, clients: Server) {
        clients.serve(self.listener).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_an_abandoned_socket_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s.sock");
        let first = Socket::listen(&path, 0o660).await.unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
        assert!(matches!(Socket::listen(&path, 0o660).await, Err(ListenError::InUse(_))));
        drop(first);
        assert!(!path.exists());
        // A daemon that was killed leaves its file behind, and nobody listens.
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        Socket::listen(&path, 0o600).await.unwrap();
    }

    #[tokio::test]
    async fn a_file_that_is_no_socket_is_never_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("precious.txt");
        fs::write(&path, "mine").unwrap();
        assert!(matches!(Socket::listen(&path, 0o660).await, Err(ListenError::NoSocket(_))));
        assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
    }
}
