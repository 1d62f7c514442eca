//! Packing: which batches share an import, and what an event of it makes of each. The statements of
//! `store::tables::shared_imports` and `store::tables::packed_rows`.

use std::cmp::Reverse;
use std::ops::Range;
use std::time::Duration;

use jiff::Timestamp;
use marqueue::domain::batch::BatchProgress;
use marqueue::domain::packing::ImportShape;
use marqueue::domain::shared_import::{EventReach, MAX_PACKED_JOBS};
use marqueue::domain::{BatchKey, BatchState, Counts, Event, IllegalTransitionError, JobState};

use super::{Batch, Job, ModelStore, holds};

/// The columns of the table `batch` that are about its import.
#[derive(Clone, Copy, Debug)]
pub struct Sharing {
    pub import: Option<u32>,
    /// How many other batches the import was made of.
    pub others: u32,
    pub leads: bool,
    /// The rows of the whole import; none where it has those of this batch only.
    pub import_rows: Option<u32>,
}

impl Sharing {
    pub const ALONE: Sharing = Sharing { import: None, others: 0, leads: true, import_rows: None };
}

/// A row of the table `shared_import`, with those of `shared_import_batch`.
#[derive(Clone, Debug)]
pub struct SharedImport {
    pub rows: u32,
    pub batches: u32,
    /// Marketo's counts of all rows.
    pub counts: Counts,
}

/// The rows of one job in an upload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackedRows {
    pub key: BatchKey,
    pub rows: Range<u32>,
}

/// `store::PackLimits`, with rows in place of bytes.
#[derive(Clone, Copy, Debug)]
pub struct PackLimits {
    pub max_jobs: u32,
    pub max_rows: u32,
    pub longest: Duration,
}

/// `store::SharingLimit`, with rows in place of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SharingLimit {
    Alone,
    MaxRows(u32),
}

/// `batch_events::ImportRole`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Lead,
    Member,
}

impl Job {
    /// What `candidates` selects as `pack_shape`.
    pub(super) fn pack_shape(&self, batch: &Batch) -> Option<ImportShape> {
        self.shape.filter(|_| batch.progress.attempts == 0).map(|shape| ImportShape([shape; 32]))
    }
}

impl ModelStore {
    /// The other batches that share an import with this one.
    pub fn others(&self, key: BatchKey) -> Vec<BatchKey> {
        let Some(import) = self.batch(key).sharing.import else { return Vec::new() };
        let sharing = self.batches().filter(|(_, _, batch)| batch.sharing.import == Some(import));
        sharing.map(|(other, ..)| other).filter(|&other| other != key).collect()
    }

    /// A batch and those that share its import.
    pub fn sharing(&self, key: BatchKey) -> Vec<BatchKey> {
        [vec![key], self.others(key)].concat()
    }

    /// `ReadTx::shared_import_lead`.
    pub fn lead(&self, key: BatchKey) -> BatchKey {
        self.sharing(key).into_iter().find(|&key| self.batch(key).sharing.leads).unwrap_or(key)
    }

    /// Marketo's counts of the import of a batch, and how many rows were sent.
    pub fn import_counts(&self, key: BatchKey) -> (Counts, u32) {
        let batch = self.batch(key);
        let shared = batch.sharing.import.and_then(|import| self.shared_imports.get(&import));
        shared.map_or((batch.progress.counts, batch.rows()), |shared| (shared.counts, shared.rows))
    }

    /// `StoreTx::begin_upload`. Returns the rows of the upload, those of this batch first.
    pub fn begin_upload(
        &mut self,
        key: BatchKey,
        limits: PackLimits,
        now: Timestamp,
    ) -> Result<Vec<PackedRows>, IllegalTransitionError> {
        let packed = self.packed_with(key, limits, now);
        if packed.len() > 1 {
            self.insert_shared_import(&packed);
        }
        self.record(key, &Event::UploadBegan, now)?;
        Ok(packed)
    }

    fn packed_with(&self, key: BatchKey, limits: PackLimits, now: Timestamp) -> Vec<PackedRows> {
        let (job, lead) = (&self.jobs[&key.job], self.batch(key));
        let packed_rows = |key: BatchKey, batch: &Batch| PackedRows { key, rows: batch.from..batch.to };
        let mut packed = vec![packed_rows(key, lead)];
        let Some(shape) = job.pack_shape(lead) else { return packed };
        let mut candidates: Vec<_> = self
            .batches()
            .filter(|(other, job, batch)| other.job != key.job && job.pack_shape(batch) == Some(shape))
            .filter(|(_, job, batch)| job.state == JobState::Pending && batch.progress.state == BatchState::Pending)
            .filter(|(_, job, batch)| {
                !job.is_early(now) && batch.progress.not_before.is_none_or(|at| !holds(at, now, limits.longest))
            })
            .collect();
        candidates.sort_by_key(|(_, job, _)| Reverse(job.priority));
        let mut rows = lead.rows();
        let mut max_rows = limits.max_rows.min(job.pack_max_rows.unwrap_or(u32::MAX));
        for (other, job, batch) in candidates.into_iter().take(limits.max_jobs.min(MAX_PACKED_JOBS) as usize - 1) {
            rows += batch.rows();
            max_rows = max_rows.min(job.pack_max_rows.unwrap_or(u32::MAX));
            if rows > max_rows {
                break;
            }
            packed.push(packed_rows(other, batch));
        }
        packed
    }

