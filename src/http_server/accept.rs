//! Accept loop: accepts connections from any listener and serves them with the same routes, within shared limits.

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::Connections;
use crate::http_server::connection;
use crate::http_server::connection::ConnectionContext;
use crate::http_server::connection_limit::ConnectionLimiter;
use crate::http_server::listener::Listener;
use crate::log_throttle::LogThrottle;

/// Pause after a failed accept. The missing resource is freed elsewhere, and no event reports when.
const ACCEPT_RETRY: Duration = Duration::from_millis(200);

/// HTTP server: routes, limits and the tasks of the connections. Clones share all of them.
#[derive(Clone)]
pub struct Server {
    routes: Router,
    limits: Connections,
    limiter: Arc<ConnectionLimiter>,
    /// One task for each connection.
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// Two servers that share routes and tasks and have each a part of the connection limit.
pub struct SplitServer {
    /// Has a quarter of the limit.
    pub quarter: Server,
    /// Has the rest.
    pub rest: Server,
}

impl Server {
    /// Makes a server that listens nowhere yet. It stops accepting when `stop` is cancelled.
    pub fn new(routes: Router, limits: Connections, tasks: TaskTracker, stop: CancellationToken) -> Server {
        Server { routes, limits, limiter: Arc::new(ConnectionLimiter::new(limits.max as usize)), tasks, stop }
    }

    /// Splits the connection limit, so that unknown clients of one listener can't use up the connections of the other.
    pub fn split_limits(self) -> SplitServer {
        let quarter = (self.limits.max / 4).max(1);
        let with_limit = |max| {
            let limits = Connections { max, ..self.limits };
            Server { limits, limiter: Arc::new(ConnectionLimiter::new(max as usize)), ..self.clone() }
        };
        SplitServer { quarter: with_limit(quarter), rest: with_limit((self.limits.max - quarter).max(1)) }
    }

    /// Serves connections until the stop. Requests under way are then completed by the connections' own tasks.
    pub async fn serve(self, listener: impl Listener) {
        let stop = self.stop.clone();
        tokio::select! {
            never = self.accept(listener) => match never {},
            () = stop.cancelled() => {}
        }
    }

    async fn accept(self, listener: impl Listener) -> std::convert::Infallible {
        let (mut failing, mut limit_log) = (false, LogThrottle::default());
        loop {
            let accepted = match listener.accept().await {
                Ok(accepted) => accepted,
                // The client closed the connection before it was accepted.
                Err(error) if matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset) => {
                    continue;
                }
                Err(error) => {
                    if !failing {
                        tracing::error!(%error, "connections can't be accepted; retrying");
                    }
                    failing = true;
                    // The process may have no free file descriptor: an idle connection holds one.
                    self.limiter.close_one();
                    tokio::time::sleep(ACCEPT_RETRY).await;
                    continue;
                }
            };
            if failing {
                tracing::info!("connections are accepted again");
            }
            failing = false;
            let permit = match self.limiter.try_acquire() {
                Some(permit) => permit,
                None => {
                    if let Some(suppressed) = limit_log.allow() {
                        tracing::warn!(
                            connections = self.limits.max,
                            suppressed,
                            "api.max_connections reached: idle and slow connections are closed, new ones wait"
                        );
                    }
                    self.limiter.acquire().await
                }
            };
            let context =
                ConnectionContext { routes: self.routes.clone(), limits: self.limits, permit, stop: self.stop.clone() };
            self.tasks.spawn(connection::serve(accepted, context));
        }
    }
}
