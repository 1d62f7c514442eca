//! The commands of the command line: the real binary against a real daemon and the simulator.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use marqueue::domain::BatchState;
use marqueue::simulator::{Call, Fault, FaultEffect};
use serde_json::{Value, json};

use crate::cli_env::{CliEnv, Size, at, binary, ended, on_terminal, run, shown_on_terminal, signal, until_printed};

const PEOPLE: &str = "email,note\na@example.com,\nb@example.com,\n";
const TWO_FAIL: &str = "email,note\na@example.com,\nb@example.com,!fail:No such field\nc@example.com,!fail:Bad\n";

#[test]
fn a_file_of_each_target_is_imported() {
    let cli = CliEnv::new();
    cli.file("people.csv", PEOPLE);
    cli.file("cars.tsv", "vin\tnote\n1\t\n");
    cli.file("members.ssv", "email;note\na@example.com;\n");
    for (words, target) in [
        ("leads people.csv --list-id 7", json!({"type": "leads", "list_id": 7})),
        ("custom-object car_c cars.tsv", json!({"type": "custom-object", "name": "car_c"})),
        (
            "program-members 1044 members.ssv --status Registered",
            json!({"type": "program-members", "program_id": 1044, "status": "Registered"}),
        ),
    ] {
        let jobs = cli.run(&format!("add {words} --wait --json")).expect(0).json();
        let job = &jobs[0];
        assert_eq!((jobs.as_array().unwrap().len(), &job["state"], &job["target"]), (1, &json!("complete"), &target));
        assert_eq!(job["rows"]["processed"], job["rows"]["total"]);
        let id = &job["id"];
        assert_eq!(cli.run(&format!("wait {id} --json")).expect(0).json(), jobs);
        let shown = cli.run(&format!("show {id} --json")).expect(0).json();
        assert_eq!(shown["history"][0]["event"], "received");
        assert!(shown["history"].as_array().unwrap().iter().any(|entry| entry["request_id"].is_string()));
    }
    assert_eq!(cli.env.simulator.call_log().creates.len(), 3);
}

#[test]
fn failed_rows_set_the_exit_status_and_can_be_fetched() {
    let cli = CliEnv::new();
    cli.file("people.csv", TWO_FAIL);
    let ran = cli.run("add leads people.csv --wait").expect(4);
    assert_eq!(ran.out, "job 1: people.csv is complete, 2 rows failed: 3 rows, 1 processed\n");
    assert!(ran.err.contains("job 1: people.csv: complete, 2 rows failed\n"), "{}", ran.err);
    assert!(ran.err.ends_with("\"marqueue failures 1\" gives the rows that failed\n"), "{}", ran.err);
    cli.run("wait 1").expect(4);

    let failures = "email,note,Import Failure Reason\nb@example.com,!fail:No such field,No such field\n\
                    c@example.com,!fail:Bad,Bad\n";
    assert_eq!(cli.run("failures 1").expect(0).out, failures);
    assert_eq!(cli.run("failures 1 --part 1 -o out.csv").expect(0).out, "");
    assert_eq!(fs::read_to_string(cli.path("out.csv")).unwrap(), failures);
    assert_eq!(
        cli.run("failures 1 -o out.csv --force --json").expect(0).json(),
        json!({"file": "out.csv", "bytes": failures.len()})
    );
    assert_eq!(cli.run("file 1").expect(0).out, TWO_FAIL);

    // What an earlier run left there must not be taken for this job's warnings.
    let ran = cli.run("warnings 1 -o out.csv --force").expect(0);
    assert_eq!((ran.out.as_str(), ran.err.as_str()), ("", "no row of job 1 has a warning\n"));
    assert_eq!(fs::read_to_string(cli.path("out.csv")).unwrap(), "");

    let again = cli.run("retry 1 --failed-rows --json").expect(0).json();
    assert_eq!((&again["id"], &again["retry_of"], &again["rows"]["total"]), (&json!(2), &json!(1), &json!(2)));
    let waited = cli.run("wait 1 2").expect(4);
    for line in
        ["job 1: 1 row failed, the first on line 3: No such field\n", "job 2: 1 row failed, the first on line 3: Bad\n"]
    {
        assert!(waited.err.contains(line), "{waited:?}");
    }
    assert_eq!(cli.run("file 2").out, "email,note\nb@example.com,!fail:No such field\nc@example.com,!fail:Bad\n");
}

