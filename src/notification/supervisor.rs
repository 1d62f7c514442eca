//! Supervisor: a small process between the daemon and one notification command.
//!
//! The daemon starts it as the leader of a process group of its own. It runs the command in that group, reports how the
//! command ended, and stays until all that the command started has ended too. While it waits it holds a pipe from the
//! daemon: when that closes, whether the daemon was stopped, crashed or was killed, it kills the whole group, itself
//! included. A parent-death signal would not reach what the command has started, and needs unsafe code.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitCode, ExitStatus, Stdio};
use std::thread;

use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions};
use rustix::process::{getpgrp, getpid, kill_current_process_group, set_child_subreaper, waitpgid};

/// The name (argument 0) under which the daemon starts its own binary as a supervisor.
pub const NAME: &str = "marqueue-notify";

/// The report of a successful command.
pub(super) const SUCCESS: &str = "ok";

/// Runs the supervisor process [`NAME`]. `arguments` are the command's program and its arguments. Standard input has
/// the length of the command's input in eight bytes, least significant first, then the input, and stays open. The
/// report is one line on standard output.
pub fn main(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    match supervise(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        // The daemon detects the missing report.
        Err(_) => ExitCode::FAILURE,
    }
}

fn supervise(mut arguments: impl Iterator<Item = OsString>) -> io::Result<()> {
    let program = arguments.next().ok_or(io::ErrorKind::InvalidInput)?;
    // This process must be the group's leader, because it kills its own group.
    if getpgrp() != getpid() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // Orphaned processes of the command become children of this process, so that it can wait for them.
    set_child_subreaper(Some(getpid()))?;
    let input = read_input()?;
    thread::spawn(|| {
        // The read ends when the daemon closes its end of the pipe or exits.
        let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
        let _ = kill_current_process_group(Signal::KILL);
    });
    let command =
        Command::new(program).args(arguments).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let mut child = match command {
        Ok(child) => child,
        Err(error) => return report(&format!("cannot be run: {error}")),
    };
    if let Some(mut pipe) = child.stdin.take() {
        // A write error is ignored: a command need not read its input.
        thread::spawn(move || pipe.write_all(&input));
    }
    wait_for_group(Pid::from_child(&child))
}

/// Reports the end of `command`, and returns when all other processes of the group have ended.
fn wait_for_group(command: Pid) -> io::Result<()> {
    loop {
        match waitpgid(getpgrp(), WaitOptions::empty()) {
            Ok(Some((ended, status))) if ended == command => {
                let status = ExitStatus::from_raw(status.as_raw());
                let text = if status.success() { SUCCESS.to_owned() } else { format!("ended with {status}") };
                report(&text)?;
            }
            Ok(_) | Err(Errno::INTR) => {}
            Err(Errno::CHILD) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

fn read_input() -> io::Result<Vec<u8>> {
    let mut stdin = io::stdin().lock();
    let mut length = [0; 8];
    stdin.read_exact(&mut length)?;
    let length = u64::from_le_bytes(length);
    let mut input = Vec::new();
    if stdin.take(length).read_to_end(&mut input)? as u64 == length {
        Ok(input)
    } else {
        Err(io::ErrorKind::UnexpectedEof.into())
    }
}

fn report(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{text}")?;
    stdout.flush()
}
