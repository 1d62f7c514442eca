//! `POST /v1/jobs/{id}/retry`: uploads the failed batches again, or makes a new job of the failed rows, as they were or
//! corrected.

use std::sync::{Arc, OnceLock};

use axum::Json;
use axum::body::{Body, BodyDataStream, HttpBody};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::api::auth::identity::Identity;
use crate::api::dto::{Problem, RetriedJob};
use crate::api::handlers::create::{idempotency_key, reject_content_encoding, submission_channel};
use crate::api::handlers::derived_job::derived_job;
use crate::api::handlers::retry_failed_rows::retry_failed_rows;
use crate::api::job_view::job_view;
use crate::api::problem::{PathSegment, Query, job_id};
use crate::api::state::{AppState, SharedState};
use crate::delimited;
use crate::delimited::{CorrectedFormat, FailedRowError, FailedRowExtractor};
use crate::domain::{Format, SubmissionChannel};
use crate::intake::{Checks, IntakeError};
use crate::store::{ErasableData, Inserted, Job, NewJob, StoredFile};

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RetryQuery {
    /// `failed`: a new job of only the failed rows, as they were sent. `corrected`: a new job of the body, a failure
    /// file that was corrected; a first column `Line` and a last column of Marketo's reasons are removed unless the
    /// job's own header has them.
    #[schemars(extend("enum" = ["failed", "corrected"]))]
    rows: Option<String>,
    /// The format of the body. Default: the one with which the header has most of the job's columns, the job's first.
    format: Option<Format>,
    /// Whether to check the body for what Marketo would refuse; default true.
    check: Option<bool>,
}

/// Handles `POST /v1/jobs/{id}/retry`.
pub(crate) async fn retry(
    State(daemon): State<SharedState>,
    caller: Identity,
    PathSegment(id): PathSegment,
    Query(query): Query<RetryQuery>,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<RetriedJob>), Problem> {
    let id = job_id(&id)?;
    let is_corrected = query.rows.as_deref() == Some("corrected");
    if !is_corrected && (query.format.is_some() || query.check.is_some()) {
        return Err(Problem::bad_request("format and check are allowed with rows=corrected only"));
    }
    if !is_corrected && body.size_hint().exact() != Some(0) {
        return Err(Problem::bad_request("a body is allowed with rows=corrected only"));
    }
    match query.rows.as_deref() {
        None | Some("") => {
            daemon.store.retry(id, daemon.clock.now()).await?;
            tracing::info!(job = %id, "job retried by a client");
            let job = job_view(&daemon, daemon.store.job(id).await?).await;
            Ok((StatusCode::OK, Json(job.into())))
        }
        Some("failed") => {
            let key = idempotency_key(&headers)?;
            retry_failed_rows(&daemon, &caller, daemon.store.job(id).await?, key).await
        }
        Some("corrected") => {
            reject_content_encoding(&headers)?;
            let key = idempotency_key(&headers)?;
            retry_corrected_rows(
                &daemon,
                &caller,
                daemon.store.job(id).await?,
                CorrectedFile { query, key, channel: submission_channel(&headers), body },
            )
            .await
        }
        Some(other) => {
            Err(Problem::bad_request(format!("rows must be \"failed\", \"corrected\" or missing, not \"{other}\"")))
        }
    }
}

/// A failure file that was corrected, as it was sent.
struct CorrectedFile {
    query: RetryQuery,
    /// The idempotency key.
    key: Option<String>,
    /// The interface whose options errors name.
    channel: SubmissionChannel,
    body: Body,
}

