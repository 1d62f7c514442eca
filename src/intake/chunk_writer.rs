//! Chunk writer: compresses and stores a file chunk by chunk while it is received.
//!
//! The last chunk is in memory, a bounded number are being compressed and written, and all earlier ones are in the
//! store.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::clock::Clock;
use crate::delimited::ScanRules;
use crate::domain::JobId;
use crate::intake::chunk_inserter::{ChunkInserter, ChunkSender, ReadyChunk, compression_error};
use crate::intake::error::IntakeError;
use crate::intake::lenient_scanner::LenientScanner;
use crate::store::{CHUNK_BYTES, CompressedChunk, Inserted, JobLayout, NewJob, Store, StoredFile};

/// The most chunks of one file that are being compressed or written at a time. While some wait for the disk, the next
/// are read and compressed, and then written in one transaction.
const MAX_PENDING_CHUNKS: usize = 16;

/// The most chunks of all files together that are being compressed or written at a time. This many saturate the store's
/// writer; further senders wait, so that their data does not fill the memory.
const MAX_PENDING_CHUNKS_TOTAL: usize = 32;

/// Where chunks are stored. Clones share one state.
#[derive(Clone)]
pub(super) struct ChunkStore {
    pub(super) store: Store,
    pub(super) clock: Clock,
    /// A permit for each chunk that is being compressed or written.
    pending: Arc<Semaphore>,
    /// A permit for each chunk that is being compressed. More threads than processors would not be faster, and each
    /// has memory of its own.
    compressing: Arc<Semaphore>,
}

impl ChunkStore {
    pub(super) fn new(store: Store, clock: Clock) -> ChunkStore {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let semaphore = |permits| Arc::new(Semaphore::new(permits));
        ChunkStore { store, clock, pending: semaphore(MAX_PENDING_CHUNKS_TOTAL), compressing: semaphore(processors) }
    }
}

/// A file that is being received: its last chunk, and the submission that the others belong to.
pub(super) struct ChunkWriter<'a> {
    target: &'a ChunkStore,
    new: NewJob,
    chunk: Vec<u8>,
    /// Bytes of all chunks before `chunk`.
    submitted_bytes: u64,
    /// A permit for each chunk of this file that is being compressed or written.
    pending: Arc<Semaphore>,
    submission: Option<Submission>,
}

