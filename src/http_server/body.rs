//! Request and response bodies with time limits: a slow or silent client can't keep either open.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures_util::StreamExt;
use hyper::body::{Frame, Incoming, SizeHint};

use crate::http_server::connection_limit::ConnectionPermit;
use crate::http_server::stall_timer::{ClientWait, Direction, StallError, TransferSpeed};

/// How long the rest of an unread request body is read and discarded.
const DRAIN_TIME: Duration = Duration::from_secs(60);

/// Why a body ended early.
#[derive(Debug, thiserror::Error)]
pub(super) enum BodyError {
    /// The client sent next to nothing for `api.stall_timeout`.
    #[error("the body stalled for {0:?} (api.stall_timeout)")]
    Stalled(Duration),
    /// Another client needed the connection.
    #[error("closed as the slowest connection because api.max_connections is reached: retry later")]
    Slowest,
    /// The connection failed.
    #[error(transparent)]
    Lost(#[from] hyper::Error),
}

/// When a client sends the body of its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyStart {
    /// With the head.
    AtOnce,
    /// After a 100, for which it asked with `Expect: 100-continue`.
    AfterContinue,
}

/// A request's body that fails when the client stalls.
///
/// A client that is still sending when the connection closes gets a broken pipe and never reads the response. So where
/// the handler does not read the whole body, the rest is read and discarded while the response is sent, for
/// [`DRAIN_TIME`] at most. A client that sent `Expect: 100-continue` and got no 100 sends no body, so nothing is
/// drained.
pub(super) struct RequestBody {
    /// Taken when the body is dropped, to drain its rest.
    incoming: Option<Incoming>,
    wait: ClientWait,
    speed: Arc<TransferSpeed>,
    stall_timeout: Duration,
    /// The client sends its body, or will without a 100.
    client_sends: bool,
}

impl RequestBody {
    /// Wraps the body of a request.
    pub(super) fn new(
        incoming: Incoming,
        stall_timeout: Duration,
        start: BodyStart,
        speed: Arc<TransferSpeed>,
    ) -> RequestBody {
        RequestBody {
            incoming: Some(incoming),
            wait: ClientWait::new(Direction::In, stall_timeout),
            speed,
            stall_timeout,
            client_sends: start == BodyStart::AtOnce,
        }
    }
}

impl hyper::body::Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.client_sends = true;
        let this = &mut *self;
        let Some(incoming) = &mut this.incoming else { return Poll::Ready(None) };
        match Pin::new(incoming).poll_frame(cx) {
            Poll::Ready(frame) => {
                let bytes = frame.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref()).map_or(0, Bytes::len);
                this.wait.record_transfer(bytes, &this.speed);
                Poll::Ready(frame.map(|frame| frame.map_err(BodyError::from)))
            }
            Poll::Pending => {
                let error = ready!(this.wait.poll_wait(cx, &this.speed));
                // The rest is not drained either.
                this.incoming = None;
                Poll::Ready(Some(Err(match error {
                    StallError::Stalled => BodyError::Stalled(this.stall_timeout),
                    StallError::Slowest => BodyError::Slowest,
                })))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.as_ref().is_none_or(Incoming::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.as_ref().map_or_else(|| SizeHint::with_exact(0), Incoming::size_hint)
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        let Some(rest) =
            self.incoming.take().filter(|rest| self.client_sends && !hyper::body::Body::is_end_stream(rest))
        else {
            return;
        };
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let mut rest = Body::new(rest).into_data_stream();
            runtime
                .spawn(tokio::time::timeout(DRAIN_TIME, async move { while let Some(Ok(_)) = rest.next().await {} }));
        }
    }
}

/// A response's body. It keeps the request's guard until it is sent.
pub(super) struct ResponseBody {
    body: Body,
    _guard: RequestGuard,
}

impl ResponseBody {
    /// Wraps the body of a handler's response.
    pub(super) fn new(body: Body, guard: RequestGuard) -> ResponseBody {
        ResponseBody { body, _guard: guard }
    }
}

impl hyper::body::Body for ResponseBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Marks a connection as busy, from a request's head to the end of its response.
pub(super) struct RequestGuard(Arc<ConnectionPermit>);

impl RequestGuard {
    /// Marks the connection as busy.
    pub(super) fn begin(permit: Arc<ConnectionPermit>) -> RequestGuard {
        permit.begin_request();
        RequestGuard(permit)
    }
}

impl Drop for RequestGuard {
    fn drop(&mut self) {
        self.0.end_request();
    }
}
