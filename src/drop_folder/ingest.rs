//! Ingestion: makes one dropped file exactly one job, whenever the daemon crashes.
//!
//! 1. The file is opened; it must be the one that was listed.
//! 2. It is received. If it changed meanwhile, or a program has it open for writing, it was not complete, and nothing is
//!    stored.
//! 3. The job is committed, under an idempotency key made of path, identity and content.
//! 4. The file is removed, if it is still the one that was read and no program has it open for writing (see [`removal`]).
//!
//! A crash before step 3 leaves the file and no job. A crash between steps 3 and 4 leaves both; the next ingestion
//! finds the job by its key and goes on to step 4. The removal is not flushed to the disk: a file that returns after a
//! power cut is recognized in the same way. The key is kept as long as the job's record, so this fails only if the
//! record is erased (`retention.jobs`) before the next start.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use tokio::io::AsyncReadExt;
use tokio_util::io::ReaderStream;

use crate::clock::Clock;
use crate::domain::{JobId, SubmissionChannel};
use crate::drop_folder::dir_walk;
use crate::drop_folder::dir_walk::DirTree;
use crate::drop_folder::file_stat::FileStat;
use crate::drop_folder::names::OPTIONS;
use crate::drop_folder::open_writers;
use crate::drop_folder::rejected::{NameLock, RejectedFile, reject};
use crate::drop_folder::removal;
use crate::drop_folder::removal::Removal;
use crate::intake::{Checks, Intake, IntakeError};
use crate::store::{Inserted, NewJob, StoreError};

const IN_USE: &str = "its job is on the disk, but a program has it open for writing";

/// The most bytes of one read.
const READ_BYTES: usize = 256 * 1024;

/// What every ingestion needs; shared by all folder tasks.
pub(super) struct IngestContext {
    pub(super) tree: DirTree,
    pub(super) intake: Intake,
    pub(super) clock: Clock,
    /// Keeps two files of the same name from getting the same name among the rejected files.
    pub(super) name_lock: Arc<NameLock>,
}

/// One file and what is to be done with it.
#[derive(Debug)]
pub(super) struct IngestTask {
    pub(super) path: PathBuf,
    pub(super) stat: FileStat,
    pub(super) order: IngestRequest,
}

#[derive(Debug)]
pub(super) enum IngestRequest {
    Take {
        job: Box<NewJob>,
        checks: Checks,
        /// The `job.toml` that gave the job's parameters.
        options: Option<FileStat>,
    },
    Refuse(String),
    /// The job is stored, and only the removal failed.
    Remove,
}

/// The result of an ingestion.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum IngestOutcome {
    Over,
    /// The file changed; the next scan decides anew.
    Changed,
    /// The file stays and is tried again later.
    Later(String),
    /// The job is stored, but the file cannot be removed.
    NotRemoved(String),
}

impl IngestContext {
    pub(super) async fn run(&self, task: &IngestTask) -> IngestOutcome {
        match &task.order {
            IngestRequest::Take { job, checks, options } => self.ingest(task, job, *checks, *options).await,
            IngestRequest::Refuse(reason) => self.refuse(task, reason.clone()).await,
            IngestRequest::Remove => self.remove(task).await,
        }
    }

    async fn ingest(
        &self,
        task: &IngestTask,
        job: &NewJob,
        checks: Checks,
        options: Option<FileStat>,
    ) -> IngestOutcome {
        let file = match self.open(task, options).await {
            Ok(Some(file)) => file,
            Ok(None) => return IngestOutcome::Changed,
            Err(error) => return IngestOutcome::Later(format!("it can't be read: {error}")),
        };
        match self.receive(task, job, checks, file).await {
            Ok(job) => tracing::info!(file = %task.path.display(), %job, "dropped file accepted"),
            Err(IntakeError::Store(StoreError::KeyReused(_))) => {
                // The key has path, identity and content, so it is the same file; only its options differ by now.
                tracing::info!(file = %task.path.display(), "dropped file already accepted with other options; it is removed");
            }
            Err(IntakeError::CutOff(_)) => return IngestOutcome::Changed,
            Err(IntakeError::Store(error)) => {
                return IngestOutcome::Later(format!("the job cannot be stored: {error}"));
            }
            Err(refused) => return self.refuse(task, refused.message(SubmissionChannel::DropFolder)).await,
        }
        self.remove(task).await
    }

