//! A job's files: the submitted one, and the failure and warning files of its batches, joined.

use axum::body::Body;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::{Stream, stream};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::api::dto::Problem;
use crate::api::problem::{PathSegment, Query, job_id};
use crate::api::state::SharedState;
use crate::delimited::{FailedRowExtractor, FailedRows, Joiner};
use crate::domain::{BatchKey, Format, ReportKind};
use crate::store::{ContentReader, ErasableData, Job, Store, StoredFile};

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ReportQuery {
    /// Only the file of this batch.
    part: Option<u32>,
    /// Whether the last column has Marketo's reasons; default true.
    reason: Option<bool>,
}

/// Handles `GET /v1/jobs/{id}/failures`.
pub(crate) async fn failures(
    State(daemon): State<SharedState>,
    PathSegment(id): PathSegment,
    Query(query): Query<ReportQuery>,
) -> Result<Response, Problem> {
    report(&daemon.store, &id, ReportKind::Failures, query).await
}

/// Handles `GET /v1/jobs/{id}/warnings`.
pub(crate) async fn warnings(
    State(daemon): State<SharedState>,
    PathSegment(id): PathSegment,
    Query(query): Query<ReportQuery>,
) -> Result<Response, Problem> {
    report(&daemon.store, &id, ReportKind::Warnings, query).await
}

async fn report(store: &Store, id: &str, kind: ReportKind, query: ReportQuery) -> Result<Response, Problem> {
    let job = store.job(job_id(id)?).await?;
    let joined = JoinedReport::open(store, &job, kind, query.part).await?;
    let name = format!("job-{}-{}.csv", job.id, kind.as_str());
    let body = if query.reason == Some(false) {
        // The first pass finds rows whose reason can't be told from their fields, before the response begins.
        extract_rows(JoinedReport::open(store, &job, kind, query.part).await?, FailedRowExtractor::of_report()).await?;
        Body::from_stream(extracted_rows(joined, FailedRowExtractor::of_report()))
    } else {
        Body::from_stream(stream::try_unfold(joined, async |mut joined| {
            let piece = joined.next().await.map_err(|problem| problem.detail)?;
            Ok::<_, String>(piece.map(|piece| (Bytes::from(piece), joined)))
        }))
    };
    Ok(([(CONTENT_TYPE, "text/csv; charset=utf-8".to_owned()), attachment(&name)], body).into_response())
}

/// Reads a report through an extractor and throws the rows away.
///
/// # Errors
/// As of [`JoinedReport::next`]; 409 where the rows can't be extracted.
pub(super) async fn extract_rows(
    mut report: JoinedReport,
    mut extractor: FailedRowExtractor,
) -> Result<FailedRows, Problem> {
    let mut out = Vec::new();
    while let Some(piece) = report.next().await? {
        extractor.push(&piece, &mut out)?;
        out.clear();
    }
    Ok(extractor.finish(&mut out)?)
}

/// Streams the rows of a report through an extractor.
pub(super) fn extracted_rows(
    report: JoinedReport,
    extractor: FailedRowExtractor,
) -> impl Stream<Item = Result<Bytes, String>> {
    stream::try_unfold(Some((report, extractor)), async |state| {
        let Some((mut report, mut extractor)) = state else { return Ok(None) };
        let mut out = Vec::new();
        while let Some(piece) = report.next().await.map_err(|problem| problem.detail)? {
            extractor.push(&piece, &mut out).map_err(|error| error.to_string())?;
            if !out.is_empty() {
                return Ok(Some((Bytes::from(out), Some((report, extractor)))));
            }
        }
        extractor.finish(&mut out).map_err(|error| error.to_string())?;
        Ok(Some((Bytes::from(out), None)))
    })
}

/// Handles `GET /v1/jobs/{id}/file`.
pub(crate) async fn file(State(daemon): State<SharedState>, PathSegment(id): PathSegment) -> Result<Response, Problem> {
    let job = daemon.store.job(job_id(&id)?).await?;
    job.still_has(ErasableData::Content)?;
    let mut content = daemon.store.content(StoredFile::submitted(job.id), 0..job.bytes);
    // The first chunk is read before the response begins, so that erased content gives an error and not a truncated file.
    let first = content.next().await?;
    let body = stream::try_unfold((first, content), async |(first, mut content)| {
        let piece = match first {
            Some(first) => Some(first),
            None => content.next().await?,
        };
        Ok::<_, crate::store::StoreError>(piece.map(|piece| (Bytes::from(piece), (None, content))))
    });
    let kind = match job.format {
        Format::Csv | Format::Ssv => "text/csv; charset=utf-8",
        Format::Tsv => "text/tab-separated-values; charset=utf-8",
    };
    let headers = [(CONTENT_TYPE, kind.to_owned()), (CONTENT_LENGTH, job.bytes.to_string()), attachment(&job.filename)];
    Ok((headers, Body::from_stream(body)).into_response())
}

