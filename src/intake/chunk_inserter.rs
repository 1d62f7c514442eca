//! Chunk inserter: writes the compressed chunks of one file to the store.
//!
//! Chunks are written in groups: a write of its own for each would cost more switches between threads than the writing
//! itself, and more waits for the disk.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit};
use tokio::task::JoinHandle;

use crate::domain::JobId;
use crate::intake::error::IntakeError;
use crate::store::{CompressedChunk, Store};

/// So many chunks are written without a wait for those that are still being compressed.
const MIN_CHUNKS_IN_WRITE: usize = 4;

/// The most chunks in one write: other writes wait for it.
const MAX_CHUNKS_IN_WRITE: usize = 8;

/// A chunk that is ready to be written.
pub(super) struct ReadyChunk {
    /// Its size before compression.
    pub(super) bytes: u64,
    pub(super) compressed: std::io::Result<CompressedChunk>,
    /// Held until it is on the disk. They bound the memory of all chunks, so the queue needs no bound.
    pub(super) permits: [OwnedSemaphorePermit; 2],
}

/// The chunks of one file between their compression and their write.
#[derive(Default)]
struct ChunkQueue {
    state: Mutex<QueueState>,
    /// Notified when there may be something to do for the inserter.
    changed: Notify,
}

#[derive(Default)]
struct QueueState {
    ready: Vec<ReadyChunk>,
    /// Senders of chunks that are not ready.
    compressing: usize,
    /// No more chunks are begun.
    is_complete: bool,
    /// The inserter has ended.
    is_closed: bool,
}

/// What the inserter does next.
enum Step {
    Write(Vec<ReadyChunk>),
    Wait,
    End,
}

impl QueueState {
    /// Chunks wait for others only while these are being compressed, which no client can delay.
    fn has_group(&self) -> bool {
        self.ready.len() >= MIN_CHUNKS_IN_WRITE || self.compressing == 0
    }

    fn next_step(&mut self) -> Step {
        if !self.has_group() {
            return Step::Wait;
        }
        let group: Vec<ReadyChunk> = self.ready.drain(..self.ready.len().min(MAX_CHUNKS_IN_WRITE)).collect();
        match (group.is_empty(), self.is_complete) {
            (false, _) => Step::Write(group),
            (true, false) => Step::Wait,
            (true, true) => Step::End,
        }
    }
}

/// Sends one chunk to the inserter, which waits for it. Dropping it ends the wait, also where the compression panicked.
pub(super) struct ChunkSender(Arc<ChunkQueue>);

impl ChunkSender {
    /// Sends the chunk. It is dropped where the inserter has ended after an error.
    pub(super) fn send(self, chunk: ReadyChunk) {
        let mut state = self.0.state.lock();
        if !state.is_closed {
            state.ready.push(chunk);
        }
    }
}

impl Drop for ChunkSender {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.compressing -= 1;
        if state.has_group() {
            self.0.changed.notify_one();
        }
    }
}

/// The task that writes the chunks of one file.
pub(super) struct ChunkInserter {
    queue: Arc<ChunkQueue>,
    task: JoinHandle<Result<u64, IntakeError>>,
}

impl ChunkInserter {
    /// Starts the task.
    pub(super) fn start(store: Store, id: JobId) -> ChunkInserter {
        let queue = Arc::new(ChunkQueue::default());
        ChunkInserter { task: tokio::spawn(insert(store, id, QueueReader(queue.clone()))), queue }
    }

    /// Begins a chunk that is about to be compressed. Returns none where the task has ended after an error.
    pub(super) fn begin_chunk(&self) -> Option<ChunkSender> {
        let mut state = self.queue.state.lock();
        if state.is_closed {
            return None;
        }
        state.compressing += 1;
        Some(ChunkSender(self.queue.clone()))
    }

    /// Waits until all chunks are on the disk. Returns the sum of their bytes before compression. Must not be called
    /// again after it has returned.
    ///
    /// # Errors
    /// The error of the first chunk that could not be compressed or written.
    pub(super) async fn finish(&mut self) -> Result<u64, IntakeError> {
        self.queue.state.lock().is_complete = true;
        self.queue.changed.notify_one();
        (&mut self.task).await.map_err(|error| IntakeError::Wrong(error.to_string()))?
    }

    /// Ends the task; chunks that were not passed to the store are dropped.
    pub(super) async fn abort(self) {
        self.task.abort();
        let _aborted = self.task.await;
    }
}

/// The task's end of the queue.
struct QueueReader(Arc<ChunkQueue>);

impl Drop for QueueReader {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.is_closed = true;
        state.ready.clear();
    }
}

async fn insert(store: Store, id: JobId, reader: QueueReader) -> Result<u64, IntakeError> {
    let queue = &reader.0;
    let mut stored_bytes = 0;
    loop {
        let step = queue.state.lock().next_step();
        let group = match step {
            Step::Write(group) => group,
            Step::Wait => {
                queue.changed.notified().await;
                continue;
            }
            Step::End => return Ok(stored_bytes),
        };
        let (mut chunks, mut permits) = (Vec::with_capacity(group.len()), Vec::with_capacity(group.len()));
        for chunk in group {
            stored_bytes += chunk.bytes;
            chunks.push(chunk.compressed.map_err(compression_error)?);
            permits.push(chunk.permits);
        }
        store.insert_chunks(id, chunks).await?;
    }
}

pub(super) fn compression_error(error: std::io::Error) -> IntakeError {
    IntakeError::Wrong(format!("the file could not be compressed: {error}"))
}
