//! The drop folder: files that are put into it become jobs.
//!
//! Each part of it, the folder of an instance or what is outside of those, has a task of its own ([`folder`]), with its own
//! looks and its own events. So a part that hangs or can't be read stops no other.
//!
//! As with the queue itself, a look carries no memory that matters: what lies in the folder says what is to be done, so
//! a restart is the first look and not a second program. Events only make it prompt, and tell when a writer is done
//! ([`whole`]). How one file becomes one job is told in [`take`].

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::{self, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::config::Config;
use crate::drop_folder::dir_walk::{DirTree, Part};
use crate::drop_folder::folder_task::FolderTask;
use crate::drop_folder::ingest::IngestContext;
use crate::intake::Intake;

mod dir_walk;
mod file_stat;
mod folder_task;
mod ingest;
mod names;
mod open_writers;
mod path_target;
mod readiness;
mod rejected;
mod removal;
mod report;
mod setup;
mod temp_file;
mod watcher;

pub use rejected::rejected_files;
pub use report::{DropReport, PartState};

/// How long the start waits for a folder to be made and listened to. One that takes longer hangs, and is looked at when it
/// goes on; the daemon does without it until then.
const PREPARATION: Duration = Duration::from_secs(10);

/// The drop folder can't be used.
#[derive(Debug, thiserror::Error)]
#[error("the drop folder {} can't be made ready: {why}", path.display())]
pub struct DropFolderError {
    path: PathBuf,
    why: io::Error,
}

/// The drop folder, made ready.
pub struct DropFolder {
    tasks: Vec<FolderTask>,
    root: PathBuf,
    report: DropReport,
}

impl DropFolder {
    /// Makes the folder of each instance, where it is missing. None if the configuration names no drop folder.
    ///
    /// # Errors
    /// [`DropFolderError`]: the folder itself can't be made or written to. A single folder in it that is in another's way
    /// is logged and tried again.
    pub async fn open(config: &Config, intake: Intake, clock: Clock) -> Result<Option<DropFolder>, DropFolderError> {
        let Some(path) = &config.drop.path else { return Ok(None) };
        let failed = |why| DropFolderError { path: path.clone(), why };
        std::fs::create_dir_all(path).map_err(failed)?;
        let tree = DirTree::new(path.canonicalize().map_err(failed)?);
        tree.open_root().map_err(failed)?;
        let hands = Arc::new(IngestContext { tree, intake, clock, choosing: Arc::default() });
        let instances: Arc<std::collections::BTreeSet<String>> = Arc::new(config.instances.keys().cloned().collect());
        let parts = instances.iter().cloned().map(Part::Instance).chain([Part::Rest(instances.as_ref().clone())]);
        let report = DropReport::default();
        let root = hands.tree.root().to_owned();
        let mut tasks: Vec<_> = parts
            .map(|part| FolderTask::new(part, hands.clone(), instances.clone(), config.drop.settle, report.clone()))
            .collect();
        // Before anybody is told that the daemon is ready, so that nothing that is written from then on goes unheard.
        let preparations: Vec<_> = tasks.iter().map(FolderTask::prepare).collect();
        let until = tokio::time::Instant::now() + PREPARATION;
        for (task, mut preparation) in tasks.iter_mut().zip(preparations) {
            match tokio::time::timeout_at(until, &mut preparation).await {
                Ok(prepared) => task.is_prepared(prepared).map_err(failed)?,
                Err(_) => task.is_late(preparation),
            }
        }
        let tree = hands.tree.clone();
        let tidied = task::spawn_blocking(move || setup::remove_stale_rejected(&tree));
        if let Ok(Ok(Err(error))) = tokio::time::timeout(PREPARATION, tidied).await {
            tracing::debug!(%error, "the rejected files can't be looked at");
        }
        Ok(Some(DropFolder { tasks, root, report }))
    }

    /// For those who ask how it stands.
    pub fn report(&self) -> DropReport {
        self.report.clone()
    }

    /// Takes files until the stop. A take under way is then left; it is whole or undone at the next start.
    pub async fn run(self, stop: CancellationToken) {
        tracing::info!(folder = %self.root.display(), "files are taken from the drop folder");
        let mut running: JoinSet<()> = self.tasks.into_iter().map(|task| task.run(stop.clone())).collect();
        while let Some(ended) = running.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "a folder of the drop folder is not looked at any more");
            }
        }
    }
}
