//! The `events` command: follows changes of jobs and instances as they happen.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::Args;

use crate::api::dto::EventData;
use crate::cli::event_line::EventLine;
use crate::cli::exit_status::{CliError, ExitStatus};
use crate::cli::global::GlobalArgs;
use crate::cli::job_watch::ctrl_c;
use crate::cli::output;
use crate::cli::render::Screen;
use crate::client::{Client, ClientError, EventStream, StreamEvent};
use crate::clock::Clock;
use crate::domain::JobId;

/// The pause between two tries to reach a daemon that answered before.
const RECONNECT_INTERVAL: Duration = Duration::from_millis(250);

/// Follow the changes of jobs and instances as they happen, one line each
///
/// A line has the time (UTC), what changed and how it is now. It ends at Ctrl-C, with 130, or when the reader of the
/// pipe has gone. Where the connection is lost it says so on standard error, waits for the daemon and goes on with what
/// has changed meanwhile; after a restart of the daemon that is not known, and a line says that events were missed.
/// With --json: each event is an object on a line of its own (NDJSON), as GET /v1/events has it.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  marqueue events
  marqueue events --job 12 --job 13
  marqueue events --json")]
pub struct Events {
    /// Follow only this job, beginning with its state; may be repeated
    #[arg(long = "job", value_name = "ID", value_parser = crate::cli::global::parse_job_id)]
    ids: Vec<JobId>,
}

impl Events {
    /// Runs the command.
    ///
    /// # Errors
    /// The daemon refuses or can't be reached at first, or standard output is not writable.
    pub async fn run(self, global: &GlobalArgs) -> Result<ExitStatus, CliError> {
        let client = global.client()?;
        let format = if global.json { LineFormat::Json } else { LineFormat::Text };
        let mut follower = Follower { client: &client, ids: &self.ids, last_id: None, printer: Printer::new(format) };
        tokio::select! {
            followed = follower.run() => followed.map(|()| ExitStatus::Done),
            () = output::reader_closed() => Ok(ExitStatus::Done),
            () = ctrl_c() => Ok(ExitStatus::Interrupted),
        }
    }
}

/// How the lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LineFormat {
    Text,
    Json,
}

/// Why a stream is no longer read.
enum StreamEnd {
    /// The daemon has closed it, or the connection was lost, for this reason.
    Lost(String),
    /// The reader of standard output has gone.
    ReaderClosed,
}

struct Follower<'a> {
    client: &'a Client,
    /// None: all jobs and instances.
    ids: &'a [JobId],
    /// Id of the last event that was printed.
    last_id: Option<String>,
    printer: Printer,
}

impl Follower<'_> {
    /// Prints events until the reader of standard output has gone.
    async fn run(&mut self) -> Result<(), CliError> {
        let mut stream = self.client.events(self.ids, None).await?;
        loop {
            match self.print_all(&mut stream).await? {
                StreamEnd::ReaderClosed => return Ok(()),
                StreamEnd::Lost(reason) => {
                    output::note(&format!("the connection to the daemon is lost ({reason}): waiting for the daemon"));
                    stream = self.reconnect().await?;
                    output::note("the daemon answers again");
                }
            }
        }
    }

    async fn print_all(&mut self, stream: &mut EventStream) -> Result<StreamEnd, CliError> {
        loop {
            let StreamEvent { id, data } = match stream.next_with_id().await {
                Ok(Some(event)) => event,
                Ok(None) => return Ok(StreamEnd::Lost("it has closed the stream".to_owned())),
                Err(ClientError::Broken(reason)) => return Ok(StreamEnd::Lost(reason)),
                Err(error) => return Err(error.into()),
            };
            if !self.printer.print(data).await? {
                return Ok(StreamEnd::ReaderClosed);
            }
            self.last_id = id.or(self.last_id.take());
        }
    }

    /// Tries until the daemon answers again.
    ///
    /// # Errors
    /// The daemon refuses the request for good, for example because a job has been deleted.
    async fn reconnect(&self) -> Result<EventStream, ClientError> {
        // A stream of some jobs begins with their states.
        let last_id = self.last_id.as_deref().filter(|_| self.ids.is_empty());
        loop {
            match self.client.events(self.ids, last_id).await {
                Err(error) if error.is_transient() => tokio::time::sleep(RECONNECT_INTERVAL).await,
                result => return result,
            }
        }
    }
}

/// Writes events to standard output.
struct Printer {
    format: LineFormat,
    /// The last line of each job that has not ended, and of its batches. A change of what a line does not show is left
    /// out.
    last_lines: BTreeMap<JobId, BTreeMap<Option<u32>, EventLine>>,
}

impl Printer {
    fn new(format: LineFormat) -> Printer {
        Printer { format, last_lines: BTreeMap::new() }
    }

    /// Prints an event, and returns false if the reader has gone.
    async fn print(&mut self, event: EventData) -> Result<bool, CliError> {
        let text = match self.format {
            LineFormat::Json => output::json_line(&event)?,
            LineFormat::Text => {
                let line = EventLine::of(&event);
                let at = match &event {
                    EventData::Job { at, .. } | EventData::Instance { at, .. } => *at,
                    EventData::Missed { .. } => None,
                };
                if self.is_repeated(&event, &line) {
                    return Ok(true);
                }
                format!("{}\n", line.render(at.unwrap_or_else(|| Clock::System.now()), &Screen::stdout()))
            }
        };
        // The reader may take nothing for long. Ctrl-C has to end the command all the same.
        let written = tokio::task::spawn_blocking(move || output::write(&text)).await;
        Ok(written.map_err(std::io::Error::other)??)
    }

    /// Records a line, and returns whether it is the same as the one before of the same job or batch.
    fn is_repeated(&mut self, event: &EventData, line: &EventLine) -> bool {
        let EventData::Job { job, part, .. } = event else { return false };
        let is_repeated = self.last_lines.get(&job.id).and_then(|lines| lines.get(part)) == Some(line);
        if job.state.is_terminal() {
            self.last_lines.remove(&job.id);
        } else {
            self.last_lines.entry(job.id).or_default().insert(*part, line.clone());
        }
        is_repeated
    }
}
