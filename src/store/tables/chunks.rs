//! Chunks: stores files in compressed chunks of one size, so that neither memory nor a transaction grows with a file.

use sqlx::Row;

use crate::domain::{BatchKey, JobId};
use crate::store::Store;
use crate::store::engine::writer::StoreTx;
use crate::store::error::StoreError;

/// Size of a chunk in bytes before compression; the last chunk of a file may be smaller. A reader or writer holds one
/// chunk in memory, and one transaction writes one.
pub const CHUNK_BYTES: usize = 256 * 1024;

/// Fast, and higher levels hardly compress lists of customers better.
const ZSTD_LEVEL: i32 = 1;

/// The kinds of files of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FileKind {
    /// The submitted file. Its part is 0.
    File,
    /// Marketo's failure file of one batch.
    Failures,
    /// Marketo's warning file of one batch.
    Warnings,
}

impl FileKind {
    /// Returns the name in the database and the API.
    pub fn as_str(self) -> &'static str {
        match self {
            FileKind::File => "file",
            FileKind::Failures => "failures",
            FileKind::Warnings => "warnings",
        }
    }
}

/// One compressed chunk, ready to be written.
pub struct CompressedChunk {
    pub(crate) from: u64,
    pub(crate) bytes: usize,
    pub(crate) data: Vec<u8>,
}

impl CompressedChunk {
    /// Compresses the chunk of a file that begins at byte `from`.
    ///
    /// # Errors
    /// The error of zstd, which is a lack of memory.
    pub fn compress(from: u64, bytes: &[u8]) -> std::io::Result<CompressedChunk> {
        let mut compressor = zstd::bulk::Compressor::new(ZSTD_LEVEL)?;
        // SQLite does not detect an overwritten page of content, and Marketo must get no other rows than those that were
        // submitted.
        compressor.include_checksum(true)?;
        Ok(CompressedChunk { from, bytes: bytes.len(), data: compressor.compress(bytes)? })
    }
}

async fn insert(
    tx: &mut StoreTx<'_>,
    job: JobId,
    kind: FileKind,
    part: u32,
    chunk: CompressedChunk,
) -> Result<(), StoreError> {
    let bytes = chunk.data.len() as u64;
    match kind {
        FileKind::File => tx.budget.reserve_for_file(bytes)?,
        FileKind::Failures | FileKind::Warnings => tx.budget.reserve_for_report(bytes)?,
    }
    sqlx::query("INSERT INTO chunk (job_id, kind, part, byte_from, bytes, packed) VALUES (?, ?, ?, ?, ?, ?)")
        .bind(job.0)
        .bind(kind.as_str())
        .bind(part)
        .bind(chunk.from.cast_signed())
        .bind(i64::try_from(chunk.bytes).unwrap_or(i64::MAX))
        .bind(chunk.data)
        .execute(&mut *tx.conn)
        .await?;
    Ok(())
}

impl Store {
    /// Stores a chunk of a submission.
    ///
    /// # Errors
    /// [`StoreError::Full`], or another error of writing the database.
    pub async fn insert_chunk(&self, job: JobId, chunk: CompressedChunk) -> Result<(), StoreError> {
        self.write("insert_chunk", move |tx| Box::pin(insert(tx, job, FileKind::File, 0, chunk))).await
    }

    /// Stores a chunk of a batch's failure or warning file that is being downloaded.
    ///
    /// # Errors
    /// [`StoreError::Full`], or another error of writing the database.
    pub async fn insert_report_chunk(
        &self,
        key: BatchKey,
        kind: FileKind,
        chunk: CompressedChunk,
    ) -> Result<(), StoreError> {
        self.write("insert_report_chunk", move |tx| Box::pin(insert(tx, key.job, kind, key.part, chunk))).await
    }

    /// Deletes what was downloaded of a batch's report: an interrupted download begins again.
    ///
    /// # Errors
    /// An error of writing the database.
    pub async fn delete_report(&self, key: BatchKey, kind: FileKind) -> Result<(), StoreError> {
        self.write("delete_report", move |tx| {
            Box::pin(async move {
                sqlx::query("DELETE FROM chunk WHERE job_id = ? AND kind = ? AND part = ?")
                    .bind(key.job.0)
                    .bind(kind.as_str())
                    .bind(key.part)
                    .execute(&mut *tx.conn)
                    .await?;
                Ok(())
            })
        })
        .await
    }

    /// Returns a reader of the bytes `from..to` of a file; `part` is 0 for the submitted file.
    pub fn content(&self, job: JobId, kind: FileKind, part: u32, from: u64, to: u64) -> ContentReader {
        ContentReader { store: self.clone(), job, kind, part, at: from, to }
    }
}

/// Reads a range of a stored file chunk by chunk. Between two chunks it has no transaction open, so a slow receiver does
/// not keep the WAL from being truncated.
pub struct ContentReader {
    store: Store,
    job: JobId,
    kind: FileKind,
    part: u32,
    at: u64,
    to: u64,
}

