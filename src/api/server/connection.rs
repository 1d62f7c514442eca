//! How is one client served? HTTP/1.1 over any stream, with an end to everything that the client could draw out.

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
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

use super::body::{Answer, Upload, Visit};
use super::places::Place;
use super::stream::Stream;
use crate::api::caller::Peer;
use crate::config::Connections;

/// The most that is kept of what one client sends, or is to be sent: a request's head has to fit into it.
const BUFFER_BYTES: usize = 64 * 1024;

/// How long what a client still sends is read after the last answer. If it were not, the answer might be lost with it.
const LINGER: Duration = Duration::from_secs(2);

/// Serves one client until it leaves, is silent for too long, or has to leave.
pub(super) async fn serve<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    opening: impl Future<Output = io::Result<S>>,
    peer: Peer,
    routes: Router,
    limits: Connections,
    place: Place,
    stop: CancellationToken,
) {
    let place = Arc::new(place);
    let opened = tokio::select! {
        opened = tokio::time::timeout(limits.idle_timeout, opening) => opened,
        () = place.leave().cancelled() => return,
        () = stop.cancelled() => return,
    };
    let stream = match opened {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(%error, "a connection could not be opened"),
        Err(_late) => return,
    };
    let requests = Requests { routes: TowerToHyperService::new(routes), limits, peer, place: place.clone() };
    let stream = TokioIo::new(Stream::new(stream, limits.stall_timeout, place.clone()));
    let mut connection = Builder::new()
        .timer(TokioTimer::new())
        // From the connection's first moment, or the last answer, to the end of the next request's head.
        .header_read_timeout(limits.idle_timeout)
        .max_buf_size(BUFFER_BYTES)
        .serve_connection(stream, requests);
    let mut told = false;
    loop {
        tokio::select! {
            // How it ended is the client's affair: whatever a request was to do, its handler has said.
            _ended = poll_fn(|cx| connection.poll_without_shutdown(cx)) => break,
            () = place.leave().cancelled(), if !told => told = true,
            () = stop.cancelled(), if !told => told = true,
        }
        if told {
            if place.is_quiet() {
                return;
            }
            // The answer under way is the last.
            Pin::new(&mut connection).graceful_shutdown();
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
        () = place.leave().cancelled() => {}
        () = stop.cancelled() => {}
    }
}

/// The routes, for one client.
struct Requests {
    routes: TowerToHyperService<Router>,
    limits: Connections,
    peer: Peer,
    place: Arc<Place>,
}

impl Service<Request<Incoming>> for Requests {
    type Response = Response<Answer>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Answer>, Infallible>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let visit = Visit::begin(self.place.clone());
        let waits_to_be_asked = request.headers().contains_key(EXPECT);
        let stall_timeout = self.limits.stall_timeout;
        let mut request = request.map(|incoming| Body::new(Upload::new(incoming, stall_timeout, waits_to_be_asked)));
        request.extensions_mut().insert(self.peer);
        let answer = self.routes.call(request);
        async move { Ok(answer.await?.map(|body| Answer::new(body, visit))) }.boxed()
    }
}
