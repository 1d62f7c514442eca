//! `POST /v1/jobs/{id}/retry`: the batches that failed once more, or a new job of the rows that failed.

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
use crate::api::{AppState, SharedState};
use crate::delimited;
use crate::delimited::FailedRowExtractor;
use crate::domain::Format;
use crate::store::{FileKind, Inserted, Job, NewJob};
use crate::untrusted_text::file_name;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RetryQuery {
    /// `failed`: a new job of only the rows that failed.
    #[schemars(extend("enum" = ["failed"]))]
    rows: Option<String>,
}

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
            tracing::info!(job = %id, "sent again by a client");
            Ok((StatusCode::OK, Json(daemon.store.job(id).await?)))
        }
        Some("failed") => failed_rows(&daemon, &caller, daemon.store.job(id).await?).await,
        Some(other) => Err(Problem::bad_request(format!("rows must be \"failed\" where it is given, not \"{other}\""))),
    }
}

async fn failed_rows(daemon: &AppState, caller: &Identity, job: Job) -> Result<(StatusCode, Json<Job>), Problem> {
    let refused = |detail: String| Err(Problem::plain(StatusCode::CONFLICT, detail));
    if !job.state.is_terminal() {
        return refused(format!("job {} is {}: its failed rows are known when it has ended", job.id, job.state));
    }
    if let Some(batch) = job.batches.iter().find(|batch| batch.id_given_twice) {
        return refused(format!(
            "whose the failed rows of part {} of job {} are is unknown: Marketo gave its batchId for another upload too",
            batch.part, job.id
        ));
    }
    if !job.has_failed_rows() {
        return refused(match job.rows.discrepancy() {
            None => format!("no row of job {} has failed", job.id),
            Some(doubt) => format!("which rows of job {} failed is unknown. {doubt}", job.id),
        });
    }
    let columns = sent_columns(daemon, &job).await?;
    // Read twice: the first time shows whether the rows can be had at all and how they are separated, before anything
    // of a new job is there.
    let format = format_of_rows(daemon, &job, columns.clone()).await?;
    let new = NewJob {
        instance: job.instance.clone(),
        target: job.target.clone(),
        filename: renamed(&job.filename, format),
        format,
        priority: job.priority,
        group: job.group.clone(),
        idempotency_key: None,
        retry_of: Some(job.id),
        source: caller.source(),
    };
    let rows = rows(daemon, &job, columns).await?;
    // The checks at the door were made when these rows first came in.
    match daemon.intake.receive(new, false, rows).await? {
        Inserted::Created(job) | Inserted::Existing(job) => Ok((StatusCode::CREATED, Json(job))),
    }
}

/// The columns that were sent, by the job's own header.
async fn sent_columns(daemon: &AppState, job: &Job) -> Result<Vec<String>, Problem> {
    let mut content = daemon.store.content(job.id, FileKind::File, 0, job.header.0, job.header.1);
    let mut header = Vec::new();
    while let Some(piece) = content.next().await? {
        header.extend(piece);
    }
    Ok(delimited::columns(&header, job.format))
}

async fn format_of_rows(daemon: &AppState, job: &Job, columns: Vec<String>) -> Result<Format, Problem> {
    let mut joined = JoinedReport::open(&daemon.store, job, FileKind::Failures, None).await?;
    let (mut strip, mut out) = (FailedRowExtractor::new(columns), Vec::new());
    while let Some(piece) = joined.next().await? {
        strip.push(&piece, &mut out)?;
        out.clear();
    }
    Ok(strip.finish(&mut out)?.format)
}

async fn rows(
    daemon: &AppState,
    job: &Job,
    columns: Vec<String>,
) -> Result<impl Stream<Item = Result<Bytes, String>> + use<>, Problem> {
    let joined = JoinedReport::open(&daemon.store, job, FileKind::Failures, None).await?;
    let state = Some((joined, FailedRowExtractor::new(columns)));
    Ok(stream::try_unfold(state, async |state| {
        let Some((mut joined, mut strip)) = state else { return Ok(None) };
        let mut out = Vec::new();
        while let Some(piece) = joined.next().await.map_err(|problem| problem.detail)? {
            strip.push(&piece, &mut out).map_err(|fault| fault.to_string())?;
            if !out.is_empty() {
                return Ok(Some((Bytes::from(out), Some((joined, strip)))));
            }
        }
        strip.finish(&mut out).map_err(|fault| fault.to_string())?;
        Ok(Some((Bytes::from(out), None)))
    }))
}

/// `leads.csv` becomes `leads-failed-rows.csv`, shortened to what a name may have.
fn renamed(filename: &str, format: Format) -> String {
    let stem = match Format::from_filename(filename) {
        Some(_) => filename.rsplit_once('.').map_or(filename, |(stem, _)| stem),
        None => filename,
    };
    file_name(stem, &format!("-failed-rows.{format}"))
}
