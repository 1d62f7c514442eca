//! Split: halves a batch that is too large to upload, at the record end nearest to its middle.

use crate::delimited;
use crate::delimited::Bisector;
use crate::domain::{BatchKey, ErrorCode, Event, FailureReason};
use crate::scheduler::worker_context::WorkerContext;
use crate::store::{Batch, BatchSplit, Job, PartRange, StoreError, StoredFile};

/// Which limit an upload exceeds.
#[derive(Clone, Copy)]
pub(super) enum TooLarge {
    /// Marketo's own: HTTP 413 or error 413.
    ForMarketo,
    /// `limits.upload_bytes`, this many bytes: it was lowered since the file was split. Nothing was sent.
    ForUs(u64),
}

impl TooLarge {
    fn code(self) -> Option<ErrorCode> {
        matches!(self, TooLarge::ForMarketo).then_some(ErrorCode::Http(413))
    }

    pub(super) fn reason(self, bytes: u64) -> String {
        match self {
            TooLarge::ForMarketo => format!("Marketo found {bytes} bytes too large (413)"),
            TooLarge::ForUs(limit) => format!("{bytes} bytes are too large for limits.upload_bytes, which is {limit}"),
        }
    }
}

/// A batch that is too large to upload.
pub(super) struct OversizedBatch<'a> {
    pub(super) job: &'a Job,
    pub(super) batch: &'a Batch,
    pub(super) limit: TooLarge,
    /// The id of the refused request at Marketo.
    pub(super) request_id: Option<String>,
}

/// Splits a batch that is being uploaded into two. A batch of one row cannot be split, and fails.
///
/// # Errors
/// A database error.
pub(super) async fn split_upload(
    context: &WorkerContext,
    key: BatchKey,
    oversized: OversizedBatch<'_>,
) -> Result<(), StoreError> {
    let OversizedBatch { job, batch, limit, request_id } = oversized;
    let header = job.header.1 - job.header.0;
    // The number of the first row is used in messages about the file only; none are produced here. The lines of the
    // halves are counted from the batch's first.
    let whole = delimited::FilePart {
        from: batch.byte_from,
        to: batch.byte_to,
        rows: batch.rows.total,
        first_row: 1,
        first_line: 1,
    };
    let mut bisector = Bisector::new(job.format, whole);
    let mut content = context.store.content(StoredFile::submitted(job.id), batch.byte_from..batch.byte_to);
    while let Some(chunk) = content.next().await? {
        bisector.push(&chunk);
    }
    let bytes = header + batch.byte_to - batch.byte_from;
    let now = context.clock.now();
    match bisector.finish() {
        Ok(halves) => {
            let reason = format!("{}: split in two", limit.reason(bytes));
            tracing::warn!(instance = %context.name, job = %key.job, part = key.part, bytes, request_id, %reason,
                "batch is too large; it was split in two");
            let halves = halves.map(|half| PartRange {
                from: half.from,
                to: half.to,
                rows: half.rows,
                first_line: batch.first_line.map(|first| first + half.first_line - 1),
            });
            let split = BatchSplit { halves, reason, request_id };
            context.record_with_retry(key, "split", || context.store.split_batch(key, split.clone(), now)).await
        }
        Err(_) => {
            let text = format!("{}; they are one row, which cannot be split", limit.reason(bytes));
            let reason = FailureReason { code: limit.code(), text };
            tracing::warn!(instance = %context.name, job = %key.job, part = key.part, %reason, request_id,
                "batch rejected: it is too large");
            context.record_event(key, Event::Rejected { reason }, request_id).await.map(drop)
        }
    }
}