#[test]
fn list_is_filtered_and_names_the_next_page() {
    let cli = CliEnv::new();
    cli.file("people.csv", TWO_FAIL);
    cli.file("good people.csv", "email,note\na@example.com,\n");
    cli.run("add leads people.csv --group nightly --wait").expect(4);
    let ran = cli.words(&["add", "leads", "good people.csv", "--wait"]);
    assert_eq!(ran.status, 0, "{ran:?}");
    let ids = |words: &[&str]| {
        let listed = cli.words(&[&["list", "--json"], words].concat()).expect(0).json();
        let jobs = listed["jobs"].as_array().expect("jobs").iter().map(|job| job["id"].as_i64().expect("an id"));
        jobs.collect::<Vec<_>>()
    };
    for (words, expected) in [
        (&["--with-failures"][..], vec![1]),
        (&["--group", "nightly"], vec![1]),
        (&["--name", "good people"], vec![2]),
        (&["--since", "1h", "--target", "leads", "--instance", "default"], vec![2, 1]),
        (&["--target", "custom-object"], vec![]),
    ] {
        assert_eq!(ids(words), expected, "{words:?}");
    }
    let ran = cli.words(&["list", "--name", "people", "--since", "1h", "--limit", "1"]).expect(0);
    assert!(ran.err.contains("there are more: marqueue list --since 1h --name people --limit 1 --before 2"), "{ran:?}");
    assert!(cli.run("list --since yesterday").expect(1).err.contains("since must be a time such as"));
    cli.run("list --target lead").expect(2);
}

#[test]
fn corrected_failures_are_sent_as_a_new_job() {
    let cli = CliEnv::new();
    cli.file("people.csv", TWO_FAIL);
    cli.run("add leads people.csv --wait").expect(4);
    assert_eq!(
        cli.run("failures 1 --no-reason").expect(0).out,
        "email,note\nb@example.com,!fail:No such field\nc@example.com,!fail:Bad\n"
    );
    cli.run("failures 1 -o failed.csv").expect(0);
    let failed = fs::read_to_string(cli.path("failed.csv")).unwrap();
    // A correction by hand keeps the column of reasons.
    cli.file("failed.csv", &failed.replace("!fail:No such field,", "fine,").replace("!fail:Bad,", "fine,"));
    let ran = cli.run("retry 1 --with failed.csv").expect(0);
    assert_eq!(ran.out, "job 2: 2 rows corrected for job 1\n");
    cli.run("wait 2").expect(0);
    assert_eq!(cli.run("file 2").expect(0).out, "email,note\nb@example.com,fine\nc@example.com,fine\n");
    let again = cli.run("show 2 --json").expect(0).json();
    assert_eq!((&again["retry_of"], &again["filename"]), (&json!(1), &json!("people-corrected.csv")));

    // A column was removed, and the name is that of another format: the header decides.
    cli.file("people.ssv", "email;note;phone\na@example.com;!fail:Bad;1\n");
    cli.run("add leads people.ssv --wait").expect(4);
    cli.file("fixed.csv", "email;note\na@example.com;fine\n");
    let again = cli.run("retry 3 --with fixed.csv --json").expect(0).json();
    assert_eq!((&again["format"], &again["rows"]["total"]), (&json!("ssv"), &json!(1)));

    // A format option takes precedence over the header.
    let ran = cli.run("retry 3 --with fixed.csv --format csv").expect(1);
    assert!(ran.err.contains("the header has one column as csv"), "{ran:?}");

    cli.file("ragged.csv", "email,note\nb@example.com\n");
    let ran = cli.run("retry 1 --with ragged.csv").expect(1);
    assert!(ran.err.contains("the header has 2 fields, but line 2 has 1"), "{ran:?}");
    let ran = cli.run("retry 1 --with missing.csv").expect(1);
    assert!(ran.err.contains("can't be read"), "{ran:?}");
    for wrong in ["retry 1 --with failed.csv --failed-rows", "retry 1 --no-check", "retry 1 --format ssv"] {
        cli.run(wrong).expect(2);
    }
}

#[test]
fn settle_names_the_import_of_a_held_part() {
    let mut cli = CliEnv::new();
    cli.env.kill();
    cli.env.config = "unknown_outcome = \"hold\"\n".into();
    cli.start();
    cli.env.simulator.push_fault(Fault::on(Call::Create, FaultEffect::LoseAnswer));
    cli.file("people.csv", PEOPLE);
    cli.run("add leads people.csv").expect(0);
    cli.in_state(1, BatchState::Held);
    let explained = cli.run("explain 1").expect(0).out;
    assert!(explained.contains("\"marqueue settle 1 --part 1 --marketo-batch-id ID\""), "{explained}");

    for wrong in ["settle 1 --part 1 --marketo-batch-id x", "settle 1 --part 1", "settle 1 --marketo-batch-id 7"] {
        cli.run(wrong).expect(2);
    }
    cli.run("settle 1 --part 2 --marketo-batch-id 7").expect(1);
    let import = cli.env.simulator.call_log().imports[0].id;
    let mistyped = cli.run(&format!("settle 1 --part 1 --marketo-batch-id {}", import + 4711)).expect(1);
    assert!(mistyped.out.is_empty() && mistyped.err.contains("so nothing was changed"), "{mistyped:?}");
    let settled = cli.run(&format!("settle 1 --part 1 --marketo-batch-id {import}")).expect(0);
    assert!(settled.out.ends_with(&format!(": part 1 is Marketo's batch {import}\n")), "{settled:?}");
    assert_eq!(cli.run("wait 1 --json").expect(0).json()[0]["batches"][0]["marketo_batch_id"], json!(import));
    assert_eq!(cli.env.simulator.call_log().creates.len(), 1);
}

