//! Joined report: the failure or warning files of a job's batches as one file.

use axum::http::StatusCode;

use crate::api::dto::Problem;
use crate::delimited::{Joiner, LineInserter};
use crate::domain::{BatchKey, ReportKind};
use crate::scheduler::{BatchMatch, matched_rows};
use crate::store::{ContentReader, ErasableData, Job, Store, StoredFile};

/// Which reports are joined, and how.
#[derive(Clone, Copy)]
pub(super) struct ReportView {
    pub kind: ReportKind,
    /// Only the file of this batch.
    pub part: Option<u32>,
    pub lines: Lines,
}

/// Whether a column with lines is added.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Lines {
    None,
    Added,
}

/// The failure or warning files of a job's batches, joined: one header, then all rows in the order of the submitted
/// file.
pub(crate) struct JoinedReport {
    /// Files that are still to be read, the next one last.
    parts: Vec<PartFile>,
    joiner: Joiner,
    /// The file that is read now.
    current: Option<ContentReader>,
    /// Adds the lines to it.
    lines: Option<ReportLines>,
    store: Store,
    job: Job,
    view: ReportView,
}

/// One of the files that are joined.
struct PartFile {
    part: u32,
    content: ContentReader,
}

/// Adds the lines to the file of one batch.
struct ReportLines {
    inserter: LineInserter,
    matched: Option<BatchMatch>,
}

impl ReportLines {
    fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        let matched = &self.matched;
        self.inserter.push(bytes, |row| matched.as_ref()?.line(row), out);
    }

    fn finish(self, out: &mut Vec<u8>) {
        let matched = &self.matched;
        self.inserter.finish(|row| matched.as_ref()?.line(row), out);
    }
}

/// The report of one batch.
#[derive(Clone, Copy, Debug)]
pub(super) struct ReportPart {
    pub kind: ReportKind,
    pub part: u32,
    /// The size of the file.
    pub bytes: u64,
}

/// Returns the files of a job, or of one of its parts.
///
/// # Errors
/// 404 where there is no such file; 410 where they are erased.
pub(super) fn report_parts(job: &Job, kind: ReportKind, part: Option<u32>) -> Result<Vec<ReportPart>, Problem> {
    if let Some(part) = part
        && !job.batches.iter().any(|batch| batch.part == part)
    {
        return Err(Problem::plain(StatusCode::NOT_FOUND, format!("job {} has no part {part}", job.id)));
    }
    let parts: Vec<ReportPart> = job
        .batches
        .iter()
        .filter(|batch| part.is_none_or(|part| batch.part == part))
        .filter_map(|batch| Some(ReportPart { kind, part: batch.part, bytes: batch.report_bytes(kind)? }))
        .collect();
    if parts.is_empty() {
        let detail = if job.state.is_terminal() {
            format!("job {} has no {} file: {}", job.id, kind.as_str(), explain_missing_report(job, kind, part))
        } else {
            format!("job {} has no {} file yet: it is {}", job.id, kind.as_str(), job.state)
        };
        return Err(Problem::of_kind(StatusCode::NOT_FOUND, "no-report", "There is no such file", detail));
    }
    job.still_has(ErasableData::Reports)?;
    Ok(parts)
}

impl JoinedReport {
    /// Opens the files of a job, or of one of its parts.
    ///
    /// # Errors
    /// 404 where there is no such file; 409 where the files' columns differ, so that they can't be joined; 410 where
    /// they are erased.
    pub async fn open(store: &Store, job: &Job, kind: ReportKind, part: Option<u32>) -> Result<JoinedReport, Problem> {
        JoinedReport::open_with(store, job, ReportView { kind, part, lines: Lines::None }).await
    }

    /// Opens the files with or without the lines of their rows.
    ///
    /// # Errors
    /// As of [`JoinedReport::open`].
    pub(super) async fn open_with(store: &Store, job: &Job, view: ReportView) -> Result<JoinedReport, Problem> {
        let found = report_parts(job, view.kind, view.part)?;
        let open = |&ReportPart { kind, part, bytes }: &ReportPart| {
            let content = store.content(StoredFile::report(BatchKey { job: job.id, part }, kind), 0..bytes);
            PartFile { part, content }
        };
        if found.len() > 1 {
            compare_headers(found.iter().map(open)).await?;
        }
        Ok(JoinedReport {
            parts: found.iter().map(open).rev().collect(),
            joiner: Joiner::new(),
            current: None,
            lines: None,
            store: store.clone(),
            job: job.clone(),
            view,
        })
    }

    /// Returns the next bytes; none at the end.
    ///
    /// # Errors
    /// 503 and 500 of the database; 409 where a file can't be joined.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, Problem> {
        loop {
            let mut out = Vec::new();
            let Some(content) = &mut self.current else {
                let Some(PartFile { part, content }) = self.parts.pop() else { return Ok(None) };
                self.joiner.begin(part);
                self.current = Some(content);
                self.lines = self.lines_of(part).await?;
                continue;
            };
            match (content.next().await?, &mut self.lines) {
                (Some(piece), None) => self.joiner.push(&piece, &mut out)?,
                (Some(piece), Some(lines)) => {
                    let mut with_lines = Vec::with_capacity(2 * piece.len());
                    lines.push(&piece, &mut with_lines);
                    self.joiner.push(&with_lines, &mut out)?;
                }
                (None, _) => {
                    if let Some(lines) = self.lines.take() {
                        let mut rest = Vec::new();
                        lines.finish(&mut rest);
                        self.joiner.push(&rest, &mut out)?;
                    }
                    self.joiner.end(&mut out)?;
                    self.current = None;
                }
            }
            if !out.is_empty() {
                return Ok(Some(out));
            }
        }
    }

    /// Returns what adds the lines to the file of a part, where they are asked for.
    async fn lines_of(&self, part: u32) -> Result<Option<ReportLines>, Problem> {
        let batch = self.job.batches.iter().find(|batch| batch.part == part);
        match batch.filter(|_| self.view.lines == Lines::Added) {
            Some(batch) => {
                let matched = matched_rows(&self.store, &self.job, batch, self.view.kind).await?;
                Ok(Some(ReportLines { inserter: LineInserter::new(self.job.format), matched }))
            }
            None => Ok(None),
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
async fn compare_headers(parts: impl Iterator<Item = PartFile>) -> Result<(), Problem> {
    let (mut joiner, mut out) = (Joiner::new(), Vec::new());
    for PartFile { part, mut content } in parts {
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
