//! What comes in behind a request's head, and what goes out? Bodies that end, whatever the client does.

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

/// How long the rest of a body that nobody wants is read.
const DRAIN_TIME: Duration = Duration::from_secs(60);

/// Why a body ended early.
#[derive(Debug, thiserror::Error)]
pub(super) enum BodyError {
    #[error("nothing more came for {0:?} (api.stall_timeout)")]
    Stalled(Duration),
    #[error(
        "others need the connection, and this was the slowest of all (api.max_connections): send it again in a while"
    )]
    Slowest,
    #[error(transparent)]
    Lost(#[from] hyper::Error),
}

/// A request's body, for as long as it keeps coming.
///
/// A client that is still sending when the connection closes finds a broken pipe, and never reads why it was refused. So
/// where the rest is not wanted, the answer leaves at once, and the rest is read beside it until the client has had
/// enough, or we have. One that waits to be asked for its body (`Expect: 100-continue`) and was not has nothing to send.
pub(super) struct RequestBody {
    /// Taken when it is dropped.
    incoming: Option<Incoming>,
    waited: ClientWait,
    speed: Arc<TransferSpeed>,
    stall_timeout: Duration,
    /// The client is sending, or will without being asked.
    sends: bool,
}

impl RequestBody {
    pub(super) fn new(
        incoming: Incoming,
        stall_timeout: Duration,
        waits_to_be_asked: bool,
        speed: Arc<TransferSpeed>,
    ) -> RequestBody {
        RequestBody {
            incoming: Some(incoming),
            waited: ClientWait::new(Direction::In, stall_timeout),
            speed,
            stall_timeout,
            sends: !waits_to_be_asked,
        }
    }
}

impl hyper::body::Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.sends = true;
        let this = &mut *self;
        let Some(incoming) = &mut this.incoming else { return Poll::Ready(None) };
        match Pin::new(incoming).poll_frame(cx) {
            Poll::Ready(frame) => {
                let bytes = frame.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref()).map_or(0, Bytes::len);
                this.waited.moved(bytes, &this.speed);
                Poll::Ready(frame.map(|frame| frame.map_err(BodyError::from)))
            }
            Poll::Pending => {
                let why = ready!(this.waited.poll_wait(cx, &this.speed));
                // Its rest is not waited for either.
                this.incoming = None;
                Poll::Ready(Some(Err(match why {
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
        let Some(rest) = self.incoming.take().filter(|rest| self.sends && !hyper::body::Body::is_end_stream(rest))
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

/// An answer's body. While it lasts the client is being served.
pub(super) struct ResponseBody {
    body: Body,
    _visit: RequestGuard,
}

impl ResponseBody {
    pub(super) fn new(body: Body, visit: RequestGuard) -> ResponseBody {
        ResponseBody { body, _visit: visit }
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

/// A request under way, from its head to the end of its answer.
pub(super) struct RequestGuard(Arc<ConnectionPermit>);

impl RequestGuard {
    pub(super) fn begin(place: Arc<ConnectionPermit>) -> RequestGuard {
        place.begin_request();
        RequestGuard(place)
    }
}

impl Drop for RequestGuard {
    fn drop(&mut self) {
        self.0.end_request();
    }
}
