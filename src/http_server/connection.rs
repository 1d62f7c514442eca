//! How is one client served? HTTP/1.1 over any stream, with an end to everything that the client could draw out.

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
use crate::http_server::body::{RequestBody, RequestGuard, ResponseBody};
use crate::http_server::connection_limit::ConnectionPermit;
use crate::http_server::peer::Peer;
use crate::http_server::timed_stream::TimedStream;

/// The most that is kept of what one client sends, or is to be sent: a request's head has to fit into it.
const BUFFER_BYTES: usize = 64 * 1024;

/// How long what a client still sends is read after the last answer. If it were not, the answer might be lost with it.
const LINGER: Duration = Duration::from_secs(2);

/// How long a stop waits for the request of one who is connected. It may be on its way already, and who is closed now would be
/// refused where a moment later the next daemon would have answered.
const LAST_REQUEST: Duration = Duration::from_secs(1);

/// Serves one client until it leaves, is silent for too long, or has to leave.
pub(super) async fn serve<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    opening: impl Future<Output = io::Result<S>>,
    peer: Peer,
    routes: Router,
    limits: Connections,
    place: ConnectionPermit,
    stop: CancellationToken,
) {
    let place = Arc::new(place);
    let opened = tokio::select! {
        opened = tokio::time::timeout(limits.idle_timeout, opening) => opened,
        () = place.closed().cancelled() => return,
        () = stop.cancelled() => return,
    };
    let stream = match opened {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(%error, "a connection could not be opened"),
        Err(_late) => return,
    };
    let requests = Requests { routes: TowerToHyperService::new(routes), limits, peer, place: place.clone() };
    let stream = TokioIo::new(TimedStream::new(stream, limits.stall_timeout, place.clone()));
    let mut connection = Builder::new()
        .timer(TokioTimer::new())
        // From the connection's first moment, or the last answer, to the end of the next request's head.
        .header_read_timeout(limits.idle_timeout)
        .max_buf_size(BUFFER_BYTES)
        .serve_connection(stream, requests);
    let mut told = false;
    loop {
        let mut patience = Duration::ZERO;
        tokio::select! {
            // How it ended is the client's affair: whatever a request was to do, its handler has said.
            _ended = poll_fn(|cx| connection.poll_without_shutdown(cx)) => break,
            () = place.closed().cancelled(), if !told => {}
            () = stop.cancelled(), if !told => patience = LAST_REQUEST,
        }
        told = true;
        let asks = poll_fn(|cx| match connection.poll_without_shutdown(cx) {
            Poll::Ready(_ended) => Poll::Ready(false),
            Poll::Pending if place.is_idle() => Poll::Pending,
            Poll::Pending => Poll::Ready(true),
        });
        match tokio::time::timeout(patience, asks).await {
            // The answer under way is the last.
            Ok(true) => Pin::new(&mut connection).graceful_shutdown(),
            Ok(false) => break,
            Err(_quiet) => return,
        }
    }
    let mut stream = connection.into_parts().io.into_inner();
    let farewell = async {
        stream.shutdown().await?;
        let mut rest = [0; 4096];
        while stream.read(&mut rest).await? > 0 {}
        io::Result::Ok(())
    };
    tokio::select! {
        _ended = tokio::time::timeout(LINGER, farewell) => {}
        () = place.closed().cancelled() => {}
        () = stop.cancelled() => {}
    }
}

/// The routes, for one client.
struct Requests {
    routes: TowerToHyperService<Router>,
    limits: Connections,
    peer: Peer,
    place: Arc<ConnectionPermit>,
}

impl Service<Request<Incoming>> for Requests {
    type Response = Response<ResponseBody>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<ResponseBody>, Infallible>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let visit = RequestGuard::begin(self.place.clone());
        let waits_to_be_asked = request.headers().contains_key(EXPECT);
        let stall_timeout = self.limits.stall_timeout;
        let speed = self.place.speed();
        let upload = |incoming| Body::new(RequestBody::new(incoming, stall_timeout, waits_to_be_asked, speed));
        let mut request = request.map(upload);
        request.extensions_mut().insert(self.peer);
        request.extensions_mut().insert(self.place.clone());
        let answer = self.routes.call(request);
        async move { Ok(answer.await?.map(|body| ResponseBody::new(body, visit))) }.boxed()
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;

    use super::*;
    use crate::http_server::connection_limit::ConnectionLimiter;

    #[tokio::test]
    async fn who_asks_in_the_moment_of_the_stop_is_answered() {
        let limits =
            Connections { max: 1, idle_timeout: Duration::from_secs(60), stall_timeout: Duration::from_secs(60) };
        let slow = get(async || {
            tokio::task::yield_now().await;
            "answered"
        });
        // Of what is ready at once, a random one is seen first.
        for _ in 0..40 {
            let place = Arc::new(ConnectionLimiter::new(1)).try_take().unwrap();
            let (mut client, server) = tokio::io::duplex(4096);
            let stop = CancellationToken::new();
            let opening = async { io::Result::Ok(server) };
            let routes = Router::new().route("/", slow.clone());
            let peer = Peer::Socket { uid: None };
            let served = tokio::spawn(serve(opening, peer, routes, limits, place, stop.clone()));
            // It has been accepted, and waits for the request.
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
