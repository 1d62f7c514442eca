//! Chunked report: compresses a report and writes it to the store in chunks.

use crate::domain::{BatchKey, ReportKind};
use crate::scheduler::worker_context::WorkerContext;
use crate::store::{CHUNK_BYTES, CompressedChunk, StoreError};

/// Buffers a report and writes it to the store in chunks.
pub(super) struct ChunkedReport<'a> {
    context: &'a WorkerContext,
    key: BatchKey,
    kind: ReportKind,
    /// The offset of the buffer in the report.
    from: u64,
    buffer: Vec<u8>,
}

impl<'a> ChunkedReport<'a> {
    pub(super) fn new(context: &'a WorkerContext, key: BatchKey, kind: ReportKind) -> ChunkedReport<'a> {
        ChunkedReport { context, key, kind, from: 0, buffer: Vec::with_capacity(CHUNK_BYTES) }
    }

    /// Returns the number of bytes that were written; call it after [`ChunkedReport::flush`].
    pub(super) fn bytes(&self) -> u64 {
        self.from
    }

    pub(super) async fn push(&mut self, mut bytes: &[u8]) -> Result<(), StoreError> {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(CHUNK_BYTES - self.buffer.len()));
            self.buffer.extend_from_slice(now);
            bytes = later;
            if self.buffer.len() == CHUNK_BYTES {
                self.flush().await?;
            }
        }
        Ok(())
    }

    /// Keeps of the buffer and of `bytes` what lies before byte `end` of the report.
    pub(super) async fn push_up_to(&mut self, end: u64, bytes: &[u8]) -> Result<(), StoreError> {
        // The difference fits in `usize`, because the buffer and `bytes` are in memory.
        let room = end.saturating_sub(self.from) as usize;
        if room <= self.buffer.len() {
            self.buffer.truncate(room);
            return Ok(());
        }
        let more = room - self.buffer.len();
        self.push(&bytes[..more]).await
    }

    pub(super) async fn flush(&mut self) -> Result<(), StoreError> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let chunk = CompressedChunk::compress(self.from, &self.buffer)
            .map_err(|error| StoreError::Refused(error.to_string()))?;
        self.from += self.buffer.len() as u64;
        self.buffer.clear();
        self.context.store.insert_report_chunk(self.key, self.kind, chunk).await
    }
}
