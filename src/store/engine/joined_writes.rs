//! Joined writes: writes of one kind that wait for the writer at the same time are carried out together.
//!
//! A write that inserts many rows with one statement costs little more than one that inserts a single row.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::store::engine::transaction::{PartEnd, StoreTx};
use crate::store::engine::write_request::{WriteOutcome, WriteRequest};
use crate::store::engine::writer::Writer;
use crate::store::error::StoreError;

/// Carries out the writes of all inputs and returns their results in the same order. An error means that nothing of
/// them may be kept.
pub(crate) type JoinedWrite<I, O> =
    for<'c, 't> fn(&'c mut StoreTx<'t>, &'c [I]) -> BoxFuture<'c, Result<Vec<Result<O, StoreError>>, StoreError>>;

/// The writes of one kind that wait. As long as there are any, one request for all of them is in the writer's queue.
pub(crate) struct JoinedWrites<I, O> {
    waiting: Mutex<Vec<WaitingWrite<I, O>>>,
    write: JoinedWrite<I, O>,
}

struct WaitingWrite<I, O> {
    input: I,
    reply: oneshot::Sender<Result<O, StoreError>>,
}

impl<I: Send + Sync + 'static, O: Send + 'static> JoinedWrites<I, O> {
    /// Creates the queue of a kind of writes.
    pub fn new(write: JoinedWrite<I, O>) -> JoinedWrites<I, O> {
        JoinedWrites { waiting: Mutex::default(), write }
    }

    /// Queues a write and returns its result once it is on the disk. It is carried out whether or not the caller still
    /// waits.
    ///
    /// # Errors
    /// The error of the write or of the commit, or [`StoreError::Closed`].
    pub async fn write(self: &Arc<Self>, writer: &Writer, input: I) -> Result<O, StoreError> {
        let (reply, receiver) = oneshot::channel();
        let is_first = {
            let mut waiting = self.waiting.lock();
            waiting.push(WaitingWrite { input, reply });
            waiting.len() == 1
        };
        if is_first {
            writer.queue(self.request());
        }
        receiver.await.map_err(|_| StoreError::Closed)?
    }

    /// Returns the request that carries out whatever waits when its turn comes.
    fn request(self: &Arc<Self>) -> WriteRequest {
        let queued = QueuedRequest { writes: Some(self.clone()) };
        let write = self.write;
        Box::new(move |tx| {
            let (inputs, replies): (Vec<I>, Vec<_>) =
                queued.take().into_iter().map(|waiting| (waiting.input, waiting.reply)).unzip();
            Box::pin(async move {
                let results = match tx {
                    Ok(tx) => run(tx, &inputs, write).await,
                    Err(error) => Err(error),
                };
                WriteOutcome {
                    result: results.as_ref().map(drop).map_err(Clone::clone),
                    reply: Box::new(move |commit| match results {
                        Ok(results) => {
                            for (reply, result) in replies.into_iter().zip(results) {
                                // A caller may have stopped waiting; its write is not undone.
                                let _ = reply.send(commit.clone().and(result));
                            }
                        }
                        Err(error) => {
                            for reply in replies {
                                let _ = reply.send(Err(commit.clone().err().unwrap_or_else(|| error.clone())));
                            }
                        }
                    }),
                }
            })
        })
    }
}

/// Carries out the writes together. If that fails, each is carried out alone, so that one does not undo the others. Damage
/// of the database concerns all of them: as the error of the whole it is recorded.
async fn run<I: Send + Sync, O: Send>(
    tx: &mut StoreTx<'_>,
    inputs: &[I],
    write: JoinedWrite<I, O>,
) -> Result<Vec<Result<O, StoreError>>, StoreError> {
    let error = match write(tx, inputs).await {
        Ok(results) => return Ok(results),
        Err(error) if inputs.len() == 1 || is_damage(&error) => return Err(error),
        Err(error) => error,
    };
    tracing::debug!(%error, writes = inputs.len(), "writing together failed; writing one by one");
    tx.restart(error.clone()).await?;
    let mut results = Vec::with_capacity(inputs.len());
    for input in inputs.chunks(1) {
        let part = tx.begin_part().await?;
        let alone = write(tx, input).await;
        if let Err(error) = &alone
            && is_damage(error)
        {
            return Err(error.clone());
        }
        let end = if alone.is_ok() { PartEnd::Keep } else { PartEnd::Undo };
        tx.end_part(part, end).await.map_err(|_| error.clone())?;
        results.push(alone.and_then(|mut results| results.pop().unwrap_or(Err(StoreError::Closed))));
    }
    Ok(results)
}

fn is_damage(error: &StoreError) -> bool {
    matches!(error, StoreError::Damaged(_))
}

/// A request in the writer's queue. If it is dropped there, the waiting writes are dropped with it, and their callers
/// get [`StoreError::Closed`].
struct QueuedRequest<I, O> {
    /// None once the writes have been taken: what waits from then on belongs to the next request.
    writes: Option<Arc<JoinedWrites<I, O>>>,
}

impl<I, O> QueuedRequest<I, O> {
    fn take(mut self) -> Vec<WaitingWrite<I, O>> {
        self.writes.take().map(|writes| std::mem::take(&mut *writes.waiting.lock())).unwrap_or_default()
    }
}

impl<I, O> Drop for QueuedRequest<I, O> {
    fn drop(&mut self) {
        if let Some(writes) = &self.writes {
            writes.waiting.lock().clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use sqlx::ConnectOptions;
    use sqlx::sqlite::SqliteConnectOptions;

    use super::*;
    use crate::store::engine::disk_reserve::DiskReserve;
    use crate::store::engine::health::DatabaseHealth;
    use crate::store::engine::writer_task::WriterTask;

    #[tokio::test]
    async fn damage_found_by_a_joined_write_is_recorded() {
        let options = SqliteConnectOptions::new().in_memory(true);
        let conn = options.connect().await.unwrap();
        let path = std::path::Path::new(":memory:");
        let health = Arc::new(DatabaseHealth::new(path));
        let reserve = DiskReserve::open(path, 0);
        let (disk, events) = (Arc::default(), Arc::default());
        let writer =
            Writer::start(WriterTask { conn: Some(conn), options, health: health.clone(), reserve, disk, events });
        let writes: Arc<JoinedWrites<u8, ()>> =
            Arc::new(JoinedWrites::new(|_, _| Box::pin(async { Err(StoreError::Damaged("page 7".into())) })));
        let (first, second) = tokio::join!(writes.write(&writer, 1), writes.write(&writer, 2));
        for result in [first, second] {
            assert!(matches!(result, Err(StoreError::Damaged(_))), "{result:?}");
        }
        assert!(matches!(health.check(), Err(StoreError::Damaged(_))));
    }
}
