//! Notification commands: run in a process group of their own, a few at once, and ended whole when their time is over.

use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use crate::domain::JobId;
use crate::notification::supervisor;

/// The variable of a command that tells which job it is about.
const JOB: &str = "MARQUEUE_JOB_ID";

/// The daemon's own binary, also when its file was replaced since the start.
const OWN_BINARY: &str = "/proc/self/exe";

/// A command, as it is configured.
pub(super) struct Commands {
    program: String,
    arguments: Vec<String>,
    timeout: Duration,
    may_run: Arc<Semaphore>,
    /// Those that have reported their end and left something running. Dropping this ends them.
    left: Mutex<JoinSet<()>>,
}

impl Commands {
    pub fn new(program: &str, arguments: &[String], timeout: Duration, at_once: u32) -> Commands {
        Commands {
            program: program.to_owned(),
            arguments: arguments.to_vec(),
            timeout,
            may_run: Arc::new(Semaphore::new(at_once as usize)),
            left: Mutex::default(),
        }
    }

    /// Runs the command with `body` and a line feed on its standard input, and returns when it has ended. What it has
    /// started in the background may go on until `timeout` after the command's start, and holds its place among those
    /// that run at once until then.
    ///
    /// # Errors
    /// The reason in one sentence.
    pub async fn run(&self, job: JobId, body: &[u8]) -> Result<(), String> {
        let permit = self.may_run.clone().acquire_owned().await.map_err(|error| error.to_string())?;
        let end = Instant::now() + self.timeout;
        let mut group = self.start(job)?;
        let told = timeout_at(end, group.report(body)).await;
        let told = told.map_err(|_| format!("it took longer than {:?} (notify.timeout)", self.timeout))?;
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        while left.try_join_next().is_some() {}
        left.spawn(group.end_by(end, permit));
        told.map_err(|words| format!("{} {words}", self.program))
    }

    fn start(&self, job: JobId) -> Result<Group, String> {
        let mut command = Command::new(OWN_BINARY);
        command.arg0(supervisor::NAME).arg(&self.program).args(&self.arguments).process_group(0).kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        // The daemon's own may have secrets.
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"MARQUEUE_")) {
            command.env_remove(name);
        }
        let mut child =
            command.env(JOB, job.to_string()).spawn().map_err(|error| format!("no process can be started: {error}"))?;
        let input = child.stdin.take();
        Ok(Group { child, input })
    }
}

/// A supervisor with all that it has started. Dropped, all of it is killed.
struct Group {
    child: Child,
    /// The supervisor kills its group when this closes.
    input: Option<ChildStdin>,
}

impl Group {
    /// How the command ended.
    async fn report(&mut self, body: &[u8]) -> Result<(), String> {
        let lost = |error: std::io::Error| format!("was lost: {error}");
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
            "" => Err("was lost: nothing is known of its end".to_owned()),
            words => Err(words.to_owned()),
        }
    }

    async fn end_by(mut self, end: Instant, _permit: OwnedSemaphorePermit) {
        if timeout_at(end, self.child.wait()).await.is_err() {
            tracing::warn!("what a notification command left running was ended (notify.timeout)");
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // It has an id until its end was waited for, so the number can't be another process's by now.
        if let Some(pid) = self.child.id().and_then(|id| Pid::from_raw(id.cast_signed())) {
            let _ = kill_process_group(pid, Signal::KILL);
        }
    }
}
