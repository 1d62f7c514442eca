//! Notification commands: runs each in its own process group, a few at a time, and kills the whole group after a
//! timeout.

use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use crate::domain::JobId;
use crate::notification::message::Message;
use crate::notification::supervisor;

/// The environment variable with the job's id. An alert about no job has none.
const JOB: &str = "MARQUEUE_JOB_ID";

/// The daemon's own binary, even if its file was replaced since the start.
const OWN_BINARY: &str = "/proc/self/exe";

/// The configured command.
pub(super) struct Commands {
    program: String,
    arguments: Vec<String>,
    timeout: Duration,
    slots: Arc<Semaphore>,
    /// The groups whose command has ended and that still have running processes. Dropping this kills them.
    background: Mutex<JoinSet<()>>,
}

impl Commands {
    /// Builds the command; at most `max_concurrent` groups run at a time, each at most for `timeout`.
    pub fn new(program: &str, arguments: &[String], timeout: Duration, max_concurrent: u32) -> Commands {
        Commands {
            program: program.to_owned(),
            arguments: arguments.to_vec(),
            timeout,
            slots: Arc::new(Semaphore::new(max_concurrent as usize)),
            background: Mutex::default(),
        }
    }

    /// Runs the command with the message's body and a line feed on its standard input, and returns when it has ended.
    /// Its background processes may run until `timeout` after the command's start, and occupy the command's slot until
    /// then.
    ///
    /// # Errors
    /// The reason as text.
    pub async fn run(&self, message: &Message) -> Result<(), String> {
        let permit = self.slots.clone().acquire_owned().await.map_err(|error| error.to_string())?;
        let end = Instant::now() + self.timeout;
        let mut group = self.start(message.job)?;
        let reported = timeout_at(end, group.report(&message.body)).await;
        let result = reported.map_err(|_| format!("it took longer than {:?} (notify.timeout)", self.timeout))?;
        let mut background = self.background.lock();
        while background.try_join_next().is_some() {}
        background.spawn(group.end_by(end, permit));
        result.map_err(|reason| format!("{} {reason}", self.program))
    }

    fn start(&self, job: Option<JobId>) -> Result<Group, String> {
        let mut command = Command::new(OWN_BINARY);
        command.arg0(supervisor::NAME).arg(&self.program).args(&self.arguments).process_group(0).kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        // The daemon's own variables may hold secrets.
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"MARQUEUE_")) {
            command.env_remove(name);
        }
        if let Some(job) = job {
            command.env(JOB, job.to_string());
        }
        let mut child = command.spawn().map_err(|error| format!("the process could not be started: {error}"))?;
        let input = child.stdin.take();
        Ok(Group { child, input })
    }
}

/// The process group of a supervisor. All of it is killed on drop.
struct Group {
    child: Child,
    /// The supervisor kills its group when this closes.
    input: Option<ChildStdin>,
}

impl Group {
    /// Returns how the command ended.
    async fn report(&mut self, body: &[u8]) -> Result<(), String> {
        let lost = |error: std::io::Error| format!("could not be supervised: {error}");
        if let Some(input) = &mut self.input {
            let length = body.len() as u64 + 1;
            input.write_all(&[&length.to_le_bytes(), body, b"\n"].concat()).await.map_err(lost)?;
        }
        let mut line = String::new();
        if let Some(output) = self.child.stdout.take() {
            BufReader::new(output).read_line(&mut line).await.map_err(lost)?;
        }
        match line.trim_end() {
            supervisor::SUCCESS => Ok(()),
            "" => Err("ended without a report of its exit status".to_owned()),
            reason => Err(reason.to_owned()),
        }
    }

    async fn end_by(mut self, end: Instant, _permit: OwnedSemaphorePermit) {
        if timeout_at(end, self.child.wait()).await.is_err() {
            tracing::warn!("background processes of a notification command killed (notify.timeout)");
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // A child keeps its id until it was waited for, so the id cannot belong to another process.
        if let Some(pid) = self.child.id().and_then(|id| Pid::from_raw(id.cast_signed())) {
            let _ = kill_process_group(pid, Signal::KILL);
        }
    }
}
