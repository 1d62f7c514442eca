//! Options of `add` about what its files are: the real binary against a real daemon.

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

use std::time::Duration;

use marqueue::clock::{Clock, after};
use serde_json::{Value, json};

use crate::cli_env::{CliEnv, Ran, ended, run};

const PEOPLE: &str = "email,note\na@example.com,\n";

/// A daemon whose jobs wait, because the instance is paused.
fn paused() -> CliEnv {
    let cli = CliEnv::new();
    cli.run("pause").expect(0);
    cli.file("people.csv", PEOPLE);
    cli
}

fn filenames(cli: &CliEnv) -> Vec<String> {
    let listed = cli.run("list --json").expect(0).json();
    let jobs = listed["jobs"].as_array().expect("jobs").iter().rev();
    jobs.map(|job| job["filename"].as_str().expect("a name").to_owned()).collect()
}

#[test]
fn a_repeated_add_with_once_makes_each_job_once() {
    let cli = paused();
    cli.file("other.csv", "email,note\nb@example.com,\n");
    cli.file("same.csv", PEOPLE);
    cli.run("add leads people.csv --once").expect(0);
    // The command as it would be repeated, with a file that is new and one of the same content.
    let ran = cli.run("add leads people.csv other.csv same.csv --once --priority 3 --group g --no-check").expect(0);
    assert_eq!(
        ran.out,
        "people.csv: already accepted as job 1, which is pending\njob 2: other.csv, 1 row in 1 batch\n\
         same.csv: already accepted as job 1, which is pending\n"
    );
    for words in
        ["leads people.csv --list-id 7", "custom-object car_c people.csv --no-check", "leads people.csv --format csv"]
    {
        cli.run(&format!("add {words} --once")).expect(0);
    }
    assert_eq!(filenames(&cli).len(), 4, "another target is another job, the same format is not");

    // Without the option nothing is compared.
    cli.run("add leads people.csv").expect(0);
    let again = cli.run("add leads people.csv --once --json").expect(0).json();
    assert_eq!((&again[0]["id"], filenames(&cli).len()), (&json!(1), 5));
}

#[test]
fn once_works_with_input_that_can_be_read_only_once() {
    let cli = paused();
    cli.run("add leads people.csv --once").expect(0);
    let ran = cli.run_with_input("add leads - --once --filename people.csv", PEOPLE).expect(0);
    assert_eq!(ran.out, "people.csv: already accepted as job 1, which is pending\n");
    let ran = cli.run_with_input("add leads - --once", "email,note\nc@example.com,\n").expect(0);
    assert_eq!(ran.out, "job 2: stdin.csv, 1 row in 1 batch\n");

    // A named pipe is no file that could be read twice.
    let pipe = cli.path("pipe.csv");
    assert!(Command::new("mkfifo").arg(&pipe).status().expect("mkfifo runs").success());
    let child = cli.spawn("add leads pipe.csv --once");
    fs::OpenOptions::new()
        .write(true)
        .open(&pipe)
        .and_then(|mut pipe| pipe.write_all(PEOPLE.as_bytes()))
        .expect("read");
    assert_eq!(ended(child).expect(0).out, "pipe.csv: already accepted as job 1, which is pending\n");
}

#[test]
fn a_used_key_is_refused_with_the_file_name() {
    let cli = paused();
    cli.file("other.csv", "email,note\nb@example.com,\n");
    cli.run("add leads people.csv --idempotency-key nightly-7").expect(0);
    let ran = cli.run("add leads other.csv --idempotency-key nightly-7").expect(1);
    assert_eq!(
        ran.err,
        "error: other.csv: the idempotency key \"nightly-7\" was used for another file, target or retry\n"
    );
}

#[test]
fn a_folder_gives_its_files_in_order_of_name() {
    let cli = paused();
    fs::create_dir_all(cli.path("in/old/none")).unwrap();
    for name in ["b.csv", "a.tsv", ".hidden.csv", "c.csv.part", "notes.txt", "old/d.csv"] {
        cli.file(&format!("in/{name}"), if name == "a.tsv" { "email\tnote\na@example.com\t\n" } else { PEOPLE });
    }
    let Ran { out, err, .. } = cli.run("add leads people.csv in").expect(0);
    assert_eq!(filenames(&cli), ["people.csv", "a.tsv", "b.csv"], "{out}");
    let skipped = "skipped: in/.hidden.csv: its name begins with a dot\n\
        skipped: in/c.csv.part: its name ends as that of a file which is still being written\n\
        skipped: in/notes.txt: its name ends in none of .csv, .tsv and .ssv: rename it if it is to be imported\n\
        skipped: in/old: it is a folder, and only the files of the given one are taken\n";
    assert_eq!(err, skipped);
    let checked = cli.run("check leads in --json").expect(0);
    assert_eq!((checked.json().as_array().unwrap().len(), checked.err.as_str()), (2, skipped));

    // A folder without files is reported, and the others go on.
    let ran = cli.run("add leads in/old/none in/old people.csv --json").expect(1);
    assert_eq!(ran.json().as_array().unwrap().len(), 2, "{ran:?}");
    assert!(ran.err.contains("(it is empty)") && ran.err.contains("\"file\":\"in/old/none\""), "{ran:?}");
    cli.run("add leads in --idempotency-key k").expect(2);
    cli.run("add leads in --filename a.csv").expect(2);
}

/// The time so many seconds from now, as it is typed.
fn in_seconds(seconds: u64) -> String {
    after(Clock::System.now(), Duration::from_secs(seconds)).to_string()
}

