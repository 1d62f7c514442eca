//! Estimates: when jobs will probably start and end. A pure function of an instance's rows and the time.
//!
//! Marketo's queue is simulated: first in, first out, two imports at once, each as long as recent imports of the
//! instance let expect. The pending batches are uploaded in the order of the plan. Imports of other integrations are
//! not foreseen, so a job may be later than estimated.

use std::collections::HashMap;

use jiff::Timestamp;

use crate::domain::BatchKey;
use crate::domain::instance::PauseKind;
use crate::scheduler::import_duration::ImportDuration;
use crate::scheduler::plan::SchedulingRules;
use crate::scheduler::queue_simulation::{ImportForecast, QueueSimulation, SlotLimits};
use crate::store::{Batch, Job, QueueOutlook, Snapshot};

/// When a job will probably start and end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Estimate {
    /// When its first upload begins; none where it has begun, or nothing is known.
    pub start: Option<Timestamp>,
    /// When its last import ends; none where nothing is known.
    pub end: Option<Timestamp>,
}

/// The estimated ends of an instance's imports, and the starts of its uploads.
#[derive(Clone, Debug, Default)]
pub struct QueueForecast {
    imports: HashMap<BatchKey, ImportForecast>,
}

impl QueueForecast {
    /// Forecasts the imports in flight, and those of the queued batches in the order of the plan.
    pub fn of(outlook: &QueueOutlook, rules: &SchedulingRules, now: Timestamp) -> QueueForecast {
        let snapshot = &outlook.snapshot;
        let Some(duration) = ImportDuration::fit(&outlook.snapshot.ended_imports) else {
            return QueueForecast::default();
        };
        let Some(calls) = NextCalls::of(snapshot, now) else { return QueueForecast::default() };
        let limits = SlotLimits::of(snapshot, rules, now);
        let mut simulation = QueueSimulation::new(outlook, duration, limits);
        simulation.add_in_flight(now, calls.queries);
        if let Some(uploads) = calls.uploads {
            simulation.upload_queued(uploads);
        }
        QueueForecast { imports: simulation.into_imports() }
    }

    /// Returns when a pending batch will probably be uploaded; none where that is not foreseen.
    pub fn upload(&self, key: BatchKey) -> Option<Timestamp> {
        self.imports.get(&key).map(|import| import.upload)
    }

    /// Returns when the import of a batch will probably end; none where that is not foreseen. Of batches that share an
    /// import, the one that stands for it is meant.
    pub fn import_end(&self, key: BatchKey) -> Option<Timestamp> {
        self.imports.get(&key).and_then(|import| import.end)
    }

    /// Returns the estimate for a job of the instance. It has no end where a batch waits for an operator, comes behind
    /// something whose end is unknown, or behind the batches of the outlook.
    pub fn estimate(&self, job: &Job) -> Estimate {
        if job.state.is_terminal() {
            return Estimate::default();
        }
        let forecast = |batch: &Batch| self.imports.get(&batch.import_key(job.id));
        let open = || job.batches.iter().filter(|batch| !batch.state.is_terminal());
        let start = match job.started_at {
            Some(_) => None,
            None => open().filter_map(forecast).map(|import| import.upload).min(),
        };
        let ends: Option<Vec<Timestamp>> = open().map(|batch| forecast(batch).and_then(|import| import.end)).collect();
        Estimate { start, end: ends.and_then(|ends| ends.into_iter().max()) }
    }
}

/// When the daemon may make calls again.
struct NextCalls {
    /// Polls and downloads, which notice that an import has ended.
    queries: Timestamp,
    /// Uploads; none where an operator decides.
    uploads: Option<Timestamp>,
}

impl NextCalls {
    /// Returns none where an operator has to end a pause that stops all calls.
    fn of(snapshot: &Snapshot, now: Timestamp) -> Option<NextCalls> {
        let instance = &snapshot.instance;
        let pause_ends_at = snapshot.pause_ends_at();
        let is_over = pause_ends_at.is_some_and(|until| until <= now);
        let pause = if is_over { &instance.suspended_pause } else { &instance.pause };
        let calls = match pause.as_ref().map(|pause| pause.kind) {
            None => NextCalls { queries: now, uploads: Some(now) },
            Some(PauseKind::Operator) => NextCalls { queries: now, uploads: None },
            Some(PauseKind::Credentials) => return None,
            Some(PauseKind::Quota) => {
                let until = pause_ends_at?;
                NextCalls { queries: until, uploads: Some(until).filter(|_| instance.suspended_pause.is_none()) }
            }
        };
        // Marketo had no slot for us, so the next upload is the next try.
        let probe = instance.slot_probe_at.filter(|_| instance.observed_slot_limit == Some(0));
        let later = |at: Timestamp| at.max(instance.backoff_until.unwrap_or(at)).max(probe.unwrap_or(at));
        Some(NextCalls { uploads: calls.uploads.map(later), ..calls })
    }
}

#[cfg(test)]
mod tests;
