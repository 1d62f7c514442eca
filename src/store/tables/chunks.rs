//! Table `chunk`: stores files in compressed chunks of one size, so that neither memory nor a transaction grows with a
//! file.

use std::cell::RefCell;
use std::io;

use sqlx::{QueryBuilder, Row, Sqlite};
use zstd::bulk::Compressor;
use zstd::zstd_safe::{CParameter, compress_bound};

use crate::domain::{BatchKey, JobId, ReportKind};
use crate::store::engine::transaction::{ReadTx, StoreTx};
use crate::store::error::StoreError;
use crate::store::models::ErasableData;

/// Size of a chunk in bytes before compression; the last chunk of a file may be smaller. A reader or writer holds one
/// chunk in memory, and one transaction writes one.
pub const CHUNK_BYTES: usize = 256 * 1024;

/// How many rows one statement inserts. SQLite allows 32,766 parameters, and a row has at most eight.
pub(crate) const ROWS_IN_STATEMENT: usize = 250;

/// Fast, and higher levels hardly compress lists of customers better. The negative levels save a tenth of the time, and
/// the database becomes half as large again.
const ZSTD_LEVEL: i32 = 1;

/// The logarithm of the entries of zstd's table of earlier text. The level has 14, and 64 KiB do not stay in the
/// processor's first cache beside the text.
const ZSTD_HASH_LOG: u32 = 13;

/// The least bytes that zstd replaces by a reference. The level has 6; what lists of customers repeat is longer, so
/// with 7 the chunks become smaller too.
const ZSTD_MIN_MATCH: u32 = 7;

thread_local! {
    /// The state of zstd on this thread: half a megabyte, which takes longer to set up than a small file to compress.
    static COMPRESSOR: RefCell<Option<ChunkCompressor>> = const { RefCell::new(None) };
}

/// The kinds of files of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FileKind {
    /// The submitted file. Its part is 0.
    File,
    /// Marketo's report about one batch.
    Report(ReportKind),
}

impl FileKind {
    /// Returns the name in the database and the API.
    pub fn as_str(self) -> &'static str {
        match self {
            FileKind::File => "file",
            FileKind::Report(kind) => kind.as_str(),
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
    pub fn compress(from: u64, bytes: &[u8]) -> io::Result<CompressedChunk> {
        COMPRESSOR.with_borrow_mut(|compressor| {
            let compressor = match compressor {
                Some(compressor) => compressor,
                None => compressor.insert(ChunkCompressor::new()?),
            };
            Ok(CompressedChunk { from, bytes: bytes.len(), data: compressor.compress(bytes)? })
        })
    }

    /// Returns the bytes that the database stores.
    pub fn data(&self) -> &[u8] {
        &self.data
    }
}

/// Compresses one chunk after the other with the same memory.
struct ChunkCompressor {
    zstd: Compressor<'static>,
    /// As large as the largest result could have been. What waits for the disk is copied from it, in its own size.
    output: Vec<u8>,
}

impl ChunkCompressor {
    fn new() -> io::Result<ChunkCompressor> {
        let mut zstd = Compressor::new(ZSTD_LEVEL)?;
        zstd.set_parameter(CParameter::HashLog(ZSTD_HASH_LOG))?;
        zstd.set_parameter(CParameter::MinMatch(ZSTD_MIN_MATCH))?;
        // SQLite does not detect an overwritten page of content, and Marketo must get no other rows than those that
        // were submitted.
        zstd.include_checksum(true)?;
        Ok(ChunkCompressor { zstd, output: Vec::new() })
    }

    fn compress(&mut self, bytes: &[u8]) -> io::Result<Vec<u8>> {
        self.output.clear();
        self.output.reserve_exact(compress_bound(bytes.len()));
        self.zstd.compress_to_buffer(bytes, &mut self.output)?;
        Ok(self.output.to_vec())
    }
}

/// Names one stored file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredFile {
    /// Its job.
    pub job: JobId,
    /// Its kind.
    pub kind: FileKind,
    /// The batch of a report; 0 for the submitted file.
    pub part: u32,
}

impl StoredFile {
    /// Names the submitted file of a job.
    pub fn submitted(job: JobId) -> StoredFile {
        StoredFile { job, kind: FileKind::File, part: 0 }
    }

    /// Names a report of a batch.
    pub fn report(key: BatchKey, kind: ReportKind) -> StoredFile {
        StoredFile { job: key.job, kind: FileKind::Report(kind), part: key.part }
    }
}

/// A chunk as it was before compression.
pub(crate) struct Chunk {
    /// Its position in the file.
    pub from: u64,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

impl StoreTx<'_> {
    /// Stores a chunk of a file.
    pub(crate) async fn insert_chunk(&mut self, file: StoredFile, chunk: CompressedChunk) -> Result<(), StoreError> {
        let bytes = chunk.data.len() as u64;
        match file.kind {
            FileKind::File => self.budget.reserve_for_file(bytes)?,
            FileKind::Report(_) => self.budget.reserve_for_report(bytes)?,
        }
        sqlx::query("INSERT INTO chunk (job_id, kind, part, byte_from, bytes, packed) VALUES (?, ?, ?, ?, ?, ?)")
            .bind(file.job.0)
            .bind(file.kind.as_str())
            .bind(file.part)
            .bind(chunk.from.cast_signed())
            .bind(i64::try_from(chunk.bytes).unwrap_or(i64::MAX))
            .bind(chunk.data)
            .execute(&mut *self.conn)
            .await?;
        Ok(())
    }

