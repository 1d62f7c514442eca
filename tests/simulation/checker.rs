//! Checker: compares the invariants with what Marketo really has and what was really sent, after each step.
//!
//! The checker sees what no client can see: imports of which the answer was lost. It takes nothing from the plan.

mod events;
mod sharing;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use jiff::Timestamp;
use marqueue::domain::instance::PauseKind;
use marqueue::domain::{BatchKey, BatchState, JobId, JobState};
use marqueue::marketo::ErrorAction;
use marqueue::scheduler::{Plan, SchedulingRules, Step, Work};
use marqueue::store::Snapshot;

use super::invariants::{CheckResult, Invariant, Violation};
use super::model_store::{ModelStore, PackedRows};

pub use events::Recorded;

fn hold(invariant: Invariant, holds: bool, text: impl FnOnce() -> String) -> CheckResult {
    if holds { Ok(()) } else { Err(Violation { invariant, text: text() }) }
}

/// An import that Marketo made.
struct Made {
    /// The rows of each batch in it; the upload was recorded for the first.
    rows: Vec<PackedRows>,
    /// The batches that wait for it, once it is known.
    waiting: BTreeSet<BatchKey>,
    /// Marketo ends it as `Failed`.
    fails: bool,
    /// The answer to its upload was recorded.
    known: bool,
    /// When, in true time.
    at: Duration,
    /// Till when it counts although an operator gave it up, in true time.
    given_up: Option<Duration>,
    /// It need not be counted any more, although it may not have ended.
    excused: bool,
}

impl Made {
    fn lead(&self) -> BatchKey {
        self.rows[0].key
    }
}

/// What was done about one batch.
#[derive(Default)]
struct Track {
    sent: u32,
    reasons: u32,
    /// Uploads that used up an attempt, since an operator last asked to send it again.
    spent: u32,
    taken: bool,
    /// How many creates of the instance had succeeded when its last upload failed.
    successes: Option<u64>,
    /// Since when its uploads have failed with no other's success in between.
    failing_since: Option<Timestamp>,
    /// Which of the instance's uploads that was.
    turn: Option<u64>,
    /// An operator found its import, so its place in any order is not the daemon's to decide.
    settled: bool,
    /// Until when what a lost answer left behind is to be counted, in true time.
    unconfirmed: Option<Duration>,
    /// Marketo's last answer about it, as far as it ends a batch.
    last_ask: Option<ErrorAction>,
    import_failed: bool,
    /// When each of its questions was last asked, and whether it may be repeated at once.
    asked: BTreeMap<&'static str, (Duration, bool)>,
}

#[derive(Default)]
pub struct Checker {
    made: BTreeMap<u64, Made>,
    tracks: BTreeMap<BatchKey, Track>,
    futile: u32,
    /// Creates that succeeded, and uploads that ended.
    successes: u64,
    turns: u64,
    /// The upload that succeeded last.
    success_turn: u64,
    /// The last day that began by a steady clock, and the calls since.
    day: Option<Timestamp>,
    calls_of_day: u64,
    /// The shapes that jobs came in with.
    shapes: BTreeMap<JobId, u8>,
    /// Jobs that shared an import which was refused or failed.
    alone: BTreeSet<JobId>,
}

/// So many steps in a row without effect, at one time, are a loop.
const FUTILE: u32 = 40;

impl Checker {
    fn track(&mut self, key: BatchKey) -> &mut Track {
        self.tracks.entry(key).or_default()
    }

    /// The known imports that a batch waits for.
    fn imports_of(&mut self, key: BatchKey) -> impl Iterator<Item = &mut Made> {
        self.made
            .values_mut()
            .filter(move |made| made.known && made.given_up.is_none() && !made.excused && made.waiting.contains(&key))
    }

    /// An upload leaves.
    pub fn upload_sent(&mut self, packed: &[PackedRows]) -> CheckResult {
        for PackedRows { key, .. } in packed {
            let track = self.track(*key);
            track.sent += 1;
            hold(Invariant::NoUnexplainedResend, !track.taken, || {
                format!("{key} is sent again although Marketo took it")
            })?;
            hold(Invariant::ReasonRecorded, track.sent <= 1 + track.reasons, || {
                format!("{key} was sent {} times, for {} reasons", track.sent, track.reasons)
            })?;
        }
        Ok(())
    }

    /// Marketo refused the token of an upload: the same one may be sent again with another.
    pub fn token_refused(&mut self, packed: &[PackedRows]) {
        packed.iter().for_each(|packed| self.track(packed.key).reasons += 1);
    }

    /// Records a call of any kind that is sent.
    pub fn calls(&mut self, pause: Option<PauseKind>) -> CheckResult {
        self.futile = 0;
        let stopped = matches!(pause, Some(PauseKind::Credentials | PauseKind::Quota));
        hold(Invariant::Paused, !stopped, || format!("a call leaves although the instance is paused ({pause:?})"))
    }

