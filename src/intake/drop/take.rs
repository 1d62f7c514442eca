//! How does one file become one job, whatever is killed in between?
//!
//! 1. The file is opened, and is the one that was looked at.
//! 2. It streams in. If it changed meanwhile it was not whole, and nothing is kept.
//! 3. The job is committed, under a key made of path, identity and content.
//! 4. The file is removed, if it is still the one that was read.
//!
//! A kill before 3 leaves the file and no job; one between 3 and 4 leaves both, and the next take finds the job by its
//! key, and goes on to 4. That the removal reaches the disk is not waited for: a file that a power cut brings back is
//! found in the same way. The key lives as long as the job's record, so this would fail only if the record were erased
//! (`retention.jobs`) before the next start.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use tokio::io::AsyncReadExt;
use tokio_util::io::ReaderStream;

use super::rejected::reject;
use super::stamp::Stamp;
use super::tree::{self, OPTIONS, Tree};
use crate::clock::Clock;
use crate::intake::{Intake, IntakeError};
use crate::store::{Added, NewJob, StoreError};

/// What is read at once.
const READ_BYTES: usize = 256 * 1024;

/// What takes need; shared by all of them.
pub(super) struct Hands {
    pub(super) tree: Tree,
    pub(super) intake: Intake,
    pub(super) clock: Clock,
    /// Two files of one name must not get one name among the rejected ones.
    pub(super) rejecting: Arc<Mutex<()>>,
}

/// One file, and what is to be done with it.
#[derive(Debug)]
pub(super) struct Task {
    pub(super) path: PathBuf,
    pub(super) stamp: Stamp,
    pub(super) order: Order,
}

#[derive(Debug)]
pub(super) enum Order {
    Take {
        job: Box<NewJob>,
        check: bool,
        /// The `job.toml` that the job was made from.
        options: Option<Stamp>,
    },
    Refuse(String),
    /// Its job is on the disk, and only the removal failed.
    Remove,
}

/// What became of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Over,
    /// It is not what it was, so the next look judges it anew.
    Changed,
    /// It stays where it is, and is tried again later.
    Later(String),
    /// Its job is on the disk, but it can't be removed.
    NotRemoved(String),
}

impl Hands {
    pub(super) async fn carry_out(&self, task: &Task) -> Outcome {
        match &task.order {
            Order::Take { job, check, options } => self.take(task, job, *check, *options).await,
            Order::Refuse(reason) => self.refuse(task, reason.clone()).await,
            Order::Remove => self.remove(task).await,
        }
    }

    async fn take(&self, task: &Task, job: &NewJob, check: bool, options: Option<Stamp>) -> Outcome {
        let file = match self.open(task, options).await {
            Ok(Some(file)) => file,
            Ok(None) => return Outcome::Changed,
            Err(error) => return Outcome::Later(format!("it can't be read: {error}")),
        };
        match self.receive(task, job, check, file).await {
            Ok(id) => tracing::info!(file = %task.path.display(), job = id, "a dropped file was taken"),
            Err(IntakeError::Store(StoreError::KeyReused(_))) => {
                // Path, identity and content are in the key, so it is this file: only its options are others by now.
                tracing::info!(file = %task.path.display(), "a dropped file was taken before, with other options");
            }
            Err(IntakeError::CutOff(_)) => return Outcome::Changed,
            Err(IntakeError::Store(error)) => return Outcome::Later(format!("it can't be stored: {error}")),
            Err(refused) => return self.refuse(task, refused.to_string()).await,
        }
        self.remove(task).await
    }

    /// Steps 2 and 3.
    async fn receive(&self, task: &Task, job: &NewJob, check: bool, file: File) -> Result<i64, IntakeError> {
        let identity = task.stamp.identity(&task.path);
        let body = body(file, task.stamp).map_err(|error| IntakeError::CutOff(error.to_string()))?;
        match self.intake.receive_file(job.clone(), check, identity, body).await? {
            Added::New(job) | Added::Same(job) => Ok(job.id.0),
        }
    }

    /// The file, if it and its `job.toml` are still those of the look.
    async fn open(&self, task: &Task, options: Option<Stamp>) -> io::Result<Option<File>> {
        let (tree, path, stamp) = (self.tree.clone(), task.path.clone(), task.stamp);
        blocking(move || {
            let (folder, name) = split(&tree, &path)?;
            let same_options = match (Stamp::of(&folder, OsStr::new(OPTIONS)), options) {
                (Ok(found), Some(seen)) => found.is_unchanged(&seen),
                (Err(error), None) => error.kind() == io::ErrorKind::NotFound,
                _ => false,
            };
            let opened = tree::open_file(&folder, &name)?;
            Ok(opened.filter(|(_, found)| same_options && found.is_unchanged(&stamp)).map(|(file, _)| file))
        })
        .await
        .or_else(gone)
    }

    async fn refuse(&self, task: &Task, reason: String) -> Outcome {
        let (tree, path, stamp, now) = (self.tree.clone(), task.path.clone(), task.stamp, self.clock.now());
        let rejecting = self.rejecting.clone();
        let moved = blocking(move || {
            let _one_at_a_time = rejecting.lock().unwrap_or_else(PoisonError::into_inner);
            reject(&tree, &path, &stamp, &reason, now)
        });
        match moved.await.or_else(gone) {
            // The reason may name columns: it stands beside the file and not in the log.
            Ok(Some(name)) => {
                tracing::warn!(file = %task.path.display(), rejected = %name.display(), "a dropped file was refused");
                Outcome::Over
            }
            Ok(None) => Outcome::Changed,
            Err(error) => Outcome::Later(format!("it is refused, but can't be moved to the rejected ones: {error}")),
        }
    }

    /// Step 4.
    async fn remove(&self, task: &Task) -> Outcome {
        let (tree, path, stamp) = (self.tree.clone(), task.path.clone(), task.stamp);
        let removed = blocking(move || {
            let (folder, name) = split(&tree, &path)?;
            tree::remove(folder, &name, &stamp).map(Some)
        });
        match removed.await.or_else(gone) {
            Ok(Some(true)) => Outcome::Over,
            Ok(_) => Outcome::Changed,
            Err(error) => Outcome::NotRemoved(format!("its job is on the disk, but it can't be removed: {error}")),
        }
    }
}

/// The file's bytes as they were at `stamp`, and an error behind them if they may be others.
fn body(file: File, stamp: Stamp) -> io::Result<impl Stream<Item = io::Result<Bytes>>> {
    let same_file = file.try_clone()?;
    // No more than it had, so that one that grows without end is not followed.
    let reader = tokio::fs::File::from_std(file).take(stamp.bytes);
    let last = stream::once(blocking(move || {
        let found = Stamp::of_open(&same_file)?;
        if found.is_unchanged(&stamp) { Ok(()) } else { Err(io::Error::other("it changed while it was read")) }
    }));
    let last = last.filter_map(async |unchanged| unchanged.err().map(Err));
    Ok(ReaderStream::with_capacity(reader, READ_BYTES).chain(last))
}

/// The open folder that a file lies in, and its name there.
fn split(tree: &Tree, path: &Path) -> io::Result<(OwnedFd, OsString)> {
    let folder = tree.open_folder(path.parent().unwrap_or(Path::new("")))?;
    Ok((folder, path.file_name().unwrap_or_default().to_owned()))
}

/// A file or folder that is away, or a link by now, is nothing to be reported.
fn gone<T>(error: io::Error) -> io::Result<Option<T>> {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Ok(None),
        _ if error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) => Ok(None),
        _ => Err(error),
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(io::Error::other(error)))
}
