//! Was anything lost, sent twice or passed? Judged from what the simulator saw and what the clients heard; the daemon's
//! own word counts only where it speaks against it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use marqueue::simulator::CallLog;
use marqueue::simulator::call_log::Import;

use super::files::{End, File};
use super::trace::{Dropped, Found, Heard, Story};
use super::uploads::{self, Sent};

/// Imports that Marketo works on at once.
const AT_WORK: usize = 2;

/// What is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Promise {
    /// What was acknowledged is one job, and what was not is one job or none.
    Kept,
    /// A job has every byte that was dropped in.
    Whole,
    /// Every row of a job was taken in by Marketo.
    Imported,
    /// What was sent was dropped in, and goes where its client said.
    True,
    /// Rows that Marketo has are sent again only where its answer was lost.
    Once,
    /// No more imports in the queue than allowed, and no more at work.
    Queue,
    /// No more calls in a window, and at once, than allowed.
    Calls,
    /// One job of a group after the other, in the order in which they came, and one batch at a time.
    Group,
    /// Each job has come to its end, with the counts and files that Marketo gave.
    Ended,
}

/// A promise that was broken, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    pub promise: Promise,
    text: String,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.promise, self.text)
    }
}

/// A story while it is judged.
pub struct Judge<'a> {
    story: &'a Story,
    files: BTreeMap<&'a str, &'a Dropped>,
    jobs: BTreeMap<&'a str, Vec<&'a Found>>,
    sent: BTreeMap<&'a str, Vec<Sent>>,
    /// Imports that were sent again for no other reason than the daemon's death, by the life that sent them first.
    cut_off: BTreeMap<usize, BTreeSet<u64>>,
    broken: Vec<Broken>,
}

/// All that is wrong with a story.
pub fn judge(story: &Story) -> Vec<Broken> {
    let mut judge = Judge::new(story);
    judge.kept();
    for dropped in &story.files {
        judge.job(&dropped.file);
        judge.once(&dropped.file);
    }
    judge.deaths();
    judge.limits();
    judge.groups();
    judge.broken
}

