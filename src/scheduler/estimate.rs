//! Estimates: when jobs will probably start and end. A pure function of the snapshot that the plan uses.
//!
//! Marketo's queue is simulated: first in, first out, two imports at once, each as long as recent imports of the instance
//! took for their rows. Imports of other integrations are not seen, so a job may be later than estimated.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::clock::after;
use crate::domain::instance::PauseKind;
use crate::domain::{BatchKey, BatchState};
use crate::scheduler::fair_queue::FairQueue;
use crate::scheduler::plan::SchedulingRules;
use crate::scheduler::poll_interval::{ACTIVE_IMPORTS, expected_duration, in_order};
use crate::store::{Batch, Job, Snapshot};

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
    /// Rows and duration of recent imports.
    recent_durations: Vec<(u64, Duration)>,
}

#[derive(Clone, Copy, Debug)]
struct ImportForecast {
    upload: Timestamp,
    end: Timestamp,
}

impl QueueForecast {
    /// Forecasts the imports in flight, and those of the snapshot's candidates in the order of the plan.
    pub fn of(snapshot: &Snapshot, rules: &SchedulingRules, now: Timestamp) -> QueueForecast {
        let recent_durations = snapshot.recent_durations.clone();
        let mut forecast = QueueForecast { imports: HashMap::new(), recent_durations };
        let mut marketo = MarketoQueue::at(now);
        for (flight, _) in in_order(&snapshot.in_flight).filter(|(flight, _)| !flight.is_overdue) {
            let Some(duration) = forecast.duration(flight.rows) else { return forecast };
            let passed = flight.importing_at.map_or(SignedDuration::ZERO, |began| now.duration_since(began));
            let rest = duration.saturating_sub(Duration::try_from(passed).unwrap_or_default());
            forecast.imports.insert(flight.key, ImportForecast { upload: now, end: marketo.add(now, rest) });
        }
        for flight in snapshot.in_flight.iter().filter(|flight| flight.state == BatchState::Uploading) {
            let Some(duration) = forecast.duration(flight.rows) else { return forecast };
            forecast.imports.insert(flight.key, ImportForecast { upload: now, end: marketo.add(now, duration) });
        }
        let Some(uploads_begin) = uploads_begin(snapshot, now) else { return forecast };
        let slots = snapshot.instance.observed_slot_limit.unwrap_or(u32::MAX).min(rules.max_in_flight);
        if slots == 0 {
            return forecast;
        }
        let busy = HashMap::new();
        let mut queue = FairQueue::of(snapshot, &busy);
        let mut occupied = queue.in_flight + snapshot.in_flight_elsewhere;
        let mut upload = uploads_begin;
        while let Some(next) = queue.next() {
            let Some(duration) = forecast.duration(next.rows) else { return forecast };
            if occupied >= slots {
                // The upload waits for the first end of an import.
                let Some(free_at) = marketo.next_end() else { return forecast };
                upload = upload.max(free_at);
            } else {
                occupied += 1;
            }
            let end = marketo.add(upload, duration);
            forecast.imports.insert(next.key, ImportForecast { upload, end });
            queue.take(next);
        }
        forecast
    }

    /// Returns the estimate for a job of the instance. It has no end where a batch waits for an operator, or behind
    /// something whose end is unknown.
    pub fn estimate(&self, job: &Job) -> Estimate {
        if job.state.is_terminal() {
            return Estimate::default();
        }
        let forecast = |batch: &Batch| self.imports.get(&BatchKey { job: job.id, part: batch.part });
        let open = || job.batches.iter().filter(|batch| !batch.state.is_terminal());
        let start = match job.started_at {
            Some(_) => None,
            None => open().filter_map(forecast).map(|import| import.upload).min(),
        };
        let known = open().filter_map(forecast).map(|import| import.end).max();
        let mut end = known;
        let mut rows_behind = 0;
        for batch in open().filter(|batch| forecast(batch).is_none()) {
            match batch.state {
                // Only its reports are missing.
                BatchState::Collecting => {}
                // A job has at most as many batches in a snapshot as one plan can use. The rest comes behind these.
                BatchState::Pending if known.is_some() => rows_behind += batch.rows.total,
                _ => return Estimate { start, end: None },
            }
        }
        if rows_behind > 0 {
            let rest = self.duration(rows_behind).map(|rest| rest / ACTIVE_IMPORTS as u32);
            end = known.zip(rest).map(|(known, rest)| after(known, rest));
        }
        Estimate { start, end }
    }

    fn duration(&self, rows: u64) -> Option<Duration> {
        expected_duration(rows, &self.recent_durations)
    }
}

