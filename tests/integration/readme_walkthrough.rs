//! The tutorial's commands, run by a shell as the page prints them, and the same steps for each target.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// A process that goes when the test does.
struct Started(Child);

impl Drop for Started {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Returns the shell blocks of the tutorial's section "Import a file".
fn blocks() -> Vec<String> {
    let page =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/tutorial.md")).expect("the tutorial");
    let chapter =
        page.split("\n## Import a file\n").nth(1).and_then(|rest| rest.split("\n## ").next()).expect("the chapter");
    chapter.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next()).map(str::to_owned).collect()
}

/// A shell in `folder` for which `marqueue` is the binary under test.
fn shell(folder: &Path, script: &str) -> Command {
    let binary = Path::new(env!("CARGO_BIN_EXE_marqueue"));
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = Command::new("bash");
    command.args(["-c", script]).current_dir(folder).env_remove("MARQUEUE_SOCKET");
    command.env("PATH", format!("{}:{path}", binary.parent().expect("its folder").display()));
    command
}

struct Walkthrough {
    folder: tempfile::TempDir,
    _simulator: Started,
    _daemon: Started,
}

impl Walkthrough {
    /// The first two terminals.
    fn begin() -> Walkthrough {
        let folder = tempfile::tempdir().expect("a folder");
        let [simulate, serve, _] = &blocks()[..] else { panic!("the tutorial has three terminals") };
        // Only the port is changed, so that tests can run side by side.
        let script = format!("exec {} --listen 127.0.0.1:0 --json", simulate.trim());
        let child = shell(folder.path(), &script).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("bash");
        let mut simulator = Started(child);
        let mut printed = String::new();
        let mut out = BufReader::new(simulator.0.stdout.take().expect("a pipe"));
        while serde_json::from_str::<Value>(&printed).is_err() {
            assert!(out.read_line(&mut printed).expect("a line") > 0, "the simulator ended: {printed}");
        }
        let printed: Value = serde_json::from_str(&printed).expect("JSON");
        let script = serve
            .replace("http://127.0.0.1:8438", printed["base_url"].as_str().expect("an address"))
            .replace("marqueue serve", "exec marqueue serve");
        let log = fs::File::create(folder.path().join("log")).expect("a log");
        let child = shell(folder.path(), &script).stdout(Stdio::null()).stderr(log).spawn().expect("bash");
        let walkthrough = Walkthrough { folder, _simulator: simulator, _daemon: Started(child) };
        let patience = Instant::now() + Duration::from_secs(60);
        while !walkthrough.run("marqueue --socket try.sock status").status.success() {
            let log = fs::read_to_string(walkthrough.folder.path().join("log")).unwrap_or_default();
            assert!(Instant::now() < patience, "no daemon answers: {log}");
        }
        walkthrough
    }

    fn run(&self, script: &str) -> Output {
        shell(self.folder.path(), script).output().expect("bash")
    }

    /// Standard output and exit status of a command.
    fn marqueue(&self, arguments: &str) -> (i32, String) {
        let output = self.run(&format!("marqueue --socket try.sock {arguments}"));
        let text = String::from_utf8(output.stdout).expect("text");
        (output.status.code().expect("an exit status"), text)
    }

    fn json(&self, arguments: &str) -> Value {
        let (_, text) = self.marqueue(&format!("--json {arguments}"));
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{arguments}: {error}: {text}"))
    }
}

#[test]
fn the_commands_of_the_page_have_its_results() {
    let walkthrough = Walkthrough::begin();
    let third = blocks().swap_remove(2);
    let mut outputs = Vec::new();
    let mut statuses = Vec::new();
    for line in third.lines().filter(|line| line.starts_with("marqueue")) {
        // What a shell would have kept from the lines before.
        let before: String =
            third.lines().filter(|line| !line.starts_with("marqueue")).map(|line| format!("{line}\n")).collect();
        let output = walkthrough.run(&format!("{before}{line}"));
        statuses.push(output.status.code());
        outputs.push(String::from_utf8(output.stdout).expect("text"));
    }
    assert_eq!(statuses, [Some(4), Some(0), Some(0), Some(0), Some(0)], "{outputs:?}");
    assert_eq!(
        outputs[1],
        "Line,email,firstName,Import Failure Reason\n\
         3,bob@example.com,!fail:Value for field is too long,Value for field is too long\n"
    );
    assert!(outputs[2].contains("import-ended") && outputs[2].contains("complete"), "{}", outputs[2]);
    let again = walkthrough.json("wait 2");
    assert_eq!(again[0]["rows"]["total"], 1, "only the corrected row: {again}");
    assert_eq!(again[0]["retry_of"], 1);
    let (_, sent) = walkthrough.marqueue("file 2");
    assert_eq!(sent, "email,firstName\nbob@example.com,Bob\n");
}

#[test]
fn each_target_yields_its_failure_and_warning_files() {
    let walkthrough = Walkthrough::begin();
    let ways = [
        ("leads.csv", "leads", ',', "--lookup-field email --list-id 7 --partition Default"),
        ("cars.ssv", "custom-object car_c", ';', ""),
        ("members.tsv", "program-members 1044", '\t', "--status 'On List'"),
    ];
    for (name, target, delimiter, options) in ways {
        let rows =
            ["email,color", "ann@example.com,red", "bob@example.com,!fail:no such color", "eve@example.com,!warn:rare"];
        let file: String = rows.iter().map(|row| row.replace(',', &delimiter.to_string()) + "\r\n").collect();
        fs::write(walkthrough.folder.path().join(name), &file).expect("the file");
        let (status, printed) = walkthrough.marqueue(&format!("--json add {target} {name} {options} --wait"));
        assert_eq!(status, 4, "{printed}");
        let jobs: Value = serde_json::from_str(&printed).expect("JSON");
        let job = &jobs[0];
        assert_eq!(
            (&job["state"], &job["rows"]["processed"], &job["rows"]["failed"], &job["rows"]["warned"]),
            (&"complete".into(), &2.into(), &1.into(), &1.into()),
            "{job}"
        );
        let id = job["id"].as_i64().expect("an id");
        for (name, kind, cell) in [("failures", "Failure", "no such color"), ("warnings", "Warning", "rare")] {
            let (status, report) = walkthrough.marqueue(&format!("{name} {id}"));
            assert_eq!(status, 0);
            let header = format!("email,color,Import {kind} Reason").replace(',', &delimiter.to_string());
            assert!(report.starts_with(&header) && report.trim_end().ends_with(cell), "{report}");
            assert_eq!(report.lines().count(), 2);
        }
        let output =
            walkthrough.run(&format!("marqueue --socket try.sock file {id} -o back --force && cmp back {name}"));
        assert!(output.status.success(), "the file comes back as it was dropped in");
        let history = walkthrough.json(&format!("show {id}"));
        assert!(history.to_string().contains("upload-began"), "{history}");
    }
    assert_eq!(walkthrough.marqueue("list").1.lines().count(), 4, "a line for each job below the headings");
    let mut input = shell(walkthrough.folder.path(), "marqueue --socket try.sock --json add leads - --wait");
    let mut child = input.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("bash");
    std::io::Write::write_all(&mut child.stdin.take().expect("a pipe"), b"email\nx@example.com\n").expect("it reads");
    let mut printed = String::new();
    child.stdout.take().expect("a pipe").read_to_string(&mut printed).expect("text");
    assert_eq!(child.wait().expect("it ends").code(), Some(0), "{printed}");
}
