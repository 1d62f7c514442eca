//! Row matching of stored files: finds the rows of a batch's reports in the submitted file.
//!
//! A match is made when the reports are fetched and is stored with them, because the submitted file is erased earlier.
//! Where there is none, of a batch that an earlier version fetched, it is made when it is asked for.

use memchr::memchr_iter;

use crate::delimited;
use crate::delimited::{ReportMatcher, RowMatch};
use crate::domain::{BatchKey, ReportKind};
use crate::scheduler::upload_content::stored_header;
use crate::store::{Batch, ContentReader, Job, PackedRowMatch, Store, StoreError, StoredFile};

/// The match of one report's rows, with lines of the submitted file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchMatch {
    /// The line on which the batch's first row begins, counted from 1.
    pub first_line: u64,
    /// The match with the rows of the batch.
    pub found: RowMatch,
}

impl BatchMatch {
    /// Returns the line of the submitted file on which a row of the report begins; none where it is unknown. `row`
    /// is the row's number in the report, counted from 0.
    pub fn line(&self, row: usize) -> Option<u64> {
        let sent = self.found.rows.get(row).copied().flatten()?;
        Some(self.first_line + u64::from(sent.line))
    }
}

/// The reports of a batch whose rows are matched: their sizes in bytes, none where there is no such file.
#[derive(Clone, Copy, Debug)]
pub(super) struct ReportBytes {
    pub failures: Option<u64>,
    pub warnings: Option<u64>,
}

/// Returns the match of a batch's report: the stored one, or one that is made now. None where there is no report, or
/// the submitted file is erased.
///
/// # Errors
/// An error of reading the database.
pub async fn matched_rows(
    store: &Store,
    job: &Job,
    batch: &Batch,
    kind: ReportKind,
) -> Result<Option<BatchMatch>, StoreError> {
    if batch.report_bytes(kind).is_none() {
        return Ok(None);
    }
    let key = BatchKey { job: job.id, part: batch.part };
    if let Some(stored) = store.row_match(key, kind).await? {
        let damaged = |error: delimited::DamagedMatchError| StoreError::Damaged(format!("job {}: {error}", job.id));
        let found = RowMatch::decode(&stored.encoded).map_err(damaged)?;
        return Ok(Some(BatchMatch { first_line: stored.first_line, found }));
    }
    if job.content_erased_at.is_some() || job.reports_erased_at.is_some() {
        return Ok(None);
    }
    let bytes = ReportBytes { failures: batch.failures_bytes, warnings: batch.warnings_bytes };
    let upload = Upload { store, job, batch };
    let first_line = first_line(store, job, batch).await?;
    let made = upload.matched(bytes).await?.into_iter().find(|made| made.kind == kind);
    Ok(made.map(|MadeMatch { found, .. }| BatchMatch { first_line, found }))
}

/// Makes the matches of a batch's stored reports.
///
/// # Errors
/// An error of reading the database.
pub(super) async fn pack_matches(
    store: &Store,
    job: &Job,
    batch: &Batch,
    bytes: ReportBytes,
) -> Result<Vec<PackedRowMatch>, StoreError> {
    if bytes.failures.is_none() && bytes.warnings.is_none() {
        return Ok(Vec::new());
    }
    let first_line = first_line(store, job, batch).await?;
    let mut packed = Vec::new();
    for MadeMatch { kind, found } in (Upload { store, job, batch }).matched(bytes).await? {
        let compressed = PackedRowMatch::compress(kind, first_line, &found.encode());
        packed.push(compressed.map_err(|error| StoreError::Refused(error.to_string()))?);
    }
    Ok(packed)
}

/// Returns the line of the submitted file on which a batch's first row begins, counted from 1.
///
/// # Errors
/// An error of reading the database, where the line is not stored.
pub async fn first_line(store: &Store, job: &Job, batch: &Batch) -> Result<u64, StoreError> {
    if let Some(line) = batch.first_line {
        return Ok(line);
    }
    let mut before = store.content(StoredFile::submitted(job.id), 0..batch.byte_from);
    let mut line = 1;
    while let Some(chunk) = before.next().await? {
        line += memchr_iter(b'\n', &chunk).count() as u64;
    }
    Ok(line)
}

/// A batch as it was sent.
struct Upload<'a> {
    store: &'a Store,
    job: &'a Job,
    batch: &'a Batch,
}

/// A match that was made.
struct MadeMatch {
    kind: ReportKind,
    found: RowMatch,
}

impl Upload<'_> {
    /// Makes the matches of the reports that there are. The failures come first: of rows that are equal, those that
    /// failed are not those with a warning.
    async fn matched(&self, bytes: ReportBytes) -> Result<Vec<MadeMatch>, StoreError> {
        let Upload { store, job, .. } = *self;
        let columns = delimited::columns(&stored_header(store, job).await?, job.format);
        let mut made: Vec<MadeMatch> = Vec::new();
        for (kind, bytes) in [(ReportKind::Failures, bytes.failures), (ReportKind::Warnings, bytes.warnings)] {
            let Some(bytes) = bytes else { continue };
            let failed = made.first().map(|failures| failures.found.sent_rows()).unwrap_or_default();
            let matcher = ReportMatcher::new(columns.clone(), job.format);
            made.push(MadeMatch {
                kind,
                found: self.matched_report(matcher, StoredReport { kind, bytes }, failed).await?,
            });
        }
        Ok(made)
    }

    async fn matched_report(
        &self,
        matcher: ReportMatcher,
        report: StoredReport,
        others: Vec<u32>,
    ) -> Result<RowMatch, StoreError> {
        let Upload { store, job, batch } = *self;
        let key = BatchKey { job: job.id, part: batch.part };
        let rows = store.content(StoredFile::report(key, report.kind), 0..report.bytes);
        let matcher = read_into(rows, matcher, ReportMatcher::push).await?;
        let mut matcher = on_blocking_thread(move || matcher.finish()).await?;
        if matcher.needs_sent_rows() {
            let rows = store.content(StoredFile::submitted(job.id), batch.byte_from..batch.byte_to);
            matcher = read_into(rows, matcher, delimited::SentMatcher::push).await?;
        }
        on_blocking_thread(move || matcher.finish(&others)).await
    }
}

/// A report in the store.
struct StoredReport {
    kind: ReportKind,
    bytes: u64,
}

/// Reads a file into a matcher, a chunk at a time.
async fn read_into<M: Send + 'static>(
    mut content: ContentReader,
    mut matcher: M,
    push: fn(&mut M, &[u8]),
) -> Result<M, StoreError> {
    while let Some(chunk) = content.next().await? {
        matcher = on_blocking_thread(move || {
            push(&mut matcher, &chunk);
            matcher
        })
        .await?;
    }
    Ok(matcher)
}

/// Runs work that takes milliseconds, too long for a thread that serves requests.
pub(super) async fn on_blocking_thread<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, StoreError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| StoreError::Closed)
}