impl<'a> Judge<'a> {
    pub fn new(story: &'a Story) -> Judge<'a> {
        let (sent, untrue) = uploads::read(story);
        let files = story.files.iter().map(|dropped| (dropped.file.name.as_str(), dropped)).collect();
        let mut judge =
            Judge { story, files, jobs: BTreeMap::new(), sent, cut_off: BTreeMap::new(), broken: Vec::new() };
        for found in &story.jobs {
            judge.jobs.entry(&found.job.filename).or_default().push(found);
        }
        untrue.into_iter().for_each(|text| judge.fault(Promise::True, text));
        judge
    }

    /// How many uploads were of rows that Marketo had already.
    pub fn sent_again(&self) -> usize {
        let again = |sent: &Vec<Sent>| {
            let had = |(n, later): (usize, &Sent)| {
                sent[..n].iter().any(|before| before.import.is_some() && before.overlaps(later))
            };
            sent.iter().enumerate().filter(|&(n, later)| had((n, later))).count()
        };
        self.sent.values().map(again).sum()
    }

    fn fault(&mut self, promise: Promise, text: String) {
        self.broken.push(Broken { promise, text });
    }

    fn kept(&mut self) {
        for dropped in &self.story.files {
            let name = dropped.file.name.as_str();
            let ids: Vec<_> = self.jobs.get(name).into_iter().flatten().map(|found| found.job.id).collect();
            let kept = match &dropped.heard {
                Heard::Nothing => ids.len() <= 1,
                Heard::Job(id) => ids == [*id],
                Heard::Taken => ids.len() == 1,
                Heard::Refused(_) => false,
            };
            if !kept {
                let text = format!("of {name} its client heard {:?}, and its jobs are {ids:?}", dropped.heard);
                self.fault(Promise::Kept, text);
            }
            if ids.is_empty() && self.sent.contains_key(name) {
                self.fault(Promise::Kept, format!("{name} is no job, and rows of it were sent"));
            }
        }
        let strange: Vec<_> = self.jobs.keys().filter(|name| !self.files.contains_key(*name)).copied().collect();
        for name in strange {
            self.fault(Promise::Kept, format!("there is a job {name}, which nobody dropped in"));
        }
        if self.story.halves > 0 {
            self.fault(Promise::Kept, format!("{} files that broke off were not swept", self.story.halves));
        }
    }

    /// The jobs of a file: what they hold, what Marketo has of them, and how they ended.
    fn job(&mut self, file: &File) {
        let has: BTreeSet<usize> =
            self.sent_of(file).filter(|sent| sent.import.is_some()).flat_map(|sent| sent.rows.clone()).collect();
        for found in self.jobs.get(file.name.as_str()).cloned().unwrap_or_default() {
            let (id, name) = (found.job.id, &file.name);
            if found.content != file.content {
                self.fault(Promise::Whole, format!("job {id} is not {name} as it was dropped in"));
            }
            let lost: Vec<_> = file.rows().filter(|row| !has.contains(row)).collect();
            if !lost.is_empty() {
                self.fault(Promise::Imported, format!("Marketo never had the rows {lost:?} of {name} (job {id})"));
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
                self.fault(Promise::Ended, text);
            }
        }
    }

    fn sent_of(&self, file: &File) -> impl Iterator<Item = &Sent> {
        self.sent.get(file.name.as_str()).into_iter().flatten()
    }

    /// What Marketo has is sent again only if nobody can know that it has it: a fault ate the answer, or the daemon died
    /// before it had written the answer down.
    fn once(&mut self, file: &File) {
        let mut faults = Vec::new();
        let mut cut_off = BTreeMap::<usize, BTreeSet<u64>>::new();
        let sent: Vec<&Sent> = self.sent_of(file).collect();
        for (n, later) in sent.iter().enumerate() {
            for before in sent[..n].iter().filter(|before| before.overlaps(later)) {
                let Some(id) = before.import else { continue };
                let import = self.story.ledger.imports.iter().find(|import| import.id == id);
                let asked = import.and_then(|import| import.asked).is_some_and(|asked| asked <= later.at);
                let told = self.story.lives[..later.life].iter().any(|life| life.known.contains(&id));
                let died = before.life < later.life && !self.story.lives[before.life].left;
                let lost = before.answer_lost || died;
                let why = match () {
                    () if self.story.limits.hold => "nothing is to be sent again that Marketo has",
                    () if asked => "the daemon had asked after that import",
                    () if told => "the daemon had spoken of that import",
                    () if !lost => "its answer was not lost",
                    () => {
                        if !before.answer_lost {
                            cut_off.entry(before.life).or_default().insert(id);
                        }
                        continue;
                    }
                };
                faults.push(format!(
                    "rows {:?} of {} were sent in life {} after import {id} of rows {:?} in life {}: {why}",
                    later.rows, file.name, later.life, before.rows, before.life
                ));
            }
        }
        faults.into_iter().for_each(|text| self.fault(Promise::Once, text));
        cut_off.into_iter().for_each(|(life, imports)| self.cut_off.entry(life).or_default().extend(imports));
    }

    /// No more answers can be on their way when the daemon dies than it has calls under way.
    fn deaths(&mut self) {
        let allowed = self.story.limits.calls_at_once;
        for (life, imports) in std::mem::take(&mut self.cut_off) {
            if imports.len() > allowed {
                let text = format!("the end of life {life} is to have cut off the answers of {imports:?}");
                self.fault(Promise::Once, text);
            }
        }
    }

    fn limits(&mut self) {
        let (limits, ledger) = (self.story.limits, &self.story.ledger);
        let importing = most_at_once(&ledger.imports, |import| import.started);
        for (promise, what, most, allowed) in [
            (Promise::Queue, "imports in the queue", most_queued(ledger), limits.in_flight),
            (Promise::Queue, "imports at work", importing, limits.in_flight.min(AT_WORK)),
            (Promise::Calls, "calls in one window", ledger.most_calls_in_window, limits.calls),
            (Promise::Calls, "calls at once", ledger.most_concurrent_calls, limits.calls_at_once),
        ] {
            if most > allowed {
                self.fault(promise, format!("{most} {what}, where {allowed} are allowed"));
            }
        }
    }

    /// A group is dropped in by one client, which waits for each answer.
    fn groups(&mut self) {
        let imports: BTreeMap<u64, &Import> =
            self.story.ledger.imports.iter().map(|import| (import.id, import)).collect();
        let ended = |sent: &Sent| Some(imports.get(&sent.import?)?.ended.unwrap_or(Duration::MAX));
        let mut groups: BTreeMap<&str, Vec<&File>> = BTreeMap::new();
        for file in self.story.files.iter().map(|dropped| &dropped.file) {
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
                let sent: Vec<&Sent> = self.sent_of(file).collect();
                for (n, later) in sent.iter().enumerate() {
                    // What a lost answer left behind can't be waited for.
                    let known = |before: &&&Sent| before.life == later.life && !before.answer_lost;
                    let mut others = sent[..n].iter().filter(known).filter(|before| !before.overlaps(later));
                    if others.any(|before| ended(before).is_some_and(|ended| later.at < ended)) {
                        faults.push(format!("rows {:?} of {} were sent beside others of it", later.rows, file.name));
                    }
                }
            }
        }
        faults.into_iter().for_each(|text| self.fault(Promise::Group, text));
    }
}

/// The most imports that stood in the queue at once: ours alone, for those of others are no matter of the daemon's.
pub fn most_queued(ledger: &CallLog) -> usize {
    most_at_once(&ledger.imports, |import| Some(import.accepted))
}

/// The most imports at one moment from `from` to their end; where one ends as another begins, they do not meet.
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
