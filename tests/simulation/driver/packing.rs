//! Packing: how uploads of several jobs begin and how they end, as in `scheduler::upload` and `scheduler::poll`.

use marqueue::domain::{BatchKey, Event, JobId};
use marqueue::scheduler::max_packed_jobs;
use marqueue::scheduler::outcome::FailedSharedUpload;
use rand::RngExt;

use super::{Done, Mutation, Simulation};
use crate::invariants::{CheckResult, Invariant, Violation};
use crate::model_store::{PackLimits, PackedRows, SharingLimit};

/// Jobs of this shape import into a static list.
const LIST_SHAPE: u8 = 2;

/// The shape of a job that comes in, and what jobs of one shape have in common.
pub(super) struct Shape {
    pub number: u8,
    pub list: Option<i64>,
}

impl Simulation {
    /// Chooses for a job that comes in whether it may share imports, and with which others.
    pub(super) fn choose_shape(&mut self) -> Option<Shape> {
        if !self.rng.random_bool(0.45) {
            return None;
        }
        let number = [1, 1, LIST_SHAPE][self.rng.random_range(0..3)];
        Some(Shape { number, list: (number == LIST_SHAPE).then_some(7) })
    }

    /// Lets a job share imports with others of its shape.
    pub fn set_shape(&mut self, id: JobId, shape: u8) {
        self.store.jobs.get_mut(&id).expect("it was added").shape = Some(shape);
        self.checker.shape_added(id, shape);
    }

    /// `upload::begin`: records that an upload begins, and returns its rows.
    pub(super) fn begin_upload(&mut self, key: BatchKey) -> Done<Vec<PackedRows>> {
        let now = self.now();
        let max_jobs = max_packed_jobs(&self.snapshot(now));
        let limits = PackLimits { max_jobs, max_rows: self.max_packed_rows, longest: self.rules.longest_pause() };
        let before = self.store.clone();
        let begun = self.store.begin_upload(key, limits, now);
        let packed = begun.map_err(|illegal| {
            let text = format!("{key}: {illegal}");
            Violation { invariant: Invariant::LegalTransition, text }
        })?;
        let keys: Vec<BatchKey> = packed.iter().map(|packed| packed.key).collect();
        self.note(|| format!("an upload of {keys:?} begins"));
        self.checker.upload_begins(&before, &packed, now)?;
        self.wake();
        self.check_recorded(&Event::UploadBegan, &keys, &keys)?;
        Ok(packed)
    }

    /// Records how an upload failed, or that each of its jobs is sent again alone.
    pub(super) fn record_failed_upload(&mut self, key: BatchKey, event: Event, is_broken_off: bool) -> CheckResult {
        let others = self.store.batch(key).sharing.others;
        let failed = FailedSharedUpload { event: &event, others, is_broken_off, now: self.now() };
        match failed.sent_alone().filter(|_| others > 0) {
            Some(event) => self.end_sharing(key, event, SharingLimit::Alone),
            None => self.record(key, event),
        }
    }

    /// `upload::end_sharing`: the jobs of an import are sent again in other imports.
    pub(super) fn end_sharing(&mut self, key: BatchKey, event: Event, limit: SharingLimit) -> CheckResult {
        self.stats.unpacked += u64::from(matches!(event, Event::Unpacked { .. }));
        self.stats.divided += u64::from(limit != SharingLimit::Alone);
        if limit == SharingLimit::Alone {
            self.checker.goes_alone(&self.store.sharing(key));
        }
        if self.mutation != Mutation::PacksAfterFailure {
            self.store.limit_sharing(key, limit);
        }
        self.record(key, event)
    }
}