    /// Does steps 2 and 3.
    async fn receive(&self, task: &IngestTask, job: &NewJob, checks: Checks, file: File) -> Result<JobId, IntakeError> {
        let identity = task.stat.identity(&task.path);
        let name = task.path.file_name().unwrap_or_default().to_owned();
        let body = body(file, task.stat, name).map_err(|error| IntakeError::CutOff(error.to_string()))?;
        match self.intake.receive_file(job.clone(), checks, identity, body).await? {
            Inserted::Created(job) | Inserted::Existing(job) => Ok(job.id),
        }
    }

    /// Opens the file, if it and its `job.toml` are unchanged since the scan.
    async fn open(&self, task: &IngestTask, options: Option<FileStat>) -> io::Result<Option<File>> {
        let (tree, path, stat) = (self.tree.clone(), task.path.clone(), task.stat);
        blocking(move || {
            let (folder, name) = split(&tree, &path)?;
            let same_options = match (FileStat::of(&folder, OsStr::new(OPTIONS)), options) {
                (Ok(found), Some(seen)) => found.is_unchanged(&seen),
                (Err(error), None) => error.kind() == io::ErrorKind::NotFound,
                _ => false,
            };
            let opened = dir_walk::open_file(&folder, &name)?;
            Ok(opened.filter(|opened| same_options && opened.stat.is_unchanged(&stat)).map(|opened| opened.file))
        })
        .await
        .or_else(not_found_as_none)
    }

    async fn refuse(&self, task: &IngestTask, reason: String) -> IngestOutcome {
        let (tree, path, stat, at) = (self.tree.clone(), task.path.clone(), task.stat, self.clock.now());
        let name_lock = self.name_lock.clone();
        let moved = blocking(move || {
            if open_writers::is_open_for_writing(&stat, path.file_name().unwrap_or_default()) {
                return Ok(None);
            }
            let rejected = reject(&tree, &RejectedFile { path: &path, stat: &stat, reason: &reason, at }, &name_lock)?;
            Ok(rejected.map(|name| (name, reason)))
        });
        match moved.await.or_else(not_found_as_none) {
            Ok(Some((name, reason))) => {
                tracing::warn!(
                    file = %task.path.display(),
                    rejected = %name.display(),
                    reason,
                    "dropped file rejected"
                );
                self.intake.count_rejected_file();
                IngestOutcome::Over
            }
            Ok(None) => IngestOutcome::Changed,
            Err(error) => {
                IngestOutcome::Later(format!("it is refused, but can't be moved to the rejected ones: {error}"))
            }
        }
    }

    /// Does step 4.
    async fn remove(&self, task: &IngestTask) -> IngestOutcome {
        let (tree, path, stat) = (self.tree.clone(), task.path.clone(), task.stat);
        let removed = blocking(move || {
            let (folder, name) = split(&tree, &path)?;
            removal::remove(&folder, &name, &stat).map(Some)
        });
        match removed.await.or_else(not_found_as_none) {
            Ok(Some(Removal::Removed)) => IngestOutcome::Over,
            Ok(Some(Removal::Changed) | None) => IngestOutcome::Changed,
            Ok(Some(Removal::InUse)) => IngestOutcome::NotRemoved(IN_USE.to_owned()),
            Err(error) => {
                IngestOutcome::NotRemoved(format!("its job is on the disk, but it can't be removed: {error}"))
            }
        }
    }
}

/// Streams the file's bytes, and ends with an error if the file may have changed since `stamp`.
fn body(file: File, stat: FileStat, name: OsString) -> io::Result<impl Stream<Item = io::Result<Bytes>>> {
    let same_file = file.try_clone()?;
    // At most its size at the scan, so that a file that grows forever ends.
    let reader = tokio::fs::File::from_std(file).take(stat.bytes);
    let last = stream::once(blocking(move || {
        let found = FileStat::of_open(&same_file)?;
        if open_writers::is_open_for_writing(&found, &name) {
            return Err(io::Error::other("a program has it open for writing"));
        }
        // Writers are checked before the attributes. In the other order a program could write and close in between.
        let found = FileStat::of_open(&same_file)?;
        if found.is_unchanged(&stat) { Ok(()) } else { Err(io::Error::other("it changed while it was read")) }
    }));
    let last = last.filter_map(async |unchanged| unchanged.err().map(Err));
    Ok(ReaderStream::with_capacity(reader, READ_BYTES).chain(last))
}

/// Returns the file's folder, opened, and its name there.
fn split(tree: &DirTree, path: &Path) -> io::Result<(OwnedFd, OsString)> {
    let folder = tree.open_folder(dir_walk::parent(path))?;
    Ok((folder, path.file_name().unwrap_or_default().to_owned()))
}

