//! The drop folder as a whole: creates and watches its folders, and runs one task for each part.

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::{self, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::config::Config;
use crate::drop_folder::dir_walk::{DirTree, Part};
use crate::drop_folder::folder_task::{FolderTask, FolderTaskContext};
use crate::drop_folder::ingest::IngestContext;
use crate::drop_folder::report::DropReport;
use crate::drop_folder::setup;
use crate::intake::Intake;

/// How long the start waits for a folder to be created and watched. The daemon starts without a folder that takes
/// longer, such as one on a share that does not answer, and scans it as soon as it answers.
const PREPARATION: Duration = Duration::from_secs(10);

/// The drop folder cannot be created or written to.
#[derive(Debug, thiserror::Error)]
#[error("cannot use the drop folder {} (drop.path): {why}", path.display())]
pub struct DropFolderError {
    path: PathBuf,
    why: io::Error,
}

/// The drop folder with its folders created and watched.
pub struct DropFolder {
    tasks: Vec<FolderTask>,
    root: PathBuf,
    report: DropReport,
}

impl DropFolder {
    /// Creates the missing folders of each instance and watches them. Returns `None` if `drop.path` is not set.
    ///
    /// # Errors
    /// [`DropFolderError`] if the drop folder itself cannot be created or written to. A single folder in it that fails
    /// is logged and tried again.
    pub async fn open(config: &Config, intake: Intake, clock: Clock) -> Result<Option<DropFolder>, DropFolderError> {
        let Some(path) = &config.drop.path else { return Ok(None) };
        let failed = |why| DropFolderError { path: path.clone(), why };
        std::fs::create_dir_all(path).map_err(failed)?;
        let tree = DirTree::new(path.canonicalize().map_err(failed)?);
        tree.open_root().map_err(failed)?;
        let context = Arc::new(IngestContext { tree, intake, clock, name_lock: Arc::default() });
        let instances: Arc<BTreeSet<String>> = Arc::new(config.instances.keys().cloned().collect());
        let parts = instances.iter().cloned().map(Part::Instance).chain([Part::Rest(instances.as_ref().clone())]);
        let report = DropReport::default();
        let root = context.tree.root().to_owned();
        let shared = FolderTaskContext {
            ingest: context.clone(),
            instances: instances.clone(),
            settle: config.drop.settle,
            report: report.clone(),
        };
        let mut tasks: Vec<_> = parts.map(|part| FolderTask::new(part, shared.clone())).collect();
        // Watched before the daemon reports that it is ready, so that no event after that is missed.
        let preparations: Vec<_> = tasks.iter().map(FolderTask::prepare).collect();
        let until = tokio::time::Instant::now() + PREPARATION;
        for (task, mut preparation) in tasks.iter_mut().zip(preparations) {
            match tokio::time::timeout_at(until, &mut preparation).await {
                Ok(prepared) => task.is_prepared(prepared).map_err(failed)?,
                Err(_) => task.is_late(preparation),
            }
        }
        let tree = context.tree.clone();
        let tidied = task::spawn_blocking(move || setup::remove_stale_rejected(&tree));
        if let Ok(Ok(Err(error))) = tokio::time::timeout(PREPARATION, tidied).await {
            tracing::debug!(%error, "folder of rejected files not readable");
        }
        Ok(Some(DropFolder { tasks, root, report }))
    }

    /// Returns a handle on the state of the drop folder, for the status and the metrics.
    pub fn report(&self) -> DropReport {
        self.report.clone()
    }

    /// Ingests files until `stop` is cancelled. An ingestion under way is abandoned then; the next start finishes or
    /// repeats it.
    pub async fn run(self, stop: CancellationToken) {
        tracing::info!(folder = %self.root.display(), "drop folder watched");
        let mut running: JoinSet<()> = self.tasks.into_iter().map(|task| task.run(stop.clone())).collect();
        while let Some(ended) = running.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "drop folder task failed; restart the daemon to ingest the files of its folder");
            }
        }
    }
}
