//! Unix socket of the daemon: replaces the file of a crashed daemon, and refuses to start beside a running one.

use std::fs::{self, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tokio::net::{UnixListener, UnixStream};

use crate::http_server::accept::Server;

/// Why the daemon can't listen on the socket.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Another daemon listens there.
    #[error("a daemon already answers at {0}: stop it first, or give this one another api.socket")]
    InUse(PathBuf),
    /// The path is another kind of file.
    #[error("{0} exists and is not a socket: move it away, or choose another api.socket")]
    NoSocket(PathBuf),
    /// The system's error.
    #[error("listening on the socket {path} failed: {cause}")]
    Io {
        /// Path of the socket.
        path: PathBuf,
        /// The error.
        cause: std::io::Error,
    },
}

/// A listening Unix socket. Its file is removed when this is dropped.
pub struct Socket {
    listener: UnixListener,
    /// None where the socket is systemd's, which keeps it across a restart.
    _file: Option<SocketFile>,
}

struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Fails where the file was removed already; then there is nothing to do.
        let _ = fs::remove_file(&self.0);
    }
}

impl Socket {
    /// Listens on `path`, with `mode` as the file's permissions.
    ///
    /// # Errors
    /// [`ListenError`]
    pub async fn listen(path: &Path, mode: u32) -> Result<Socket, ListenError> {
        let io = |cause| ListenError::Io { path: path.to_owned(), cause };
        match fs::symlink_metadata(path) {
            Ok(metadata) if !metadata.file_type().is_socket() => return Err(ListenError::NoSocket(path.to_owned())),
            Ok(_) => match UnixStream::connect(path).await {
                Ok(_) => return Err(ListenError::InUse(path.to_owned())),
                // No process listens: the file of a daemon that crashed.
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

    /// Uses a socket of the service manager, which stays open when this daemon stops: clients that connect in between
    /// wait in its backlog.
    ///
    /// # Errors
    /// The system's error where the socket can't be used.
    pub fn inherited(listener: std::os::unix::net::UnixListener) -> std::io::Result<Socket> {
        listener.set_nonblocking(true)?;
        Ok(Socket { listener: UnixListener::from_std(listener)?, _file: None })
    }

    /// Serves connections until the server stops.
    pub async fn serve(self, server: Server) {
        server.serve(self.listener).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_stale_socket_is_replaced_and_one_in_use_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s.sock");
        let first = Socket::listen(&path, 0o660).await.unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
        assert!(matches!(Socket::listen(&path, 0o660).await, Err(ListenError::InUse(_))));
        drop(first);
        assert!(!path.exists());
        // A killed daemon leaves its file behind, and no process listens.
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        Socket::listen(&path, 0o600).await.unwrap();
    }

    #[tokio::test]
    async fn a_file_that_is_not_a_socket_is_never_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("precious.txt");
        fs::write(&path, "mine").unwrap();
        assert!(matches!(Socket::listen(&path, 0o660).await, Err(ListenError::NoSocket(_))));
        assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
    }
}