fn attachment(name: &str) -> (axum::http::HeaderName, String) {
    let plain: String = name
        .chars()
        .map(|letter| if letter.is_ascii_graphic() && letter != '"' && letter != '\\' { letter } else { '_' })
        .collect();
    (CONTENT_DISPOSITION, format!("attachment; filename=\"{plain}\""))
}

/// The failure or warning files of a job's batches, joined: one header, then all rows in the order of the submitted file.
pub(crate) struct JoinedReport {
    /// Files that are still to be read, the next one last.
    parts: Vec<(u32, ContentReader)>,
    joiner: Joiner,
    /// The file that is read now.
    current: Option<ContentReader>,
}

impl JoinedReport {
    /// Opens the files of a job, or of one of its parts.
    ///
    /// # Errors
    /// 404 where there is no such file; 409 where the files' columns differ, so that they can't be joined; 410 where they
    /// are erased.
    pub async fn open(store: &Store, job: &Job, kind: ReportKind, part: Option<u32>) -> Result<JoinedReport, Problem> {
        if let Some(part) = part
            && !job.batches.iter().any(|batch| batch.part == part)
        {
            return Err(Problem::plain(StatusCode::NOT_FOUND, format!("job {} has no part {part}", job.id)));
        }
        let sizes: Vec<(u32, u64)> = job
            .batches
            .iter()
            .filter(|batch| part.is_none_or(|part| batch.part == part))
            .filter_map(|batch| {
                let bytes = match kind {
                    ReportKind::Failures => batch.failures_bytes,
                    ReportKind::Warnings => batch.warnings_bytes,
                };
                bytes.map(|bytes| (batch.part, bytes))
            })
            .collect();
        if sizes.is_empty() {
            let detail = if job.state.is_terminal() {
                format!("job {} has no {} file: {}", job.id, kind.as_str(), explain_missing_report(job, kind, part))
            } else {
                format!("job {} has no {} file yet: it is {}", job.id, kind.as_str(), job.state)
            };
            return Err(Problem::of_kind(StatusCode::NOT_FOUND, "no-report", "There is no such file", detail));
        }
        job.still_has(ErasableData::Reports)?;
        let open = |&(part, bytes): &(u32, u64)| {
            (part, store.content(StoredFile::report(BatchKey { job: job.id, part }, kind), 0..bytes))
        };
        if sizes.len() > 1 {
            compare_headers(sizes.iter().map(open)).await?;
        }
        Ok(JoinedReport { parts: sizes.iter().map(open).rev().collect(), joiner: Joiner::new(), current: None })
    }

    /// Returns the next bytes; none at the end.
    ///
    /// # Errors
    /// 503 and 500 of the database; 409 where a file can't be joined.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, Problem> {
        loop {
            let mut out = Vec::new();
            let Some(content) = &mut self.current else {
                let Some((part, content)) = self.parts.pop() else { return Ok(None) };
                self.joiner.begin(part);
                self.current = Some(content);
                continue;
            };
            match content.next().await? {
                Some(piece) => self.joiner.push(&piece, &mut out)?,
                None => {
                    self.joiner.end(&mut out)?;
                    self.current = None;
                }
            }
            if !out.is_empty() {
                return Ok(Some(out));
            }
        }
    }
}

/// Explains why an ended job has no such file, from Marketo's counts.
fn explain_missing_report(job: &Job, kind: ReportKind, part: Option<u32>) -> String {
    let of_part = part.and_then(|part| job.batches.iter().find(|batch| batch.part == part)).map(|batch| batch.rows);
    let rows = of_part.unwrap_or(job.rows);
    let counted = match kind {
        ReportKind::Failures => rows.failed,
        ReportKind::Warnings => rows.warned,
    };
    match counted {
        Some(0) => "Marketo counted no such rows".to_owned(),
        Some(counted) => format!("Marketo counted {counted} such rows, but its file is missing or empty"),
        None => "Marketo returned neither a count nor a file".to_owned(),
    }
}

/// Compares the files' headers before the response begins, because an error can't be reported after that.
async fn compare_headers(parts: impl Iterator<Item = (u32, ContentReader)>) -> Result<(), Problem> {
    let (mut joiner, mut out) = (Joiner::new(), Vec::new());
    for (part, mut content) in parts {
        joiner.begin(part);
        while !joiner.in_rows() {
            let Some(piece) = content.next().await? else { break };
            joiner.push(&piece, &mut out)?;
            out.clear();
        }
        // Only a file without rows has ended here. Another one may stop within a quoted field.
        if !joiner.in_rows() {
            joiner.end(&mut out)?;
            out.clear();
        }
    }
    Ok(())
}
