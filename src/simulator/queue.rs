//! Import queue: first in, first out, with a limited number of imports processed at once.
//!
//! The duration of an import is known when it is accepted, and no import overtakes another. Its start and its end are
//! therefore known too: there is no timer, and the state of an import depends on the time alone.

use std::time::Duration;

use crate::domain::{Counts, RemoteStatus};
use crate::marketo::types;
use crate::simulator::call_log;
use crate::simulator::row_outcomes::RowCounts;
use crate::simulator::settings::Settings;

/// The number of the first batch.
const FIRST_ID: u64 = 1001;

/// The three kinds of import, each with paths of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImportKind {
    /// Leads.
    Leads,
    /// With the object's API name.
    CustomObject(String),
    /// Program members.
    ProgramMembers,
}

/// Every import there was, in order of acceptance. Every `now` is the time since the simulator's start.
#[derive(Debug)]
pub(super) struct Queue {
    imports: Vec<Import>,
    /// When each processing slot has processed all imports that were accepted.
    slots: Vec<Duration>,
    other_imports: usize,
    pub max_len: usize,
}

/// An import to be queued.
pub(super) struct NewImport {
    pub kind: ImportKind,
    /// The static list that its rows join.
    pub list: Option<i64>,
    pub rows: RowCounts,
    /// From its start to its end.
    pub duration: Duration,
}

/// One import, with its start and end.
#[derive(Debug)]
pub(super) struct Import {
    pub id: u64,
    pub kind: ImportKind,
    pub list: Option<i64>,
    pub accepted: Duration,
    pub starts: Duration,
    pub ends: Duration,
    duration: Duration,
    pub rows: RowCounts,
    pub asked: Option<Duration>,
}

impl Queue {
    pub fn new(slots: usize) -> Queue {
        Queue { imports: Vec::new(), slots: vec![Duration::ZERO; slots], other_imports: 0, max_len: 0 }
    }

    /// Imports that have not ended, other integrations' included.
    pub fn len(&self, now: Duration) -> usize {
        self.other_imports + self.unended(now).count()
    }

    /// Those that have not ended, other integrations' left out.
    pub fn unended(&self, now: Duration) -> impl Iterator<Item = u64> {
        self.imports.iter().filter(move |import| now < import.ends).map(|import| import.id)
    }

    /// Whether an import into this static list has not ended.
    pub fn holds_list(&self, now: Duration, list: i64) -> bool {
        self.imports.iter().any(|import| import.list == Some(list) && now < import.ends)
    }

    /// Appends an import. The caller has checked that the queue is not full.
    pub fn push(&mut self, now: Duration, new: NewImport) -> &Import {
        let NewImport { kind, list, rows, duration } = new;
        let (mut starts, mut ends) = (Duration::MAX, Duration::MAX);
        if let Some(slot) = self.slots.iter_mut().min() {
            starts = now.max(*slot);
            ends = starts.saturating_add(duration);
            *slot = ends;
        }
        let id = FIRST_ID + self.imports.len() as u64;
        self.imports.push(Import { id, kind, list, accepted: now, starts, ends, duration, rows, asked: None });
        self.max_len = self.max_len.max(self.len(now));
        &self.imports[self.imports.len() - 1]
    }

    /// Ends the imports that would never end by themselves. Those behind them start as if the slots had come free now.
    pub fn end_stuck(&mut self, now: Duration) {
        for import in &mut self.imports {
            if import.duration == Duration::MAX {
                import.duration = Duration::ZERO;
                import.ends = if import.starts <= now { now } else { import.ends };
            }
        }
        let running = self.imports.iter().filter(|import| import.starts <= now && now < import.ends);
        let mut slots: Vec<Duration> = running.map(|import| import.ends).collect();
        slots.resize(self.slots.len(), now);
        for import in self.imports.iter_mut().filter(|import| now < import.starts) {
            if let Some(slot) = slots.iter_mut().min() {
                (import.starts, import.ends) = (*slot, slot.saturating_add(import.duration));
                *slot = import.ends;
            }
        }
        self.slots = slots;
    }

    /// Sets the number of other integrations' imports in the queue. They take no processing slot.
    pub fn set_other_imports(&mut self, now: Duration, number: usize) {
        self.other_imports = number;
        self.max_len = self.max_len.max(self.len(now));
    }

    pub fn find(&self, id: u64) -> Option<&Import> {
        self.imports.get(index(id)?)
    }

    /// Records a status or report call for an import.
    pub fn record_query(&mut self, now: Duration, id: u64) {
        if let Some(import) = index(id).and_then(|index| self.imports.get_mut(index)) {
            import.asked.get_or_insert(now);
        }
    }

    /// Adds the imports and their counts to the log.
    pub fn report(&self, now: Duration, call_log: &mut call_log::CallLog) {
        let started = || self.imports.iter().filter(|import| import.starts <= now);
        call_log.max_queued = self.max_len;
        call_log.max_importing = call_log::max_overlap(started().map(|import| (import.starts, import.ends)));
        call_log.busy = started().map(|import| import.ends.min(now) - import.starts).sum();
        call_log.imports = self.imports.iter().map(|import| import.record(now)).collect();
    }
}