impl ContentReader {
    /// Returns the next bytes of the range; none at its end.
    ///
    /// # Errors
    /// [`StoreError::Erased`] if the content was erased, [`StoreError::Damaged`], or another error of reading the database.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, StoreError> {
        if self.at >= self.to {
            return Ok(None);
        }
        let (from, mut chunk) = self.store.read(self.read_chunk()).await?;
        let end = self.to.min(from + chunk.len() as u64);
        if end <= self.at {
            return Err(self.missing_error().await);
        }
        // Both are at most the chunk's length, which is a usize.
        chunk.truncate((end - from) as usize);
        chunk.drain(..(self.at - from) as usize);
        self.at = end;
        Ok(Some(chunk))
    }

    /// Returns the chunk with the next byte, and the chunk's position.
    async fn read_chunk(&self) -> Result<(u64, Vec<u8>), StoreError> {
        let row = sqlx::query(
            "SELECT byte_from, bytes, packed FROM chunk
             WHERE job_id = ? AND kind = ? AND part = ? AND byte_from <= ? ORDER BY byte_from DESC LIMIT 1",
        )
        .bind(self.job.0)
        .bind(self.kind.as_str())
        .bind(self.part)
        .bind(self.at.cast_signed())
        .fetch_optional(self.store.readers())
        .await?;
        let Some(row) = row else { return Err(self.missing_error().await) };
        let from = row.try_get::<i64, _>("byte_from")?.cast_unsigned();
        let bytes = usize::try_from(row.try_get::<i64, _>("bytes")?).unwrap_or(0);
        let damaged = |why: String| StoreError::Damaged(format!("the content of job {}: {why}", self.job));
        let chunk = zstd::bulk::decompress(row.try_get::<&[u8], _>("packed")?, bytes)
            .map_err(|error| damaged(error.to_string()))?;
        match chunk.len() == bytes {
            true => Ok((from, chunk)),
            false => Err(damaged("a chunk does not have its recorded size".into())),
        }
    }

    /// Returns the reason why stored data is missing.
    async fn missing_error(&self) -> StoreError {
        match self.store.job(self.job).await.and_then(|job| job.still_has(self.kind.into())) {
            Err(erased) => erased,
            Ok(()) => StoreError::Refused(format!("the content of job {} is no longer stored", self.job)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::test_util::{add, leads, store};

    async fn read(mut content: ContentReader) -> Vec<u8> {
        let mut all = Vec::new();
        while let Some(chunk) = content.next().await.unwrap() {
            all.extend(chunk);
        }
        all
    }

    #[tokio::test]
    async fn any_span_of_a_file_in_pieces_reads_as_it_was_written() {
        let store = store().await;
        let key = BatchKey { job: add(&store, leads(), 1).await, part: 1 };
        let bytes: Vec<u8> = (0..1000_u32).map(|n| (n % 251) as u8).collect();
        for (n, chunk) in bytes.chunks(300).enumerate() {
            let chunk = CompressedChunk::compress(n as u64 * 300, chunk).unwrap();
            store.insert_report_chunk(key, FileKind::Failures, chunk).await.unwrap();
        }
        for (from, to) in [(0, 1000), (0, 1), (299, 301), (300, 600), (599, 1000), (700, 700)] {
            let read = read(store.content(key.job, FileKind::Failures, 1, from, to)).await;
            assert_eq!(read, bytes[from as usize..to as usize], "{from}..{to}");
        }
    }

    #[tokio::test]
    async fn a_byte_that_was_overwritten_is_noticed_wherever_it_stands() {
        let store = store().await;
        let id = add(&store, leads(), 1).await;
        let whole: Vec<u8> = sqlx::query_scalar("SELECT packed FROM chunk").fetch_one(store.readers()).await.unwrap();
        for at in 0..whole.len() {
            let mut packed = whole.clone();
            packed[at] ^= 0x41;
            let write = store.shared.writer.write(move |tx| {
                Box::pin(async move {
                    sqlx::query("UPDATE chunk SET packed = ?").bind(packed).execute(&mut *tx.conn).await?;
                    Ok(())
                })
            });
            write.await.unwrap();
            let read = store.content(id, FileKind::File, 0, 0, 8).next().await;
            assert!(matches!(read, Err(StoreError::Damaged(_))), "byte {at}: {read:?}");
        }
        assert!(matches!(store.can_write().await, Err(StoreError::Damaged(_))), "no new file beside damaged ones");
    }

    #[tokio::test]
    async fn content_that_is_gone_is_an_error_and_not_an_empty_file() {
        let store = store().await;
        let key = BatchKey { job: add(&store, leads(), 1).await, part: 1 };
        store
            .insert_report_chunk(key, FileKind::Warnings, CompressedChunk::compress(0, b"abc").unwrap())
            .await
            .unwrap();
        store.delete_report(key, FileKind::Warnings).await.unwrap();
        let error = store.content(key.job, FileKind::Warnings, 1, 0, 3).next().await.unwrap_err();
        assert!(error.to_string().contains("no longer stored"), "{error}");
    }
}
