//! `GET /v1/jobs/{id}/results`: the submitted file with what became of each row.

use std::ops::Range;

use axum::body::Body;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::{Stream, stream};

use crate::api::dto::Problem;
use crate::api::handlers::reports::{attachment, media_type};
use crate::api::handlers::row_results::{RowResult, RowResults};
use crate::api::problem::{PathSegment, job_id};
use crate::api::state::SharedState;
use crate::delimited;
use crate::delimited::{AddedValues, ColumnAppender};
use crate::domain::ReportKind;
use crate::store::{ContentReader, ErasableData, Job, Store, StoredFile};

/// The names of the columns that are added.
const RESULT_COLUMNS: [&str; 2] = ["Marketo Result", "Marketo Reason"];

/// Handles `GET /v1/jobs/{id}/results`.
pub(crate) async fn results(
    State(daemon): State<SharedState>,
    PathSegment(id): PathSegment,
) -> Result<Response, Problem> {
    let job = daemon.store.job(job_id(&id)?).await?;
    job.still_has(ErasableData::Content)?;
    let has_report = |kind| job.batches.iter().any(|batch| batch.report_bytes(kind).is_some());
    if has_report(ReportKind::Failures) || has_report(ReportKind::Warnings) {
        job.still_has(ErasableData::Reports)?;
    }
    let headers = [(CONTENT_TYPE, media_type(job.format).to_owned()), attachment(&format!("results-{}", job.filename))];
    let mut results = ResultFile::open(&daemon.store, job).await?;
    // The first bytes are read before the response begins, so that erased content gives an error and not a truncated
    // file.
    let first = results.next().await?;
    Ok((headers, Body::from_stream(results.stream(first))).into_response())
}

/// The submitted file with the results of its rows, made as it is read.
struct ResultFile {
    store: Store,
    job: Job,
    /// The number of columns of the header.
    columns: usize,
    /// What is still to be read, the next one last.
    sections: Vec<Section>,
    current: Option<OpenSection>,
}

/// A range of the submitted file.
struct Section {
    kind: SectionKind,
    range: Range<u64>,
}

#[derive(Clone, Copy)]
enum SectionKind {
    /// Bytes that are no rows: a byte-order mark, blank lines at the end.
    Plain,
    Header,
    /// The rows of a batch, by its place in the job's list.
    Rows(usize),
}

/// The section that is read now.
struct OpenSection {
    content: ContentReader,
    /// None for bytes that stay as they are.
    appender: Option<ColumnAppender>,
    /// None for the header.
    results: Option<RowResults>,
}

impl ResultFile {
    async fn open(store: &Store, job: Job) -> Result<ResultFile, Problem> {
        let mut header = Vec::new();
        let mut content = store.content(StoredFile::submitted(job.id), job.header.0..job.header.1);
        while let Some(piece) = content.next().await? {
            header.extend(piece);
        }
        let columns = delimited::columns(&header, job.format).len();
        let mut sections = sections(&job);
        sections.reverse();
        Ok(ResultFile { store: store.clone(), job, columns, sections, current: None })
    }

    /// Returns the next bytes; none at the end.
    ///
    /// # Errors
    /// 410 where the files are erased meanwhile; 503 and 500 of the database.
    async fn next(&mut self) -> Result<Option<Vec<u8>>, Problem> {
        loop {
            let Some(section) = &mut self.current else {
                let Some(next) = self.sections.pop() else { return Ok(None) };
                self.current = Some(self.open_section(next).await?);
                continue;
            };
            let piece = section.content.next().await?;
            let mut out = Vec::new();
            let results = &mut section.results;
            let add = |added: &mut AddedValues<'_>| match results {
                None => RESULT_COLUMNS.into_iter().for_each(|name| added.push(name.as_bytes())),
                Some(results) => {
                    let RowResult { outcome, reason } = results.next();
                    added.push(outcome.as_str().as_bytes());
                    added.push(&reason);
                }
            };
            match (piece, &mut section.appender) {
                (Some(piece), None) => out = piece,
                (Some(piece), Some(appender)) => appender.push(&piece, add, &mut out),
                (None, appender) => {
                    if let Some(appender) = appender.take() {
                        appender.finish(add, &mut out);
                    }
                    self.current = None;
                }
            }
            if !out.is_empty() {
                return Ok(Some(out));
            }
        }
    }

    async fn open_section(&self, section: Section) -> Result<OpenSection, Problem> {
        let content = self.store.content(StoredFile::submitted(self.job.id), section.range);
        let appender = || Some(ColumnAppender::new(self.job.format, self.columns));
        Ok(match section.kind {
            SectionKind::Plain => OpenSection { content, appender: None, results: None },
            SectionKind::Header => OpenSection { content, appender: appender(), results: None },
            SectionKind::Rows(batch) => {
                let results = RowResults::of_batch(&self.store, &self.job, &self.job.batches[batch]).await?;
                OpenSection { content, appender: appender(), results: Some(results) }
            }
        })
    }

    fn stream(self, first: Option<Vec<u8>>) -> impl Stream<Item = Result<Bytes, String>> {
        stream::try_unfold((first, self), async |(first, mut results)| {
            let piece = match first {
                Some(first) => Some(first),
                None => results.next().await.map_err(|problem| problem.detail)?,
            };
            Ok(piece.map(|piece| (Bytes::from(piece), (None, results))))
        })
    }
}

/// Returns the sections of a job's file, in order and without gaps.
fn sections(job: &Job) -> Vec<Section> {
    let mut found = Vec::new();
    let mut at = 0;
    let rows =
        job.batches.iter().enumerate().map(|(batch, part)| (SectionKind::Rows(batch), part.byte_from, part.byte_to));
    let header = (SectionKind::Header, job.header.0, job.header.1);
    for (kind, from, to) in std::iter::once(header).chain(rows) {
        if at < from {
            found.push(Section { kind: SectionKind::Plain, range: at..from });
        }
        found.push(Section { kind, range: from..to });
        at = to;
    }
    if at < job.bytes {
        found.push(Section { kind: SectionKind::Plain, range: at..job.bytes });
    }
    found
}
