//! What does a test of the command line live in? The real binary as daemon and as client, a folder of its own, and the
//! simulator in this process.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use marqueue::simulator::{Settings, Simulator};
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

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

/// A daemon with its simulator. Both end with it.
pub struct House {
    pub simulator: Simulator,
    daemon: Option<Child>,
    folder: TempDir,
    _runtime: Runtime,
}

impl House {
    /// Imports take no time unless a file says so.
    pub fn new() -> House {
        let runtime = Runtime::new().unwrap();
        let simulator = runtime.block_on(async {
            let settings = Settings {
                import_base: Duration::ZERO,
                import_per_row: Duration::ZERO,
                calls: 1_000_000,
                ..Settings::default()
            };
            Simulator::start(TcpListener::bind("127.0.0.1:0").await.unwrap(), settings).unwrap()
        });
        let mut house = House { simulator, daemon: None, folder: tempfile::tempdir().unwrap(), _runtime: runtime };
        let configuration = format!(
            "[store]\npath = {:?}\n[api]\nsocket = {:?}\n[log]\nformat = 'json'\n[instances.default]\nbase_url = '{}'\n\
             client_id = 'simulator'\nclient_secret = 'secret'\n[instances.default.limits]\ncalls = 100\nwindow = '1s'\n\
             [instances.default.polling]\nmin = '20ms'\nmax = '100ms'\n",
            house.path("queue.db"),
            house.socket(),
            house.simulator.base_url(),
        );
        fs::write(house.path("marqueue.toml"), configuration).unwrap();
        house.start();
        house
    }

    /// Returns when the daemon says that it is ready.
    pub fn start(&mut self) {
        let mut daemon = binary()
            .args(["serve", "--config"])
            .arg(self.path("marqueue.toml"))
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(daemon.stderr.take().unwrap()).lines();
        let ready = lines.by_ref().map_while(Result::ok).any(|line| line.contains("the daemon is ready"));
        assert!(ready, "the daemon did not start: {:?}", daemon.wait());
        // Somebody has to read on, or the daemon would wait for that one day.
        std::thread::spawn(move || lines.for_each(drop));
        self.daemon = Some(daemon);
    }

    /// As a power cut would.
    pub fn kill(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            daemon.kill().unwrap();
            daemon.wait().unwrap();
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn socket(&self) -> PathBuf {
        self.path("m.sock")
    }

    pub fn file(&self, name: &str, content: &str) {
        fs::write(self.path(name), content).unwrap();
    }

    /// The binary with these words, in the house's folder and with its socket.
    pub fn command(&self, words: &str) -> Command {
        let mut command = binary();
        command.args(words.split_whitespace()).env("MARQUEUE_SOCKET", self.socket()).current_dir(self.folder.path());
        command
    }

    pub fn run(&self, words: &str) -> Ran {
        run(self.command(words), "")
    }

    pub fn run_with_input(&self, words: &str, input: &str) -> Ran {
        run(self.command(words), input)
    }
}

impl Drop for House {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The binary, with nothing of this process's environment that it would listen to.
pub fn binary() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_marqueue"));
    let own = std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("MARQUEUE_"));
    own.for_each(|(name, _)| drop(command.env_remove(name)));
    command.env_remove("RUST_LOG");
    command
}

pub fn run(mut command: Command, input: &str) -> Ran {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it can be started");
    // It may end without reading it.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    ended(child)
}

/// How a started one ended.
pub fn ended(child: Child) -> Ran {
    let output = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ran { status: output.status.code().unwrap_or(-1), out: text(output.stdout), err: text(output.stderr) }
}

/// Reads lines of standard error until one has `words`.
pub fn until_said(child: &mut Child, words: &str) -> impl Iterator<Item = String> + use<> {
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
    assert!(lines.any(|line| line.contains(words)), "it never said {words:?}");
    lines
}

pub fn signal(child: &Child, name: &str) {
    let sent = Command::new("kill").args([&format!("-{name}"), &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
}

pub fn at(socket: &Path, words: &str) -> Ran {
    let mut command = binary();
    command.arg("--socket").arg(socket).args(words.split_whitespace());
    run(command, "")
}
