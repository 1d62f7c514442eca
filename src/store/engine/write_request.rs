//! Write requests: what the queue of the writer task holds, and the replies that are sent after the commit.

use futures_util::future::BoxFuture;
use tokio::sync::oneshot;

use crate::store::engine::transaction::StoreTx;
use crate::store::error::StoreError;

/// Sends the result to the caller after the transaction has ended.
pub(crate) type Reply = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

/// What a write leaves for the end of the transaction.
pub(crate) struct WriteOutcome {
    /// The result of the write.
    pub result: Result<(), StoreError>,
    /// The reply to be sent after the commit.
    pub reply: Reply,
}

/// One queued write. It runs in the transaction, or gets the error that prevents one.
pub(crate) type WriteRequest =
    Box<dyn for<'c> FnOnce(Result<&'c mut StoreTx<'_>, StoreError>) -> BoxFuture<'c, WriteOutcome> + Send>;

/// Returns the request for `write`, and the receiver of its result. The result arrives after the commit.
pub(crate) fn write_request<T, F>(write: F) -> (WriteRequest, oneshot::Receiver<Result<T, StoreError>>)
where
    T: Send + 'static,
    F: for<'c> FnOnce(&'c mut StoreTx<'_>) -> BoxFuture<'c, Result<T, StoreError>> + Send + 'static,
{
    let (sender, receiver) = oneshot::channel();
    let request: WriteRequest = Box::new(move |tx| {
        let work = tx.map(write);
        Box::pin(async move {
            let result = match work {
                Ok(work) => work.await,
                Err(error) => Err(error),
            };
            WriteOutcome {
                result: result.as_ref().map(drop).map_err(Clone::clone),
                reply: Box::new(move |commit| {
                    // The caller may have stopped waiting; the write is not undone.
                    let _ = sender.send(commit.and(result));
                }),
            }
        })
    });
    (request, receiver)
}