#[test]
fn failed_rows_of_a_file_with_a_long_name_are_sent_again() {
    let cli = CliEnv::new();
    let name = format!("{}.csv", "ü".repeat(125));
    cli.file(&name, TWO_FAIL);
    cli.run(&format!("add leads {name} --wait")).expect(4);
    let again = cli.run("retry 1 --failed-rows --json").expect(0).json();
    assert_eq!(again["filename"], format!("{}-failed-rows.csv", "ü".repeat(119)));
}

#[test]
fn content_is_escaped_on_a_terminal_and_raw_elsewhere() {
    let cli = CliEnv::new();
    let (first, second) = ("\x1b]0;title\x07\x1b[2J", "\u{9b}31m\u{202e}gnp");
    cli.file("people.csv", &format!("email,note\na@example.com,!fail:{first}\nb@example.com,!warn:{second}\n"));
    let added = cli.run("add leads people.csv --no-check --wait");
    assert!(added.status == 4, "{added:?}");
    let (escaped_first, escaped_second) = (r"\u{1b}]0;title\u{7}\u{1b}[2J", r"\u{9b}31m\u{202e}gnp");
    for (words, raw, escaped) in [
        ("failures 1", first, escaped_first),
        ("warnings 1", second, escaped_second),
        ("file 1", second, escaped_second),
        // What is named may be the terminal.
        ("file 1 -o /dev/stdout", second, escaped_second),
    ] {
        assert!(cli.run(words).expect(0).out.contains(raw), "{words}: it is not raw in a pipe");
        let shown = on_terminal(cli.command(words));
        assert!(shown.contains(escaped), "{words}: {shown:?}");
        assert!(!shown.contains(|letter: char| letter.is_control() && letter != '\n'), "{words}: {shown:?}");
    }
}

#[test]
fn names_and_messages_cannot_control_a_terminal() {
    let cli = CliEnv::new();
    cli.file("\u{202e}vsc.csv", "email,note\na@example.com,!batch-failed:\x1b[2J\u{9b}1m of b@example.com\n");
    cli.run("add leads \u{202e}vsc.csv --no-check --wait").expect(1);
    for words in ["show 1", "list", "wait 1", "explain 1", "show 1 --json", "list --json"] {
        let ran = cli.run(words);
        for text in [&ran.out, &ran.err] {
            let acts = |letter: char| letter != '\n' && (letter.is_control() || letter == '\u{202e}');
            assert!(!text.contains(acts), "{words}: {text:?}");
            assert!(!text.contains("b@example.com"), "{words}: Marketo's words are passed on with an address: {text}");
        }
    }
    let job = cli.run("show 1 --json").expect(0).json();
    assert_eq!(job["filename"], "\u{202e}vsc.csv", "JSON says what it is");
    assert!(cli.run("show 1").out.contains(r"\u{1b}[2J\u{9b}1m"));
    // What a shell made of * may be a name that looks like an option.
    for words in ["add leads --\u{9b}2J.csv", "add leads \u{9b}2J", "file 1 -o none/\u{9b}2J"] {
        let ran = cli.run(words);
        assert!(ran.status > 0 && ran.err.contains(r"\u{9b}2J") && !ran.err.contains('\u{9b}'), "{ran:?}");
    }
}

#[test]
fn failed_import_sets_the_exit_status_and_can_be_retried() {
    let cli = CliEnv::new();
    cli.file("bad.csv", "email,note\na@example.com,!batch-failed:Out of order\n");
    cli.file("good.csv", TWO_FAIL);
    let ran = cli.run("add leads bad.csv good.csv --wait").expect(1);
    assert!(ran.out.starts_with("job 1: bad.csv has failed: ") && ran.out.contains("Out of order"), "{}", ran.out);
    assert!(ran.out.contains("\njob 2: good.csv is complete, 2 rows failed: "), "{}", ran.out);
    let ran = cli.run("failures 1").expect(1);
    assert_eq!((ran.out.as_str(), ran.err.lines().count()), ("", 1), "{}", ran.err);
    assert!(cli.run("retry 1").expect(0).out.starts_with("job 1 is "));
    cli.run("wait 1").expect(1);
    let explanation = cli.run("explain 1 --json").expect(0).json();
    assert_eq!(explanation["waits_for"], "nothing");
}

