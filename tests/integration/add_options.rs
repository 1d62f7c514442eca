//! Options of `add` about what its files are: the real binary against a real daemon.

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::json;

use crate::cli_env::{CliEnv, Ran, ended};

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
fn input_that_can_be_read_once_is_added_once() {
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
fn a_key_of_another_file_is_refused_by_name() {
    let cli = paused();
    cli.file("other.csv", "email,note\nb@example.com,\n");
    cli.run("add leads people.csv --idempotency-key nightly-7").expect(0);
    let ran = cli.run("add leads other.csv --idempotency-key nightly-7").expect(1);
    assert_eq!(ran.err, "error: other.csv: the idempotency key \"nightly-7\" was used for another file or target\n");
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