/// Returns when the next upload may begin; none where that is up to an operator.
fn uploads_begin(snapshot: &Snapshot, now: Timestamp) -> Option<Timestamp> {
    let pause_ends = match &snapshot.instance.pause {
        None => now,
        Some(pause) if pause.kind == PauseKind::Quota => snapshot.pause_ends_at()?,
        Some(_) => return None,
    };
    let backoff_ends = snapshot.instance.backoff_until.unwrap_or(now);
    Some(now.max(pause_ends).max(backoff_ends))
}

/// Marketo's queue: when each of its importing slots is free, and when the imports end.
struct MarketoQueue {
    free_at: BinaryHeap<Reverse<Timestamp>>,
    ends: BinaryHeap<Reverse<Timestamp>>,
}

impl MarketoQueue {
    fn at(now: Timestamp) -> MarketoQueue {
        MarketoQueue { free_at: vec![Reverse(now); ACTIVE_IMPORTS].into(), ends: BinaryHeap::new() }
    }

    /// Adds an import that is uploaded at `at`. Returns when it ends.
    fn add(&mut self, at: Timestamp, duration: Duration) -> Timestamp {
        let begin = self.free_at.pop().map_or(at, |Reverse(free)| free.max(at));
        let end = after(begin, duration);
        self.free_at.push(Reverse(end));
        self.ends.push(Reverse(end));
        end
    }

    /// Removes the import that ends first, and returns its end.
    fn next_end(&mut self) -> Option<Timestamp> {
        self.ends.pop().map(|Reverse(end)| end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::from_ms;
    use crate::config::Polling;
    use crate::domain::JobId;
    use crate::domain::instance::Pause;
    use crate::store::{InFlightBatch, PendingBatch};

    const RULES: SchedulingRules = SchedulingRules {
        max_in_flight: 2,
        polling: Polling { min: Duration::from_secs(5), max: Duration::from_secs(30) },
        backoff_max: Duration::from_secs(900),
    };

    fn key(job: i64) -> BatchKey {
        BatchKey { job: JobId(job), part: 1 }
    }

    fn at(second: i64) -> Timestamp {
        from_ms(1_000 * second)
    }

    fn importing(job: i64, since: i64) -> InFlightBatch {
        InFlightBatch {
            key: key(job),
            state: BatchState::Importing,
            group: None,
            list_id: None,
            rows: 100,
            not_before: None,
            accepted_at: Some(at(since)),
            importing_at: Some(at(since)),
            polled_at: None,
            is_overdue: false,
        }
    }

    fn pending(job: i64, rows: u64) -> PendingBatch {
        PendingBatch { key: key(job), rows, priority: 0, group: None, list_id: None, last_upload: None }
    }

    /// Imports of 100 rows took 10 s.
    fn snapshot() -> Snapshot {
        Snapshot {
            in_flight: vec![importing(1, 95), importing(2, 98)],
            candidates: vec![pending(3, 100), pending(4, 200), pending(5, 100)],
            recent_durations: vec![(100, Duration::from_secs(10)); 3],
            ..Snapshot::default()
        }
    }

    /// The seconds at which the uploads begin and the imports end.
    fn forecast(snapshot: &Snapshot) -> Vec<Option<(i64, i64)>> {
        let forecast = QueueForecast::of(snapshot, &RULES, at(100));
        let seconds = |import: &ImportForecast| (import.upload.as_second(), import.end.as_second());
        (1..=5).map(|job| forecast.imports.get(&key(job)).map(seconds)).collect()
    }

    #[test]
    fn two_imports_run_at_once_in_the_order_of_the_queue() {
        // 1 ends at 105 and 2 at 108. 3 takes the first slot, 4 the second, and 5 the one of 3.
        let expected = [(100, 105), (100, 108), (105, 115), (108, 128), (115, 125)];
        assert_eq!(forecast(&snapshot()), expected.map(Some));
    }

    #[test]
    fn nothing_is_known_without_recent_imports_or_behind_an_operator() {
        let unknown = Snapshot { recent_durations: Vec::new(), ..snapshot() };
        assert_eq!(forecast(&unknown), [None; 5]);
        let mut paused = snapshot();
        let pause = Pause { kind: PauseKind::Operator, reason: String::new(), at: at(1), until: None };
        paused.instance.pause = Some(pause);
        assert_eq!(forecast(&paused)[2..], [None; 3]);
        assert_eq!(forecast(&paused)[0], Some((100, 105)), "imports on Marketo go on");
    }

    #[test]
    fn uploads_wait_for_the_end_of_a_pause_or_a_backoff() {
        let mut paused = snapshot();
        paused.in_flight.clear();
        let pause = Pause { kind: PauseKind::Quota, reason: String::new(), at: at(1), until: Some(at(500)) };
        paused.instance.pause = Some(pause);
        assert_eq!(forecast(&paused)[2..4], [Some((500, 510)), Some((500, 520))]);
        paused.instance.pause = None;
        paused.instance.backoff_until = Some(at(130));
        assert_eq!(forecast(&paused)[2], Some((130, 140)));
    }
}
