//! A job's files: the submitted one, and the failure and warning files of its batches, joined.

use axum::body::Body;
use axum::extract::State;
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::{Stream, stream};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::api::dto::Problem;
use crate::api::handlers::joined_report::{JoinedReport, Lines, ReportView, report_parts};
use crate::api::handlers::report_rows::{JsonRows, ReasonColumn, ReportRows};
use crate::api::problem::{PathSegment, Query, job_id};
use crate::api::state::SharedState;
use crate::delimited::{FailedRowExtractor, FailedRows};
use crate::domain::{Format, ReportKind};
use crate::store::{ErasableData, Store, StoredFile};

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ReportQuery {
    /// Only the file of this batch.
    part: Option<u32>,
    /// Whether the last column has Marketo's reasons; default true.
    reason: Option<bool>,
    /// Whether a first column `Line` has the line of each row in the submitted file, its header being line 1; empty
    /// where it can't be told. Default false.
    lines: Option<bool>,
    /// `csv`: the file as Marketo gave it, the default. `ndjson`: a JSON object for each row.
    format: Option<ReportFormat>,
}

/// The form of a report.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum ReportFormat {
    Csv,
    Ndjson,
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
    if query.format == Some(ReportFormat::Ndjson) {
        let parts = report_parts(&job, kind, query.part)?;
        let reasons = if query.reason == Some(false) { ReasonColumn::LeftOut } else { ReasonColumn::Shown };
        let rows = JsonRows::new(ReportRows::new(store, job.clone(), parts), reasons);
        let name = format!("job-{}-{}.ndjson", job.id, kind.as_str());
        let headers = [(CONTENT_TYPE, "application/x-ndjson".to_owned()), attachment(&name)];
        return Ok((headers, Body::from_stream(rows.stream())).into_response());
    }
    let lines = if query.lines == Some(true) { Lines::Added } else { Lines::None };
    let open = || JoinedReport::open_with(store, &job, ReportView { kind, part: query.part, lines });
    let joined = open().await?;
    let name = format!("job-{}-{}.csv", job.id, kind.as_str());
    let body = if query.reason == Some(false) {
        // The first pass finds rows whose reason can't be told from their fields, before the response begins.
        extract_rows(open().await?, FailedRowExtractor::of_report()).await?;
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
    // The first chunk is read before the response begins, so that erased content gives an error and not a truncated
    // file.
    let first = content.next().await?;
    let body = stream::try_unfold((first, content), async |(first, mut content)| {
        let piece = match first {
            Some(first) => Some(first),
            None => content.next().await?,
        };
        Ok::<_, crate::store::StoreError>(piece.map(|piece| (Bytes::from(piece), (None, content))))
    });
    let headers = [
        (CONTENT_TYPE, media_type(job.format).to_owned()),
        (CONTENT_LENGTH, job.bytes.to_string()),
        attachment(&job.filename),
    ];
    Ok((headers, Body::from_stream(body)).into_response())
}

/// Returns the media type of a file of this format.
pub(super) fn media_type(format: Format) -> &'static str {
    match format {
        Format::Csv | Format::Ssv => "text/csv; charset=utf-8",
        Format::Tsv => "text/tab-separated-values; charset=utf-8",
    }
}

pub(super) fn attachment(name: &str) -> (axum::http::HeaderName, String) {
    let plain: String = name
        .chars()
        .map(|letter| if letter.is_ascii_graphic() && letter != '"' && letter != '\\' { letter } else { '_' })
        .collect();
    (CONTENT_DISPOSITION, format!("attachment; filename=\"{plain}\""))
}