#[test]
fn paused_instance_queues_jobs_and_explains_why() {
    let cli = CliEnv::new();
    cli.file("people.csv", PEOPLE);
    assert_eq!(cli.run("pause --json").expect(0).json()["pause"]["kind"], "operator");
    assert_eq!(cli.run("add leads people.csv people.csv").expect(0).out.lines().count(), 2);
    let page = cli.run("list --state pending --limit 1 --json").expect(0).json();
    assert_eq!((&page["jobs"][0]["id"], &page["next_before"]), (&json!(2), &json!(2)));
    assert!(cli.run("list --before 2").expect(0).out.contains("people.csv"));
    assert_eq!(cli.run("explain 1 --json").expect(0).json()["waits_for"], "operator");
    let status = cli.run("status --json").expect(0).json();
    assert_eq!(status["instances"]["default"]["queue"]["pending_jobs"], 2);
    assert!(cli.run("status").expect(0).out.contains("paused since"));

    assert_eq!(cli.run("cancel 1").expect(0).out, "job 1 is cancelled\n");
    cli.run("wait 1").expect(1);
    assert_eq!(cli.run("resume").expect(0).out, "instance default goes on\n");
    cli.run("wait 2").expect(0);
    // One of them was cancelled, which outranks failed rows.
    cli.run("wait 2 1").expect(1);
}

#[test]
fn every_command_with_json_prints_one_document() {
    let cli = CliEnv::new();
    cli.file("people.csv", TWO_FAIL);
    for (words, key) in [
        ("status", "/version"),
        ("pause", "/slots"),
        ("add leads people.csv", "/0/id"),
        ("show 1", "/history"),
        ("list", "/jobs/0/id"),
        ("explain 1", "/text"),
        ("cancel 1", "/state"),
        ("retry 1", "/state"),
        ("resume", "/limits"),
        ("file 1 -o x.csv", "/bytes"),
        ("check leads people.csv", "/0/layout/rows"),
    ] {
        let ran = cli.run(&format!("{words} --json")).expect(0);
        assert!(ran.json().pointer(key).is_some(), "{words}: {ran:?}");
        assert_eq!(ran.err, "", "{words}");
    }
    assert_eq!(cli.run("wait 1 --json").expect(4).json()[0]["state"], "complete");
}

#[test]
fn bad_input_is_refused_in_one_line_and_changes_nothing() {
    let cli = CliEnv::new();
    for (name, content) in
        [("people.csv", PEOPLE), ("people.txt", PEOPLE), ("empty.csv", ""), ("header.csv", "email,note\n")]
    {
        cli.file(name, content);
    }
    cli.file("ragged.csv", "email,note\na@example.com\n");
    cli.file("there.csv", "mine");
    fs::create_dir(cli.path("folder.csv")).unwrap();
    for (words, status, sentence) in [
        ("add leads none.csv", 1, "none.csv: the file can't be read: No such file or directory (os error 2)"),
        ("add leads folder.csv", 1, "folder.csv: the folder has no file that ends in .csv, .tsv or .ssv (it is empty)"),
        ("check folder.csv", 1, "folder.csv: the folder has no file that ends in .csv, .tsv or .ssv (it is empty)"),
        ("add leads people.csv --once --idempotency-key k", 2, "leave out either --once or --idempotency-key"),
        ("add leads people.csv --filename a.csv", 2, "--filename names what is read from standard input (-)"),
        ("add leads - --filename people.txt", 2, "the name people.txt does not end in .csv, .tsv or .ssv"),
        ("add leads empty.csv", 1, "empty.csv: the file is empty"),
        ("add leads header.csv", 1, "header.csv: the file has a header and no rows"),
        ("add leads ragged.csv", 1, "ragged.csv: the header has 2 fields, but line 2 has 1"),
        ("add leads people.csv --lookup-field id", 1, "people.csv: the header has no column \"id\""),
        (
            "add leads people.csv --instance nope",
            1,
            "there is no instance \"nope\" in the configuration: it has default",
        ),
        ("add leads people.txt", 2, "the name people.txt does not end in .csv, .tsv or .ssv"),
        ("add leads people.csv people.csv --idempotency-key k", 2, "--idempotency-key goes with one file, and 2 are"),
        ("add leads people.csv --format xml", 2, "[possible values: csv, tsv, ssv]"),
        ("add people people.csv", 2, "unrecognized subcommand 'people'"),
        ("add program-members 1044 people.csv", 2, "--status"),
        ("add leads", 2, "<FILE>"),
        ("list --state done", 2, "[possible values: receiving, pending, running, complete, failed, cancelled]"),
        ("list --limit 0", 1, "limit must be from 1 to 10000, not \"0\""),
        ("show seven", 2, "a job's number is a whole number of at least 1"),
        ("show 7", 1, "there is no job 7"),
        ("wait 7", 1, "there is no job 7"),
        ("failures 7", 1, "there is no job 7"),
        ("file 7 -o made.csv", 1, "there is no job 7"),
        ("file 7 -o there.csv", 1, "there.csv exists already: name another file, or replace it with --force"),
        ("cancel 7", 1, "there is no job 7"),
        ("retry 7", 1, "there is no job 7"),
        ("explain 7", 1, "there is no job 7"),
        ("status nope", 1, "there is no instance \"nope\" in the configuration: it has default"),
        ("pause nope", 1, "there is no instance \"nope\" in the configuration: it has default"),
        ("simulate --speed 0", 2, "a speed is a number above 0"),
        ("simulate --listen nowhere", 2, "nowhere can't be bound"),
    ] {
        let ran = cli.run(words).expect(status);
        assert!(ran.err.starts_with("error: ") && ran.err.contains(sentence), "{words}: {ran:?}");
        assert_eq!(ran.out, "", "{words}");
        assert!(status == 2 || ran.err.lines().count() == 1, "{words}: {ran:?}");
    }
    assert!(!cli.path("made.csv").exists());
    assert_eq!(fs::read_to_string(cli.path("there.csv")).unwrap(), "mine");
    assert_eq!(cli.run("list --json").expect(0).json(), json!({"jobs": [], "next_before": null}));
    assert_eq!(cli.run("status --json").json()["instances"]["default"]["pause"], Value::Null);
}

