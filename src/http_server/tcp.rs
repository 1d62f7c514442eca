//! How does the daemon listen on TCP? Plainly, or within TLS.

use std::future::{Ready, ready};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::Accept;
use tokio_rustls::server::TlsStream;

use crate::http_server::accept::{Listener, Server};
use crate::http_server::peer::Peer;
use crate::http_server::tls::Tls;

/// The address can't be listened on.
#[derive(Debug, thiserror::Error)]
#[error("api.listen: {address} can't be listened on: {cause}")]
pub struct BindError {
    address: SocketAddr,
    cause: io::Error,
}

/// A listener that serves nobody yet.
pub struct Tcp {
    listener: TcpListener,
    tls: Option<Arc<Tls>>,
}

impl Tcp {
    /// # Errors
    /// [`NoAddress`]
    pub async fn listen(address: SocketAddr, tls: Option<Arc<Tls>>) -> Result<Tcp, BindError> {
        let no_address = |cause| BindError { address, cause };
        let listener = TcpListener::bind(address).await.map_err(no_address)?;
        // Where port 0 was asked for, this says which one it is.
        let address = listener.local_addr().map_err(no_address)?;
        tracing::info!(%address, tls = tls.is_some(), "clients can come over TCP");
        Ok(Tcp { listener, tls })
    }

    /// The address that is listened on; with port 0 in the configuration, the port that the system chose.
    ///
    /// # Errors
    /// The system's, if it does not know the listener any more.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves who comes until the stop.
    pub async fn serve(self, clients: Server) {
        match self.tls {
            None => clients.serve(self.listener).await,
            Some(tls) => clients.serve(TlsListener { listener: self.listener, tls }).await,
        }
    }
}

impl Listener for TcpListener {
    type Stream = TcpStream;
    type Handshake = Ready<io::Result<TcpStream>>;

    async fn accept(&self) -> io::Result<(Self::Handshake, Peer)> {
        let (stream, peer) = accept(self).await?;
        Ok((ready(Ok(stream)), peer))
    }
}

struct TlsListener {
    listener: TcpListener,
    tls: Arc<Tls>,
}

impl Listener for TlsListener {
    type Stream = TlsStream<TcpStream>;
    type Handshake = Accept<TcpStream>;

    async fn accept(&self) -> io::Result<(Self::Handshake, Peer)> {
        let (stream, peer) = accept(&self.listener).await?;
        Ok((self.tls.acceptor().accept(stream), peer))
    }
}

async fn accept(listener: &TcpListener) -> io::Result<(TcpStream, Peer)> {
    let (stream, address) = TcpListener::accept(listener).await?;
    // An answer is small and whole: nothing is gained by waiting for more to send with it.
    stream.set_nodelay(true).ok();
    Ok((stream, Peer::Tcp(address.ip())))
}
