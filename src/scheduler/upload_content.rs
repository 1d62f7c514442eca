//! Upload content: the bytes of one upload, read from the submitted files as they are sent.

use std::io;
use std::pin::Pin;

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};

use crate::byte_order_mark::without_mark;
use crate::store::{Batch, ContentReader, Job, PackedRows, Store, StoreError, StoredFile};

/// The content of one upload.
pub(super) struct UploadContent {
    /// Its size.
    pub bytes: u64,
    /// Its bytes.
    pub stream: Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>,
}

/// Returns the header and the rows of a batch as they are stored; where other jobs share the import, the header without
/// a byte-order mark, and the rows of each job.
///
/// # Errors
/// An error of reading the header.
pub(super) async fn upload_content(
    store: &Store,
    job: &Job,
    batch: &Batch,
    packed: &[PackedRows],
) -> Result<UploadContent, StoreError> {
    let submitted = StoredFile::submitted(job.id);
    if packed.is_empty() {
        let range = |(from, to)| store.content(submitted, from..to);
        let rows = (batch.byte_from, batch.byte_to);
        return Ok(UploadContent {
            bytes: (job.header.1 - job.header.0) + (rows.1 - rows.0),
            stream: Box::pin(chunks(range(job.header)).chain(chunks(range(rows)))),
        });
    }
    let header = stored_header(store, job).await?;
    let header = Bytes::copy_from_slice(without_mark(&header));
    let rows = PackedContent::new(store, &header, packed);
    let bytes = header.len() as u64 + packed.iter().map(PackedRows::bytes_sent).sum::<u64>();
    let first = stream::once(std::future::ready(Ok(header)));
    Ok(UploadContent { bytes, stream: Box::pin(first.chain(rows.stream())) })
}

/// Returns the header of a submitted file, with its line end.
///
/// # Errors
/// An error of reading the database.
pub(super) async fn stored_header(store: &Store, job: &Job) -> Result<Vec<u8>, StoreError> {
    let mut content = store.content(StoredFile::submitted(job.id), job.header.0..job.header.1);
    let mut header = Vec::new();
    while let Some(chunk) = content.next().await? {
        header.extend(chunk);
    }
    Ok(header)
}

/// The rows of all jobs that share an import.
struct PackedContent {
    store: Store,
    /// The line end of the header.
    line_end: Bytes,
    packed: Vec<PackedRows>,
}

impl PackedContent {
    fn new(store: &Store, header: &Bytes, packed: &[PackedRows]) -> PackedContent {
        PackedContent { store: store.clone(), line_end: line_end(header), packed: packed.to_vec() }
    }

    fn stream(self) -> impl Stream<Item = io::Result<Bytes>> + Send {
        let PackedContent { store, line_end, packed } = self;
        stream::iter(packed).flat_map(move |rows| {
            let (from, to) = rows.bytes;
            let content = store.content(StoredFile::submitted(rows.key.job), from..to);
            chunks(content).chain(stream::iter(added_line_end(&line_end, rows).map(Ok)))
        })
    }
}

/// Returns the line end of a header.
pub(super) fn line_end(header: &Bytes) -> Bytes {
    let content = header.iter().rposition(|&byte| byte != b'\r' && byte != b'\n').map_or(0, |last| last + 1);
    header.slice(content..)
}

/// Returns what is sent behind the rows of a job whose last row has no line end.
pub(super) fn added_line_end(line_end: &Bytes, rows: PackedRows) -> Option<Bytes> {
    let added = usize::from(rows.added_line_end).min(line_end.len());
    (added > 0).then(|| line_end.slice(line_end.len() - added..))
}

fn chunks(content: ContentReader) -> impl Stream<Item = io::Result<Bytes>> + Send {
    stream::try_unfold(content, async |mut content| {
        let chunk = content.next().await.map_err(io::Error::other)?;
        Ok(chunk.map(|chunk| (Bytes::from(chunk), content)))
    })
}
