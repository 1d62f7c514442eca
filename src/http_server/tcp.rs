//! TCP listener, with TLS or without.

use std::future::{Ready, ready};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::Accept;
use tokio_rustls::server::TlsStream;

use crate::http_server::accept::Server;
use crate::http_server::listener::{Accepted, Listener};
use crate::http_server::peer::Peer;
use crate::http_server::tls::Tls;

/// The daemon can't listen on the address.
#[derive(Debug, thiserror::Error)]
#[error("api.listen: {address} can't be listened on: {cause}")]
pub struct BindError {
    address: SocketAddr,
    cause: io::Error,
}

/// A TCP listener that does not accept yet.
pub struct Tcp {
    listener: TcpListener,
    tls: Option<Arc<Tls>>,
}

impl Tcp {
    /// Listens on `address`.
    ///
    /// # Errors
    /// [`BindError`]
    pub async fn listen(address: SocketAddr, tls: Option<Arc<Tls>>) -> Result<Tcp, BindError> {
        let bind_error = |cause| BindError { address, cause };
        let listener = TcpListener::bind(address).await.map_err(bind_error)?;
        // Where the configured port is 0, this has the port that was chosen.
        let address = listener.local_addr().map_err(bind_error)?;
        tracing::info!(%address, tls = tls.is_some(), "listening on TCP");
        Ok(Tcp { listener, tls })
    }

    /// Returns the address of the listener; with port 0 in the configuration, with the port that the system chose.
    ///
    /// # Errors
    /// The system's error.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves connections until the server stops.
    pub async fn serve(self, server: Server) {
        match self.tls {
            None => server.serve(self.listener).await,
            Some(tls) => server.serve(TlsListener { listener: self.listener, tls }).await,
        }
    }
}

impl Listener for TcpListener {
    type Stream = TcpStream;
    type Handshake = Ready<io::Result<TcpStream>>;

    async fn accept(&self) -> io::Result<Accepted<Self::Handshake>> {
        let Accepted { handshake: stream, peer } = accept(self).await?;
        Ok(Accepted { handshake: ready(Ok(stream)), peer })
    }
}

struct TlsListener {
    listener: TcpListener,
    tls: Arc<Tls>,
}

impl Listener for TlsListener {
    type Stream = TlsStream<TcpStream>;
    type Handshake = Accept<TcpStream>;

    async fn accept(&self) -> io::Result<Accepted<Self::Handshake>> {
        let Accepted { handshake: stream, peer } = accept(&self.listener).await?;
        Ok(Accepted { handshake: self.tls.acceptor().accept(stream), peer })
    }
}

/// Accepts a connection whose handshake is still to be chosen.
async fn accept(listener: &TcpListener) -> io::Result<Accepted<TcpStream>> {
    let (stream, address) = TcpListener::accept(listener).await?;
    // Responses are small and complete: waiting for more data to send (Nagle's algorithm) gains nothing.
    stream.set_nodelay(true).ok();
    Ok(Accepted { handshake: stream, peer: Peer::Tcp(address.ip()) })
}
