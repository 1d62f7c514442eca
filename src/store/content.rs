//! Content: reads a range of a stored file.

use std::ops::Range;

use crate::store::error::StoreError;
use crate::store::handle::Store;
use crate::store::tables::chunks::{Chunk, StoredFile};

/// Reads a range of a stored file chunk by chunk. Between two chunks it has no transaction open, so a slow receiver
/// does not keep the WAL from being truncated.
pub struct ContentReader {
    store: Store,
    file: StoredFile,
    /// What is still to be read.
    rest: Range<u64>,
}

impl Store {
    /// Returns a reader of the bytes `range` of a file.
    pub fn content(&self, file: StoredFile, range: Range<u64>) -> ContentReader {
        ContentReader { store: self.clone(), file, rest: range }
    }
}

impl ContentReader {
    /// Returns the next bytes of the range; none at its end.
    ///
    /// # Errors
    /// [`StoreError::Erased`] if the content was erased, [`StoreError::Damaged`], or another error of reading the
    /// database.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, StoreError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let at = self.rest.start;
        let Some(Chunk { from, mut bytes }) = self.store.verified(self.store.chunk_at(self.file, at)).await? else {
            return Err(self.missing_error().await);
        };
        let end = self.rest.end.min(from + bytes.len() as u64);
        if end <= at {
            return Err(self.missing_error().await);
        }
        // Both are at most the chunk's length, which is a usize.
        bytes.truncate((end - from) as usize);
        bytes.drain(..(at - from) as usize);
        self.rest.start = end;
        Ok(Some(bytes))
    }

    /// Returns the reason why stored data is missing.
    async fn missing_error(&self) -> StoreError {
        let job = self.file.job;
        match self.store.job(job).await.and_then(|found| found.still_has(self.file.kind.into())) {
            Err(erased) => erased,
            Ok(()) => StoreError::Refused(format!("the content of job {job} is no longer stored")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::BatchKey;
    use crate::domain::ReportKind;
    use crate::store::tables::chunks::CompressedChunk;
    use crate::store::test_util::{add, leads, store};

    async fn read(mut content: ContentReader) -> Vec<u8> {
        let mut all = Vec::new();
        while let Some(chunk) = content.next().await.unwrap() {
            all.extend(chunk);
        }
        all
    }

    #[tokio::test]
    async fn any_range_of_a_chunked_file_reads_as_written() {
        let store = store().await;
        let key = BatchKey { job: add(&store, leads(), 1).await, part: 1 };
        let bytes: Vec<u8> = (0..1000_u32).map(|n| (n % 251) as u8).collect();
        for (n, chunk) in bytes.chunks(300).enumerate() {
            let chunk = CompressedChunk::compress(n as u64 * 300, chunk).unwrap();
            store.insert_report_chunk(key, ReportKind::Failures, chunk).await.unwrap();
        }
        for (from, to) in [(0, 1000), (0, 1), (299, 301), (300, 600), (599, 1000), (700, 700)] {
            let read = read(store.content(StoredFile::report(key, ReportKind::Failures), from..to)).await;
            assert_eq!(read, bytes[from as usize..to as usize], "{from}..{to}");
        }
    }

    #[tokio::test]
    async fn an_overwritten_byte_is_detected_anywhere() {
        let store = store().await;
        let id = add(&store, leads(), 1).await;
        let whole: Vec<u8> =
            sqlx::query_scalar("SELECT packed FROM chunk").fetch_one(&store.shared.readers).await.unwrap();
        for at in 0..whole.len() {
            let mut packed = whole.clone();
            packed[at] ^= 0x41;
            let write = store.write("overwrite", move |tx| {
                Box::pin(async move {
                    sqlx::query("UPDATE chunk SET packed = ?").bind(packed).execute(&mut *tx.conn).await?;
                    Ok(())
                })
            });
            write.await.unwrap();
            let read = store.content(StoredFile::submitted(id), 0..8).next().await;
            assert!(matches!(read, Err(StoreError::Damaged(_))), "byte {at}: {read:?}");
        }
        assert!(matches!(store.can_write().await, Err(StoreError::Damaged(_))), "no new file beside damaged ones");
    }

    #[tokio::test]
    async fn erased_content_is_an_error_and_not_an_empty_file() {
        let store = store().await;
        let key = BatchKey { job: add(&store, leads(), 1).await, part: 1 };
        store
            .insert_report_chunk(key, ReportKind::Warnings, CompressedChunk::compress(0, b"abc").unwrap())
            .await
            .unwrap();
        store.delete_report(key, ReportKind::Warnings).await.unwrap();
        let error = store.content(StoredFile::report(key, ReportKind::Warnings), 0..3).next().await.unwrap_err();
        assert!(error.to_string().contains("no longer stored"), "{error}");
    }
}
