//! Which rows failed, and which have a warning? Fetches Marketo's two files about an ended import into the store, byte
//! for byte as they came.

use crate::clock::PATIENCE;
use crate::delimited::RowLimit;
use crate::domain::{BatchKey, BatchState, Event, Format};
use crate::marketo::{ErrorAction, QueryError, Report, ReportFile, ReportKind};
use crate::scheduler::api_call::{Admission, ErrorScope};
use crate::scheduler::outcome::{PollRetry, fetch_failed, is_refusal, is_worth_asking_again, may_have_report};
use crate::scheduler::worker_context::WorkerContext;
use crate::store::{Batch, CHUNK_BYTES, CompressedChunk, FileKind, Job, RecordedQueryFailure, StoreError};

pub(super) async fn fetch_reports(desk: &WorkerContext, key: BatchKey) -> Result<(), StoreError> {
    let (job, batch) = desk.store.batch(key).await?;
    if batch.state != BatchState::Collecting {
        return Ok(());
    }
    let (mut sizes, mut cuts) = ([None, None], Vec::new());
    let reports = [
        (ReportKind::Failures, FileKind::Failures, batch.counts.failed),
        (ReportKind::Warnings, FileKind::Warnings, batch.counts.warned),
    ];
    for (size, (report, kind, count)) in sizes.iter_mut().zip(reports) {
        if !may_have_report(report, batch.counts, batch.rows.total) {
            continue;
        }
        match fetch(desk, key, &job, &batch, report, kind, count).await? {
            FetchedReport::File(stored) => {
                *size = Some(stored.bytes).filter(|&bytes| bytes > 0);
                if let Some(limit) = stored.cut_at {
                    let (file, kept, sent) = (kind.as_str(), stored.bytes, batch.rows.total);
                    tracing::warn!(instance = %desk.name, job = %key.job, part = key.part, file, limit, kept,
                        "Marketo's file is larger than what was sent explains; it is cut");
                    cuts.push(format!(
                        "Marketo's {file} file has more than {limit} bytes, the most that is kept for {sent} rows; \
                         it is cut behind the last whole row, at {kept} bytes"
                    ));
                }
            }
            FetchedReport::None => {}
            FetchedReport::Later => return Ok(()),
        }
    }
    let [failures, warnings] = sizes;
    desk.store.set_report_sizes(key, failures, warnings, cuts, desk.clock.now()).await?;
    desk.store.record_event(key, Event::Collected, None, desk.clock.now()).await?;
    tracing::info!(instance = %desk.name, job = %key.job, part = key.part, failures_bytes = failures,
        warnings_bytes = warnings, "the batch is complete");
    Ok(())
}

enum FetchedReport {
    File(StoredReport),
    None,
    /// It could not be had; the row says when to ask again.
    Later,
}

/// A file that is in the store.
struct StoredReport {
    bytes: u64,
    /// The limit that it passed, so that it was cut.
    cut_at: Option<u64>,
}

/// What a failure or warning file may have beyond the rows that were sent: a reason for each, and its header.
const REASON_BYTES: u64 = 1_000;
const SPARE_BYTES: u64 = 1 << 20;

/// The most bytes of a failure or warning file that are kept. Such a file has rows that were sent and a reason for each,
/// so one that is larger comes from something that is broken, or from someone else than Marketo.
fn max_report_bytes(job: &Job, batch: &Batch) -> u64 {
    let sent = (job.header.1 - job.header.0) + (batch.byte_to - batch.byte_from);
    sent.saturating_add(batch.rows.total.saturating_mul(REASON_BYTES)).saturating_add(SPARE_BYTES)
}

async fn fetch(
    desk: &WorkerContext,
    key: BatchKey,
    job: &Job,
    batch: &Batch,
    report: ReportKind,
    kind: FileKind,
    count: Option<u64>,
) -> Result<FetchedReport, StoreError> {
    let Some(id) = &batch.marketo_batch_id else { return Ok(FetchedReport::None) };
    let max_bytes = max_report_bytes(job, batch);
    // A disk that is full for days must not cost a call a second.
    desk.store.has_room_for_report().await?;
    let mut renewed = false;
    loop {
        let (token, pass) = match desk.admit_call().await? {
            Admission::Admitted(token, pass) => (token, pass),
            Admission::NotNow => return Ok(FetchedReport::Later),
            Admission::Unreachable(reason) => {
                return later(desk, key, batch, kind, Some(ErrorAction::ServiceDown), reason, None).await;
            }
        };
        let client = desk.client();
        let fetching = async {
            match client.report(&token, &job.target, id, report).await {
                Ok(Report::File(file)) => store(desk, key, kind, file, max_bytes, job.format).await,
                Ok(Report::None) => Ok(Ok(None)),
                Err(fault) => Ok(Err(fault)),
            }
        };
        // What it has stored of a file that breaks off is dropped when it is fetched anew.
        let Some(fetched) = desk.run_until_stop(pass, fetching).await else { return Ok(FetchedReport::Later) };
        match fetched? {
            Ok(Some(stored)) => return Ok(FetchedReport::File(stored)),
            Ok(None) => return none(desk, key, batch, kind, count).await,
            Err(fault) => match desk.handle_refusal(fault.ask, &fault.reason, &mut renewed).await? {
                ErrorScope::Retry => {}
                ErrorScope::Instance => return Ok(FetchedReport::Later),
                ErrorScope::Batch => {
                    let QueryError { ask, reason, request_id } = fault;
                    return later(desk, key, batch, kind, Some(ask), reason, request_id).await;
                }
            },
        }
    }
}

