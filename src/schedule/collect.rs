//! Which rows failed, and which have a warning? Fetches Marketo's two files about an ended import into the store, byte
//! for byte as they came.

use super::call::{Admitted, Matter};
use super::desk::Desk;
use super::outcome::{Unanswered, fetch_failed, is_refusal, may_have_report};
use crate::job::{BatchKey, BatchState, Event};
use crate::marketo::{Ask, AskFault, File, Report, ReportKind};
use crate::store::{Batch, CHUNK_BYTES, Job, Kind, Packed, StoreError};

pub(super) async fn collect(desk: &Desk, key: BatchKey) -> Result<(), StoreError> {
    let (job, batch) = desk.store.batch(key).await?;
    if batch.state != BatchState::Collecting {
        return Ok(());
    }
    let mut sizes = [None, None];
    let reports = [
        (ReportKind::Failures, Kind::Failures, batch.counts.failed),
        (ReportKind::Warnings, Kind::Warnings, batch.counts.warned),
    ];
    for (size, (report, kind, count)) in sizes.iter_mut().zip(reports) {
        if !may_have_report(report, batch.counts, batch.rows.total) {
            continue;
        }
        match fetch(desk, key, &job, &batch, report, kind, count).await? {
            Fetched::File(bytes) => *size = Some(bytes),
            Fetched::None => {}
            Fetched::Later => return Ok(()),
        }
    }
    let [failures, warnings] = sizes;
    desk.store.note_reports(key, failures, warnings).await?;
    desk.store.record(key, Event::Collected, None, desk.clock.now()).await?;
    tracing::info!(instance = %desk.name, job = %key.job, part = key.part, failures_bytes = failures,
        warnings_bytes = warnings, "the batch is complete");
    Ok(())
}

enum Fetched {
    /// Stored; so many bytes.
    File(u64),
    None,
    /// It could not be had; the row says when to ask again.
    Later,
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
                Ok(Report::File(file)) => store(desk, key, kind, file).await,
                Ok(Report::None) => Ok(Ok(None)),
                Err(fault) => Ok(Err(fault)),
            }
        };
        // What it has stored of a file that breaks off is dropped when it is fetched anew.
        let Some(fetched) = desk.unless_stopped(pass, fetching).await else { return Ok(Fetched::Later) };
        match fetched? {
            Ok(Some(bytes)) => return Ok(Fetched::File(bytes)),
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

/// Stores a file piece by piece. None if it had no bytes.
async fn store(
    desk: &Desk,
    key: BatchKey,
    kind: Kind,
    mut file: File,
) -> Result<Result<Option<u64>, AskFault>, StoreError> {
    let store = &desk.store;
    // What an earlier attempt left that broke off.
    store.drop_report(key, kind).await?;
    let (mut from, mut piece) = (0, Vec::with_capacity(CHUNK_BYTES));
    loop {
        let bytes = match file.next().await {
            Ok(bytes) => bytes,
            Err(reason) => return Ok(Err(AskFault { ask: Ask::OutcomeUnknown, reason, request_id: None })),
        };
        let ended = bytes.is_none();
        let mut rest = bytes.as_deref().unwrap_or_default();
        while !rest.is_empty() || (ended && !piece.is_empty()) {
            let (now, later) = rest.split_at(rest.len().min(CHUNK_BYTES - piece.len()));
            piece.extend_from_slice(now);
            rest = later;
            if piece.len() == CHUNK_BYTES || ended {
                let packed = Packed::new(from, &piece).map_err(|error| StoreError::Refused(error.to_string()))?;
                from += piece.len() as u64;
                piece.clear();
                store.put_report_piece(key, kind, packed).await?;
            }
        }
        if ended {
            return Ok(Ok((from > 0).then_some(from)));
        }
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
    match fetch_failed(ask, &reason, batch.accepted_at, batch.ask_failures, &desk.config(), now) {
        Unanswered::GiveUp(reason) => {
            tracing::warn!(instance = %desk.name, job = %key.job, part = key.part, file = kind.as_str(), %reason,
                request_id, "Marketo does not give the file; the batch ends without it");
            let reason = format!("complete without the {} file. {reason}", kind.as_str());
            desk.store.ask_failed(key, reason, is_refusal(ask), now, request_id, now).await?;
            Ok(Fetched::None)
        }
        Unanswered::AskAgain(not_before) => {
            tracing::warn!(instance = %desk.name, job = %key.job, part = key.part, file = kind.as_str(), %reason,
                request_id, %not_before, "a file of the ended import could not be fetched");
            desk.store.ask_failed(key, reason, is_refusal(ask), not_before, request_id, now).await?;
            Ok(Fetched::Later)
        }
    }
}