/// Returns whether the error only shows that the file or its folder was removed or became a link.
fn not_found_as_none<T>(error: io::Error) -> io::Result<Option<T>> {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Ok(None),
        _ if error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) => Ok(None),
        _ => Err(error),
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(io::Error::other(error)))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;

    use super::*;
    use crate::config::Config;
    use crate::domain::{Format, Source, Target};
    use crate::store::Store;

    const PATH: &str = "default/leads/a.csv";

    struct IngestFixture {
        context: IngestContext,
        store: Store,
        folder: tempfile::TempDir,
    }

    async fn context(folder: &Path) -> (IngestContext, Store) {
        let store = Store::open(&folder.join("q.db")).await.unwrap();
        let text = "[instances.default]\nbase_url = 'http://127.0.0.1:1'\nclient_id = 'i'\nclient_secret = 's'";
        let config = Config::read(Some((Path::new("m.toml"), text)), []).unwrap();
        let intake = Intake::new(store.clone(), Clock::System, &config);
        let tree = DirTree::new(folder.canonicalize().unwrap().join("drop"));
        (IngestContext { tree, intake, clock: Clock::System, name_lock: Arc::default() }, store)
    }

    impl IngestFixture {
        async fn new() -> IngestFixture {
            let folder = tempfile::tempdir().unwrap();
            fs::create_dir_all(folder.path().join("drop/default/leads")).unwrap();
            let (context, store) = context(folder.path()).await;
            IngestFixture { context, store, folder }
        }

        /// Opens the same folder and database again, as after a crash.
        async fn reopened(self) -> IngestFixture {
            self.store.close().await;
            let folder = self.folder;
            drop((self.context, self.store));
            let (context, store) = context(folder.path()).await;
            IngestFixture { context, store, folder }
        }

        fn path(&self) -> PathBuf {
            self.context.tree.root().join(PATH)
        }

        fn put(&self, content: &str) -> IngestTask {
            fs::write(self.path(), content).unwrap();
            self.task()
        }

        fn task(&self) -> IngestTask {
            let order = IngestRequest::Take { job: Box::new(leads()), checks: Checks::All, options: None };
            let (folder, name) = split(&self.context.tree, Path::new(PATH)).unwrap();
            IngestTask { path: PATH.into(), stat: FileStat::of(folder, &name).unwrap(), order }
        }

        /// Does steps 1 to 3.
        async fn received(&self, task: &IngestTask, job: &NewJob) -> Result<JobId, IntakeError> {
            let file = self.context.open(task, None).await.unwrap().unwrap();
            self.context.receive(task, job, Checks::All, file).await
        }

        /// Does all steps. The test process starts other programs meanwhile, and between fork and exec such a process
        /// has the file open for writing: the next scan then takes it.
        async fn ingest(&self) {
            loop {
                match self.context.run(&self.task()).await {
                    IngestOutcome::Changed => tokio::task::yield_now().await,
                    outcome => return assert_eq!(outcome, IngestOutcome::Over),
                }
            }
        }

        async fn jobs(&self) -> usize {
            self.store.jobs(None, 100, None).await.unwrap().len()
        }
    }

    fn leads() -> NewJob {
        NewJob {
            instance: "default".into(),
            target: Target::Leads { lookup_field: None, list_id: None, partition: None },
            filename: "a.csv".into(),
            format: Format::Csv,
            priority: 0,
            group: None,
            not_before: None,
            in_order: false,
            canary: None,
            max_failed_percent: None,
            pack: None,
            idempotency_key: None,
            retry_of: None,
            source: Source::Drop { path: "default/leads/a.csv".into() },
        }
    }

    #[tokio::test]
    async fn an_interrupted_removal_is_finished_without_a_second_job() {
        let fixture = IngestFixture::new().await;
        let task = fixture.put("email\na@example.com\n");
        fixture.received(&task, &leads()).await.unwrap();
        let fixture = fixture.reopened().await;
        assert_eq!((fixture.jobs().await, fixture.path().exists()), (1, true));
        fixture.ingest().await;
        assert_eq!((fixture.jobs().await, fixture.path().exists()), (1, false));
    }

    #[tokio::test]
    async fn a_file_is_not_ingested_again_with_other_options() {
        let fixture = IngestFixture::new().await;
        let task = fixture.put("email\na@example.com\n");
        let other = Target::Leads { lookup_field: None, list_id: Some(7), partition: None };
        fixture.received(&task, &NewJob { target: other, ..leads() }).await.unwrap();
        let fixture = fixture.reopened().await;
        fixture.ingest().await;
        assert_eq!((fixture.jobs().await, fixture.path().exists()), (1, false));
    }

    #[tokio::test]
    async fn a_file_that_replaces_the_ingested_one_is_not_removed() {
        let fixture = IngestFixture::new().await;
        let task = fixture.put("email\na@example.com\n");
        fixture.received(&task, &leads()).await.unwrap();
        let temp_file = fixture.path().with_extension("part");
        fs::write(&temp_file, "email\nb@example.com\n").unwrap();
        fs::rename(temp_file, fixture.path()).unwrap();
        assert_eq!(fixture.context.remove(&task).await, IngestOutcome::Changed);
        assert_eq!(fs::read_to_string(fixture.path()).unwrap(), "email\nb@example.com\n");
        // It is not taken for the listed file either.
        assert_eq!(fixture.context.run(&task).await, IngestOutcome::Changed);
        fixture.ingest().await;
        assert_eq!(fixture.jobs().await, 2);
    }

    #[tokio::test]
    async fn a_file_that_grows_while_it_is_read_becomes_no_job() {
        let fixture = IngestFixture::new().await;
        let task = fixture.put("email\na@example.com\n");
        let file = fixture.context.open(&task, None).await.unwrap().unwrap();
        fs::write(fixture.path(), "email\na@example.com\nb@example.com\n").unwrap();
        let error = fixture.context.receive(&task, &leads(), Checks::All, file).await.unwrap_err();
        assert_eq!(error.to_string(), "the file was cut off: it changed while it was read");
        assert_eq!((fixture.jobs().await, fixture.path().exists()), (0, true));
    }

    #[tokio::test]
    async fn a_file_with_a_writer_becomes_no_job_and_is_not_refused() {
        let fixture = IngestFixture::new().await;
        for content in ["email\na@example.com\n", "email\n"] {
            let task = fixture.put(content);
            let writer = File::options().append(true).open(fixture.path()).unwrap();
            assert_eq!(fixture.context.run(&task).await, IngestOutcome::Changed, "{content}");
            assert_eq!((fixture.jobs().await, fixture.path().exists()), (0, true), "{content}");
            drop(writer);
        }
    }

    #[tokio::test]
    async fn data_written_after_the_commit_is_not_lost() {
        let fixture = IngestFixture::new().await;
        let task = fixture.put("email\na@example.com\n");
        fixture.received(&task, &leads()).await.unwrap();
        let mut writer = File::options().append(true).open(fixture.path()).unwrap();
        assert_eq!(fixture.context.remove(&task).await, IngestOutcome::NotRemoved(IN_USE.to_owned()));
        writer.write_all(b"b@example.com\n").unwrap();
        drop(writer);
        assert_eq!(fixture.context.remove(&task).await, IngestOutcome::Changed);
        fixture.ingest().await;
        let rows: Vec<u64> =
            fixture.store.jobs(None, 9, None).await.unwrap().iter().map(|job| job.rows.total).collect();
        assert_eq!((rows, fixture.path().exists()), (vec![2, 1], false));
    }

    #[tokio::test]
    async fn a_replaced_file_or_job_toml_stops_the_ingest() {
        let fixture = IngestFixture::new().await;
        let task = fixture.put("email\na@example.com\n");
        fs::write(fixture.path().with_file_name(OPTIONS), "priority = 1").unwrap();
        assert_eq!(fixture.context.run(&task).await, IngestOutcome::Changed);
        fs::remove_file(fixture.path().with_file_name(OPTIONS)).unwrap();
        let outside = fixture.folder.path().join("outside");
        fs::rename(fixture.path().parent().unwrap(), &outside).unwrap();
        std::os::unix::fs::symlink(&outside, fixture.path().parent().unwrap()).unwrap();
        assert_eq!(fixture.context.run(&task).await, IngestOutcome::Changed);
        assert_eq!(fixture.context.remove(&task).await, IngestOutcome::Changed);
        assert!(outside.join("a.csv").exists());
        assert_eq!(fixture.jobs().await, 0);
    }

    #[tokio::test]
    async fn a_store_error_leaves_the_file_for_a_later_attempt() {
        let fixture = IngestFixture::new().await;
        let task = fixture.put("email\na@example.com\n");
        fixture.store.close().await;
        let outcome = fixture.context.run(&task).await;
        assert_eq!(outcome, IngestOutcome::Later("the job cannot be stored: the database is closed".into()));
        assert!(fixture.path().exists());
    }
}
