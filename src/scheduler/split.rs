//! Halving of an upload that is too large, for Marketo or for `limits.upload_bytes`: at the record end nearest to its middle.

use crate::delimited;
use crate::delimited::Bisector;
use crate::domain::{BatchKey, Event};
use crate::scheduler::worker_context::WorkerContext;
use crate::store::{Batch, FileKind, Job, PartRange, StoreError};

/// Who finds an upload too large.
#[derive(Clone, Copy)]
pub(super) enum TooLarge {
    /// 413.
    ForMarketo,
    /// `limits.upload_bytes` was lowered since the file was cut. Nothing was sent.
    ForUs(u64),
}

impl TooLarge {
    fn says(self, bytes: u64) -> String {
        match self {
            TooLarge::ForMarketo => format!("Marketo found {bytes} bytes too large (413)"),
            TooLarge::ForUs(limit) => format!("{bytes} bytes are too large for limits.upload_bytes, which is {limit}"),
        }
    }
}

/// Cuts a batch that is being uploaded. A batch of one row can't be cut, and fails.
pub(super) async fn split_upload(
    desk: &WorkerContext,
    key: BatchKey,
    job: &Job,
    batch: &Batch,
    why: TooLarge,
    request_id: Option<String>,
) -> Result<(), StoreError> {
    let header = job.header.1 - job.header.0;
    // The numbers of the first row and line are for messages about the file, and there are none here.
    let whole = delimited::FilePart {
        from: batch.byte_from,
        to: batch.byte_to,
        rows: batch.rows.total,
        first_row: 1,
        first_line: 1,
    };
    let mut halver = Bisector::new(job.format, whole);
    let mut content = desk.store.content(job.id, FileKind::File, 0, batch.byte_from, batch.byte_to);
    while let Some(piece) = content.next().await? {
        halver.push(&piece);
    }
    let bytes = header + batch.byte_to - batch.byte_from;
    let now = desk.clock.now();
    match halver.finish() {
        Ok(halves) => {
            let reason = format!("{}: cut in two", why.says(bytes));
            tracing::warn!(instance = %desk.name, job = %key.job, part = key.part, bytes, request_id, %reason,
                "the batch is too large; it is cut");
            let halves = halves.map(|half| PartRange { from: half.from, to: half.to, rows: half.rows });
            let halve = || desk.store.split_batch(key, halves.clone(), reason.clone(), request_id.clone(), now);
            desk.record_with_retry(key, "split", halve).await
        }
        Err(_) => {
            let reason = format!("{}, and they are one row, which can't be cut", why.says(bytes));
            tracing::warn!(instance = %desk.name, job = %key.job, part = key.part, %reason, request_id, "rejected");
            desk.record_event(key, Event::Rejected { reason }, request_id).await.map(drop)
        }
    }
}
