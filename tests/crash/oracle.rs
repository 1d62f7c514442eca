//! Oracle: checks the invariants on a trace. It relies on the simulator's call log and the clients' replies; what the
//! daemon itself reports is used only as evidence against it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use marqueue::simulator::CallLog;
use marqueue::simulator::call_log::Import;

use super::files::{End, File};
use super::sharing::divisions;
use super::trace::{FinalJob, Reply, Submission, Trace};
use super::uploads::{self, Upload};

/// Imports that Marketo works on at once.
const AT_WORK: usize = 2;

/// What must hold in every trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Invariant {
    /// What was acknowledged is one job, and what was not is one job or none.
    NoJobLost,
    /// A job has every byte that was submitted.
    ContentIntact,
    /// Every row of a job was taken in by Marketo.
    Imported,
    /// What was sent was submitted, and has the target that its client chose.
    SentAsSubmitted,
    /// Rows that Marketo has are sent again only where its answer was lost, or alone after a shared import failed.
    NoUnexplainedResend,
    /// Jobs share an import only where they may, and their records say what Marketo made of it.
    Sharing,
    /// No more imports in the queue than allowed, and no more at work.
    Queue,
    /// No more calls in a window, and at once, than allowed.
    Calls,
    /// One job of a group after the other, in the order in which they came, and one batch at a time.
    Group,
    /// Each job has come to its end, with the counts and files that Marketo gave.
    Ended,
}

/// A violated invariant, and how it was violated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    pub invariant: Invariant,
    text: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.invariant, self.text)
    }
}

/// Imports that several jobs shared.
#[derive(Clone, Copy, Debug, Default)]
pub struct Shared {
    pub imports: usize,
    /// All jobs in them, one that was in two counted twice.
    pub jobs: usize,
    pub failed: usize,
    /// Jobs that were in an upload that Marketo refused for its size.
    pub divided: usize,
}

/// The state of the checks on one trace.
pub struct Oracle<'a> {
    pub(super) trace: &'a Trace,
    files: BTreeMap<&'a str, &'a Submission>,
    jobs: BTreeMap<&'a str, Vec<&'a FinalJob>>,
    sent: BTreeMap<&'a str, Vec<Upload>>,
    /// Imports that were sent again for no other reason than the daemon's kill, by the run that sent them first.
    cut_off: BTreeMap<usize, BTreeSet<u64>>,
    violations: Vec<Violation>,
}

/// Returns all violations in a trace.
pub fn check(trace: &Trace) -> Vec<Violation> {
    let mut check = Oracle::new(trace);
    check.acknowledged();
    for submission in &trace.files {
        check.job(&submission.file);
        check.resends(&submission.file);
        check.sharing(&submission.file);
    }
    check.lost_at_kills();
    check.limits();
    check.groups();
    check.violations
}