#[test]
fn a_refused_file_does_not_stop_the_others() {
    let cli = CliEnv::new();
    cli.file("people.csv", PEOPLE);
    cli.file("empty.csv", "");
    let ran = cli.run("add leads people.csv empty.csv none.csv people.csv --json").expect(1);
    assert_eq!(ran.json().as_array().unwrap().len(), 2);
    let problems: Vec<Value> = ran.err.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let files: Vec<&str> = problems.iter().map(|problem| problem["file"].as_str().unwrap()).collect();
    assert_eq!(files, ["empty.csv", "none.csv"], "{}", ran.err);
}

#[test]
fn large_file_is_refused_with_a_reason_before_it_is_sent() {
    let cli = CliEnv::new();
    cli.file("large.csv", &format!("email,note\n{}", "a@example.com\n".repeat(2_000_000)));
    let ran = cli.run("add leads large.csv").expect(1);
    assert!(ran.err.contains("the check stopped there"), "{}", ran.err);
}

#[test]
fn standard_input_with_a_key_becomes_one_job() {
    let cli = CliEnv::new();
    let words = "add leads - --format ssv --idempotency-key nightly";
    let file = "email;note\na@example.com;\n";
    assert_eq!(cli.run_with_input(words, file).expect(0).out, "job 1: stdin.ssv, 1 row in 1 batch\n");
    let again = cli.run_with_input(words, file).expect(0).out;
    assert!(again.starts_with("stdin.ssv: already accepted as job 1, which is "), "{again}");
    let other = cli.run_with_input(words, "email;note\nb@example.com;\n").expect(1);
    assert_eq!(other.err, "error: -: the idempotency key \"nightly\" was used for another file, target or retry\n");
    assert_eq!(cli.run("file 1").expect(0).out, file);
}

#[test]
fn each_command_reports_a_missing_daemon() {
    let folder = tempfile::tempdir().unwrap();
    let people = folder.path().join("people.csv");
    fs::write(&people, PEOPLE).unwrap();
    let socket = folder.path().join("none.sock");
    let add = format!("add leads {}", people.display());
    for words in [
        &add,
        "list",
        "show 1",
        "wait 1",
        "failures 1",
        "warnings 1",
        "file 1",
        "retry 1",
        "cancel 1",
        "explain 1",
        "pause",
        "resume",
        "status",
    ] {
        let ran = at(&socket, words).expect(3);
        assert!(
            ran.err.starts_with(&format!("error: no daemon answers at {} (", socket.display())),
            "{words}: {ran:?}"
        );
        assert_eq!((ran.err.lines().count(), ran.out.as_str()), (1, ""), "{words}");
    }
    let ran = at(&folder.path().join("s".repeat(120)), "status").expect(2);
    assert!(ran.err.contains("the path of a Unix socket has at most 107"), "{ran:?}");
}

#[test]
fn stopped_daemon_is_reported_as_silent_after_a_timeout() {
    let cli = CliEnv::new();
    cli.file("people.csv", PEOPLE);
    cli.run("add leads people.csv --wait").expect(0);
    cli.env.signal("STOP");
    for words in ["status", "list", "show 1", "wait 1", "file 1", "cancel 1", "pause", "add leads people.csv"] {
        let ran = cli.run(&format!("{words} --timeout 300ms")).expect(3);
        let expected = format!(
            "error: the daemon at {} does not answer (nothing came for 300ms): it is stopped or has too much \
             to do, and may still carry out the request\n",
            cli.env.socket().display()
        );
        assert_eq!((ran.err, ran.out.as_str()), (expected, ""), "{words}");
    }
    cli.env.signal("CONT");
    cli.run("status").expect(0);
    cli.run("status --timeout 0s").expect(2);
}

#[test]
#[expect(clippy::disallowed_methods, reason = "how long a slow source takes is what this is about")]
fn jobs_and_slow_input_outlast_the_silence_timeout() {
    // A daemon on a loaded machine answers within the timeout. Each pause is longer.
    const PAUSE: Duration = Duration::from_millis(3_500);
    let cli = CliEnv::new();
    cli.run("pause").expect(0);
    let mut slow = cli.command("add leads - --format csv --wait --timeout 3s");
    let mut slow = slow.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut input = slow.stdin.take().unwrap();
    for piece in ["email\n", "ann@example.com\n", "bob@example.com\n"] {
        std::thread::sleep(PAUSE);
        input.write_all(piece.as_bytes()).expect("it is still reading");
    }
    drop(input);
    std::thread::sleep(PAUSE);
    cli.run("resume").expect(0);
    ended(slow).expect(0);
}

