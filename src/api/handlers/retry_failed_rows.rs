//! Retry of failed rows: makes a new job of the rows that failed, as they were sent.

use axum::Json;
use axum::http::StatusCode;
use bytes::Bytes;
use futures_util::{Stream, stream};

use crate::api::auth::identity::Identity;
use crate::api::dto::{Problem, ReportPlace, RetriedJob};
use crate::api::handlers::derived_job::derived_job;
use crate::api::handlers::joined_report::{ReportPart, report_parts};
use crate::api::handlers::report_rows::ReportRows;
use crate::api::job_view::job_view;
use crate::api::state::AppState;
use crate::delimited::RowSelector;
use crate::domain::ReportKind;
use crate::intake::Checks;
use crate::scheduler::matched_rows;
use crate::store::{ContentReader, ErasableData, Inserted, Job, NewJob, Store, StoredFile};

/// The most rows without a line that a response names.
const MAX_NAMED_ROWS: usize = 10;

/// Makes a new job of an ended job's failed rows. Those whose line can't be told are left out, counted and named.
///
/// `key` is the idempotency key: the answer to a request may get lost, and its repetition must not import the rows twice.
pub(super) async fn retry_failed_rows(
    daemon: &AppState,
    caller: &Identity,
    job: Job,
    key: Option<String>,
) -> Result<(StatusCode, Json<RetriedJob>), Problem> {
    refuse_unknown_failures(&job)?;
    job.still_has(ErasableData::Content)?;
    let parts = report_parts(&job, ReportKind::Failures, None)?;
    let failed = FailedRows::count(&daemon.store, &job, parts.clone()).await?;
    if failed.with_line == 0 {
        return Err(no_row_found(&job, &failed));
    }
    // The rows were checked when they were first accepted, or not at all: they share no import with those of other
    // jobs.
    let new =
        NewJob { pack: Some(false), idempotency_key: key, ..derived_job(&job, caller, "failed-rows", job.format) };
    let rows = SentRows::new(&daemon.store, job, parts).stream();
    let (status, job) = match daemon.intake.receive(new, Checks::None, rows).await? {
        Inserted::Created(job) => (StatusCode::CREATED, job),
        Inserted::Existing(job) => (StatusCode::OK, job),
    };
    let FailedRows { without_line, named, .. } = failed;
    let job = job_view(daemon, job).await;
    Ok((status, Json(RetriedJob { job, rows_without_line: without_line, without_line: named })))
}

/// Refuses a job of which it is unknown which rows failed.
fn refuse_unknown_failures(job: &Job) -> Result<(), Problem> {
    let refused = |detail: String| Err(Problem::plain(StatusCode::CONFLICT, detail));
    if !job.state.is_terminal() {
        return refused(format!("job {} is {}: its failed rows are known when it has ended", job.id, job.state));
    }
    if let Some(batch) = job.batches.iter().find(|batch| batch.id_given_twice) {
        return refused(format!(
            "it is unknown to which job the failed rows of part {} of job {} belong: Marketo returned the same batchId \
             for another upload",
            batch.part, job.id
        ));
    }
    if !job.has_failed_rows() {
        return refused(match job.rows.discrepancy() {
            None => format!("job {} has no failed rows", job.id),
            Some(discrepancy) => format!("it is unknown which rows of job {} failed. {discrepancy}", job.id),
        });
    }
    Ok(())
}

fn no_row_found(job: &Job, failed: &FailedRows) -> Problem {
    let detail = match failed.without_line {
        0 => format!("the failure file of job {} has no rows", job.id),
        rows => format!(
            "none of the {rows} rows of job {}'s failure file can be told from the other rows that were sent: correct \
             the file and send it with ?rows=corrected",
            job.id
        ),
    };
    Problem::of_kind(StatusCode::CONFLICT, "rows-not-recoverable", "The failed rows can't be sent again", detail)
}

/// The rows of a job's failure files.
#[derive(Default)]
struct FailedRows {
    with_line: u64,
    without_line: u64,
    /// The first of those without a line.
    named: Vec<ReportPlace>,
}

impl FailedRows {
    async fn count(store: &Store, job: &Job, parts: Vec<ReportPart>) -> Result<FailedRows, Problem> {
        let mut failed = FailedRows::default();
        let mut rows = ReportRows::new(store, job.clone(), parts);
        while rows
            .next(|row, origin| {
                if origin.sent.is_some() {
                    failed.with_line += 1;
                    return;
                }
                failed.without_line += 1;
                if failed.named.len() < MAX_NAMED_ROWS {
                    failed.named.push(ReportPlace { part: origin.part, report_line: row.line() });
                }
            })
            .await?
        {}
        Ok(failed)
    }
}

/// The header and the failed rows as they were sent.
struct SentRows {
    store: Store,
    job: Job,
    /// Batches that are still to be read, the next one last.
    parts: Vec<ReportPart>,
    current: SentSection,
}

/// The range of the submitted file that is read now.
struct SentSection {
    content: ContentReader,
    /// None for the header, which is passed on as it is.
    selector: Option<RowSelector>,
}

impl SentRows {
    fn new(store: &Store, job: Job, mut parts: Vec<ReportPart>) -> SentRows {
        parts.reverse();
        let content = store.content(StoredFile::submitted(job.id), job.header.0..job.header.1);
        SentRows { store: store.clone(), job, parts, current: SentSection { content, selector: None } }
    }

    fn stream(self) -> impl Stream<Item = Result<Bytes, String>> {
        stream::try_unfold(self, async |mut rows| {
            let piece = rows.next().await.map_err(|problem| problem.detail)?;
            Ok(piece.map(|piece| (Bytes::from(piece), rows)))
        })
    }

    async fn next(&mut self) -> Result<Option<Vec<u8>>, Problem> {
        loop {
            let SentSection { content, selector } = &mut self.current;
            let piece = match selector {
                // The rest of the batch has no failed rows.
                Some(selector) if !selector.is_waiting() => None,
                _ => content.next().await?,
            };
            let Some(piece) = piece else {
                let Some(ReportPart { kind, part, .. }) = self.parts.pop() else { return Ok(None) };
                self.open(kind, part).await?;
                continue;
            };
            let mut out = Vec::new();
            match selector {
                None => out = piece,
                Some(selector) => selector.push(&piece, &mut out),
            }
            if !out.is_empty() {
                return Ok(Some(out));
            }
        }
    }

    async fn open(&mut self, kind: ReportKind, part: u32) -> Result<(), Problem> {
        let Some(batch) = self.job.batches.iter().find(|batch| batch.part == part) else { return Ok(()) };
        let matched = matched_rows(&self.store, &self.job, batch, kind).await?;
        let rows = matched.map(|matched| matched.found.sent_rows()).unwrap_or_default();
        let content = self.store.content(StoredFile::submitted(self.job.id), batch.byte_from..batch.byte_to);
        self.current = SentSection { content, selector: Some(RowSelector::new(self.job.format, rows)) };
        Ok(())
    }
}