/// Stores a file piece by piece, as far as the limit lets it. None if it had no bytes.
async fn store(
    desk: &WorkerContext,
    key: BatchKey,
    kind: FileKind,
    mut file: ReportFile,
    max_bytes: u64,
    format: Format,
) -> Result<Result<Option<StoredReport>, QueryError>, StoreError> {
    // What an earlier attempt left that broke off.
    desk.store.delete_report(key, kind).await?;
    let mut limit = RowLimit::new(format, max_bytes);
    let mut pieces = ChunkedReport { desk, key, kind, from: 0, piece: Vec::with_capacity(CHUNK_BYTES) };
    loop {
        let bytes = match file.next().await {
            Ok(Some(bytes)) => bytes,
            Ok(None) => {
                pieces.flush().await?;
                return Ok(Ok((pieces.from > 0).then_some(StoredReport { bytes: pieces.from, cut_at: None })));
            }
            Err(reason) => return Ok(Err(QueryError { ask: ErrorAction::OutcomeUnknown, reason, request_id: None })),
        };
        match limit.push(&bytes) {
            None => pieces.push(&bytes).await?,
            // To drop the file closes its connection. Of a row that began in a piece before, that piece keeps some bytes,
            // which are not read.
            Some(kept) => {
                pieces.push_up_to(kept, &bytes).await?;
                pieces.flush().await?;
                if kept == 0 {
                    desk.store.delete_report(key, kind).await?;
                }
                return Ok(Ok(Some(StoredReport { bytes: kept, cut_at: Some(max_bytes) })));
            }
        }
    }
}

/// The pieces of a file on their way into the store.
struct ChunkedReport<'a> {
    desk: &'a WorkerContext,
    key: BatchKey,
    kind: FileKind,
    /// Where in the file the piece begins that is not stored yet.
    from: u64,
    piece: Vec<u8>,
}

impl ChunkedReport<'_> {
    async fn push(&mut self, mut bytes: &[u8]) -> Result<(), StoreError> {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(CHUNK_BYTES - self.piece.len()));
            self.piece.extend_from_slice(now);
            bytes = later;
            if self.piece.len() == CHUNK_BYTES {
                self.flush().await?;
            }
        }
        Ok(())
    }

    /// Takes of `bytes`, and of the piece at hand, what lies before byte `end` of the file.
    async fn push_up_to(&mut self, end: u64, bytes: &[u8]) -> Result<(), StoreError> {
        // Both fit, because the piece and the bytes are in memory.
        let room = end.saturating_sub(self.from) as usize;
        if room <= self.piece.len() {
            self.piece.truncate(room);
            return Ok(());
        }
        let more = room - self.piece.len();
        self.push(&bytes[..more]).await
    }

    async fn flush(&mut self) -> Result<(), StoreError> {
        if self.piece.is_empty() {
            return Ok(());
        }
        let packed = CompressedChunk::compress(self.from, &self.piece)
            .map_err(|error| StoreError::Refused(error.to_string()))?;
        self.from += self.piece.len() as u64;
        self.piece.clear();
        self.desk.store.insert_report_chunk(self.key, self.kind, packed).await
    }
}

/// Marketo has no such file. Where it counted rows for one, the file may only be late.
async fn none(
    desk: &WorkerContext,
    key: BatchKey,
    batch: &Batch,
    kind: FileKind,
    count: Option<u64>,
) -> Result<FetchedReport, StoreError> {
    let Some(count) = count.filter(|&count| count > 0) else { return Ok(FetchedReport::None) };
    let reason = format!("Marketo counts {count} rows for the {} file and has no such file", kind.as_str());
    later(desk, key, batch, kind, None, reason, None).await
}

async fn later(
    desk: &WorkerContext,
    key: BatchKey,
    batch: &Batch,
    kind: FileKind,
    ask: Option<ErrorAction>,
    reason: String,
    request_id: Option<String>,
) -> Result<FetchedReport, StoreError> {
    let clock = desk.observe().await?;
    let now = clock.now();
    // By age nothing is given up while the clock is not to be believed.
    let accepted_at = batch.accepted_at.filter(|_| clock.steady_at(PATIENCE).is_none());
    let counted = if kind == FileKind::Failures { batch.counts.failed } else { batch.counts.warned };
    if !is_worth_asking_again(counted, batch.query_failures) {
        tracing::debug!(instance = %desk.name, job = %key.job, part = key.part, file = kind.as_str(), %reason, request_id,
            "Marketo counted no row for the file and does not give one");
        return Ok(FetchedReport::None);
    }
    match fetch_failed(ask, &reason, accepted_at, batch.query_failures, &desk.config(), now) {
        PollRetry::GiveUp(reason) => {
            tracing::warn!(instance = %desk.name, job = %key.job, part = key.part, file = kind.as_str(), %reason,
                request_id, "Marketo does not give the file; the batch ends without it");
            let reason = format!("complete without the {} file. {reason}", kind.as_str());
            desk.store.record_query_failure(key, reason, is_refusal(ask), now, request_id, now).await?;
            Ok(FetchedReport::None)
        }
        PollRetry::AskAgain(not_before) => {
            let (refused, said, answer) = (is_refusal(ask), reason.clone(), request_id.clone());
            let RecordedQueryFailure { is_news, .. } =
                desk.store.record_query_failure(key, reason, refused, not_before, request_id, now).await?;
            if is_news {
                tracing::warn!(instance = %desk.name, job = %key.job, part = key.part, file = kind.as_str(),
                    reason = said, request_id = answer, %not_before, "a file of the ended import could not be fetched");
            }
            Ok(FetchedReport::Later)
        }
    }
}