#[test]
fn socket_without_permission_is_not_a_missing_daemon() {
    let cli = CliEnv::new();
    let socket = cli.env.socket();
    let mut command = if rustix::process::geteuid().is_root() {
        // No file is closed to root, so another user has to try, from a folder that is open to all.
        let binary = cli.path("marqueue");
        // By another process: a child of another test that begins meanwhile would hold ours open, and "text file busy"
        // follow.
        assert!(Command::new("cp").arg(crate::support::binary()).arg(&binary).status().unwrap().success());
        fs::set_permissions(cli.env.folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let mut command = Command::new(binary);
        command.uid(65_534).gid(65_534);
        command
    } else {
        fs::set_permissions(&socket, fs::Permissions::from_mode(0o000)).unwrap();
        binary()
    };
    command.arg("--socket").arg(&socket).arg("status");
    let ran = run(command, "").expect(1);
    assert_eq!(
        ran.err,
        format!(
            "error: the socket {} may not be opened (Permission denied (os error 13)): its owner and its group may use \
             the daemon (api.socket_mode)\n",
            socket.display()
        )
    );
}

#[test]
fn a_refusal_names_the_option_that_corrects_it() {
    let cli = CliEnv::new();
    cli.file("people.csv", "email;note\na@example.com;\n");
    for words in ["add leads people.csv", "check leads people.csv"] {
        let ran = cli.run(words).expect(1);
        assert!(ran.err.ends_with("several as ssv: say that the format is ssv (--format ssv)\n"), "{ran:?}");
    }
    cli.run("add leads people.csv --format ssv").expect(0);
    let ran = cli.run("add people.csv --wait").expect(2);
    assert!(ran.err.contains("did you mean \"marqueue add leads people.csv --wait\"?"), "{ran:?}");
}

#[test]
fn commands_without_a_daemon_connect_to_none() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("people.csv");
    fs::write(&file, PEOPLE).unwrap();
    let none = folder.path().join("none.sock");
    let ran = at(&none, &format!("check {}", file.display())).expect(0);
    assert!(ran.out.contains("people.csv: 2 rows, 2 columns (email, note), 1 upload\n"), "{ran:?}");
    let ran = at(&none, &format!("check leads {} --lookup-field id --json", file.display())).expect(1);
    assert_eq!((&ran.json()[0]["ok"], &ran.json()[0]["fault"]), (&json!(false), &json!("missing-column")));
    let ran = run(binary(), "").expect(2);
    assert!(ran.err.contains("Usage: marqueue"), "{ran:?}");
}

#[test]
fn man_has_a_page_for_each_command() {
    let folder = tempfile::tempdir().unwrap();
    let none = folder.path().join("none.sock");
    let ran = at(&none, &format!("man {} --json", folder.path().display())).expect(0);
    assert_eq!(ran.json()["pages"], fs::read_dir(&folder).unwrap().count());
    let config = fs::read_to_string(folder.path().join("marqueue.toml.5")).unwrap();
    assert!(config.contains("\n.SH [instances.default]\n"), "{config}");
    let page = |name: &str| fs::read_to_string(folder.path().join(format!("marqueue{name}.1"))).unwrap();
    let help = at(&none, "--help").expect(0).out;
    let (_, commands) = help.split_once("Commands:\n").unwrap();
    let commands = commands.lines().take_while(|line| !line.is_empty()).filter_map(|line| line.strip_prefix("  "));
    let commands = commands.map(|line| line.split(' ').next().unwrap());
    // A line that continues the text of a command has no name.
    let commands: Vec<&str> = commands.filter(|&name| !["", "help"].contains(&name)).collect();
    assert!(commands.len() > 17, "{help}");
    for name in commands {
        let page = page(&format!("-{name}"));
        assert!(page.contains(".SH EXAMPLES\n.nf\nmarqueue "), "{name}: {page}");
        assert!(page.contains("\\fB\\-\\-json\\fR"), "{name}: {page}");
    }
    assert!(page("").contains(".SH \"EXIT STATUS\"\n.nf\n0  done\n"), "{}", page(""));
    assert!(page("-add-program-members").contains("\\-\\-status"));
    let ran = at(&none, "man /dev/null").expect(1);
    assert!(ran.err.contains("the page can't be written"), "{ran:?}");
}

#[test]
fn ctrl_c_ends_wait_and_not_the_job() {
    let cli = CliEnv::new();
    cli.file("people.csv", PEOPLE);
    cli.run("pause").expect(0);
    let mut waiting = cli.spawn("add leads people.csv --wait");
    let mut output = until_printed(&mut waiting, "job 1: people.csv: pending");
    signal(&waiting, "INT");
    assert_eq!(output.next().as_deref(), Some("job 1 continues in the daemon: \"marqueue show 1\" shows its state"));
    let ran = ended(waiting).expect(130);
    assert_eq!(ran.out, "");
    cli.run("resume").expect(0);
    cli.run("wait 1").expect(0);
}

