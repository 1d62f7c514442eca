//! Source of connections: what a listener accepts, and the Unix socket as one.

use std::future::{Ready, ready};
use std::io;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{UnixListener, UnixStream};

use crate::http_server::peer::Peer;
use crate::http_server::uid_map;

/// Source of connections.
pub trait Listener: Send + Sync + 'static {
    /// An open connection.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;
    /// What happens before HTTP, such as a TLS handshake. It occupies a permit and has to end within
    /// `api.idle_timeout`.
    type Handshake: Future<Output = io::Result<Self::Stream>> + Send + 'static;

    /// Accepts the next connection.
    fn accept(&self) -> impl Future<Output = io::Result<Accepted<Self::Handshake>>> + Send;
}

/// A connection that was accepted.
pub struct Accepted<H> {
    /// What happens before HTTP.
    pub handshake: H,
    /// The client. It is stored in the extensions of each request.
    pub peer: Peer,
}

impl Listener for UnixListener {
    type Stream = UnixStream;
    type Handshake = Ready<io::Result<UnixStream>>;

    async fn accept(&self) -> io::Result<Accepted<Self::Handshake>> {
        let (stream, _) = UnixListener::accept(self).await?;
        let peer = Peer::Socket { uid: uid_map::map_uid(stream.peer_cred()?.uid()) };
        Ok(Accepted { handshake: ready(Ok(stream)), peer })
    }
}
