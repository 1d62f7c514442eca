//! Stream of a client's connection: fails writes that stall, and repairs request lines as they arrive.

use std::io::{self, ErrorKind, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::http_server::connection_limit::ConnectionPermit;
use crate::http_server::request_line::RequestLine;
use crate::http_server::stall_timer::{ClientWait, Direction, StallError};

/// Bytes that are read at once while a request's first line is incomplete.
const LINE_CHUNK: usize = 4 * 1024;

/// A client's stream. Writes fail once they have stalled, and the connection's permit is updated when a response is
/// sent.
pub(super) struct TimedStream<S> {
    inner: S,
    wait: ClientWait,
    permit: Arc<ConnectionPermit>,
    line: RequestLine,
}

impl<S: Unpin> TimedStream<S> {
    /// Wraps a connection's stream.
    pub(super) fn new(inner: S, stall_timeout: Duration, permit: Arc<ConnectionPermit>) -> TimedStream<S> {
        TimedStream {
            inner,
            wait: ClientWait::new(Direction::Out, stall_timeout),
            permit,
            line: RequestLine::default(),
        }
    }

    /// Polls one write, flush or shutdown of the inner stream.
    fn poll_out<T>(
        &mut self,
        cx: &mut Context<'_>,
        act: impl FnOnce(Pin<&mut S>, &mut Context<'_>) -> Poll<io::Result<T>>,
        bytes: impl FnOnce(&T) -> usize,
    ) -> Poll<io::Result<T>> {
        let polled = act(Pin::new(&mut self.inner), cx);
        match &polled {
            Poll::Ready(Ok(done)) => self.wait.record_transfer(bytes(done), &self.permit.speed()),
            Poll::Ready(Err(_)) => {}
            Poll::Pending => {
                let reason = match ready!(self.wait.poll_wait(cx, &self.permit.speed())) {
                    StallError::Stalled => "the client does not read the response (api.stall_timeout)",
                    StallError::Slowest => "closed as the slowest connection because api.max_connections is reached",
                };
                return Poll::Ready(Err(io::Error::new(ErrorKind::TimedOut, reason)));
            }
        }
        polled
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for TimedStream<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            if self.line.take(buf.remaining(), |bytes| buf.put_slice(bytes)) {
                return Poll::Ready(Ok(()));
            }
            if !self.line.is_wanted() {
                return Pin::new(&mut self.inner).poll_read(cx, buf);
            }
            let mut chunk = [0; LINE_CHUNK];
            let mut chunk = ReadBuf::new(&mut chunk);
            ready!(Pin::new(&mut self.inner).poll_read(cx, &mut chunk))?;
            match chunk.filled() {
                // The client sends no more.
                [] => self.line.finish(),
                bytes => self.line.push(bytes),
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for TimedStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_out(cx, |inner, cx| inner.poll_write(cx, buf), |bytes| *bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_out(cx, |inner, cx| inner.poll_write_vectored(cx, bufs), |bytes| *bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_out(cx, |inner, cx| inner.poll_flush(cx), |()| 0))?;
        if self.permit.record_flush() {
            self.line.reset();
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_out(cx, |inner, cx| inner.poll_shutdown(cx), |()| 0)
    }
}
