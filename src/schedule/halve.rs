//! Marketo found an upload too large: where is it cut? Between records, into about halves.

use super::desk::Desk;
use crate::job::{BatchKey, Event};
use crate::store::{Batch, Job, Kind, Part, StoreError};
use crate::table::{self, Recut};

/// Cuts a batch that 413 refused. A batch of one row can't be cut, and fails.
pub(super) async fn halve(
    desk: &Desk,
    key: BatchKey,
    job: &Job,
    batch: &Batch,
    request_id: Option<String>,
) -> Result<(), StoreError> {
    let header = job.header.1 - job.header.0;
    // The numbers of the first row and line are for messages about the file, and there are none here.
    let whole =
        table::Part { from: batch.byte_from, to: batch.byte_to, rows: batch.rows.total, first_row: 1, first_line: 1 };
    let mut recut = Recut::new(job.format, header, whole, Recut::half(header, &whole));
    let mut content = desk.store.content(job.id, Kind::File, 0, batch.byte_from, batch.byte_to);
    while let Some(piece) = content.next().await? {
        recut.push(&piece);
    }
    let bytes = header + batch.byte_to - batch.byte_from;
    let now = desk.clock.now();
    match recut.finish() {
        Ok(parts) => {
            let reason = format!("Marketo found {bytes} bytes too large (413): cut into {}", parts.len());
            tracing::warn!(instance = %desk.name, job = %key.job, part = key.part, bytes, into = parts.len(), request_id,
                "Marketo found the batch too large; it is cut");
            let parts = parts.iter().map(|part| Part { from: part.from, to: part.to, rows: part.rows }).collect();
            desk.store.halve(key, parts, reason, request_id, now).await
        }
        Err(_) => {
            let reason =
                format!("Marketo found {bytes} bytes too large (413), and they are one row, which can't be cut");
            tracing::warn!(instance = %desk.name, job = %key.job, part = key.part, %reason, request_id, "rejected");
            desk.store.record(key, Event::Rejected { reason }, request_id, now).await.map(drop)
        }
    }
}
