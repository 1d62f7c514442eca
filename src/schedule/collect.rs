//! Which rows failed, and which have a warning? Fetches Marketo's two files about an ended import into the store, byte
//! for byte as they came.

use super::call::{Admitted, Matter};
use super::desk::Desk;
use super::outcome::{Unanswered, fetch_failed, is_refusal, is_worth_asking_again, may_have_report};
use crate::job::{BatchKey, BatchState, Event, Format};
use crate::marketo::{Ask, AskFault, File, Report, ReportKind};
use crate::store::{AskedInVain, Batch, CHUNK_BYTES, Job, Kind, Packed, StoreError};
use crate::table::RowLimit;

pub(super) async fn collect(desk: &Desk, key: BatchKey) -> Result<(), StoreError> {
    let (job, batch) = desk.store.batch(key).await?;
    if batch.state != BatchState::Collecting {
        return Ok(());
    }
    let (mut sizes, mut cuts) = ([None, None], Vec::new());
    let reports = [
        (ReportKind::Failures, Kind::Failures, batch.counts.failed),
        (ReportKind::Warnings, Kind::Warnings, batch.counts.warned),
    ];
    for (size, (report, kind, count)) in sizes.iter_mut().zip(reports) {
        if !may_have_report(report, batch.counts, batch.rows.total) {
            continue;
        }
        match fetch(desk, key, &job, &batch, report, kind, count).await? {
            Fetched::File(stored) => {
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
            Fetched::None => {}
            Fetched::Later => return Ok(()),
        }
    }
    let [failures, warnings] = sizes;
    desk.store.note_reports(key, failures, warnings, cuts, desk.clock.now()).await?;
    desk.store.record(key, Event::Collected, None, desk.clock.now()).await?;
    tracing::info!(instance = %desk.name, job = %key.job, part = key.part, failures_bytes = failures,
        warnings_bytes = warnings, "the batch is complete");
    Ok(())
}

enum Fetched {
    File(Stored),
    None,
    /// It could not be had; the row says when to ask again.
    Later,
}

/// A file that is in the store.
struct Stored {
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
    desk: &Desk,
    key: BatchKey,
    job: &Job,
    batch: &Batch,
    report: ReportKind,
    kind: Kind,
    count: Option<u64>,
) -> Result<Fetched, StoreError> {
    let Some(id) = &batch.marketo_batch_id else { return Ok(Fetched::None) };
    let max_bytes = max_report_bytes(job, batch);
    // A disk that is full for days must not cost a call a second.
    desk.store.has_room_for_report().await?;
    let mut renewed = false;
    loop {
        let (token, pass) = match desk.admit().await? {
            Admitted::Go(token, pass) => (token, pass),
            Admitted::NotNow => return Ok(Fetched::Later),
            Admitted::Unreachable(reason) => {
                return later(desk, key, batch, kind, Some(Ask::ServiceDown), reason, None).await;
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
        let Some(fetched) = desk.unless_stopped(pass, fetching).await else { return Ok(Fetched::Later) };
        match fetched? {
            Ok(Some(stored)) => return Ok(Fetched::File(stored)),
            Ok(None) => return none(desk, key, batch, kind, count).await,
            Err(fault) => match desk.heed(fault.ask, &fault.reason, &mut renewed).await? {
                Matter::Again => {}
                Matter::Instance => return Ok(Fetched::Later),
                Matter::Batch => {
                    let AskFault { ask, reason, request_id } = fault;
                    return later(desk, key, batch, kind, Some(ask), reason, request_id).await;
                }
            },
        }
    }
}

/// Stores a file piece by piece, as far as the limit lets it. None if it had no bytes.
async fn store(
    desk: &Desk,
    key: BatchKey,
    kind: Kind,
    mut file: File,
    max_bytes: u64,
    format: Format,
) -> Result<Result<Option<Stored>, AskFault>, StoreError> {
    // What an earlier attempt left that broke off.
    desk.store.drop_report(key, kind).await?;
    let mut limit = RowLimit::new(format, max_bytes);
    let mut pieces = Pieces { desk, key, kind, from: 0, piece: Vec::with_capacity(CHUNK_BYTES) };
    loop {
        let bytes = match file.next().await {
            Ok(Some(bytes)) => bytes,
            Ok(None) => {
                pieces.flush().await?;
                return Ok(Ok((pieces.from > 0).then_some(Stored { bytes: pieces.from, cut_at: None })));
            }
            Err(reason) => return Ok(Err(AskFault { ask: Ask::OutcomeUnknown, reason, request_id: None })),
        };
        match limit.push(&bytes) {
            None => pieces.push(&bytes).await?,
            // To drop the file closes its connection. Of a row that began in a piece before, that piece keeps some bytes,
            // which are not read.
            Some(kept) => {
                pieces.push_up_to(kept, &bytes).await?;
                pieces.flush().await?;
                if kept == 0 {
                    desk.store.drop_report(key, kind).await?;
                }
                return Ok(Ok(Some(Stored { bytes: kept, cut_at: Some(max_bytes) })));
            }
        }
    }
}

/// The pieces of a file on their way into the store.
struct Pieces<'a> {
    desk: &'a Desk,
    key: BatchKey,
    kind: Kind,
    /// Where in the file the piece begins that is not stored yet.
    from: u64,
    piece: Vec<u8>,
}

impl Pieces<'_> {
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
        let packed = Packed::new(self.from, &self.piece).map_err(|error| StoreError::Refused(error.to_string()))?;
        self.from += self.piece.len() as u64;
        self.piece.clear();
        self.desk.store.put_report_piece(self.key, self.kind, packed).await
    }
}