fn index(id: u64) -> Option<usize> {
    usize::try_from(id.checked_sub(FIRST_ID)?).ok()
}

impl Import {
    pub fn status(&self, now: Duration) -> RemoteStatus {
        match () {
            () if now < self.starts => RemoteStatus::Queued,
            () if now < self.ends => RemoteStatus::Importing,
            () if self.rows.batch_failed.is_some() => RemoteStatus::Failed,
            () => RemoteStatus::Complete,
        }
    }

    /// Returns the response to its create call. However short the import is, it has not ended yet.
    pub fn receipt(&self) -> types::Import {
        let status = if self.accepted < self.starts { RemoteStatus::Queued } else { RemoteStatus::Importing };
        let mut answer = types::Import {
            batch_id: Some(self.id.to_string()),
            status: format!("{status:?}"),
            ..types::Import::default()
        };
        match &self.kind {
            ImportKind::CustomObject(name) => answer.object_api_name = Some(name.clone()),
            _ => answer.import_id = answer.batch_id.clone(),
        }
        answer
    }

    /// Returns the response to a status call.
    pub fn status_response(&self, now: Duration, settings: &Settings) -> types::Import {
        let status = self.status(now);
        let mut answer = types::Import { status: format!("{status:?}"), ..self.receipt() };
        let counts = match status {
            RemoteStatus::Queued => Counts::default(),
            RemoteStatus::Importing if !settings.counts_while_importing => Counts::default(),
            RemoteStatus::Importing => self.so_far(now),
            RemoteStatus::Complete | RemoteStatus::Failed => self.counts(),
        };
        answer.num_of_rows_failed = counts.failed;
        answer.num_of_rows_with_warning = counts.warned;
        let ended = self.ends <= now;
        answer.message = ended.then(|| self.message());
        if let ImportKind::CustomObject(_) = self.kind {
            answer.operation = Some("import".into());
            answer.num_of_objects_processed = counts.processed;
            answer.import_time = ended.then(|| format!("{} second(s)", (self.ends - self.starts).as_secs()));
        } else {
            answer.num_of_leads_processed = counts.processed;
        }
        answer
    }

    /// Returns the counts at its end. An import that fails as a whole has processed no row.
    fn counts(&self) -> Counts {
        let rows = &self.rows;
        let numbers = if rows.batch_failed.is_some() { [0; 3] } else { [rows.processed(), rows.failed, rows.warned] };
        let [processed, failed, warned] = numbers.map(Some);
        Counts { processed, failed, warned }
    }

    /// Returns the same share of each count as of its duration.
    fn so_far(&self, now: Duration) -> Counts {
        let (passed, whole) = ((now - self.starts).as_nanos(), (self.ends - self.starts).as_nanos().max(1));
        let share = |count: u64| u64::try_from(u128::from(count) * passed / whole).unwrap_or(count);
        let Counts { processed, failed, warned } = self.counts();
        Counts { processed: processed.map(share), failed: failed.map(share), warned: warned.map(share) }
    }

    fn message(&self) -> String {
        if let Some(reason) = &self.rows.batch_failed {
            return reason.clone();
        }
        let (processed, failed, warned) = (self.rows.processed(), self.rows.failed, self.rows.warned);
        let outcome = if failed == 0 { "succeeded" } else { "completed with errors" };
        let mut text = format!("Import {outcome}, {processed} records imported ({processed} members)");
        if failed > 0 {
            text += &format!(", {failed} failed");
        }
        match warned {
            0 => {}
            1 => text += ", 1 warning.",
            _ => text += &format!(", {warned} warnings."),
        }
        text
    }

    fn record(&self, now: Duration) -> call_log::Import {
        call_log::Import {
            id: self.id,
            accepted: self.accepted,
            started: (self.starts <= now).then_some(self.starts),
            ended: (self.ends <= now).then_some(self.ends),
            rows: self.rows.total,
            status: self.status(now),
            counts: self.counts(),
            asked: self.asked,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn imports_start_in_order_and_never_three_at_once(
            arrivals in prop::collection::vec((0..20u64, 1..30u64), 1..40)
        ) {
            let (mut queue, mut now) = (Queue::new(2), Duration::ZERO);
            for (gap, seconds) in arrivals {
                now += Duration::from_secs(gap);
                let duration = Duration::from_secs(seconds);
                queue.push(now, NewImport { kind: ImportKind::Leads, list: None, rows: RowCounts::default(), duration });
            }
            let mut call_log = call_log::CallLog::default();
            queue.report(Duration::from_secs(10_000), &mut call_log);
            prop_assert!(call_log.max_importing <= 2);
            prop_assert!(queue.imports.is_sorted_by_key(|import| import.starts));
            for (n, import) in queue.imports.iter().enumerate().filter(|(_, import)| import.accepted < import.starts) {
                let before = |other: &&Import| other.starts < import.starts && import.starts <= other.ends;
                prop_assert_eq!(queue.imports[..n].iter().filter(before).count(), 2, "{:?} waited for nothing", import);
            }
        }
    }
}
