//! How do files that are put into a folder become jobs? One loop looks at the whole folder, at every event and every few
//! seconds, and hands out what is whole, one file of an instance at a time.
//!
//! As with the queue itself, a look carries no memory that matters: what lies in the folder says what is to be done, so
//! a restart is the first look and not a second program. Events only make it prompt, and tell when a writer is done
//! ([`whole`]). How one file becomes one job is told in [`take`].

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::task::{self, JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use self::events::Events;
use self::place::{Options, Place, place};
use self::stamp::Stamp;
use self::take::{Hands, Order, Outcome, Task};
use self::tree::{Look, OPTIONS, OPTIONS_REASON, Tree};
use self::whole::Watched;
use crate::clock::Clock;
use crate::config::Config;
use crate::intake::Intake;
use crate::job::Format;
use crate::untrusted_text::escape_lines;

mod events;
mod ground;
mod place;
mod rejected;
mod stamp;
mod take;
mod tree;
mod whole;
mod writers;

pub use rejected::rejected_files;

/// Network shares give no events.
const RESCAN: Duration = Duration::from_secs(10);
/// After a passing fault, such as a full disk.
const RETRY: Duration = Duration::from_secs(10);
/// Two looks are at least so far apart, so that one sees the many files of one moment.
const BREATH: Duration = Duration::from_millis(50);

/// The drop folder can't be used.
#[derive(Debug, thiserror::Error)]
#[error("the drop folder {} can't be made ready: {why}", path.display())]
pub struct DropFolderError {
    path: PathBuf,
    why: io::Error,
}

/// The drop folder, made ready.
pub struct DropFolder {
    hands: Arc<Hands>,
    instances: Arc<BTreeSet<String>>,
    events: Events,
    /// The folder that is listened to; another one if something was mounted over it.
    root: Option<Stamp>,
    watched: Watched,
    /// Whole files that wait for the one before them, by their topmost folder.
    queues: BTreeMap<OsString, VecDeque<Task>>,
    busy: HashMap<task::Id, (OsString, Arc<Task>)>,
    /// Files that are not to be tried again before then.
    later: HashMap<PathBuf, Instant>,
    /// Files whose job is on the disk and that could not be removed.
    taken: HashMap<PathBuf, Stamp>,
    /// What was last logged of each file, so that it is not said again at every look.
    said: HashMap<PathBuf, String>,
}

impl DropFolder {
    /// Makes the folder of each instance, where it is missing. None if the configuration names no drop folder.
    ///
    /// # Errors
    /// [`DropFolderError`]
    pub fn open(config: &Config, intake: Intake, clock: Clock) -> Result<Option<DropFolder>, DropFolderError> {
        let Some(path) = &config.drop.path else { return Ok(None) };
        let failed = |why| DropFolderError { path: path.clone(), why };
        std::fs::create_dir_all(path).map_err(failed)?;
        let tree = Tree::new(path.canonicalize().map_err(failed)?);
        let instances = Arc::new(config.instances.keys().cloned().collect());
        ground::make_ready(&tree, &instances).map_err(failed)?;
        // Before anybody is told that the daemon is ready, so that nothing that is written from then on goes unheard.
        let events = Events::default();
        ground::watch(&tree, &events);
        let root = tree.open_root().and_then(Stamp::of_open).map_err(failed)?;
        Ok(Some(DropFolder {
            hands: Arc::new(Hands { tree, intake, clock, rejecting: Arc::new(Mutex::new(())) }),
            instances,
            events,
            root: Some(root),
            watched: Watched::default(),
            queues: BTreeMap::new(),
            busy: HashMap::new(),
            later: HashMap::new(),
            taken: HashMap::new(),
            said: HashMap::new(),
        }))
    }

    /// Takes files until the stop. A take under way is then left; it is whole or undone at the next start.
    pub async fn run(mut self, stop: CancellationToken) {
        tracing::info!(folder = %self.hands.tree.root().display(), "files are taken from the drop folder");
        let mut takes = JoinSet::new();
        let events = self.events.clone();
        loop {
            let begun = Instant::now();
            let next_look = self.look().await;
            let breath = begun.elapsed().saturating_mul(4).max(BREATH);
            loop {
                self.start(&mut takes);
                tokio::select! {
                    () = stop.cancelled() => return,
                    Some(done) = takes.join_next_with_id() => self.done(done),
                    () = events.woken() => {
                        let _ = tokio::time::timeout(breath, stop.cancelled()).await;
                        break;
                    }
                    () = tokio::time::sleep_until(next_look.into()) => break,
                }
            }
        }
    }

    /// Looks at all there is and queues what is whole. Gives the time of the next look, if nothing is heard before.
    async fn look(&mut self) -> Instant {
        let (tree, instances, events, known) =
            (self.hands.tree.clone(), self.instances.clone(), self.events.clone(), self.root);
        let looked = task::spawn_blocking(move || ground::look(&tree, &instances, &events, known));
        let looked = looked.await.unwrap_or_else(|error| Err(io::Error::other(error)));
        let now = Instant::now();
        let (look, heard, root) = match looked {
            Ok(looked) => looked,
            Err(error) => {
                self.root = None;
                self.queues.clear();
                self.say(PathBuf::new(), format!("the drop folder can't be looked at: {error}"));
                return now + RESCAN;
            }
        };
        if heard.lost || self.root.is_none_or(|known| !known.is_same_inode(&root)) {
            self.watched.forget_signals();
        }
        self.root = Some(root);
        self.watched.note(&look.files, &heard.signals, now);
        self.forget_what_is_gone(&look);
        let options = self.options(&look, now).await;
        self.queue(&look, &options, now).await
    }

    fn forget_what_is_gone(&mut self, look: &Look) {
        let options: BTreeSet<PathBuf> = look.options.keys().map(|folder| folder.join(OPTIONS)).collect();
        let is_there = |path: &Path| {
            look.files.contains_key(path) || look.passed_over.contains_key(path) || options.contains(path)
        };
        self.said.retain(|path, _| is_there(path));
        self.later.retain(|path, _| is_there(path));
        self.taken.retain(|path, stamp| look.files.get(path).is_some_and(|found| found.is_unchanged(stamp)));
        for (path, why) in &look.passed_over {
            self.say(path.clone(), format!("something in the drop folder is passed over: {why}"));
        }
    }

    /// The options of each folder that has some; none while they are being written or wrong. What is wrong is written
    /// down beside them.
    async fn options(&mut self, look: &Look, now: Instant) -> HashMap<PathBuf, Option<Options>> {
        let mut all = HashMap::new();
        let mut reasons = look.reasons.keys().map(|folder| (folder.clone(), None)).collect::<BTreeMap<_, _>>();
        for (folder, text) in &look.options {
            let path = folder.join(OPTIONS);
            if look.files.contains_key(&path) && self.watched.whole_at(&path).is_none_or(|whole| whole > now) {
                all.insert(folder.clone(), None);
                // What was said of it may still be true.
                reasons.remove(folder);
                continue;
            }
            let read = place(folder, &self.instances)
                .map_err(|_| "it has no effect here, where no files are taken".to_owned())
                .and_then(|place| Options::read(text.as_ref().map_err(String::clone)?, &place));
            if let Err(reason) = &read {
                let reason = escape_lines(reason);
                let reason = format!("{reason}.\n\nNo file of this folder is imported until {OPTIONS} is mended.\n");
                reasons.insert(folder.clone(), Some(reason));
            }
            all.insert(folder.clone(), read.ok());
        }
        for (folder, reason) in reasons {
            let path = folder.join(OPTIONS);
            match &reason {
                // The reason may quote what stands there; it is not for the log.
                Some(_) => self.say(path, format!("{OPTIONS} is wrong; its files wait; see {OPTIONS_REASON}")),
                None => drop(self.said.remove(&path)),
            }
            if look.reasons.get(&folder) != reason.as_ref() {
                let tree = self.hands.tree.clone();
                let written = task::spawn_blocking(move || ground::explain(&tree, &folder, reason.as_deref()));
                if let Ok(Err(error)) = written.await {
                    tracing::debug!(%error, "the reason for a wrong {OPTIONS} can't be written");
                }
            }
        }
        all
    }

    async fn queue(&mut self, look: &Look, options: &HashMap<PathBuf, Option<Options>>, now: Instant) -> Instant {
        let mut next_look = now + RESCAN;
        self.queues.clear();
        let mut whole = Vec::new();
        for (path, stamp) in &look.files {
            let tried_again = self.later.get(path).copied().unwrap_or(now);
            let Some(at) = self.watched.whole_at(path).map(|at| at.max(tried_again)) else { continue };
            let is_busy = self.busy.values().any(|(_, task)| task.path == *path);
            if at > now {
                next_look = next_look.min(at);
            } else if !is_busy && path.file_name() != Some(OsStr::new(OPTIONS)) {
                whole.push((path, stamp));
            }
        }
        if whole.iter().any(|(path, _)| !self.watched.was_heard_to_end(path)) {
            let written = task::spawn_blocking(writers::written).await.unwrap_or_default();
            whole.retain(|(path, stamp)| self.watched.was_heard_to_end(path) || !stamp.is_among(&written));
        }
        // The one that was written first goes first.
        whole.sort_by_key(|(_, stamp)| stamp.modified);
        for (path, stamp) in whole {
            if let Some(order) = self.order(path, look, options) {
                let lane = path.iter().next().unwrap_or_default().to_owned();
                self.queues.entry(lane).or_default().push_back(Task { path: path.clone(), stamp: *stamp, order });
            }
        }
        next_look
    }

    /// What is to be done with a whole file; none if it has to wait for its options.
    fn order(&self, path: &Path, look: &Look, options: &HashMap<PathBuf, Option<Options>>) -> Option<Order> {
        if self.taken.contains_key(path) {
            return Some(Order::Remove);
        }
        let folder = path.parent().unwrap_or(Path::new(""));
        let named = |place: Place| -> Result<_, String> {
            let name = path.file_name().and_then(OsStr::to_str).ok_or("the file's name is not UTF-8")?;
            Ok((place, name, Format::of_name(name).ok_or("the file's name has no known ending")?))
        };
        let (place, name, format) = match place(folder, &self.instances).and_then(named) {
            Ok(all) => all,
            Err(reason) => return Some(Order::Refuse(reason)),
        };
        let none = Some(Options::default());
        let options = options.get(folder).unwrap_or(&none).as_ref()?;
        let written_down = look.files.get(&folder.join(OPTIONS)).copied();
        let job = Box::new(options.job(&place, path, name, format));
        Some(Order::Take { job, check: options.check(), options: written_down })
    }

    /// Begins what may begin: one file of each instance.
    fn start(&mut self, takes: &mut JoinSet<Outcome>) {
        for (lane, queue) in &mut self.queues {
            if self.busy.values().any(|(busy, _)| busy == lane) {
                continue;
            }
            let Some(task) = queue.pop_front() else { continue };
            let (hands, begun) = (self.hands.clone(), Arc::new(task));
            let task = begun.clone();
            let id = takes.spawn(async move { hands.carry_out(&task).await }).id();
            self.busy.insert(id, (lane.clone(), begun));
        }
    }

    fn done(&mut self, done: Result<(task::Id, Outcome), JoinError>) {
        let (id, outcome) = match done {
            Ok(done) => done,
            Err(error) => (error.id(), Outcome::Later(format!("taking it broke down: {error}"))),
        };
        let Some((_, task)) = self.busy.remove(&id) else { return };
        let path = task.path.clone();
        match outcome {
            Outcome::Over => drop(self.taken.remove(&path)),
            Outcome::Changed => {}
            Outcome::Later(why) => {
                self.later.insert(path.clone(), Instant::now() + RETRY);
                self.say(path, format!("a dropped file has to wait: {why}"));
            }
            Outcome::NotRemoved(why) => {
                self.later.insert(path.clone(), Instant::now() + RETRY);
                self.taken.insert(path.clone(), task.stamp);
                self.say(path, format!("a dropped file stays: {why}"));
            }
        }
    }

    fn say(&mut self, path: PathBuf, what: String) {
        if self.said.get(&path) != Some(&what) {
            tracing::warn!(file = %path.display(), "{what}");
            self.said.insert(path, what);
        }
    }
}