    /// A call is counted. `day` is the one that the clock shows; `daily` is the limit, 0 where there is none.
    pub fn counts(&mut self, day: Timestamp, is_believed: bool, daily: u64) -> CheckResult {
        if self.day.is_none() || (is_believed && self.day != Some(day)) {
            (self.day, self.calls_of_day) = (Some(day), 0);
        }
        self.calls_of_day += 1;
        let calls = self.calls_of_day;
        hold(Invariant::Daily, daily == 0 || calls <= daily, || format!("{calls} calls since {day}, of {daily}"))
    }

    /// A question about an import leaves. `sharing` are the batches that share it, the one first that asks.
    pub fn query_sent(
        &mut self,
        sharing: &[BatchKey],
        what: &'static str,
        least: Duration,
        at: Duration,
    ) -> CheckResult {
        let before: Vec<_> = sharing.iter().map(|&key| self.track(key).asked.insert(what, (at, false))).collect();
        match (sharing.first(), before.first()) {
            (Some(key), Some(Some((before, false)))) if at < *before + least => {
                let text = format!("{key}: {what} is asked again after {:?}", at - *before);
                Err(Violation { invariant: Invariant::Polling, text })
            }
            _ => Ok(()),
        }
    }

    /// The next question may follow at once: the token or the rate limiter held it back, or the daemon was killed.
    pub fn may_repeat(&mut self, key: BatchKey) {
        self.track(key).asked.values_mut().for_each(|(_, at_once)| *at_once = true);
    }

    /// A daemon starts or an operator resumes, or the clock was set: every question may be asked at once.
    pub fn allow_repeats(&mut self) {
        let keys: Vec<_> = self.tracks.keys().copied().collect();
        keys.into_iter().for_each(|key| self.may_repeat(key));
    }

    /// Marketo's answer about a batch, whether or not it arrived.
    pub fn answered(&mut self, key: BatchKey, ask: ErrorAction) {
        self.track(key).last_ask = Some(ask);
    }

    pub fn import_failed(&mut self, key: BatchKey) {
        self.track(key).import_failed = true;
    }

    /// An import of these batches that the daemon does not know; an operator may find it.
    pub fn unknown(&self, sharing: &[BatchKey]) -> Option<u64> {
        let has = |made: &Made, key: &BatchKey| made.rows.iter().any(|rows| rows.key == *key);
        let unknown = self.made.iter().find(|(_, made)| !made.known && sharing.iter().all(|key| has(made, key)));
        unknown.map(|(&id, _)| id)
    }

    /// Marketo made an import.
    pub fn made(&mut self, id: u64, packed: &[PackedRows], fails: bool, at: Duration) {
        let (rows, waiting) = (packed.to_vec(), BTreeSet::new());
        self.made.insert(id, Made { rows, waiting, fails, known: false, at, given_up: None, excused: false });
    }

    /// A step was carried out without any effect.
    pub fn no_progress(&mut self) -> CheckResult {
        self.futile += 1;
        hold(Invariant::NoBusyLoop, self.futile < FUTILE, || {
            "the same steps are taken over and over, and nothing comes".into()
        })
    }

    pub fn progress_made(&mut self) {
        self.futile = 0;
    }

    /// After each step: what Marketo has, and how the rows stand. `unended` is what Marketo itself reports.
    pub fn tick(
        &mut self,
        store: &ModelStore,
        unended: impl Iterator<Item = u64>,
        rules: &SchedulingRules,
        at: Duration,
    ) -> CheckResult {
        let mut ours = 0;
        for id in unended {
            let Some(made) = self.made.get_mut(&id) else { continue };
            let track = self.tracks.get(&made.lead());
            let uploading = store.state(made.lead()) == BatchState::Uploading;
            if !made.known && !uploading && track.and_then(|track| track.unconfirmed).is_some_and(|until| until <= at) {
                made.excused = true;
            }
            made.excused |= made.given_up.is_some_and(|until| until <= at);
            ours += u32::from(!made.excused);
        }
        hold(Invariant::Queue, ours <= rules.max_in_flight, || {
            format!("Marketo has {ours} of our imports that are to be counted, and {} are allowed", rules.max_in_flight)
        })?;
        self.shared_states(store)?;
        let (mut groups, mut lists, mut shared) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        for (key, job, batch) in store.batches().filter(|(_, _, batch)| batch.progress.state.occupies_slot()) {
            if batch.sharing.import.is_some_and(|import| !shared.insert(import)) {
                continue;
            }
            if self.tracks.get(&key).is_some_and(|track| track.settled) {
                continue;
            }
            hold(Invariant::Group, job.group.as_ref().is_none_or(|group| groups.insert(group)), || {
                format!("{key} is in flight beside another of its group")
            })?;
            hold(Invariant::List, job.list.is_none_or(|list| lists.insert(list)), || {
                format!("{key} is in flight beside another into its list")
            })?;
        }
        Ok(())
    }