impl<'a> Oracle<'a> {
    pub fn new(trace: &'a Trace) -> Oracle<'a> {
        let (sent, violations) = uploads::read(trace);
        let files = trace.files.iter().map(|submission| (submission.file.name.as_str(), submission)).collect();
        let mut check =
            Oracle { trace, files, jobs: BTreeMap::new(), sent, cut_off: BTreeMap::new(), violations: Vec::new() };
        for found in &trace.jobs {
            check.jobs.entry(&found.job.filename).or_default().push(found);
        }
        violations.into_iter().for_each(|text| check.fault(Invariant::SentAsSubmitted, text));
        check
    }

    /// How many uploads were of rows that Marketo had already.
    pub fn sent_again(&self) -> usize {
        let again = |sent: &Vec<Upload>| {
            let had = |(n, later): (usize, &Upload)| {
                sent[..n].iter().any(|before| before.import.is_some() && before.overlaps(later))
            };
            sent.iter().enumerate().filter(|&(n, later)| had((n, later))).count()
        };
        self.sent.values().map(again).sum()
    }

    pub fn shared(&self) -> Shared {
        let shared = || self.sent.values().flatten().filter(|upload| upload.shared_with > 0);
        let imports: BTreeSet<u64> = shared().filter_map(|upload| upload.import).collect();
        let failed: BTreeSet<u64> =
            shared().filter(|upload| self.has_failed_shared(upload)).filter_map(|upload| upload.import).collect();
        Shared {
            imports: imports.len(),
            jobs: shared().filter(|upload| upload.import.is_some()).count(),
            failed: failed.len(),
            divided: self.trace.jobs.iter().filter(|found| divisions(found).next().is_some()).count(),
        }
    }

    pub(super) fn fault(&mut self, invariant: Invariant, text: String) {
        self.violations.push(Violation { invariant, text });
    }

    fn acknowledged(&mut self) {
        for submission in &self.trace.files {
            let name = submission.file.name.as_str();
            let ids: Vec<_> = self.jobs.get(name).into_iter().flatten().map(|found| found.job.id).collect();
            let kept = match &submission.reply {
                Reply::Nothing => ids.len() <= 1,
                Reply::Job(id) => ids == [*id],
                Reply::Taken => ids.len() == 1,
                Reply::Refused(_) => false,
            };
            if !kept {
                let text =
                    format!("the client of {name} got the reply {:?}, and its jobs are {ids:?}", submission.reply);
                self.fault(Invariant::NoJobLost, text);
            }
            if ids.is_empty() && self.sent.contains_key(name) {
                self.fault(Invariant::NoJobLost, format!("{name} is no job, and rows of it were sent"));
            }
        }
        let strange: Vec<_> = self.jobs.keys().filter(|name| !self.files.contains_key(*name)).copied().collect();
        for name in strange {
            self.fault(Invariant::NoJobLost, format!("there is a job {name}, which no client submitted"));
        }
        if self.trace.incomplete > 0 {
            self.fault(Invariant::NoJobLost, format!("{} files that broke off were not swept", self.trace.incomplete));
        }
    }

    /// The jobs of a file: what they hold, what Marketo has of them, and how they ended.
    fn job(&mut self, file: &File) {
        let has = self.sent_of(file).filter(|sent| sent.import.is_some() && !self.has_failed_shared(sent));
        let has: BTreeSet<usize> = has.flat_map(|sent| sent.rows.clone()).collect();
        for found in self.jobs.get(file.name.as_str()).cloned().unwrap_or_default() {
            let (id, name) = (found.job.id, &file.name);
            if found.content != file.content {
                self.fault(Invariant::ContentIntact, format!("job {id} is not {name} as it was submitted"));
            }
            let lost: Vec<_> = file.rows().filter(|row| !has.contains(row)).collect();
            if !lost.is_empty() {
                self.fault(Invariant::Imported, format!("Marketo never had the rows {lost:?} of {name} (job {id})"));
            }
            let (rows, expected) = (found.job.rows, file.end());
            let end = End {
                state: found.job.state,
                total: rows.total,
                processed: rows.processed,
                failed: rows.failed,
                warned: rows.warned,
                failures: found.failures.clone(),
                warnings: found.warnings.clone(),
            };
            let differences = end.differences(&expected);
            if !differences.is_empty() {
                let text = format!("job {id} ({name}): {}; {:?}", differences.join("; "), found.job.error);
                self.fault(Invariant::Ended, text);
            }
        }
    }

    pub(super) fn jobs_of(&self, file: &File) -> impl Iterator<Item = &'a FinalJob> {
        self.jobs.get(file.name.as_str()).into_iter().flatten().copied()
    }