#[test]
fn a_job_waits_for_its_time_without_blocking_others() {
    let cli = CliEnv::new();
    cli.file("people.csv", PEOPLE);
    let at = in_seconds(3600);
    let ran = cli.run(&format!("add leads people.csv --at {at} --group g --priority 9")).expect(0);
    assert!(ran.out.starts_with("job 1: people.csv, 1 row in 1 batch, not before 20"), "{ran:?}");
    cli.run("add leads people.csv people.csv --wait").expect(0);

    let explained = cli.run("explain 1 --json").expect(0).json();
    assert_eq!((&explained["state"], &explained["waits_for"]), (&json!("pending"), &json!("not_before")));
    let until: jiff::Timestamp = explained["until"].as_str().expect("a time").parse().expect("a time");
    assert_eq!(until, at.parse().expect("a time"));
    let text = explained["text"].as_str().expect("a text");
    assert!(text.contains(&format!("uploaded not before {until:.0}")), "{text}");
    assert!(cli.run("show 1").expect(0).out.contains("not before  20"), "show names the time");

    // Its group stays in order.
    cli.run("add leads people.csv --group g").expect(0);
    assert_eq!(cli.run("explain 4 --json").expect(0).json()["waits_for"], "group");
    let listed = cli.run("list --json").expect(0).json();
    assert_eq!(listed["jobs"][0]["not_before"], Value::Null);
    assert_eq!(cli.env.simulator.call_log().creates.len(), 2, "only the two jobs without a time and a group");
    cli.run("cancel 1").expect(0);
    cli.run("wait 4").expect(0);
}

#[test]
fn a_job_is_uploaded_when_its_time_has_come() {
    let mut cli = CliEnv::new();
    cli.file("people.csv", PEOPLE);
    // The time is kept over a restart, and nothing but the time lets the job begin.
    let at = in_seconds(3);
    cli.run(&format!("add leads people.csv --at {at}")).expect(0);
    cli.env.kill();
    cli.start();
    let ran = cli.run("add leads people.csv --at 2020-01-01T00:00:00Z --wait --json").expect(0);
    assert!(ran.err.contains(" is past: nothing waits for it\n"), "{ran:?}");
    let past = ran.json();
    let ended = cli.run("wait 1 --json").expect(0).json();
    let time = |job: &Value, key: &str| job[key].as_str().expect(key).parse::<jiff::Timestamp>().expect(key);
    assert!(time(&ended[0], "started_at") >= time(&ended[0], "not_before"), "{ended}");
    assert_eq!(past[0]["state"], "complete");
}

#[test]
fn a_time_of_day_is_the_next_local_one() {
    let cli = paused();
    let mut command = cli.command("add leads people.csv --at 02:00 --once --json");
    command.env("TZ", "XYZ-5:30");
    let ran = run(command, "").expect(0);
    let not_before: jiff::Timestamp = ran.json()[0]["not_before"].as_str().expect("a time").parse().expect("a time");
    assert_eq!(not_before.to_string().split_once('T').map(|(_, time)| time), Some("20:30:00Z"), "{ran:?}");
    let now = Clock::System.now();
    assert!(not_before > after(now, Duration::ZERO) && not_before <= after(now, Duration::from_secs(24 * 3600)));
    // The key does not depend on the time.
    let ran = cli.run("add leads people.csv --at 2020-01-01T00:00:00Z --once").expect(0);
    assert!(ran.out.contains("already accepted as job 1"), "{ran:?}");

    let mut command = cli.command("add leads people.csv --at 02:00");
    command.env("TZ", "nowhere/unknown");
    let ran = run(command, "").expect(2);
    assert!(ran.err.contains("the system's time zone can't be read"), "{ran:?}");
}

#[test]
fn a_wrong_time_is_refused_with_the_rule() {
    let cli = paused();
    for (at, status, text) in [
        ("tomorrow", 2, "a time is one of the day such as 02:00, or has its date and offset"),
        ("2026-01-31T02:00", 2, "\"2026-01-31T02:00\" is neither"),
        ("2999-01-01T00:00:00Z", 1, "not_before 2999-01-01T00:00:00Z is more than a year ahead: give a time until"),
    ] {
        let ran = cli.run(&format!("add leads people.csv --at {at}")).expect(status);
        assert!(ran.err.contains(text), "{at}: {ran:?}");
    }
    assert_eq!(filenames(&cli), [""; 0]);
    cli.run(&format!("add leads people.csv --at {}", in_seconds(365 * 24 * 3600))).expect(0);
}

#[test]
fn standard_input_gets_a_name_and_its_format() {
    let cli = paused();
    let members = "email;note\na@example.com;\n";
    cli.run_with_input("add program-members 7 - --status Registered --filename in/members.ssv", members).expect(0);
    cli.run_with_input("add leads - --filename people.txt --format csv", PEOPLE).expect(0);
    let listed = cli.run("list --json").expect(0).json();
    let job = |at: usize| (listed["jobs"][at]["filename"].clone(), listed["jobs"][at]["format"].clone());
    assert_eq!(job(1), (json!("members.ssv"), json!("ssv")));
    assert_eq!(job(0), (json!("people.txt"), json!("csv")));
    let mut child = cli
        .command("check - --filename members.ssv --json")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    child.stdin.take().expect("it was asked for").write_all(members.as_bytes()).expect("it is read");
    assert_eq!(ended(child).expect(0).json()[0]["format"], "ssv");
}