#[test]
fn wait_survives_a_restart_of_the_daemon() {
    let mut cli = CliEnv::new();
    cli.file("people.csv", PEOPLE);
    cli.run("pause").expect(0);
    let mut waiting = cli.spawn("add leads people.csv --wait");
    let output = until_printed(&mut waiting, "job 1: people.csv: pending");
    cli.env.kill();
    cli.start();
    cli.run("resume").expect(0);
    drop(output.last());
    assert_eq!(ended(waiting).expect(0).out, "job 1: people.csv is complete: 2 rows, 2 processed\n");
}

#[test]
fn a_closed_output_pipe_is_no_error() {
    let cli = CliEnv::new();
    // More than a pipe holds.
    cli.file("people.csv", &format!("email\n{}", "a@example.com\n".repeat(100_000)));
    cli.run("pause").expect(0);
    cli.run("add leads people.csv").expect(0);
    let mut file = cli.spawn("file 1");
    let mut first = [0; 6];
    let mut out = file.stdout.take().unwrap();
    out.read_exact(&mut first).unwrap();
    drop(out);
    assert_eq!((&first, ended(file).expect(0).err.as_str()), (b"email\n", ""));
}

#[test]
fn the_simulator_listens_until_sigterm_or_sigint() {
    for name in ["TERM", "INT"] {
        let mut simulator = binary()
            .args(["simulate", "--listen", "127.0.0.1:0", "--json"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut out = simulator.stdout.take().unwrap();
        let output: Value = serde_json::Deserializer::from_reader(&mut out).into_iter().next().unwrap().unwrap();
        let address = output["base_url"].as_str().unwrap().strip_prefix("http://").unwrap();
        std::net::TcpStream::connect(address).unwrap();
        signal(&simulator, name);
        assert_eq!(ended(simulator).expect(0).err, "");
    }
}

#[test]
fn failed_start_has_a_reason_and_keeps_the_running_daemon() {
    let cli = CliEnv::new();
    let ran = cli.run("serve --config marqueue.toml").expect(1);
    assert!(ran.err.contains("a daemon already answers at"), "{ran:?}");
    cli.run("status").expect(0);
    cli.file("wrong.toml", "[store]\npaht = 'x'\n");
    let ran = cli.run("serve --config wrong.toml").expect(2);
    assert!(ran.err.starts_with("error: ") && ran.err.contains("paht"), "{ran:?}");
    let ran = cli.run("serve --config none.toml").expect(2);
    assert!(ran.err.contains("none.toml"), "{ran:?}");
}

#[test]
fn check_and_add_print_warnings_and_succeed() {
    let cli = CliEnv::new();
    cli.file("people.csv", "name,email,Email\nAna,ana@example.com,x\nBob,,y\n");
    let checked = cli.run("check leads people.csv").expect(0);
    assert!(
        checked.out.contains("  warning: 1 row has no value in the lookup field \"email\", on line 3"),
        "{}",
        checked.out
    );
    assert!(
        checked.out.contains("  warning: columns 2 and 3 of the header, \"email\" and \"Email\","),
        "{}",
        checked.out
    );
    let checked = cli.run("check people.csv --json").expect(0).json();
    assert_eq!((&checked[0]["ok"], &checked[0]["warnings"][0]["line"]), (&json!(true), &json!(3)));
    let added = cli.run("add leads people.csv").expect(0);
    assert_eq!(added.out, "job 1: people.csv, 2 rows in 1 batch\n");
    assert!(added.err.contains("warning: ") && added.err.contains("people.csv: 1 row has no value"), "{}", added.err);
    let shown = cli.run("show 1 --json").expect(0).json();
    assert_eq!(shown["history"].as_array().unwrap().iter().filter(|entry| entry["event"] == "warned").count(), 2);
    let added = cli.run("add leads people.csv --json").expect(0).json();
    assert_eq!(added[0]["warnings"][1]["code"], "columns-differ-in-case");
}

#[test]
fn a_file_without_a_header_is_refused_without_its_values() {
    let cli = CliEnv::new();
    cli.file("people.csv", "ana@example.com,Ana\nbob@example.com,Bob\n");
    for words in ["check people.csv", "check leads people.csv --json", "add leads people.csv"] {
        let ran = cli.run(words).expect(1);
        assert!(
            ran.err.contains("column 1 of line 1") || ran.out.contains("column 1 of line 1"),
            "{}{}",
            ran.out,
            ran.err
        );
        assert!(!format!("{}{}", ran.out, ran.err).contains("ana@"), "{}{}", ran.out, ran.err);
    }
    cli.run("add leads people.csv --no-check").expect(0);
}

#[test]
fn errors_are_problem_documents_with_json() {
    let cli = CliEnv::new();
    for (words, status, kind, detail) in [
        ("show 7 --json", 1, "about:blank", "there is no job 7"),
        ("failures 7 --json", 2, "urn:marqueue:problem:usage", "with --json, name an output file with -o FILE"),
        ("show seven --json", 2, "urn:marqueue:problem:usage", "a job's number is a whole number of at least 1"),
        ("backup . --json", 1, "urn:marqueue:problem:failed", ". is a folder: name a file in it"),
    ] {
        let ran = cli.run(words).expect(status);
        let problem: Value = serde_json::from_str(&ran.err).unwrap_or_else(|error| panic!("{error}: {ran:?}"));
        assert_eq!((&problem["type"], &problem["exit_status"]), (&json!(kind), &json!(status)), "{words}");
        assert!(problem["detail"].as_str().unwrap().contains(detail), "{words}: {problem}");
        assert_eq!(ran.out, "", "{words}");
    }
    let ran = at(&cli.path("none.sock"), "list --json").expect(3);
    assert_eq!(serde_json::from_str::<Value>(&ran.err).unwrap()["type"], "urn:marqueue:problem:no-daemon");
}

#[test]
fn no_message_depends_on_what_the_terminal_can_show() {
    let cli = CliEnv::new();
    cli.file("people.csv", TWO_FAIL);
    for (words, status, text) in [
        ("add leads none.csv", 1, "error: none.csv: the file can't be read"),
        ("add leads people.csv --wait", 4, ": people.csv is complete, 2 rows failed: 3 rows, 1 processed"),
        ("wait 1", 4, "\"marqueue failures 1\" gives the rows that failed"),
        ("show 7", 1, "error: there is no job 7"),
        ("failures 1 -o people.csv", 1, "error: people.csv exists already"),
        ("backup .", 1, "error: . is a folder"),
        ("list --state pending", 0, "there are no such jobs"),
        ("check none.csv", 1, "error: none.csv: the file can't be read"),
        ("health --ready", 0, "the daemon is ready"),
    ] {
        for terminal in [Some("dumb"), None, Some("xterm-256color")] {
            let mut command = cli.command(words);
            command.env_remove("TERM").env_remove("NO_COLOR").envs(terminal.map(|kind| ("TERM", kind)));
            let shown = shown_on_terminal(command, Size { columns: 200, lines: 50 });
            assert_eq!(shown.status, status, "{words} with {terminal:?}: {shown:?}");
            assert!(shown.text.contains(text), "{words} with {terminal:?}: {shown:?}");
            let may_have_sequences = terminal == Some("xterm-256color");
            assert!(may_have_sequences || !shown.text.contains('\x1b'), "{words} with {terminal:?}: {shown:?}");
        }
    }
}

#[test]
fn a_missing_tls_file_is_a_fault_of_the_configuration() {
    let cli = CliEnv::new();
    let text = fs::read_to_string(cli.env.config_file()).unwrap();
    let client = "clients = [{ client_id = 'crm', client_secret = 'x' }]";
    let tls = format!("[api]\nlisten = '127.0.0.1:0'\ntls_cert = 'none.pem'\ntls_key = 'none.key'\n{client}\n");
    cli.file("tls.toml", &text.replace("[api]\n", &tls));
    let ran = cli.run("serve --config tls.toml").expect(2);
    assert!(ran.err.starts_with("error: api.tls_cert: none.pem can't be read: "), "{ran:?}");
    let ran = cli.run("doctor --config tls.toml").expect(2);
    assert!(ran.out.contains("none.pem can't be read"), "{ran:?}");
}

#[test]
fn failures_of_an_unended_job_are_called_unfinished() {
    let mut cli = CliEnv::new();
    cli.env.kill();
    cli.env.config = "limits = { calls = 5000, window = \"1s\", upload_bytes = 1000 }\n".into();
    cli.start();
    // Two rows of 600 bytes are two batches; the second never ends by itself.
    let pad = "x".repeat(600);
    cli.file("both.csv", &format!("email,note,pad\na@example.com,!fail:Bad,{pad}\nb@example.com,!stuck,{pad}\n"));
    cli.run("add leads both.csv --no-check").expect(0);
    let deadline = Instant::now() + Duration::from_secs(60);
    let unfinished = loop {
        let ran = cli.run("failures 1");
        // The second batch is stuck, so this stays as it is.
        if ran.err.contains(" of 1 batch ") {
            break ran;
        }
        assert!(Instant::now() < deadline, "{ran:?}");
    };
    assert!(unfinished.out.contains("a@example.com"), "{unfinished:?}");
    assert_eq!(unfinished.err, "job 1 has not ended: rows of 1 batch may be added to this file\n");
    cli.env.simulator.end_stuck_imports();
    cli.run("wait 1").expect(4);
    assert_eq!(cli.run("failures 1").expect(0).err, "");
    let missing = cli.run("add leads nodir").expect(1);
    assert_eq!(missing.err, "error: there is no file or folder nodir\n");
}
