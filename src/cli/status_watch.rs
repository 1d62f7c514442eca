//! Watching the status: redraws the slots and the queue of the instances as they change, until a key.

use std::time::Duration;

use console::Term;

use crate::api::dto::{InstanceQueue, Status};
use crate::cli::exit_status::{CliError, ExitStatus};
use crate::cli::job_watch::ctrl_c;
use crate::cli::key_reader::KeyReader;
use crate::cli::queue_frame::QueueFrame;
use crate::cli::render::{LiveArea, Screen};
use crate::client::{Client, ClientError, EventStream};

/// The shortest time between two readings. Hundreds of changes may happen within a second.
const MIN_INTERVAL: Duration = Duration::from_millis(250);

/// The longest time between two readings, for times and expected ends, which no event tells.
const MAX_INTERVAL: Duration = Duration::from_secs(2);

/// The pause between two tries to reach a daemon that answered before.
const RECONNECT_INTERVAL: Duration = Duration::from_millis(500);

/// The most instances whose queues are read. A terminal shows few.
const MAX_INSTANCES: usize = 8;

/// Watches one instance, or those in which most happens.
pub struct StatusWatch<'a> {
    client: &'a Client,
    instance: Option<&'a str>,
    area: LiveArea,
    /// What was read last.
    last: Reading,
}

struct Reading {
    status: Status,
    queues: Vec<InstanceQueue>,
}

impl<'a> StatusWatch<'a> {
    /// Reads the status for the first time. `instance` is one that the daemon has.
    ///
    /// # Errors
    /// The daemon can't be reached, or refuses.
    pub async fn open(client: &'a Client, instance: Option<&'a str>) -> Result<StatusWatch<'a>, CliError> {
        let last = read(client, instance).await?;
        Ok(StatusWatch { client, instance, area: LiveArea::new(Term::buffered_stdout()), last })
    }

    /// Shows each change until `q` or Ctrl-C. While the daemon does not answer, the last state stays, with a line that
    /// says so.
    ///
    /// # Errors
    /// The terminal is not writable.
    pub async fn run(mut self) -> Result<ExitStatus, CliError> {
        let mut keys = KeyReader::open();
        let end = tokio::select! {
            never = self.follow() => never?,
            () = quit_key(&mut keys) => ExitStatus::Done,
            () = ctrl_c() => ExitStatus::Interrupted,
        };
        Ok(end)
    }

    async fn follow(&mut self) -> Result<ExitStatus, CliError> {
        let mut events: Option<EventStream> = None;
        self.draw(None)?;
        loop {
            match &mut events {
                None => events = self.client.events(&[], None).await.ok(),
                Some(stream) => {
                    if !wait_for_change(stream).await {
                        events = None;
                    }
                }
            }
            match read(self.client, self.instance).await {
                Ok(reading) => {
                    self.last = reading;
                    self.draw(None)?;
                    // A daemon whose event streams are all in use is polled.
                    tokio::time::sleep(if events.is_some() { MIN_INTERVAL } else { MAX_INTERVAL }).await;
                }
                Err(error) => {
                    events = None;
                    self.draw(Some(&format!("the connection to the daemon is lost, and is tried again: {error}")))?;
                    tokio::time::sleep(RECONNECT_INTERVAL).await;
                }
            }
        }
    }

    fn draw(&mut self, notice: Option<&str>) -> Result<(), CliError> {
        let screen = Screen::stdout();
        let frame = QueueFrame { status: &self.last.status, queues: &self.last.queues, notice };
        self.area.draw(&frame.lines(&screen, screen.height.unwrap_or(usize::MAX)))?;
        Ok(())
    }
}

/// Reads the status, and the queues of one instance or of those with most jobs.
async fn read(client: &Client, instance: Option<&str>) -> Result<Reading, ClientError> {
    let status = client.status().await?;
    let mut names: Vec<&String> = match instance {
        Some(name) => status.instances.keys().filter(|known| *known == name).collect(),
        None => status.instances.keys().collect(),
    };
    names.sort_by_key(|&name| {
        let queue = &status.instances[name].queue;
        std::cmp::Reverse(queue.running_jobs + queue.pending_jobs)
    });
    let mut queues = Vec::new();
    for name in names.into_iter().take(MAX_INSTANCES) {
        queues.push(client.queue(name, Screen::stdout().height.unwrap_or(0).clamp(1, 200)).await?);
    }
    Ok(Reading { status, queues })
}

/// Returns after the next change and all that have come since, or after a while without one. Returns false when the
/// stream has ended.
async fn wait_for_change(stream: &mut EventStream) -> bool {
    let mut patience = MAX_INTERVAL;
    loop {
        match tokio::time::timeout(patience, stream.next()).await {
            Ok(Ok(Some(_))) => patience = Duration::ZERO,
            Ok(Ok(None) | Err(_)) => return false,
            Err(_) => return true,
        }
    }
}

/// Returns when the user has pressed `q`. Never returns where there is no terminal to read keys from.
async fn quit_key(keys: &mut Option<KeyReader>) {
    if let Some(reader) = keys {
        while let Some(key) = reader.next().await {
            if matches!(key, b'q' | b'Q') {
                return;
            }
        }
    }
    std::future::pending().await
}
