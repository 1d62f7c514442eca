//! Chunk writer: compresses and stores a file chunk by chunk while it is received.
//!
//! The last chunk is in memory, a bounded number are being written, and all earlier ones are in the store.

use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::clock::Clock;
use crate::delimited::ScanRules;
use crate::domain::JobId;
use crate::intake::error::IntakeError;
use crate::intake::lenient_scanner::LenientScanner;
use crate::store::{CHUNK_BYTES, CompressedChunk, Inserted, JobLayout, NewJob, Store, StoredFile};

/// The most chunks of one file that are being written at a time. While one waits for the disk, the next are read and
/// compressed; the store's writer commits all that are waiting in one transaction.
const MAX_PENDING_CHUNKS: usize = 6;

/// The most chunks of all files together that are being written at a time. This many saturate the store's writer;
/// further senders wait, so that their data does not fill the memory.
const MAX_PENDING_CHUNKS_TOTAL: usize = 32;

/// Where chunks are stored. Clones share one state.
#[derive(Clone)]
pub(super) struct ChunkStore {
    pub(super) store: Store,
    pub(super) clock: Clock,
    /// A permit for each chunk that is being written.
    permits: Arc<Semaphore>,
}

impl ChunkStore {
    pub(super) fn new(store: Store, clock: Clock) -> ChunkStore {
        ChunkStore { store, clock, permits: Arc::new(Semaphore::new(MAX_PENDING_CHUNKS_TOTAL)) }
    }
}

/// A file that is being received: its last chunk, the writes that have not ended, and the submission that they belong
/// to.
pub(super) struct ChunkWriter<'a> {
    target: &'a ChunkStore,
    new: NewJob,
    chunk: Vec<u8>,
    /// Bytes of all chunks before `chunk`.
    stored_bytes: u64,
    // Dropped before the guard below, so that no chunk is written after the submission is deleted.
    pending: JoinSet<Result<(), IntakeError>>,
    submission: Option<AbortOnDrop>,
}

impl<'a> ChunkWriter<'a> {
    pub(super) fn new(target: &'a ChunkStore, new: NewJob) -> ChunkWriter<'a> {
        ChunkWriter { target, new, chunk: Vec::new(), stored_bytes: 0, pending: JoinSet::new(), submission: None }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.stored_bytes + self.chunk.len() as u64
    }

    pub(super) async fn push(&mut self, mut bytes: &[u8]) -> Result<(), IntakeError> {
        while self.chunk.len() + bytes.len() > CHUNK_BYTES {
            let (now, later) = bytes.split_at(CHUNK_BYTES - self.chunk.len());
            self.chunk.extend_from_slice(now);
            bytes = later;
            self.store_chunk().await?;
        }
        self.chunk.extend_from_slice(bytes);
        Ok(())
    }

    async fn store_chunk(&mut self) -> Result<(), IntakeError> {
        let ChunkStore { store, clock, .. } = self.target;
        let id = match &self.submission {
            Some(submission) => submission.id,
            None => {
                let id = store.begin_submission(self.new.clone(), clock.now()).await?;
                self.submission = Some(AbortOnDrop { store: store.clone(), id });
                id
            }
        };
        let chunk = std::mem::replace(&mut self.chunk, Vec::with_capacity(CHUNK_BYTES));
        let (from, store) = (self.stored_bytes, store.clone());
        self.stored_bytes += chunk.len() as u64;
        if self.pending.len() >= MAX_PENDING_CHUNKS {
            self.wait_for_chunk().await?;
        }
        let permit = self.target.permits.clone().acquire_owned().await;
        let permit = permit.map_err(|error| IntakeError::Wrong(error.to_string()))?;
        self.pending.spawn(async move {
            let _until_stored = permit;
            Ok(store.insert_chunk(id, compress(from, chunk).await?).await?)
        });
        Ok(())
    }

    /// Waits until one of the pending chunks is on the disk. Returns false if none is pending.
    async fn wait_for_chunk(&mut self) -> Result<bool, IntakeError> {
        match self.pending.join_next().await {
            None => Ok(false),
            Some(Ok(stored)) => stored.map(|()| true),
            Some(Err(error)) => Err(IntakeError::Wrong(error.to_string())),
        }
    }

    /// Scans everything received so far again with other rules: the chunks on the disk, then the last one in memory.
    pub(super) async fn scan_again(&mut self, rules: ScanRules) -> Result<LenientScanner, IntakeError> {
        while self.wait_for_chunk().await? {}
        let mut scan = LenientScanner::new(rules);
        if let Some(submission) = &self.submission {
            let mut content = self.target.store.content(StoredFile::submitted(submission.id), 0..self.stored_bytes);
            while let Some(chunk) = content.next().await? {
                scan.push(&chunk);
            }
        }
        scan.push(&self.chunk);
        Ok(scan)
    }

    /// Creates the job. A file of one chunk is stored in one transaction; a larger one becomes a job in its last
    /// transaction.
    pub(super) async fn finish(mut self, new: NewJob, layout: JobLayout) -> Result<Inserted, IntakeError> {
        let ChunkStore { store, clock, .. } = self.target;
        let Some(submission) = &self.submission else {
            // The file has rows, so its only chunk is not empty.
            let chunk = CompressedChunk::compress(0, &self.chunk).map_err(compression_error)?;
            return Ok(store.add(new, layout, chunk, clock.now()).await?);
        };
        let id = submission.id;
        if !self.chunk.is_empty() {
            self.store_chunk().await?;
        }
        while self.wait_for_chunk().await? {}
        // From here on the guard's deletion finds no open submission: a job that was committed is not deleted.
        Ok(store.commit_submission(id, new, layout, clock.now()).await?)
    }
}

/// Compresses a chunk on a blocking thread: it takes about a millisecond, too long for a thread that serves requests.
async fn compress(from: u64, chunk: Vec<u8>) -> Result<CompressedChunk, IntakeError> {
    let packed = tokio::task::spawn_blocking(move || CompressedChunk::compress(from, &chunk)).await;
    packed.map_err(|error| IntakeError::Wrong(error.to_string()))?.map_err(compression_error)
}

fn compression_error(error: std::io::Error) -> IntakeError {
    IntakeError::Wrong(format!("the file could not be compressed: {error}"))
}

/// Deletes the stored chunks of a file that did not become a job, however the request ended.
struct AbortOnDrop {
    store: Store,
    id: JobId,
}

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        let (store, id) = (self.store.clone(), self.id);
        // A daemon that is stopping deletes them at its next start.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                if let Err(error) = store.abort_submission(id).await {
                    tracing::warn!(job = %id, %error, "chunks of an incomplete upload not deleted; the next start deletes them");
                }
            });
        }
    }
}
