//! Connection: serves HTTP/1.1 to one client over any stream, with a time limit on everything that waits for the
//! client.

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::header::EXPECT;
use axum::http::{Request, Response};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use hyper::body::Incoming;
use hyper::server::conn::http1::Builder;
use hyper::service::Service;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_util::sync::CancellationToken;

use crate::config::Connections;
use crate::http_server::body::{BodyStart, RequestBody, RequestGuard, ResponseBody};
use crate::http_server::connection_limit::ConnectionPermit;
use crate::http_server::listener::Accepted;
use crate::http_server::peer::Peer;
use crate::http_server::timed_stream::TimedStream;

/// Read and write buffer of a connection, in bytes. A request's head has to fit into it.
const BUFFER_BYTES: usize = 64 * 1024;

/// How long a client's remaining data is read after the last response. Closing with unread data resets the connection,
/// and the client could lose the response.
const LINGER: Duration = Duration::from_secs(2);

/// How long a stop waits for a request of an open connection. The request may have been sent already. Closing at once
/// would fail it, while the restarted daemon could answer a new connection.
const LAST_REQUEST_TIME: Duration = Duration::from_secs(1);

/// What a connection needs of its server.
pub(super) struct ConnectionContext {
    pub routes: Router,
    pub limits: Connections,
    pub permit: ConnectionPermit,
    /// Cancelled when the server stops.
    pub stop: CancellationToken,
}

/// Serves one client until it closes the connection, is idle for too long, or the connection is closed for another one.
pub(super) async fn serve<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    Accepted { handshake, peer }: Accepted<impl Future<Output = io::Result<S>>>,
    context: ConnectionContext,
) {
    let ConnectionContext { routes, limits, permit, stop } = context;
    let permit = Arc::new(permit);
    let opened = tokio::select! {
        opened = tokio::time::timeout(limits.idle_timeout, handshake) => opened,
        () = permit.closed().cancelled() => return,
        () = stop.cancelled() => return,
    };
    let stream = match opened {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(%error, "handshake failed"),
        Err(_elapsed) => return,
    };
    let requests = Requests { routes: TowerToHyperService::new(routes), limits, peer, permit: permit.clone() };
    let stream = TokioIo::new(TimedStream::new(stream, limits.stall_timeout, permit.clone()));
    let mut connection = Builder::new()
        .timer(TokioTimer::new())
        // From the handshake or the previous response to the end of the next request's head.
        .header_read_timeout(limits.idle_timeout)
        .max_buf_size(BUFFER_BYTES)
        .serve_connection(stream, requests);
    let mut is_closing = false;
    loop {
        let mut request_time = Duration::ZERO;
        tokio::select! {
        // The connection's error is ignored: each handler has reported its own result.
        _ended = poll_fn(|cx| connection.poll_without_shutdown(cx)) => break,
        () = permit.closed().cancelled(), if !is_closing => {}
        () = stop.cancelled(), if !is_closing => request_time = LAST_REQUEST_TIME,
        }
        is_closing = true;
        let request_arrives = poll_fn(|cx| match connection.poll_without_shutdown(cx) {
            Poll::Ready(_ended) => Poll::Ready(false),
            Poll::Pending if permit.is_idle() => Poll::Pending,
            Poll::Pending => Poll::Ready(true),
        });
        match tokio::time::timeout(request_time, request_arrives).await {
            // The response under way is the last one.
            Ok(true) => Pin::new(&mut connection).graceful_shutdown(),
            Ok(false) => break,
            Err(_elapsed) => return,
        }
    }
    let mut stream = connection.into_parts().io.into_inner();
    let drain = async {
        stream.shutdown().await?;
        let mut rest = [0; 4096];
        while stream.read(&mut rest).await? > 0 {}
        io::Result::Ok(())
    };
    tokio::select! {
        _ended = tokio::time::timeout(LINGER, drain) => {}
        () = permit.closed().cancelled() => {}
        () = stop.cancelled() => {}
    }
}

/// Service of one connection: adds peer and permit to each request.
struct Requests {
    routes: TowerToHyperService<Router>,
    limits: Connections,
    peer: Peer,
    permit: Arc<ConnectionPermit>,
}

impl Service<Request<Incoming>> for Requests {
    type Response = Response<ResponseBody>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<ResponseBody>, Infallible>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let guard = RequestGuard::begin(self.permit.clone());
        let start = match request.headers().contains_key(EXPECT) {
            true => BodyStart::AfterContinue,
            false => BodyStart::AtOnce,
        };
        let stall_timeout = self.limits.stall_timeout;
        let speed = self.permit.speed();
        let upload = |incoming| Body::new(RequestBody::new(incoming, stall_timeout, start, speed));
        let mut request = request.map(upload);
        request.extensions_mut().insert(self.peer);
        request.extensions_mut().insert(self.permit.clone());
        let response = self.routes.call(request);
        async move { Ok(response.await?.map(|body| ResponseBody::new(body, guard))) }.boxed()
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;

    use super::*;
    use crate::http_server::connection_limit::ConnectionLimiter;

    #[tokio::test]
    async fn a_request_sent_during_the_stop_is_answered() {
        let limits =
            Connections { max: 1, idle_timeout: Duration::from_secs(60), stall_timeout: Duration::from_secs(60) };
        let slow = get(async || {
            tokio::task::yield_now().await;
            "answered"
        });
        // Where several branches are ready at once, `select!` picks a random one.
        for _ in 0..40 {
            let permit = Arc::new(ConnectionLimiter::new(1)).try_acquire().unwrap();
            let (mut client, server) = tokio::io::duplex(4096);
            let stop = CancellationToken::new();
            let handshake = async { io::Result::Ok(server) };
            let routes = Router::new().route("/", slow.clone());
            let accepted = Accepted { handshake, peer: Peer::Socket { uid: None } };
            let context = ConnectionContext { routes, limits, permit, stop: stop.clone() };
            let served = tokio::spawn(serve(accepted, context));
            // The connection is accepted, and the task waits for the request.
            tokio::task::yield_now().await;
            stop.cancel();
            client.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
            let mut answer = String::new();
            client.read_to_string(&mut answer).await.unwrap();
            assert!(answer.ends_with("answered"), "{answer}");
            served.await.unwrap();
        }
    }
}
