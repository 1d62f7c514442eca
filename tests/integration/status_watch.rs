//! `status --watch` on a terminal, and the route that it reads.

use std::io::{Read, Write};
use std::process::Stdio;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use marqueue::domain::BatchState;

use crate::cli_env::{CliEnv, Size, Terminal, run};

/// Far longer than any change takes to be shown.
const PATIENCE: Duration = Duration::from_secs(60);

/// A file whose import takes as long as this.
fn lasting(seconds: u32) -> String {
    format!("email,firstName\na@example.com,!lasts:{seconds}s\n")
}

fn with_imports(cli: &CliEnv) {
    for number in 1..=11 {
        cli.file(&format!("顧客-{number}.csv"), &lasting(600));
        cli.run(&format!("add leads 顧客-{number}.csv")).expect(0);
    }
}

#[test]
fn the_route_shows_slots_and_the_queue_behind_them() {
    let mut cli = CliEnv::new();
    with_imports(&cli);
    for job in 1..=2 {
        cli.in_state(job, BatchState::Importing);
    }
    for job in 3..=10 {
        cli.in_state(job, BatchState::Queued);
    }
    let queue = cli.get_json("/v1/instances/default/queue");
    let states: Vec<&str> =
        queue["slots"].as_array().unwrap().iter().map(|slot| slot["state"].as_str().unwrap()).collect();
    assert_eq!(states, [["importing"; 2].as_slice(), ["queued"; 8].as_slice()].concat(), "{queue}");
    assert_eq!((&queue["limit"], &queue["importing_limit"]), (&10.into(), &2.into()));
    let first = &queue["slots"][0];
    assert_eq!(first["import"]["filename"], "顧客-1.csv");
    assert_eq!((&first["import"]["rows"], &first["import"]["parts"]), (&1.into(), &1.into()));
    assert!(first["since"].is_string(), "{first}");
    let waiting = &queue["queue"][0]["job"];
    assert_eq!((&waiting["id"], &waiting["waiting"]["waits_for"]), (&11.into(), &"slot".into()), "{queue}");
    assert_eq!(queue["queue"].as_array().unwrap().len(), 1);
    assert_eq!(queue["has_more"], false);
    let none = cli.get_json("/v1/instances/default/queue?limit=0");
    assert_eq!((none["queue"].as_array().unwrap().len(), &none["has_more"]), (0, &true.into()));
}

#[test]
fn wrong_requests_for_a_queue_are_refused() {
    let cli = CliEnv::new();
    for (path, status, detail) in [
        ("/v1/instances/apac/queue", 404, "there is no instance \"apac\""),
        ("/v1/instances/default/queue?limit=201", 400, "at most 200 jobs can be listed"),
        ("/v1/instances/default/queue?size=2", 400, "unknown field `size`"),
    ] {
        let (found, problem) = cli.json(path);
        assert_eq!(found, status, "{problem}");
        assert!(problem["detail"].as_str().unwrap().contains(detail), "{problem}");
    }
}

/// What a terminal has shown so far, and the program on it.
struct Watched {
    child: std::process::Child,
    terminal: std::fs::File,
    shown: mpsc::Receiver<Vec<u8>>,
    text: String,
}

impl Watched {
    fn start(cli: &CliEnv, size: Size) -> Watched {
        let terminal = Terminal::new(size);
        let mut command = cli.command("status --watch");
        command.env("TERM", "xterm-256color").env("NO_COLOR", "1");
        command.stdin(terminal.open()).stdout(terminal.open()).stderr(Stdio::piped());
        let child = command.spawn().expect("the binary starts");
        drop(command);
        let mut reader = terminal.emulator.try_clone().expect("a second handle");
        let (sender, shown) = mpsc::channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(bytes @ 1..) = reader.read(&mut buffer) {
                if sender.send(buffer[..bytes].to_vec()).is_err() {
                    return;
                }
            }
        });
        Watched { child, terminal: terminal.emulator, shown, text: String::new() }
    }

    /// Waits until what was shown since the last call has all of these texts.
    fn until(&mut self, texts: &[&str]) {
        let started = Instant::now();
        let mut bytes = Vec::new();
        while !texts.iter().all(|text| self.text.contains(text)) {
            let left = PATIENCE.checked_sub(started.elapsed()).unwrap_or_else(|| panic!("{texts:?} in {}", self.text));
            bytes.extend(self.shown.recv_timeout(left.max(Duration::from_millis(1))).unwrap_or_default());
            self.text = String::from_utf8_lossy(&bytes).into_owned();
        }
        self.text.clear();
    }

    /// Types a key, and returns the exit status.
    fn end(mut self, key: &[u8]) -> i32 {
        self.terminal.write_all(key).expect("the terminal takes it");
        self.child.wait().expect("it ends").code().expect("an exit status")
    }
}

#[test]
fn watching_follows_changes_until_q() {
    for size in [Size { columns: 80, lines: 24 }, Size { columns: 200, lines: 50 }] {
        let mut cli = CliEnv::new();
        let mut watched = Watched::start(&cli, size);
        watched.until(&["no job is pending", "q ends it"]);
        with_imports(&cli);
        watched.until(&["顧客-1.csv", "importing ██ 2/2", "slots ██████████ 10/10", "waits for a free slot"]);
        cli.run("pause").expect(0);
        watched.until(&["paused"]);
        cli.env.kill();
        watched.until(&["the connection to the daemon is lost"]);
        cli.start();
        watched.until(&["顧客-2.csv"]);
        assert_eq!(watched.end(b"xq"), 0);
    }
}

#[test]
fn watching_needs_a_terminal_and_a_known_instance() {
    let cli = CliEnv::new();
    for (words, status, text) in [
        ("status --watch", 2, "--watch needs a terminal"),
        ("status --watch --json", 2, "--watch needs a terminal"),
        ("status apac", 1, "there is no instance \"apac\""),
    ] {
        let ran = run(cli.command(words), "");
        assert_eq!(ran.status, status, "{ran:?}");
        assert!(ran.err.contains(text), "{ran:?}");
    }
}
