//! Chunk inserter: writes the compressed chunks of one file to the store.
//!
//! What was compressed while the disk was busy is written together. A write of its own for each chunk would cost more
//! switches between threads than writing it.

use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::task::JoinHandle;

use crate::domain::JobId;
use crate::intake::error::IntakeError;
use crate::store::{CompressedChunk, Store};

/// The most chunks in one write: other writes wait for it.
const MAX_CHUNKS_IN_WRITE: usize = 8;

/// A chunk that is ready to be written.
pub(super) struct ReadyChunk {
    /// Its size before compression.
    pub(super) bytes: u64,
    pub(super) compressed: std::io::Result<CompressedChunk>,
    /// Held until it is on the disk. They bound the memory of all chunks, so the queue of the inserter needs no bound.
    pub(super) permits: [OwnedSemaphorePermit; 2],
}

/// Sends chunks to the inserter of one file.
pub(super) struct ChunkSender(mpsc::UnboundedSender<ReadyChunk>);

impl ChunkSender {
    /// Sends a chunk. It is dropped where the inserter has ended after an error.
    pub(super) fn send(self, chunk: ReadyChunk) {
        let _inserter_has_ended = self.0.send(chunk);
    }
}

/// The task that writes the chunks of one file.
pub(super) struct ChunkInserter {
    /// None once no more chunks come.
    queue: Option<mpsc::UnboundedSender<ReadyChunk>>,
    task: JoinHandle<Result<u64, IntakeError>>,
}

impl ChunkInserter {
    /// Starts the task.
    pub(super) fn start(store: Store, id: JobId) -> ChunkInserter {
        let (queue, ready) = mpsc::unbounded_channel();
        ChunkInserter { queue: Some(queue), task: tokio::spawn(insert(store, id, ready)) }
    }

    /// Returns where chunks are sent; none where the task takes no more, after an error or [`ChunkInserter::finish`].
    pub(super) fn sender(&self) -> Option<ChunkSender> {
        self.queue.as_ref().filter(|queue| !queue.is_closed()).cloned().map(ChunkSender)
    }

    /// Waits until all chunks are on the disk. Returns the sum of their bytes before compression. Must not be called
    /// again after it has returned.
    ///
    /// # Errors
    /// The error of the first chunk that could not be compressed or written.
    pub(super) async fn finish(&mut self) -> Result<u64, IntakeError> {
        self.queue = None;
        (&mut self.task).await.map_err(|error| IntakeError::Wrong(error.to_string()))?
    }

    /// Ends the task; chunks that were not passed to the store are dropped.
    pub(super) async fn abort(self) {
        self.task.abort();
        let _aborted = self.task.await;
    }
}

async fn insert(store: Store, id: JobId, mut ready: mpsc::UnboundedReceiver<ReadyChunk>) -> Result<u64, IntakeError> {
    let mut stored_bytes = 0;
    let mut group = Vec::with_capacity(MAX_CHUNKS_IN_WRITE);
    while ready.recv_many(&mut group, MAX_CHUNKS_IN_WRITE).await > 0 {
        let (mut chunks, mut permits) = (Vec::with_capacity(group.len()), Vec::with_capacity(group.len()));
        let mut bytes = 0;
        for chunk in group.drain(..) {
            bytes += chunk.bytes;
            chunks.push(chunk.compressed.map_err(compression_error)?);
            permits.push(chunk.permits);
        }
        store.insert_chunks(id, chunks).await?;
        stored_bytes += bytes;
        drop(permits);
    }
    Ok(stored_bytes)
}

pub(super) fn compression_error(error: std::io::Error) -> IntakeError {
    IntakeError::Wrong(format!("the file could not be compressed: {error}"))
}
