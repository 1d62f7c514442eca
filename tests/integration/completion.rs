//! Shell completion: the real binary as bash runs it, against a real daemon.

use std::fs;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::{Duration, Instant};

use std::process::Command;

use crate::cli_env::{CliEnv, at, binary, run};

/// Sources the script of `marqueue completions bash`, and calls its function as bash does for the words, the last of
/// which has the cursor.
const ASK: &str = r#"
eval "$("$BINARY" completions bash)"
marqueue() { "$BINARY" "$@"; }
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
_marqueue marqueue "${!#}"
printf '%s\n' "${COMPREPLY[@]}"
"#;

/// What bash offers for the last of `words`.
fn offered(folder: &Path, socket: &Path, words: &[&str]) -> Vec<String> {
    let mut bash = Command::new("bash");
    bash.args(["-c", ASK, "bash"]).args(words).current_dir(folder);
    bash.env("BINARY", crate::support::binary()).env("MARQUEUE_SOCKET", socket);
    let ran = run(bash, "").expect(0);
    ran.out.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

impl CliEnv {
    fn offered(&self, words: &[&str]) -> Vec<String> {
        offered(self.env.folder.path(), &self.env.socket(), words)
    }

    fn offered_by_daemon(&self, words: &[&str]) -> Vec<String> {
        self.offered_at(&self.env.socket(), words)
    }

    /// What is offered where `MARQUEUE_SOCKET` is `socket`, once the daemon has answered in time; a loaded machine may
    /// need several attempts.
    fn offered_at(&self, socket: &Path, words: &[&str]) -> Vec<String> {
        let end = Instant::now() + Duration::from_secs(60);
        loop {
            let found = offered(self.env.folder.path(), socket, words);
            if !found.is_empty() || Instant::now() > end {
                return found;
            }
        }
    }
}

/// The lines that the program writes for a shell.
fn lines(cli: &CliEnv, shell: &str, words: &[&str]) -> Vec<String> {
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        let mut command = binary();
        command.env("COMPLETE", shell).env("MARQUEUE_SOCKET", cli.env.socket()).arg("--").args(words);
        let ran = run(command, "").expect(0);
        assert_eq!(ran.err, "");
        if !ran.out.is_empty() || Instant::now() > end {
            return ran.out.lines().map(str::to_owned).collect();
        }
    }
}

#[test]
fn jobs_are_offered_newest_first() {
    let cli = CliEnv::new();
    cli.file("people.csv", "email\na@example.com\n");
    cli.run("pause").expect(0);
    for _ in 0..11 {
        cli.run("add leads people.csv").expect(0);
    }
    assert_eq!(
        cli.offered_by_daemon(&["marqueue", "show", ""]),
        ["11", "10", "9", "8", "7", "6", "5", "4", "3", "2", "1"]
    );
    assert_eq!(cli.offered_by_daemon(&["marqueue", "wait", "3", "1"]), ["11", "10", "1"]);
    let socket = cli.env.socket();
    let named = ["marqueue", "--socket", socket.to_str().unwrap(), "cancel", "5"];
    assert_eq!(cli.offered_at(Path::new("/nowhere"), &named), ["5"]);

    assert_eq!(lines(&cli, "fish", &["marqueue", "explain", "11"]), ["11\tpeople.csv, pending"]);
    assert_eq!(lines(&cli, "zsh", &["marqueue", "explain", "11"]), ["11:people.csv, pending"]);
}

#[test]
fn instances_states_and_formats_are_offered() {
    let cli = CliEnv::new();
    assert_eq!(cli.offered_by_daemon(&["marqueue", "pause", ""]), ["default"]);
    assert_eq!(cli.offered_by_daemon(&["marqueue", "add", "leads", "a.csv", "--instance", "d"]), ["default"]);
    assert_eq!(cli.offered(&["marqueue", "list", "--state", "p"]), ["pending"]);
    assert_eq!(cli.offered(&["marqueue", "list", "--state", "=", "c"]), ["complete", "cancelled"]);
    assert_eq!(cli.offered(&["marqueue", "check", "a.csv", "--format", ""]), ["csv", "tsv", "ssv"]);
    assert_eq!(cli.offered(&["marqueue", "add", "le"]), ["leads"]);
    assert_eq!(cli.offered(&["marqueue", "list", "--li"]), ["--limit"]);
}

#[test]
fn only_files_of_known_formats_are_offered() {
    let folder = tempfile::tempdir().unwrap();
    let none = folder.path().join("none.sock");
    for name in ["a.csv", "b.tsv", "c.ssv", "D.CSV", "e.xlsx", "my people.csv"] {
        fs::write(folder.path().join(name), "").unwrap();
    }
    fs::create_dir(folder.path().join("in")).unwrap();
    fs::write(folder.path().join("in/f.csv"), "").unwrap();
    let offered = |words: &[&str]| offered(folder.path(), &none, words);
    let all = ["D.CSV", "a.csv", "b.tsv", "c.ssv", "my\\ people.csv", "in/", "-"];
    assert_eq!(offered(&["marqueue", "add", "leads", ""]), all);
    assert_eq!(offered(&["marqueue", "add", "program-members", "1044", "in/"]), ["in/f.csv"]);
    assert_eq!(offered(&["marqueue", "add", "leads", "a.csv", "my\\ p"]), ["my\\ people.csv"]);
    assert_eq!(offered(&["marqueue", "add", "leads", "\"my p"]), ["my people.csv"]);
    assert!(offered(&["marqueue", "file", "1", "-o", "e"]).contains(&"e.xlsx".to_owned()));
}

#[test]
fn nothing_is_offered_where_no_daemon_answers() {
    let folder = tempfile::tempdir().unwrap();
    let none = folder.path().join("none.sock");
    assert!(offered(folder.path(), &none, &["marqueue", "show", "1"]).is_empty());
    // A daemon that hangs accepts the connection and sends nothing.
    let hangs = folder.path().join("hangs.sock");
    let _listener = UnixListener::bind(&hangs).unwrap();
    let start = Instant::now();
    assert!(offered(folder.path(), &hangs, &["marqueue", "show", "1"]).is_empty());
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
}

#[test]
fn an_unknown_variable_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    for value in ["1", "true", "bash"] {
        let mut command = binary();
        command.env("COMPLETE", value).args(["completions", "bash"]);
        assert!(run(command, "").expect(0).out.contains("complete -o nosort -F _marqueue marqueue"), "{value}");
    }
    for (shell, text) in [("zsh", "#compdef marqueue\n"), ("fish", "COMPLETE=fish"), ("elvish", "program-members")] {
        let none = folder.path().join("none.sock");
        assert!(at(&none, &format!("completions {shell}")).expect(0).out.contains(text), "{shell}");
    }
}
