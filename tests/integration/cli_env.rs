//! Runs the binary as a client of the daemon of a [`TestEnv`].

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use marqueue::domain::{BatchState, JobId};
use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use serde_json::Value;
use tokio::runtime::Runtime;

use crate::support::{TestEnv, quick};

/// How a run of the binary ended.
#[derive(Debug)]
pub struct Ran {
    pub status: i32,
    pub out: String,
    pub err: String,
}

impl Ran {
    /// Standard output as the one JSON document that it has to be.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    #[track_caller]
    pub fn expect(self, status: i32) -> Ran {
        assert_eq!(self.status, status, "{self:?}");
        self
    }
}

/// A [`TestEnv`] for tests that run the binary and wait for it. The simulator runs on the threads of its runtime.
pub struct CliEnv {
    pub env: TestEnv,
    runtime: Runtime,
}

impl CliEnv {
    pub fn new() -> CliEnv {
        let runtime = Runtime::new().expect("a runtime");
        let env = runtime.block_on(TestEnv::with_daemon(quick()));
        CliEnv { env, runtime }
    }

    pub fn start(&mut self) {
        self.runtime.block_on(self.env.start());
    }

    /// Waits until the job's first batch is in this state.
    pub fn in_state(&mut self, job: i64, state: BatchState) {
        self.runtime.block_on(self.env.in_state(JobId(job), state));
    }

    /// The status and the JSON answer of a `GET`.
    pub fn json(&self, path: &str) -> (u16, Value) {
        self.runtime.block_on(self.env.json("GET", path))
    }

    /// The JSON answer of a successful `GET`.
    pub fn get_json(&self, path: &str) -> Value {
        let (status, answer) = self.json(path);
        assert_eq!(status, 200, "{answer}");
        answer
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.env.folder.path().join(name)
    }

    pub fn file(&self, name: &str, content: &str) {
        fs::write(self.path(name), content).expect("the file is written");
    }

    /// The binary with these words, in the folder of the environment and with its socket.
    pub fn command(&self, words: &str) -> Command {
        let mut command = binary();
        command.args(words.split_whitespace()).env("MARQUEUE_SOCKET", self.env.socket());
        command.current_dir(self.env.folder.path());
        command
    }

    pub fn run(&self, words: &str) -> Ran {
        run(self.command(words), "")
    }

    /// Runs the binary with words that may have blanks.
    pub fn words(&self, words: &[&str]) -> Ran {
        let mut command = self.command("");
        command.args(words);
        run(command, "")
    }

    pub fn run_with_input(&self, words: &str, input: &str) -> Ran {
        run(self.command(words), input)
    }

    /// Started, with all that it says to be read.
    pub fn spawn(&self, words: &str) -> Child {
        self.command(words).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary starts")
    }
}

/// The binary, whatever this process's environment has for it.
pub fn binary() -> Command {
    let mut command = Command::new(crate::support::binary());
    command.env_remove("MARQUEUE_SOCKET").env_remove("MARQUEUE_CONFIG");
    command
}

/// The binary with these words, asking at `socket`.
pub fn at(socket: &Path, words: &str) -> Ran {
    let mut command = binary();
    command.arg("--socket").arg(socket).args(words.split_whitespace());
    run(command, "")
}

pub fn run(mut command: Command, input: &str) -> Ran {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary starts");
    // It may end without reading it.
    let _ = child.stdin.take().expect("it was asked for").write_all(input.as_bytes());
    ended(child)
}

/// The size of a terminal.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    pub columns: u16,
    pub lines: u16,
}

/// What a run of the binary showed on a terminal, and how it ended.
#[derive(Debug)]
pub struct Screen {
    pub status: i32,
    pub text: String,
}

/// What a successful run of the binary shows on a terminal.
pub fn on_terminal(command: Command) -> String {
    let shown = shown_on_terminal(command, Size { columns: 80, lines: 24 });
    assert_eq!(shown.status, 0, "{shown:?}");
    shown.text
}

/// A pseudoterminal. It is closed when this is dropped.
pub struct Terminal {
    /// The side of a terminal emulator.
    pub emulator: File,
    /// The path of the other side.
    path: String,
}

impl Terminal {
    pub fn new(size: Size) -> Terminal {
        let emulator =
            openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("a terminal can be made");
        grantpt(&emulator).expect("access to it is granted");
        unlockpt(&emulator).expect("it can be unlocked");
        let size = Winsize { ws_row: size.lines, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&emulator, size).expect("its size can be set");
        let path = ptsname(&emulator, Vec::new()).expect("it has a path").into_string().expect("the path is UTF-8");
        Terminal { emulator: File::from(emulator), path }
    }

    /// Opens the side of a program that runs on the terminal, without making it this process's controlling terminal.
    pub fn open(&self) -> File {
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        File::from(rustix::fs::open(&*self.path, flags, Mode::empty()).expect("the terminal opens"))
    }
}

/// Runs the binary on a terminal of this size, which is its standard output and its standard error.
pub fn shown_on_terminal(mut command: Command, size: Size) -> Screen {
    command.stdin(Stdio::null());
    run_on_terminal(command, Terminal::new(size))
}

/// Runs the binary on a terminal of this size, at which `answer` was typed before it asks.
pub fn answered_on_terminal(mut command: Command, size: Size, answer: &str) -> Screen {
    let mut terminal = Terminal::new(size);
    // It is open before the answer is written, so that the terminal keeps it.
    command.stdin(terminal.open());
    terminal.emulator.write_all(answer.as_bytes()).expect("the terminal takes it");
    run_on_terminal(command, terminal)
}

fn run_on_terminal(mut command: Command, mut terminal: Terminal) -> Screen {
    command.stdout(terminal.open()).stderr(terminal.open());
    let mut child = command.spawn().expect("the binary starts");
    // The command's own copies would keep the terminal open.
    drop(command);
    let mut shown = Vec::new();
    // Linux reports an error when no process has the terminal open any more.
    let _ = terminal.emulator.read_to_end(&mut shown);
    let status = child.wait().expect("it ends").code().unwrap_or(-1);
    // The terminal itself puts a CR before each LF.
    Screen { status, text: String::from_utf8(shown).expect("text").replace("\r\n", "\n") }
}

/// How a started one ended.
pub fn ended(child: Child) -> Ran {
    let output = child.wait_with_output().expect("it ends");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    Ran { status: output.status.code().unwrap_or(-1), out: text(output.stdout), err: text(output.stderr) }
}

/// Reads lines of standard error until one is `line`, and gives those that follow.
pub fn until_printed(child: &mut Child, line: &str) -> impl Iterator<Item = String> + use<> {
    let mut lines = BufReader::new(child.stderr.take().expect("it was asked for")).lines().map_while(Result::ok);
    assert!(lines.any(|printed| printed == line), "it never printed {line:?}");
    lines
}

pub fn signal(child: &Child, name: &str) {
    let sent = Command::new("kill").args([&format!("-{name}"), &child.id().to_string()]).status().expect("kill runs");
    assert!(sent.success());
}
