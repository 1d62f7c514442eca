//! The command `events`, with the real binary.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdout};

use serde_json::Value;

use crate::cli_env::{CliEnv, Ran, at, ended, signal};

const PEOPLE: &str = "email\nann@example.com\nbob@example.com\n";

/// A running `events`, whose lines are read as they come.
struct Following {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Following {
    /// Starts the command. On return it has printed the state of the jobs that it follows.
    fn jobs(cli: &CliEnv, words: &str) -> (Following, String) {
        let mut following = Following::start(cli, words);
        let first = following.line();
        (following, first)
    }

    fn start(cli: &CliEnv, words: &str) -> Following {
        let mut child = cli.spawn(words);
        let lines = BufReader::new(child.stdout.take().expect("it was asked for"));
        Following { child, lines }
    }

    /// Starts the command for all jobs. On return it follows them.
    fn all(cli: &CliEnv, words: &str) -> Following {
        let mut following = Following::start(cli, words);
        // It has connected once it prints a change, so changes are made until it does.
        let pauses = std::thread::scope(|scope| {
            let printed = scope.spawn(|| following.line());
            let mut pauses = 0;
            while !printed.is_finished() {
                cli.run(if pauses % 2 == 0 { "pause" } else { "resume" }).expect(0);
                pauses += 1;
            }
            printed.join().expect("a line");
            pauses
        });
        if pauses % 2 == 1 {
            cli.run("resume").expect(0);
        }
        following
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).expect("it is text");
        assert!(line.ends_with('\n'), "it has ended: {line:?}");
        line.trim_end().to_owned()
    }

    /// Reads lines until one has this text, and returns them all.
    fn until(&mut self, text: &str) -> Vec<String> {
        let mut read = Vec::new();
        loop {
            read.push(self.line());
            if read.last().is_some_and(|line| line.contains(text)) {
                return read;
            }
        }
    }

    fn interrupt(self) -> Ran {
        signal(&self.child, "INT");
        ended(self.child).expect(130)
    }
}

#[test]
fn events_are_a_line_each_as_they_happen() {
    let cli = CliEnv::new();
    cli.file("people.csv", PEOPLE);
    let mut following = Following::all(&cli, "events");
    cli.run("pause").expect(0);
    let paused = following.until("paused (operator)");
    assert!(paused.last().is_some_and(|line| line.contains("  instance default  ")), "{paused:?}");
    cli.run("add leads people.csv").expect(0);
    let added = following.until("people.csv: pending").pop().expect("a line");
    let (at, rest) = added.split_once("  ").expect("the time first");
    assert!(at.len() == 24 && at.ends_with('Z'), "{added}");
    assert_eq!(rest, "job 1              people.csv: pending");
    cli.run("resume").expect(0);
    let lines = following.until("job 1              people.csv: complete");
    assert!(lines.iter().any(|line| line.ends_with("job 1 part 1       people.csv: complete: 2 rows, 2 processed")));
    let texts: Vec<&str> = lines.iter().filter_map(|line| line.split_once("  ")).map(|(_, text)| text).collect();
    assert!(texts.windows(2).all(|pair| pair[0] != pair[1]), "no line is repeated: {texts:?}");
    assert_eq!(following.interrupt().err, "");
}

#[test]
fn events_of_chosen_jobs_are_objects_on_lines_with_json() {
    let cli = CliEnv::new();
    cli.file("a.csv", PEOPLE);
    cli.file("b.csv", PEOPLE);
    cli.run("pause").expect(0);
    cli.run("add leads a.csv b.csv").expect(0);
    let (mut following, first) = Following::jobs(&cli, "events --job 2 --json");
    let first: Value = serde_json::from_str(&first).expect("one object");
    assert_eq!((&first["type"], &first["job"]["id"], &first["at"]), (&"job".into(), &2.into(), &Value::Null));
    cli.run("resume").expect(0);
    let lines = following.until("\"state\": \"complete\"");
    for line in &lines {
        let event: Value = serde_json::from_str(line).expect("one object");
        let at = event["at"].as_str().expect("a time");
        assert!(event["job"]["id"] == 2 && at.len() == 24, "{line}");
    }
    following.interrupt();
    cli.run("events --job 9 --json").expect(1);
    cli.run("events --job x").expect(2);
}

#[test]
fn events_go_on_after_a_restart_of_the_daemon() {
    let mut cli = CliEnv::new();
    cli.file("people.csv", PEOPLE);
    let mut following = Following::all(&cli, "events");
    cli.env.kill();
    cli.start();
    let missed = following.until("events were missed");
    assert!(missed.last().is_some_and(|line| line.contains("\"marqueue list\" shows")), "{missed:?}");
    cli.run("add leads people.csv").expect(0);
    following.until("job 1              people.csv: complete");
    let printed = following.interrupt().err;
    let mut printed = printed.lines();
    let lost = printed.next().unwrap_or_default();
    assert!(lost.starts_with("the connection to the daemon is lost (") && lost.ends_with(": waiting for the daemon"));
    assert_eq!(printed.collect::<Vec<_>>(), ["the daemon answers again"]);
}

#[test]
fn events_end_quietly_when_the_reader_leaves() {
    let cli = CliEnv::new();
    cli.file("people.csv", PEOPLE);
    cli.run("pause").expect(0);
    cli.run("add leads people.csv").expect(0);
    let (following, _) = Following::jobs(&cli, "events --job 1");
    let Following { mut child, lines } = following;
    // Nothing happens any more, so no write can fail.
    drop(lines);
    let mut printed = String::new();
    child.stderr.take().expect("it was asked for").read_to_string(&mut printed).expect("text");
    assert_eq!((child.wait().expect("it ends").code(), printed.as_str()), (Some(0), ""));
}

#[test]
fn events_without_a_daemon_end_at_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let ran = at(&folder.path().join("none.sock"), "events").expect(3);
    assert!(ran.out.is_empty() && ran.err.contains("no daemon answers at"), "{ran:?}");
}