/// Makes a new job, with the target and options of an ended one, of its failure file that was corrected.
async fn retry_corrected_rows(
    daemon: &AppState,
    caller: &Identity,
    job: Job,
    file: CorrectedFile,
) -> Result<(StatusCode, Json<RetriedJob>), Problem> {
    if !job.state.is_terminal() {
        let detail = format!("job {} is {}: its failed rows are known when it has ended", job.id, job.state);
        return Err(Problem::plain(StatusCode::CONFLICT, detail));
    }
    job.still_has(ErasableData::Content)?;
    if let Some(announced) = file.body.size_hint().exact() {
        daemon.intake.check_announced_size(announced)?;
    }
    let sent = sent_columns(daemon, &job).await?;
    let format = match file.query.format {
        Some(format) => CorrectedFormat::Given(format),
        None => CorrectedFormat::Detected { default: job.format },
    };
    let mut extractor = FailedRowExtractor::of_corrected_file(sent, format);
    let mut body = file.body.into_data_stream();
    // The header is read first, since it decides on the format of the new job.
    let mut begins = Vec::new();
    while extractor.format().is_none() {
        let Some(bytes) = body.next().await else { break };
        let bytes = bytes.map_err(|error| IntakeError::CutOff(error.to_string()))?;
        extractor.push(&bytes, &mut begins).map_err(invalid_rows)?;
    }
    let format = extractor.format().or(file.query.format).unwrap_or(job.format);
    let checks = if file.query.check.unwrap_or(true) { Checks::All } else { Checks::None };
    let mut new = NewJob { idempotency_key: file.key, ..derived_job(&job, caller, "corrected", format) };
    if checks == Checks::None {
        new.pack = Some(false);
    }
    let fault = Arc::new(OnceLock::new());
    let rows = CorrectedRows { extractor, body, fault: fault.clone() };
    let begins = stream::iter([Ok::<_, String>(Bytes::from(begins))]);
    let received = daemon.intake.receive(new, checks, begins.chain(rows.stream())).await;
    match received {
        Ok(Inserted::Created(job)) => Ok((StatusCode::CREATED, Json(job_view(daemon, job).await.into()))),
        Ok(Inserted::Existing(job)) => Ok((StatusCode::OK, Json(job_view(daemon, job).await.into()))),
        Err(error) => Err(fault.get().cloned().map_or_else(|| Problem::of_intake(error, file.channel), invalid_rows)),
    }
}

/// Makes the problem of a corrected file whose added columns can't be removed.
fn invalid_rows(error: FailedRowError) -> Problem {
    let detail = error.to_string();
    Problem::of_kind(StatusCode::UNPROCESSABLE_ENTITY, "invalid-rows", "The file can't be imported", detail)
}

/// The rest of a corrected file, behind its header.
struct CorrectedRows {
    extractor: FailedRowExtractor,
    body: BodyDataStream,
    /// Gets the error that ended the stream: the receiver of a stream sees only that it was cut off.
    fault: Arc<OnceLock<FailedRowError>>,
}

impl CorrectedRows {
    fn stream(self) -> impl Stream<Item = Result<Bytes, String>> {
        stream::try_unfold(Some(self), async |rows| {
            let Some(mut rows) = rows else { return Ok(None) };
            let mut out = Vec::new();
            while out.is_empty() {
                let Some(bytes) = rows.body.next().await else {
                    let fault = rows.fault;
                    rows.extractor.finish(&mut out).map_err(|error| record(&fault, error))?;
                    return Ok(Some((Bytes::from(out), None)));
                };
                let bytes = bytes.map_err(|error| error.to_string())?;
                rows.extractor.push(&bytes, &mut out).map_err(|error| record(&rows.fault, error))?;
            }
            Ok(Some((Bytes::from(out), Some(rows))))
        })
    }
}

fn record(fault: &OnceLock<FailedRowError>, error: FailedRowError) -> String {
    let text = error.to_string();
    // It is set once: the stream ends with it.
    let _ = fault.set(error);
    text
}

/// Returns the columns that were uploaded, from the job's header.
async fn sent_columns(daemon: &AppState, job: &Job) -> Result<Vec<String>, Problem> {
    let mut content = daemon.store.content(StoredFile::submitted(job.id), job.header.0..job.header.1);
    let mut header = Vec::new();
    while let Some(piece) = content.next().await? {
        header.extend(piece);
    }
    Ok(delimited::columns(&header, job.format))
}
