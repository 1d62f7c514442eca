//! Environment of the demo: a temporary folder, a daemon with its database and socket, and the simulator, all in this
//! process.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use tempfile::TempDir;
use tokio::net::TcpListener;

use crate::cli::demo::page_login::PageLogin;
use crate::cli::demo::samples::Sample;
use crate::client::{AddedJob, BatchOptions, Client, ClientError, DEFAULT_TIMEOUT, NewFile};
use crate::clock::Clock;
use crate::config::{Config, Limits};
use crate::daemon::{Daemon, StartMode};
use crate::simulator::{CallLog, Settings, Simulator};

/// Prefix of the folder's name.
const PREFIX: &str = "marqueue-demo-";

/// A parent folder whose path is short enough for a socket below it.
const SHORT_PARENT: &str = "/tmp";

/// A daemon with its folder, a client of it, and the simulator.
pub struct DemoEnv {
    folder: TempDir,
    daemon: Daemon,
    simulator: Simulator,
    /// Client of the daemon.
    pub client: Client,
    /// Limits of the daemon.
    pub limits: Limits,
    /// Settings of the simulator.
    pub settings: Settings,
}

impl DemoEnv {
    /// Creates the folder and starts the simulator and the daemon. On return, the daemon serves clients; over TCP only
    /// where there is a `login`.
    ///
    /// # Errors
    /// One sentence. No folder is left.
    pub async fn open(login: Option<&PageLogin>) -> anyhow::Result<DemoEnv> {
        let folder = folder(&std::env::temp_dir())?;
        let [file, database, socket] =
            ["marqueue.toml", "marqueue.db", "marqueue.sock"].map(|name| folder.path().join(name));
        // Marketo's limits, and imports slow enough for a viewer: some 200 rows in 2 s.
        let settings = Settings {
            import_base: Duration::from_millis(800),
            import_per_row: Duration::from_millis(6),
            ..Settings::default()
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.context("no port of 127.0.0.1 can be bound")?;
        let simulator = Simulator::start(listener, settings.clone()).context("the simulator can't start")?;
        let mut text = configuration(&database.to_string_lossy(), &socket.to_string_lossy(), simulator.base_url());
        text += &login.map(PageLogin::configuration).unwrap_or_default();
        fs::write(&file, &text).with_context(|| format!("{} can't be written", file.display()))?;
        // The environment is not read: its variables may be those of another daemon.
        let config = Config::read(Some((&file, &text)), login.map(|_| PageLogin::listen()))?;
        let limits = config.instances.values().next().context("the configuration has no instance")?.limits.clone();
        let daemon = Daemon::start(&config, Clock::System, StartMode::Normal).await?;
        let client = Client::new(&socket, DEFAULT_TIMEOUT)?;
        Ok(DemoEnv { folder, daemon, simulator, client, limits, settings })
    }

    /// Returns the folder.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Returns the simulator's log of all calls up to now.
    pub fn call_log(&self) -> CallLog {
        self.simulator.call_log()
    }

    fn file(&self, sample: &Sample) -> PathBuf {
        self.path().join(sample.filename)
    }

    /// Writes the sample's file into the folder.
    ///
    /// # Errors
    /// The file is not writable.
    pub fn write(&self, sample: &Sample) -> anyhow::Result<()> {
        let path = self.file(sample);
        fs::write(&path, sample.content()?).with_context(|| format!("{} can't be written", path.display()))
    }

    /// Adds the sample's file to the queue, as `marqueue add` does.
    ///
    /// # Errors
    /// As [`Client::add`].
    pub async fn add(&self, sample: &Sample) -> Result<AddedJob, ClientError> {
        self.add_as(&self.client, sample).await
    }

    /// Adds the sample's file with this client of the daemon.
    ///
    /// # Errors
    /// As [`Client::add`].
    pub async fn add_as(&self, client: &Client, sample: &Sample) -> Result<AddedJob, ClientError> {
        let new = NewFile {
            target: sample.target.clone(),
            filename: sample.filename.to_owned(),
            format: sample.format(),
            instance: None,
            priority: sample.priority,
            group: sample.group.map(str::to_owned),
            not_before: None,
            batches: BatchOptions::default(),
            pack: None,
            idempotency_key: None,
            check: true,
        };
        let content = tokio::fs::File::open(self.file(sample)).await.map_err(ClientError::Content)?;
        client.add(&new, content, |_| {}).await
    }

    /// Stops the daemon and the simulator, and removes the folder.
    ///
    /// # Errors
    /// The folder can't be removed.
    pub async fn close(self) -> anyhow::Result<()> {
        self.daemon.stop().await;
        self.simulator.stop().await;
        let path = self.folder.path().to_owned();
        self.folder.close().with_context(|| format!("{} can't be removed", path.display()))
    }
}

/// Creates a folder in `parent`, or in [`SHORT_PARENT`] if the socket's path would be too long or hard to quote.
fn folder(parent: &Path) -> anyhow::Result<TempDir> {
    let make = |parent: &Path| {
        let made = tempfile::Builder::new().prefix(PREFIX).tempdir_in(parent);
        made.with_context(|| format!("no folder can be created in {}", parent.display()))
    };
    let folder = make(parent)?;
    let quotable = |path: &str| !path.contains(|letter: char| letter == '\'' || letter.is_control());
    let fits = folder.path().to_str().is_some_and(quotable)
        && Client::new(&folder.path().join("marqueue.sock"), DEFAULT_TIMEOUT).is_ok();
    if fits { Ok(folder) } else { make(Path::new(SHORT_PARENT)) }
}

/// Returns the text of a configuration file. The paths must have no `'`.
pub fn configuration(database: &str, socket: &str, base_url: &str) -> String {
    format!(
        "[store]\n\
         path = '{database}'\n\
         reserve_bytes = 0\n\
         \n\
         [api]\n\
         socket = '{socket}'\n\
         \n\
         [instances.default]\n\
         base_url = '{base_url}'\n\
         client_id = 'simulator'\n\
         client_secret = 'secret'\n\
         limits = {{upload_bytes = 20000}}\n\
         polling = {{min = '250ms', max = '5s'}}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_is_made_where_a_socket_path_fits() {
        let parent = tempfile::tempdir().unwrap();
        let made = folder(parent.path()).unwrap();
        assert_eq!(made.path().parent(), Some(parent.path()));
        for name in ["d".repeat(100), "it's".to_owned()] {
            let odd = parent.path().join(name);
            fs::create_dir(&odd).unwrap();
            assert_eq!(folder(&odd).unwrap().path().parent(), Some(Path::new(SHORT_PARENT)));
            assert_eq!(fs::read_dir(&odd).unwrap().count(), 0);
        }
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_reported() {
        let error = folder(Path::new("/nowhere/at/all")).unwrap_err();
        assert!(format!("{error:#}").starts_with("no folder can be created in /nowhere/at/all: "), "{error:#}");
    }
}