    /// A plan was made, twice, from one snapshot. `busy` are the workers before it.
    pub fn planned(
        &self,
        store: &ModelStore,
        plans: [&Plan; 2],
        busy: &HashMap<BatchKey, Work>,
        now: Timestamp,
    ) -> CheckResult {
        let [plan, again] = plans;
        hold(Invariant::PurePlan, plan == again, || format!("{plan:?} and then {again:?}"))?;
        let uploads = plan.steps.iter().filter_map(|step| match step {
            Step::Upload(key) => Some(*key),
            _ => None,
        });
        for key in uploads.clone() {
            let job = &store.jobs[&key.job];
            let ahead = |(id, other): (&JobId, &super::model_store::Job)| {
                *id < key.job && other.group == job.group && !other.state.is_terminal()
            };
            hold(Invariant::Group, job.group.is_none() || !store.jobs.iter().any(ahead), || {
                format!("{key} is to go before an older job of its group")
            })?;
            let rules = job.rules;
            let from = store.batch(key).from;
            let before = job.batches.iter().filter(|other| {
                (rules.in_order && other.from < from) || (rules.canary.is_some() && key.part != 1 && other.part == 1)
            });
            let is_complete = |batch: &super::model_store::Batch| batch.progress.state == BatchState::Complete;
            hold(Invariant::Rules, before.clone().all(is_complete), || {
                format!("{key} is to go, and waits for a batch of its job that is not complete: {rules:?}")
            })?;
            hold(Invariant::NotBefore, !job.is_early(now), || {
                format!("{key} is to go at {now}, and not before {:?}", job.not_before)
            })?;
        }
        let not_begun =
            |(key, work): (&BatchKey, &Work)| *work == Work::Upload && store.state(*key) == BatchState::Pending;
        let waiting = busy.iter().filter(|&(key, work)| not_begun((key, work))).count() as u32;
        let slots = store.instance.observed_slot_limit.filter(|_| store.instance.pause.is_none());
        let (in_flight, begin) = (store.in_flight() + waiting, uploads.count() as u32);
        hold(Invariant::Probe, begin == 0 || slots.is_none_or(|slots| in_flight + begin <= slots + 1), || {
            format!("{begin} uploads beside {in_flight} where Marketo last let us have {slots:?}")
        })?;
        if !plan.steps.is_empty() || !busy.is_empty() {
            return Ok(());
        }
        hold(Invariant::NoBusyLoop, plan.next_wake.is_none_or(|tick| tick > now), || {
            format!("nothing to do, and the next tick is {:?} at {now}", plan.next_wake)
        })?;
        let waits_for_operator = store.instance.pause.as_ref().is_some_and(|pause| pause.until.is_none());
        let work = store
            .batches()
            .any(|(_, _, batch)| !batch.progress.state.is_terminal() && batch.progress.state != BatchState::Held);
        let behind_held = store.batches().all(|(_, job, batch)| {
            batch.progress.state.is_terminal()
                || batch.progress.state == BatchState::Held
                || job.group.is_some()
                || job.waits_for_another(batch)
        }) && store.batches().any(|(_, _, batch)| batch.progress.state == BatchState::Held);
        hold(Invariant::NoLostWakeup, !work || plan.next_wake.is_some() || waits_for_operator || behind_held, || {
            "there is work, and no tick will ever come to it".into()
        })
    }

    /// Where uploads fail one after another, one goes at a time, and one that has not failed since the last success
    /// before those that have. `candidates` are the batches that may go.
    pub fn turns(&self, snapshot: &Snapshot, plan: &Plan, busy: &HashMap<BatchKey, Work>) -> CheckResult {
        if snapshot.instance.service_failures == 0 {
            return Ok(());
        }
        let failed = |key: &BatchKey| {
            let turn = self.tracks.get(key).and_then(|track| track.turn);
            turn.filter(|&turn| turn > self.success_turn)
        };
        let uploads: Vec<BatchKey> = plan
            .steps
            .iter()
            .filter_map(|step| match step {
                Step::Upload(key) => Some(*key),
                _ => None,
            })
            .collect();
        hold(Invariant::RetryOrder, uploads.len() <= 1, || format!("{uploads:?} go together where uploads fail"))?;
        let others =
            || snapshot.candidates.iter().filter(|other| other.group.is_none() && !busy.contains_key(&other.key));
        for key in uploads {
            let before = others().find(|other| failed(&other.key) < failed(&key));
            let before = before.map(|other| other.key);
            hold(Invariant::RetryOrder, before.is_none(), || format!("{key} is tried again, and {before:?} was not"))?;
        }
        Ok(())
    }

    /// After all faults: each job ended, and what is complete was imported.
    pub fn at_the_end(&self, store: &ModelStore) -> CheckResult {
        for (&id, job) in &store.jobs {
            hold(Invariant::End, job.state.is_terminal(), || format!("job {id} is {} at the end", job.state))?;
            if job.state != JobState::Complete {
                continue;
            }
            let imported: BTreeSet<u32> = self
                .made
                .values()
                .filter(|made| !made.fails)
                .flat_map(|made| made.rows.iter().filter(|rows| rows.key.job == id))
                .flat_map(|rows| rows.rows.clone())
                .collect();
            let rows = job.batches.iter().map(|batch| batch.rows()).sum::<u32>();
            hold(Invariant::End, imported.len() == rows as usize, || {
                format!("job {id} is complete, and {} of its {rows} rows were imported", imported.len())
            })?;
        }
        Ok(())
    }
}
