//! `POST /v1/jobs/{id}/retry`: uploads the failed batches again, or makes a new job of the failed rows.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use bytes::Bytes;
use futures_util::{Stream, stream};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::api::auth::identity::Identity;
use crate::api::dto::Problem;
use crate::api::handlers::reports::JoinedReport;
use crate::api::problem::{PathSegment, Query, job_id};
use crate::api::state::{AppState, SharedState};
use crate::delimited;
use crate::delimited::FailedRowExtractor;
use crate::domain::Format;
use crate::store::{FileKind, Inserted, Job, NewJob};
use crate::untrusted_text::file_name;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RetryQuery {
    /// `failed`: a new job of only the failed rows.
    #[schemars(extend("enum" = ["failed"]))]
    rows: Option<String>,
}

/// Handles `POST /v1/jobs/{id}/retry`.
pub(crate) async fn retry(
    State(daemon): State<SharedState>,
    caller: Identity,
    PathSegment(id): PathSegment,
    Query(RetryQuery { rows }): Query<RetryQuery>,
) -> Result<(StatusCode, Json<Job>), Problem> {
    let id = job_id(&id)?;
    match rows.as_deref() {
        None | Some("") => {
            daemon.store.retry(id, daemon.clock.now()).await?;
            tracing::info!(job = %id, "job retried by a client");
            Ok((StatusCode::OK, Json(daemon.store.job(id).await?)))
        }
        Some("failed") => retry_failed_rows(&daemon, &caller, daemon.store.job(id).await?).await,
        Some(other) => Err(Problem::bad_request(format!("rows must be \"failed\" or missing, not \"{other}\""))),
    }
}

/// Makes a new job of an ended job's failed rows.
async fn retry_failed_rows(daemon: &AppState, caller: &Identity, job: Job) -> Result<(StatusCode, Json<Job>), Problem> {
    let refused = |detail: String| Err(Problem::plain(StatusCode::CONFLICT, detail));
    if !job.state.is_terminal() {
        return refused(format!("job {} is {}: its failed rows are known when it has ended", job.id, job.state));
    }
    if let Some(batch) = job.batches.iter().find(|batch| batch.id_given_twice) {
        return refused(format!(
            "it is unknown to which job the failed rows of part {} of job {} belong: Marketo returned the same batchId for \
             another upload",
            batch.part, job.id
        ));
    }
    if !job.has_failed_rows() {
        return refused(match job.rows.discrepancy() {
            None => format!("job {} has no failed rows", job.id),
            Some(discrepancy) => format!("it is unknown which rows of job {} failed. {discrepancy}", job.id),
        });
    }
    let columns = sent_columns(daemon, &job).await?;
    // The files are read twice. The first pass finds out whether the rows can be extracted and which delimiter they have,
    // before a job is created.
    let format = format_of_rows(daemon, &job, columns.clone()).await?;
    let new = NewJob {
        instance: job.instance.clone(),
        target: job.target.clone(),
        filename: failed_rows_filename(&job.filename, format),
        format,
        priority: job.priority,
        group: job.group.clone(),
        idempotency_key: None,
        retry_of: Some(job.id),
        source: caller.source(),
    };
    let rows = rows(daemon, &job, columns).await?;
    // The rows were checked when they were first accepted.
    match daemon.intake.receive(new, false, rows).await? {
        Inserted::Created(job) | Inserted::Existing(job) => Ok((StatusCode::CREATED, Json(job))),
    }
}

/// Returns the columns that were uploaded, from the job's header.
async fn sent_columns(daemon: &AppState, job: &Job) -> Result<Vec<String>, Problem> {
    let mut content = daemon.store.content(job.id, FileKind::File, 0, job.header.0, job.header.1);
    let mut header = Vec::new();
    while let Some(piece) = content.next().await? {
        header.extend(piece);
    }
    Ok(delimited::columns(&header, job.format))
}

/// Returns the format of the failed rows.
async fn format_of_rows(daemon: &AppState, job: &Job, columns: Vec<String>) -> Result<Format, Problem> {
    let mut joined = JoinedReport::open(&daemon.store, job, FileKind::Failures, None).await?;
    let (mut extractor, mut out) = (FailedRowExtractor::new(columns), Vec::new());
    while let Some(piece) = joined.next().await? {
        extractor.push(&piece, &mut out)?;
        out.clear();
    }
    Ok(extractor.finish(&mut out)?.format)
}

/// Streams the failed rows, with the header and without Marketo's column of reasons.
async fn rows(
    daemon: &AppState,
    job: &Job,
    columns: Vec<String>,
) -> Result<impl Stream<Item = Result<Bytes, String>> + use<>, Problem> {
    let joined = JoinedReport::open(&daemon.store, job, FileKind::Failures, None).await?;
    let state = Some((joined, FailedRowExtractor::new(columns)));
    Ok(stream::try_unfold(state, async |state| {
        let Some((mut joined, mut extractor)) = state else { return Ok(None) };
        let mut out = Vec::new();
        while let Some(piece) = joined.next().await.map_err(|problem| problem.detail)? {
            extractor.push(&piece, &mut out).map_err(|error| error.to_string())?;
            if !out.is_empty() {
                return Ok(Some((Bytes::from(out), Some((joined, extractor)))));
            }
        }
        extractor.finish(&mut out).map_err(|error| error.to_string())?;
        Ok(Some((Bytes::from(out), None)))
    }))
}

/// Makes `leads-failed-rows.csv` of `leads.csv`, shortened to the longest allowed name.
fn failed_rows_filename(filename: &str, format: Format) -> String {
    let stem = match Format::from_filename(filename) {
        Some(_) => filename.rsplit_once('.').map_or(filename, |(stem, _)| stem),
        None => filename,
    };
    file_name(stem, &format!("-failed-rows.{format}"))
}
