//! Controlling terminal: whether SIGHUP means that the terminal of the daemon was closed, or a reload.

use std::fs::{self, File};
use std::io;

/// The terminal from which the daemon was started.
pub(super) struct ControllingTerminal(());

impl ControllingTerminal {
    /// Returns the terminal, if the process has one and its end is to end the process: under `nohup` SIGHUP is ignored
    /// at the start, and the process is to outlive its terminal.
    pub(super) fn at_start() -> Option<Self> {
        let ignored = fs::read_to_string("/proc/self/status").is_ok_and(|status| ignores_sighup(&status));
        (!ignored && open().is_ok()).then_some(ControllingTerminal(()))
    }

    /// Whether the terminal was closed since. The kernel then takes it away from all processes of its session, before
    /// it sends SIGHUP.
    pub(super) fn is_closed(&self) -> bool {
        open().is_err()
    }
}

fn open() -> io::Result<File> {
    File::open("/dev/tty")
}

/// Whether the set of ignored signals, as `/proc/PID/status` has it (proc(5)), has SIGHUP, the first of all.
fn ignores_sighup(status: &str) -> bool {
    let set = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    set.and_then(|set| u64::from_str_radix(set.trim(), 16).ok()).is_some_and(|set| set & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ignored_hangup_is_read_from_the_status_of_the_process() {
        assert!(ignores_sighup("Name:\tx\nSigIgn:\t0000000000001001\nSigCgt:\t0000000000000000\n"));
        assert!(!ignores_sighup("SigIgn:\t0000000000001000\nSigCgt:\t0000000000000001\n"));
        assert!(!ignores_sighup("Name:\tx\n"));
    }
}