    fn insert_shared_import(&mut self, packed: &[PackedRows]) {
        self.shared_imports_made += 1;
        let import = self.shared_imports_made;
        let rows = packed.iter().map(|packed| packed.rows.len() as u32).sum();
        let batches = packed.len() as u32;
        self.shared_imports.insert(import, SharedImport { rows, batches, counts: Counts::default() });
        for (position, packed) in packed.iter().enumerate() {
            let (import, import_rows, leads) = (Some(import), Some(rows), position == 0);
            self.change(packed.key, |batch| {
                batch.sharing = Sharing { import, others: batches - 1, leads, import_rows };
            });
        }
    }

    /// The first half of `StoreTx::end_sharing`: how the jobs of an import may share imports from now on.
    pub fn limit_sharing(&mut self, key: BatchKey, limit: SharingLimit) {
        for key in self.sharing(key) {
            let job = self.jobs.get_mut(&key.job).expect("a key of this store");
            match limit {
                SharingLimit::Alone => job.shape = None,
                SharingLimit::MaxRows(rows) => job.pack_max_rows = Some(rows),
            }
        }
    }

    /// `StoreTx::apply_event`.
    pub fn record(&mut self, key: BatchKey, event: &Event, now: Timestamp) -> Result<(), IllegalTransitionError> {
        let import = self.batch(key).sharing.import;
        let others = self.others(key);
        let own = match import.and_then(|import| self.shared_imports.get(&import)) {
            Some(shared) => event.within_shared_import(shared.batches),
            None => event.clone(),
        };
        let before = self.state(key);
        self.apply_to_batch(key, &own, Role::Lead, now)?;
        if let Event::Abandoned { counts_until } = event
            && others.is_empty()
        {
            self.abandoned.push(*counts_until);
        }
        let reaches = match event.reach() {
            EventReach::Batch | EventReach::Lead => false,
            EventReach::Import => !matches!(event, Event::Polled { .. }) || before != self.state(key),
        };
        let is_mistaken = self.reaches_lead_only && !matches!(event, Event::UploadBegan);
        if reaches && !is_mistaken {
            if let (Event::ImportEnded { counts, .. }, Some(import)) = (event, import) {
                self.shared_imports.get_mut(&import).into_iter().for_each(|shared| shared.counts = *counts);
            }
            for &other in &others {
                self.apply_to_batch(other, &own, Role::Member, now)?;
            }
        }
        if let Some(import) = import {
            self.leave_shared_import(import);
        }
        self.instance = self.instance.after_event(key, event, self.in_flight(), now);
        if event.ends_upload() {
            let number = self.instance.uploads_ended;
            for key in others.into_iter().chain([key]) {
                self.change(key, |batch| batch.progress.last_upload = Some(number));
            }
        }
        Ok(())
    }

    fn apply_to_batch(
        &mut self,
        key: BatchKey,
        event: &Event,
        role: Role,
        now: Timestamp,
    ) -> Result<(), IllegalTransitionError> {
        let before: &BatchProgress = &self.batch(key).progress;
        let progress = match role {
            Role::Lead => before.after_event(event, now)?,
            Role::Member => before.after_shared_event(event, now)?,
        };
        self.change(key, |batch| {
            batch.progress = progress;
            if matches!(event, Event::Retried) {
                batch.sharing = Sharing::ALONE;
            }
        });
        self.apply_batch_rules(key, event, now)?;
        if let Some(job) = self.jobs.get_mut(&key.job) {
            job.state = job.derive_state();
        }
        Ok(())
    }

    /// `StoreTx::leave_shared_import`.
    pub(super) fn leave_shared_import(&mut self, import: u32) {
        let batches = self.jobs.values_mut().flat_map(|job| &mut job.batches);
        let mut left: Vec<&mut Sharing> = Vec::new();
        for batch in batches.filter(|batch| batch.sharing.import == Some(import)) {
            match batch.progress.state {
                BatchState::Pending => batch.sharing = Sharing::ALONE,
                state if state.is_terminal() => batch.sharing.import = None,
                _ => left.push(&mut batch.sharing),
            }
        }
        if left.is_empty() {
            self.shared_imports.remove(&import);
        } else if !self.keeps_no_lead && left.iter().all(|sharing| !sharing.leads) {
            left[0].leads = true;
        }
    }
}