    pub(super) fn import(&self, upload: &Upload) -> Option<&'a Import> {
        let id = upload.import?;
        self.trace.call_log.imports.iter().find(|import| import.id == id)
    }

    pub(super) fn sent_of(&self, file: &File) -> impl Iterator<Item = &Upload> {
        self.sent.get(file.name.as_str()).into_iter().flatten()
    }

    /// What Marketo has is sent again only if the daemon cannot know that: a fault removed the answer, or the daemon
    /// was killed before it had stored the answer. Of a shared import that failed Marketo has nothing.
    fn resends(&mut self, file: &File) {
        let mut faults = Vec::new();
        let mut cut_off = BTreeMap::<usize, BTreeSet<u64>>::new();
        let sent: Vec<&Upload> = self.sent_of(file).collect();
        for (n, later) in sent.iter().enumerate() {
            for before in sent[..n].iter().filter(|before| before.overlaps(later)) {
                let Some(id) = before.import else { continue };
                let import = self.import(before);
                let has_ended = import.and_then(|import| import.ended).is_some_and(|ended| ended <= later.at);
                if later.shared_with == 0 && has_ended && self.has_failed_shared(before) {
                    continue;
                }
                let asked = import.and_then(|import| import.asked).is_some_and(|asked| asked <= later.at);
                let listed = self.trace.runs[..later.run].iter().any(|run| run.known.contains(&id));
                let killed = before.run < later.run && !self.trace.runs[before.run].left;
                let lost = before.answer_lost || killed;
                let why = match () {
                    () if self.trace.limits.hold => "nothing is to be sent again that Marketo has",
                    () if asked => "the daemon had asked after that import",
                    () if listed => "the daemon had listed that import",
                    () if !lost => "its answer was not lost",
                    () => {
                        if !before.answer_lost {
                            cut_off.entry(before.run).or_default().insert(id);
                        }
                        continue;
                    }
                };
                faults.push(format!(
                    "rows {:?} of {} were sent in run {} after import {id} of rows {:?} in run {}: {why}",
                    later.rows, file.name, later.run, before.rows, before.run
                ));
            }
        }
        faults.into_iter().for_each(|text| self.fault(Invariant::NoUnexplainedResend, text));
        cut_off.into_iter().for_each(|(run, imports)| self.cut_off.entry(run).or_default().extend(imports));
    }

    /// When the daemon is killed, no more answers can be lost than calls were under way.
    fn lost_at_kills(&mut self) {
        let allowed = self.trace.limits.calls_at_once;
        for (run, imports) in std::mem::take(&mut self.cut_off) {
            if imports.len() > allowed {
                let text = format!("the end of run {run} would have cut off the answers of {imports:?}");
                self.fault(Invariant::NoUnexplainedResend, text);
            }
        }
    }

    fn limits(&mut self) {
        let (limits, call_log) = (self.trace.limits, &self.trace.call_log);
        let importing = most_at_once(&call_log.imports, |import| import.started);
        for (invariant, what, most, allowed) in [
            (Invariant::Queue, "imports in the queue", most_queued(call_log), limits.in_flight),
            (Invariant::Queue, "imports at work", importing, limits.in_flight.min(AT_WORK)),
            (Invariant::Calls, "calls in one window", call_log.max_calls_in_window, limits.calls),
            (Invariant::Calls, "calls at once", call_log.max_concurrent_calls, limits.calls_at_once),
        ] {
            if most > allowed {
                self.fault(invariant, format!("{most} {what}, where {allowed} are allowed"));
            }
        }
    }

    /// A group is submitted by one client, which waits for each answer.
    fn groups(&mut self) {
        let imports: BTreeMap<u64, &Import> =
            self.trace.call_log.imports.iter().map(|import| (import.id, import)).collect();
        let ended = |sent: &Upload| Some(imports.get(&sent.import?)?.ended.unwrap_or(Duration::MAX));
        let mut groups: BTreeMap<&str, Vec<&File>> = BTreeMap::new();
        for file in self.trace.files.iter().map(|submission| &submission.file) {
            let is_a_job = self.jobs.contains_key(file.name.as_str());
            groups.entry(file.group.as_deref().unwrap_or_default()).or_default().extend(is_a_job.then_some(file));
        }
        groups.remove("");
        let mut faults = Vec::new();
        for files in groups.into_values() {
            for pair in files.windows(2) {
                let ended = self.sent_of(pair[0]).filter_map(ended).max();
                let begun = self.sent_of(pair[1]).map(|sent| sent.at).min();
                if begun.zip(ended).is_some_and(|(begun, ended)| begun < ended) {
                    faults.push(format!("{} was sent before {} had ended", pair[1].name, pair[0].name));
                }
            }
            for file in files {
                let sent: Vec<&Upload> = self.sent_of(file).collect();
                for (n, later) in sent.iter().enumerate() {
                    // What a lost answer left behind can't be waited for.
                    let known = |before: &&&Upload| before.run == later.run && !before.answer_lost;
                    let mut others = sent[..n].iter().filter(known).filter(|before| !before.overlaps(later));
                    if others.any(|before| ended(before).is_some_and(|ended| later.at < ended)) {
                        faults.push(format!("rows {:?} of {} were sent beside others of it", later.rows, file.name));
                    }
                }
            }
        }
        faults.into_iter().for_each(|text| self.fault(Invariant::Group, text));
    }
}

/// The most imports that stood in the queue at once: ours alone, for those of other integrations are not the daemon's.
pub fn most_queued(call_log: &CallLog) -> usize {
    most_at_once(&call_log.imports, |import| Some(import.accepted))
}

/// The most imports at one time, from `from` to their end; where one ends as another begins, they do not overlap.
fn most_at_once(imports: &[Import], from: fn(&Import) -> Option<Duration>) -> usize {
    let spans = imports.iter().filter_map(|import| Some((from(import)?, import.ended.unwrap_or(Duration::MAX))));
    // One that ended as it began was never beside another, and would end before it begins in this order.
    let spans = spans.filter(|(from, to)| from < to);
    let mut edges: Vec<(Duration, bool)> = spans.flat_map(|(from, to)| [(from, true), (to, false)]).collect();
    edges.sort_unstable();
    let (mut now, mut most) = (0_usize, 0);
    for (_, begins) in edges {
        now = if begins { now + 1 } else { now - 1 };
        most = most.max(now);
    }
    most
}