impl<'a> ChunkWriter<'a> {
    pub(super) fn new(target: &'a ChunkStore, new: NewJob) -> ChunkWriter<'a> {
        let pending = Arc::new(Semaphore::new(MAX_PENDING_CHUNKS));
        ChunkWriter { target, new, chunk: Vec::new(), submitted_bytes: 0, pending, submission: None }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.submitted_bytes + self.chunk.len() as u64
    }

    pub(super) async fn push(&mut self, mut bytes: &[u8]) -> Result<(), IntakeError> {
        while self.chunk.len() + bytes.len() > CHUNK_BYTES {
            let (now, later) = bytes.split_at(CHUNK_BYTES - self.chunk.len());
            self.chunk.extend_from_slice(now);
            bytes = later;
            self.submit_chunk().await?;
        }
        self.chunk.extend_from_slice(bytes);
        Ok(())
    }

    /// Passes the last chunk on to be compressed and written.
    async fn submit_chunk(&mut self) -> Result<(), IntakeError> {
        let ChunkStore { store, clock, pending, compressing } = self.target;
        let submission = match &mut self.submission {
            Some(submission) => submission,
            none => {
                let id = store.begin_submission(self.new.clone(), clock.now()).await?;
                none.insert(Submission { store: store.clone(), id, inserter: None, stored_bytes: 0 })
            }
        };
        let permits = [acquire(&self.pending).await?, acquire(pending).await?];
        let compressing = acquire(compressing).await?;
        let ready = submission.begin_chunk().await?;
        let chunk = std::mem::replace(&mut self.chunk, Vec::with_capacity(CHUNK_BYTES));
        let from = self.submitted_bytes;
        self.submitted_bytes += chunk.len() as u64;
        // It takes about half a millisecond, too long for a thread that serves requests.
        tokio::task::spawn_blocking(move || {
            let compressed = CompressedChunk::compress(from, &chunk);
            let bytes = chunk.len() as u64;
            drop((chunk, compressing));
            ready.send(ReadyChunk { bytes, compressed, permits });
        });
        Ok(())
    }

    /// Waits until all chunks before the last one are on the disk.
    async fn wait_for_chunks(&mut self) -> Result<(), IntakeError> {
        let Some(submission) = &mut self.submission else { return Ok(()) };
        submission.wait_for_chunks().await?;
        if submission.stored_bytes != self.submitted_bytes {
            let (stored, of) = (submission.stored_bytes, self.submitted_bytes);
            return Err(IntakeError::Wrong(format!("{stored} of {of} bytes were stored")));
        }
        Ok(())
    }

    /// Scans everything received so far again with other rules: the chunks on the disk, then the last one in memory.
    pub(super) async fn scan_again(&mut self, rules: ScanRules) -> Result<LenientScanner, IntakeError> {
        self.wait_for_chunks().await?;
        let mut scan = LenientScanner::new(rules);
        if let Some(submission) = &self.submission {
            let mut content = self.target.store.content(StoredFile::submitted(submission.id), 0..self.submitted_bytes);
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
            self.submit_chunk().await?;
        }
        self.wait_for_chunks().await?;
        // From here on the guard's deletion finds no open submission: a job that was committed is not deleted.
        Ok(store.commit_submission(id, new, layout, clock.now()).await?)
    }
}

async fn acquire(semaphore: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, IntakeError> {
    semaphore.clone().acquire_owned().await.map_err(|error| IntakeError::Wrong(error.to_string()))
}

/// A submission in the store. Where it did not become a job, its chunks are deleted when it is dropped, however the
/// request ended.
struct Submission {
    store: Store,
    id: JobId,
    /// While there are chunks to write.
    inserter: Option<ChunkInserter>,
    /// Bytes written by the inserters that have ended.
    stored_bytes: u64,
}

impl Submission {
    /// Begins a chunk, and returns where it is sent once it is compressed.
    ///
    /// # Errors
    /// The error of a chunk that could not be written.
    async fn begin_chunk(&mut self) -> Result<ChunkSender, IntakeError> {
        if let Some(inserter) = &self.inserter {
            if let Some(sender) = inserter.begin_chunk() {
                return Ok(sender);
            }
            self.wait_for_chunks().await?;
        }
        let inserter = self.inserter.insert(ChunkInserter::start(self.store.clone(), self.id));
        inserter.begin_chunk().ok_or_else(|| IntakeError::Wrong("the file's chunks are not written".to_owned()))
    }

    async fn wait_for_chunks(&mut self) -> Result<(), IntakeError> {
        // It stays here while it is waited for: where the request ends now, it is aborted.
        let Some(inserter) = &mut self.inserter else { return Ok(()) };
        let stored = inserter.finish().await;
        self.inserter = None;
        self.stored_bytes += stored?;
        Ok(())
    }
}

impl Drop for Submission {
    fn drop(&mut self) {
        let (store, id, inserter) = (self.store.clone(), self.id, self.inserter.take());
        // A daemon that is stopping deletes them at its next start.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                // No chunk may be written behind the deletion.
                if let Some(inserter) = inserter {
                    inserter.abort().await;
                }
                if let Err(error) = store.abort_submission(id).await {
                    tracing::warn!(job = %id, %error, "chunks of an incomplete upload not deleted; the next start deletes them");
                }
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::test_util::leads;

    async fn chunk_store() -> (ChunkStore, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("q.db")).await.unwrap();
        (ChunkStore::new(store, Clock::System), folder)
    }

    fn layout(bytes: u64) -> JobLayout {
        JobLayout { bytes, header: (0, 1), rows: 1, parts: vec![], sha256: None, packing: None, warnings: vec![] }
    }

    #[tokio::test]
    async fn a_chunk_that_is_not_stored_ends_the_upload() {
        let (target, _folder) = chunk_store().await;
        let mut writer = ChunkWriter::new(&target, leads());
        writer.push(&[b'x'; CHUNK_BYTES + 1]).await.unwrap();
        let id = writer.submission.as_ref().unwrap().id;
        writer.wait_for_chunks().await.unwrap();
        // Chunks of a submission that is gone are refused.
        target.store.abort_submission(id).await.unwrap();
        // No more may wait for an inserter that has ended than for one that works.
        let mut pushed = Ok(());
        for _ in 0..=MAX_PENDING_CHUNKS + 1 {
            if pushed.is_ok() {
                pushed = writer.push(&[b'x'; CHUNK_BYTES]).await;
            }
        }
        assert!(matches!(pushed, Err(IntakeError::Store(_))), "{pushed:?}");
        drop(writer);
        let all = u32::try_from(MAX_PENDING_CHUNKS_TOTAL).unwrap();
        target.pending.acquire_many(all).await.unwrap().forget();
    }

    #[tokio::test]
    async fn a_missing_chunk_prevents_the_job() {
        let (target, _folder) = chunk_store().await;
        let mut writer = ChunkWriter::new(&target, leads());
        writer.push(&[b'x'; 3 * CHUNK_BYTES]).await.unwrap();
        // As if the thread that compressed a chunk had panicked.
        writer.submitted_bytes += CHUNK_BYTES as u64;
        let bytes = writer.bytes();
        let error = writer.finish(leads(), layout(bytes)).await.unwrap_err();
        assert_eq!(error.to_string(), "786432 of 1048576 bytes were stored");
        assert_eq!(target.store.jobs(None, 10, None).await.unwrap(), []);
    }
}
