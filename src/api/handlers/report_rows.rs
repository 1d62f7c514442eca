//! Report rows: the rows of a job's reports with their lines in the submitted file, and as NDJSON.

use bytes::Bytes;
use futures_util::{Stream, stream};

use crate::api::dto::{Problem, ReportRowDto, ReportRowValues};
use crate::api::handlers::joined_report::ReportPart;
use crate::delimited::{ReportReader, ReportRow, SentRow};
use crate::domain::BatchKey;
use crate::scheduler::{BatchMatch, matched_rows};
use crate::store::{ContentReader, Job, Store, StoredFile};

/// Reads the rows of reports, one report after the other, a chunk at a time.
pub(super) struct ReportRows {
    store: Store,
    job: Job,
    /// Reports that are still to be read, the next one last.
    parts: Vec<ReportPart>,
    current: Option<PartRows>,
}

/// The report that is read now.
struct PartRows {
    part: u32,
    content: ContentReader,
    reader: ReportReader,
    matched: Option<BatchMatch>,
    /// The number of the next row.
    row: usize,
}

/// Where a row of a report comes from.
#[derive(Clone, Copy, Debug)]
pub(super) struct RowOrigin {
    /// Its batch.
    pub part: u32,
    /// Its line in the submitted file; none where it is unknown.
    pub line: Option<u64>,
    /// The row of the batch that it is; none where it is unknown.
    pub sent: Option<SentRow>,
}

impl ReportRows {
    pub fn new(store: &Store, job: Job, mut parts: Vec<ReportPart>) -> ReportRows {
        parts.reverse();
        ReportRows { store: store.clone(), job, parts, current: None }
    }

    /// Reads the next bytes and passes each row that ends in them to `each`. Returns false at the end.
    ///
    /// # Errors
    /// 410 where the reports are erased meanwhile; 503 and 500 of the database.
    pub async fn next(&mut self, mut each: impl FnMut(&ReportRow<'_>, RowOrigin) + Send) -> Result<bool, Problem> {
        let Some(current) = &mut self.current else {
            let Some(next) = self.parts.pop() else { return Ok(false) };
            self.current = Some(self.open(next).await?);
            return Ok(true);
        };
        let piece = current.content.next().await?;
        let PartRows { part, matched, row, .. } = current;
        let (part, matched) = (*part, &*matched);
        let mut numbered = |report_row: ReportRow<'_>| {
            let sent = matched.as_ref().and_then(|matched| matched.found.rows.get(*row).copied().flatten());
            let line = matched.as_ref().and_then(|matched| matched.line(*row));
            *row += 1;
            each(&report_row, RowOrigin { part, line, sent });
        };
        match piece {
            Some(piece) => current.reader.push(&piece, &mut numbered),
            None => {
                // The reader is replaced by one of an empty report, which has no rows.
                let reader = std::mem::replace(&mut current.reader, ReportReader::new(self.job.format));
                reader.finish(&mut numbered);
                self.current = None;
            }
        }
        Ok(true)
    }

    async fn open(&self, ReportPart { kind, part, bytes }: ReportPart) -> Result<PartRows, Problem> {
        let batch = self.job.batches.iter().find(|batch| batch.part == part);
        let matched = match batch {
            Some(batch) => matched_rows(&self.store, &self.job, batch, kind).await?,
            None => None,
        };
        let file = StoredFile::report(BatchKey { job: self.job.id, part }, kind);
        let content = self.store.content(file, 0..bytes);
        Ok(PartRows { part, content, reader: ReportReader::new(self.job.format), matched, row: 0 })
    }
}

/// Whether reasons are in the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReasonColumn {
    Shown,
    LeftOut,
}

/// The rows of reports as NDJSON.
pub(super) struct JsonRows {
    rows: ReportRows,
    reasons: ReasonColumn,
}

impl JsonRows {
    pub fn new(rows: ReportRows, reasons: ReasonColumn) -> JsonRows {
        JsonRows { rows, reasons }
    }

    /// Streams one JSON object and a line end for each row.
    pub fn stream(self) -> impl Stream<Item = Result<Bytes, String>> {
        stream::try_unfold(self, async |mut json| {
            let mut out = Vec::new();
            let reasons = json.reasons;
            loop {
                let is_more = json.rows.next(|row, origin| write_line(row, origin, reasons, &mut out)).await;
                let is_more = is_more.map_err(|problem| problem.detail)?;
                if !out.is_empty() {
                    return Ok(Some((Bytes::from(out), json)));
                }
                if !is_more {
                    return Ok(None);
                }
            }
        })
    }
}

fn write_line(row: &ReportRow<'_>, origin: RowOrigin, reasons: ReasonColumn, out: &mut Vec<u8>) {
    let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
    let RowOrigin { part, line, .. } = origin;
    let is_well_formed = row.is_well_formed();
    let values = row.values().map(text);
    let object = ReportRowDto {
        line,
        part,
        reason: (reasons == ReasonColumn::Shown).then(|| row.reason().map(text)),
        row: is_well_formed.then(|| ReportRowValues::new(row.columns(), row.values().map(text))),
        fields: (!is_well_formed).then(|| values.collect()),
    };
    // Writing to a vector does not fail.
    let _ = serde_json::to_writer(&mut *out, &object);
    out.push(b'\n');
}
