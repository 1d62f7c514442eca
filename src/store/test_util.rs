//! Fixtures of the store's unit tests: a store in a temporary folder, and small jobs.

use std::time::Duration;

use jiff::Timestamp;

use crate::clock::from_ms;
use crate::domain::packing::{ImportShape, Packing};
use crate::domain::{BatchKey, Counts, Event, Format, JobId, RemoteStatus, Source, Target};
use crate::store::handle::Store;
use crate::store::new_job::{Inserted, JobLayout, NewJob, PartRange};
use crate::store::tables::call_ledger::QuotaDay;
use crate::store::tables::chunks::CompressedChunk;
use crate::store::tables::status_rows::{StatusQuery, StatusRows};

pub(super) struct Fixture {
    pub store: Store,
    _folder: tempfile::TempDir,
}

impl std::ops::Deref for Fixture {
    type Target = Store;

    fn deref(&self) -> &Store {
        &self.store
    }
}

pub(super) async fn store() -> Fixture {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("marqueue.db")).await.unwrap();
    Fixture { store, _folder: folder }
}

pub(crate) fn leads() -> NewJob {
    NewJob {
        instance: "default".into(),
        target: Target::Leads { lookup_field: None, list_id: None, partition: None },
        filename: "leads.csv".into(),
        format: Format::Csv,
        priority: 0,
        group: None,
        not_before: None,
        in_order: false,
        canary: None,
        max_failed_percent: None,
        pack: None,
        idempotency_key: None,
        retry_of: None,
        source: Source::Socket { uid: Some(0) },
    }
}

/// Returns a file of a header and one row for each part, with its layout.
pub(super) fn file(parts: u32) -> (Vec<u8>, JobLayout) {
    let mut bytes = b"email\n".to_vec();
    let header = (0, bytes.len() as u64);
    let mut list = Vec::new();
    for part in 1..=parts {
        let from = bytes.len() as u64;
        bytes.extend_from_slice(format!("{part}@example.com\n").as_bytes());
        list.push(PartRange { from, to: bytes.len() as u64, rows: 1, first_line: Some(u64::from(part) + 1) });
    }
    let rows = u64::from(parts);
    let layout = JobLayout {
        bytes: bytes.len() as u64,
        header,
        rows,
        parts: list,
        sha256: None,
        packing: None,
        warnings: Vec::new(),
    };
    (bytes, layout)
}

/// Adds a job of `parts` parts and returns its id.
pub(super) async fn add(store: &Store, new: NewJob, parts: u32) -> JobId {
    let (bytes, layout) = file(parts);
    add_file(store, new, bytes, layout).await
}

/// Adds a job of one part that may share an import with others of the same shape, and returns its batch.
pub(super) async fn add_packed(store: &Store, new: NewJob, shape: u8) -> BatchKey {
    let (bytes, mut layout) = file(1);
    layout.packing = Some(Packing { shape: ImportShape([shape; 32]), added_line_end: 0 });
    BatchKey { job: add_file(store, new, bytes, layout).await, part: 1 }
}

async fn add_file(store: &Store, new: NewJob, bytes: Vec<u8>, layout: JobLayout) -> JobId {
    match store.add(new, layout, CompressedChunk::compress(0, &bytes).unwrap(), from_ms(1_000)).await.unwrap() {
        Inserted::Created(job) | Inserted::Existing(job) => job.id,
    }
}

/// Returns the event of an upload that Marketo accepted and queued.
pub(super) fn accepted(id: &str) -> Event {
    Event::Accepted { marketo_batch_id: id.into(), status: RemoteStatus::Queued }
}

/// Returns the event of an import that ended with these counts and no warnings count.
pub(super) fn ended(processed: u64, failed: u64) -> Event {
    let counts = Counts { processed: Some(processed), failed: Some(failed), warned: None };
    Event::ImportEnded { counts, message: "done".into() }
}

/// When a status is read, and of which instance. It shares its subscription with instance `eu`.
pub(super) struct StatusAt<'a> {
    pub instance: &'a str,
    pub day: QuotaDay,
    pub now: Timestamp,
}

impl<'a> StatusAt<'a> {
    /// The status of an instance two seconds after 1970 began, by a steady clock.
    pub fn of(instance: &'a str) -> StatusAt<'a> {
        let day = QuotaDay { by_clock: from_ms(0), is_clock_steady: true };
        StatusAt { instance, day, now: from_ms(2_000) }
    }
}

/// Returns the status rows of one instance.
pub(super) async fn status(store: &Store, at: StatusAt<'_>) -> StatusRows {
    let sharing = [at.instance.to_owned(), "eu".to_owned()];
    let query = StatusQuery { instance: at.instance, longest: Duration::from_secs(1), sharing: &sharing, day: at.day };
    store.status_rows(&[query], at.now).await.unwrap().remove(0)
}
