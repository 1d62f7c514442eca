//! Batch rules: which batches of a job wait for others of it, and when the rest is cancelled. The statements of
//! `store::tables::batch_rules`.

use jiff::Timestamp;
use marqueue::domain::batch_rules::{FIRST_PART, StopCause};
use marqueue::domain::{BatchKey, BatchState, Event, IllegalTransitionError, JobId, JobState, job_state};

use super::{Batch, Job, ModelStore};

impl Job {
    /// Whether a batch has to wait until another batch of the job is complete.
    pub fn waits_for_another(&self, batch: &Batch) -> bool {
        let mut open = self.batches.iter().filter(|other| other.progress.state != BatchState::Complete);
        let canary_is_open =
            || self.batches.iter().any(|b| b.part == FIRST_PART && b.progress.state != BatchState::Complete);
        (self.rules.in_order && open.any(|other| other.from < batch.from))
            || (self.rules.canary.is_some() && batch.part != FIRST_PART && canary_is_open())
    }

    /// `derive_job_state`.
    pub(super) fn derive_state(&self) -> JobState {
        match job_state(self.batches.iter().map(|batch| batch.progress.state)) {
            JobState::Cancelled if self.stopped.is_some() => JobState::Failed,
            state => state,
        }
    }

    /// The failed and the sent rows of its imports that ended with counts.
    fn failed_rows(&self) -> (u64, u64) {
        let ended = |batch: &&Batch| matches!(batch.progress.state, BatchState::Collecting | BatchState::Complete);
        let counted = self
            .batches
            .iter()
            .filter(ended)
            .filter_map(|batch| batch.progress.counts.failed.map(|failed| (failed, u64::from(batch.rows()))));
        counted.fold((0, 0), |(failed, rows), (f, r)| (failed + f, rows + r))
    }
}

impl ModelStore {
    /// `StoreTx::apply_batch_rules`.
    pub(super) fn apply_batch_rules(
        &mut self,
        key: BatchKey,
        event: &Event,
        now: Timestamp,
    ) -> Result<(), IllegalTransitionError> {
        let state = self.state(key);
        let (has_failed, has_ended) = (state == BatchState::Failed, matches!(event, Event::ImportEnded { .. }));
        if !has_failed && !has_ended && state != BatchState::Pending {
            return Ok(());
        }
        let job = self.jobs.get_mut(&key.job).expect("a key of this store");
        if job.stopped.is_none() {
            let reason = if has_failed {
                job.rules.stop_after_failure(key.part)
            } else if has_ended {
                let (failed, rows) = job.failed_rows();
                job.rules.stop_after_import(failed, rows)
            } else {
                None
            };
            let unsent = |batch: &Batch| matches!(batch.progress.state, BatchState::Pending | BatchState::Uploading);
            job.stopped = reason.map(|reason| reason.cause).filter(|_| job.batches.iter().any(unsent));
        }
        if job.stopped.is_none() {
            return Ok(());
        }
        for key in self.ordered(key.job, &Event::Cancelled) {
            if self.state(key) == BatchState::Pending {
                self.record(key, &Event::Cancelled, now)?;
            }
        }
        Ok(())
    }

    /// `StoreTx::end_stop`, which a retry of a job begins with.
    pub fn end_stop(&mut self, id: JobId) {
        let job = self.jobs.get_mut(&id).expect("a job of this store");
        if job.stopped.take() == Some(StopCause::Threshold) {
            job.rules.max_failed_percent = None;
        }
    }
}
