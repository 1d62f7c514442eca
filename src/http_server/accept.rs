//! How do clients come in? From any listener, to the same routes, within limits that all listeners share.

use std::future::{Ready, ready};
use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::Connections;
use crate::http_server::connection;
use crate::http_server::connection_limit::ConnectionLimiter;
use crate::http_server::peer::Peer;
use crate::http_server::uid_map;
use crate::log_throttle::LogThrottle;

/// The pause after a connection could not be accepted. Somebody else has to free what is missing, and says nothing.
const ACCEPT_RETRY: Duration = Duration::from_millis(200);

/// Where connections come from.
pub trait Listener: Send + Sync + 'static {
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;
    /// What is to be done before HTTP is spoken, such as a TLS handshake. It takes a place already, and has
    /// `api.idle_timeout` to end.
    type Handshake: Future<Output = io::Result<Self::Stream>> + Send + 'static;

    /// The next connection, and who is at its other end: each request on it has that beside it.
    fn accept(&self) -> impl Future<Output = io::Result<(Self::Handshake, Peer)>> + Send;
}

impl Listener for UnixListener {
    type Stream = UnixStream;
    type Handshake = Ready<io::Result<UnixStream>>;

    async fn accept(&self) -> io::Result<(Self::Handshake, Peer)> {
        let (stream, _) = UnixListener::accept(self).await?;
        let peer = Peer::Socket { uid: uid_map::map_uid(stream.peer_cred()?.uid()) };
        Ok((ready(Ok(stream)), peer))
    }
}

/// Whoever speaks to the daemon. Clones are the same.
#[derive(Clone)]
pub struct Server {
    routes: Router,
    limits: Connections,
    places: Arc<ConnectionLimiter>,
    /// The connections.
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Server {
    pub fn new(routes: Router, limits: Connections, tasks: TaskTracker, stop: CancellationToken) -> Server {
        Server { routes, limits, places: Arc::new(ConnectionLimiter::new(limits.max as usize)), tasks, stop }
    }

    /// The same with places of its own: a quarter of them for the first, the rest for the second. Strangers on the second
    /// listener then can't keep the first one's clients out.
    pub fn split_limits(self) -> (Server, Server) {
        let few = (self.limits.max / 4).max(1);
        let with = |most| {
            let limits = Connections { max: most, ..self.limits };
            Server { limits, places: Arc::new(ConnectionLimiter::new(most as usize)), ..self.clone() }
        };
        (with(few), with((self.limits.max - few).max(1)))
    }

    /// Serves who comes until the stop. Requests under way then are answered to their end, by tasks of their own.
    pub async fn serve(self, listener: impl Listener) {
        let stop = self.stop.clone();
        tokio::select! {
            never = self.accept(listener) => match never {},
            () = stop.cancelled() => {}
        }
    }

    async fn accept(self, listener: impl Listener) -> std::convert::Infallible {
        let (mut failing, mut crowded) = (false, LogThrottle::default());
        loop {
            let (opening, peer) = match listener.accept().await {
                Ok(accepted) => accepted,
                // The one client that it was has left again.
                Err(error) if matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset) => {
                    continue;
                }
                Err(error) => {
                    if !failing {
                        tracing::error!(%error, "no connection can be accepted; it is tried until one can");
                    }
                    failing = true;
                    // It may be file descriptors that are missing, and an idle client has one.
                    self.places.close_one();
                    tokio::time::sleep(ACCEPT_RETRY).await;
                    continue;
                }
            };
            if failing {
                tracing::info!("connections are accepted again");
            }
            failing = false;
            let place = match self.places.try_take() {
                Some(place) => place,
                None => {
                    if let Some(left_out) = crowded.allow() {
                        tracing::warn!(
                            connections = self.limits.max,
                            left_out,
                            "all connections are taken (api.max_connections): idle and slow ones are closed for those who come, who wait where there is none"
                        );
                    }
                    self.places.take().await
                }
            };
            let (routes, stop) = (self.routes.clone(), self.stop.clone());
            self.tasks.spawn(connection::serve(opening, peer, routes, self.limits, place, stop));
        }
    }
}