/// Marketo has no such file. Where it counted rows for one, the file may only be late.
async fn none(
    desk: &Desk,
    key: BatchKey,
    batch: &Batch,
    kind: Kind,
    count: Option<u64>,
) -> Result<Fetched, StoreError> {
    let Some(count) = count.filter(|&count| count > 0) else { return Ok(Fetched::None) };
    let reason = format!("Marketo counts {count} rows for the {} file and has no such file", kind.as_str());
    later(desk, key, batch, kind, None, reason, None).await
}

async fn later(
    desk: &Desk,
    key: BatchKey,
    batch: &Batch,
    kind: Kind,
    ask: Option<Ask>,
    reason: String,
    request_id: Option<String>,
) -> Result<Fetched, StoreError> {
    let now = desk.clock.now();
    let counted = if kind == Kind::Failures { batch.counts.failed } else { batch.counts.warned };
    if !is_worth_asking_again(counted, batch.ask_failures) {
        tracing::debug!(instance = %desk.name, job = %key.job, part = key.part, file = kind.as_str(), %reason, request_id,
            "Marketo counted no row for the file and does not give one");
        return Ok(Fetched::None);
    }
    match fetch_failed(ask, &reason, desk.believed(batch.accepted_at, now), batch.ask_failures, &desk.config(), now) {
        Unanswered::GiveUp(reason) => {
            tracing::warn!(instance = %desk.name, job = %key.job, part = key.part, file = kind.as_str(), %reason,
                request_id, "Marketo does not give the file; the batch ends without it");
            let reason = format!("complete without the {} file. {reason}", kind.as_str());
            desk.store.ask_failed(key, reason, is_refusal(ask), now, request_id, now).await?;
            Ok(Fetched::None)
        }
        Unanswered::AskAgain(not_before) => {
            let (refused, said, answer) = (is_refusal(ask), reason.clone(), request_id.clone());
            let AskedInVain { is_news, .. } =
                desk.store.ask_failed(key, reason, refused, not_before, request_id, now).await?;
            if is_news {
                tracing::warn!(instance = %desk.name, job = %key.job, part = key.part, file = kind.as_str(),
                    reason = said, request_id = answer, %not_before, "a file of the ended import could not be fetched");
            }
            Ok(Fetched::Later)
        }
    }
}