    /// Stores chunks of a submitted file in one statement.
    pub(crate) async fn insert_file_chunks(
        &mut self,
        file: StoredFile,
        chunks: Vec<CompressedChunk>,
    ) -> Result<(), StoreError> {
        if chunks.is_empty() {
            return Ok(());
        }
        self.budget.reserve_for_file(chunks.iter().map(|chunk| chunk.data.len() as u64).sum())?;
        let mut insert: QueryBuilder<Sqlite> =
            QueryBuilder::new("INSERT INTO chunk (job_id, kind, part, byte_from, bytes, packed) ");
        insert.push_values(chunks, |mut row, chunk| {
            row.push_bind(file.job.0).push_bind(file.kind.as_str()).push_bind(file.part);
            row.push_bind(chunk.from.cast_signed()).push_bind(i64::try_from(chunk.bytes).unwrap_or(i64::MAX));
            row.push_bind(chunk.data);
        });
        insert.build().execute(&mut *self.conn).await?;
        Ok(())
    }

    /// Stores chunks of the reports of many batches, many in a statement: each statement delays all other writes.
    pub(crate) async fn insert_report_chunks(
        &mut self,
        chunks: &[(StoredFile, CompressedChunk)],
    ) -> Result<(), StoreError> {
        for chunks in chunks.chunks(ROWS_IN_STATEMENT) {
            self.budget.reserve_for_report(chunks.iter().map(|(_, chunk)| chunk.data.len() as u64).sum())?;
            let mut insert: QueryBuilder<Sqlite> =
                QueryBuilder::new("INSERT INTO chunk (job_id, kind, part, byte_from, bytes, packed) ");
            insert.push_values(chunks, |mut row, (file, chunk)| {
                row.push_bind(file.job.0).push_bind(file.kind.as_str()).push_bind(file.part);
                row.push_bind(chunk.from.cast_signed()).push_bind(i64::try_from(chunk.bytes).unwrap_or(i64::MAX));
                row.push_bind(chunk.data.as_slice());
            });
            // Its text depends on the number of chunks, so it is not kept among the prepared statements.
            insert.build().persistent(false).execute(&mut *self.conn).await?;
        }
        Ok(())
    }

    /// Deletes all chunks of a file.
    pub(crate) async fn delete_file(&mut self, file: StoredFile) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM chunk WHERE job_id = ? AND kind = ? AND part = ?")
            .bind(file.job.0)
            .bind(file.kind.as_str())
            .bind(file.part)
            .execute(&mut *self.conn)
            .await?;
        Ok(())
    }
}

impl ReadTx<'_> {
    /// Returns the last chunk of a file that begins at or before byte `at`; none where there is none.
    pub(crate) async fn chunk_at(&mut self, file: StoredFile, at: u64) -> Result<Option<Chunk>, StoreError> {
        let row = sqlx::query(
            "SELECT byte_from, bytes, packed FROM chunk
             WHERE job_id = ? AND kind = ? AND part = ? AND byte_from <= ? ORDER BY byte_from DESC LIMIT 1",
        )
        .bind(file.job.0)
        .bind(file.kind.as_str())
        .bind(file.part)
        .bind(at.cast_signed())
        .fetch_optional(&mut *self.conn)
        .await?;
        let Some(row) = row else { return Ok(None) };
        let from = row.try_get::<i64, _>("byte_from")?.cast_unsigned();
        let size = usize::try_from(row.try_get::<i64, _>("bytes")?).unwrap_or(0);
        let damaged = |why: String| StoreError::Damaged(format!("the content of job {}: {why}", file.job));
        let bytes = zstd::bulk::decompress(row.try_get::<&[u8], _>("packed")?, size)
            .map_err(|error| damaged(error.to_string()))?;
        match bytes.len() == size {
            true => Ok(Some(Chunk { from, bytes })),
            false => Err(damaged("a chunk does not have its recorded size".into())),
        }
    }
}

impl From<FileKind> for ErasableData {
    fn from(kind: FileKind) -> ErasableData {
        match kind {
            FileKind::File => ErasableData::Content,
            FileKind::Report(_) => ErasableData::Reports,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_does_not_depend_on_the_one_before() {
        let list: Vec<u8> = (0..40_000_u32).flat_map(|n| format!("{n}@example.com,Ann\n").into_bytes()).collect();
        let mut random = 1_u32;
        let noise: Vec<u8> = std::iter::repeat_with(|| {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            random.to_be_bytes()[0]
        })
        .take(CHUNK_BYTES)
        .collect();
        let alone = |bytes: Vec<u8>| std::thread::spawn(move || CompressedChunk::compress(0, &bytes).unwrap().data);
        for bytes in [&list[..CHUNK_BYTES], b"a", &noise, b"", &list[..1_000], &noise[..300], &list[..CHUNK_BYTES]] {
            let chunk = CompressedChunk::compress(7, bytes).unwrap();
            assert_eq!((chunk.from, chunk.bytes), (7, bytes.len()));
            assert_eq!(chunk.data, alone(bytes.to_vec()).join().unwrap());
            assert_eq!(zstd::bulk::decompress(&chunk.data, bytes.len()).unwrap(), bytes);
        }
    }
}
