//! Key reader: single keys of the terminal that standard input is, without Enter.

use std::io;
use std::os::fd::AsFd;
use std::thread;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios, isatty, tcgetattr, tcsetattr};
use tokio::sync::mpsc;

/// How often the thread looks whether somebody still wants its keys.
const STOP_CHECK: Timespec = Timespec { tv_sec: 0, tv_nsec: 200_000_000 };

/// Reads keys until it is dropped, which gives the terminal its earlier mode back.
pub struct KeyReader {
    keys: mpsc::UnboundedReceiver<u8>,
    _mode: TerminalMode,
}

impl KeyReader {
    /// Lets the terminal of standard input give each key at once and show none. Returns none where standard input is no
    /// terminal. Ctrl-C stays a signal.
    pub fn open() -> Option<KeyReader> {
        if !isatty(io::stdin()) {
            return None;
        }
        let mode = TerminalMode::keys().ok()?;
        let (sender, keys) = mpsc::unbounded_channel();
        thread::Builder::new().name("keys".into()).spawn(move || read_keys(&sender)).ok()?;
        Some(KeyReader { keys, _mode: mode })
    }

    /// Returns the next key as its byte; none when the terminal is gone.
    pub async fn next(&mut self) -> Option<u8> {
        self.keys.recv().await
    }
}

/// Reads keys until nobody wants them or the terminal is gone.
fn read_keys(keys: &mpsc::UnboundedSender<u8>) {
    let stdin = io::stdin();
    while !keys.is_closed() {
        let mut inputs = [PollFd::new(&stdin, PollFlags::IN)];
        match poll(&mut inputs, Some(&STOP_CHECK)) {
            Ok(0) | Err(rustix::io::Errno::INTR) => continue,
            Ok(_) => {}
            Err(_) => return,
        }
        let mut key = [0];
        match rustix::io::read(&stdin, &mut key) {
            Ok(1..) => drop(keys.send(key[0])),
            Err(rustix::io::Errno::INTR) => {}
            Ok(0) | Err(_) => return,
        }
    }
}

/// The mode that the terminal had before.
struct TerminalMode {
    earlier: Termios,
}

impl TerminalMode {
    fn keys() -> io::Result<TerminalMode> {
        let stdin = io::stdin();
        let terminal = stdin.as_fd();
        let earlier = tcgetattr(terminal)?;
        let mut keys = earlier.clone();
        keys.local_modes.remove(LocalModes::ICANON | LocalModes::ECHO);
        keys.special_codes[SpecialCodeIndex::VMIN] = 1;
        keys.special_codes[SpecialCodeIndex::VTIME] = 0;
        tcsetattr(terminal, OptionalActions::Now, &keys)?;
        Ok(TerminalMode { earlier })
    }
}

impl Drop for TerminalMode {
    fn drop(&mut self) {
        // Where the terminal is gone, its mode does not matter.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.earlier);
    }
}
