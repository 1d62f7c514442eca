//! Commands about many jobs, selected by numbers, ranges and filters: the real binary against a real daemon.

use std::process::Command;

use serde_json::{Value, json};

use crate::cli_env::{CliEnv, Screen, Size, answered_on_terminal};

const PEOPLE: &str = "email,note\na@example.com,\n";
const ONE_FAILS: &str = "email,note\na@example.com,\nb@example.com,!fail:Bad\n";

/// A daemon with so many jobs that wait because their instance is paused.
fn with_paused_jobs(number: usize) -> CliEnv {
    let cli = CliEnv::new();
    cli.file("people.csv", PEOPLE);
    cli.run("pause").expect(0);
    cli.run(&format!("add leads{}", " people.csv".repeat(number))).expect(0);
    cli
}

fn states(cli: &CliEnv) -> Vec<String> {
    let listed = cli.run("list --limit 10000 --json").expect(0).json();
    let jobs = listed["jobs"].as_array().expect("jobs").iter().rev();
    jobs.map(|job| job["state"].as_str().expect("a state").to_owned()).collect()
}

fn ids(jobs: &Value) -> Vec<i64> {
    jobs.as_array().expect("jobs").iter().map(|job| job["id"].as_i64().expect("an id")).collect()
}

fn answered(command: Command, answer: &str) -> Screen {
    answered_on_terminal(command, Size { columns: 80, lines: 24 }, answer)
}

#[test]
fn a_range_is_changed_without_a_terminal_only_with_yes() {
    let cli = with_paused_jobs(4);
    for words in ["cancel 1-3", "cancel --state pending", "cancel 2 --group g", "erase 1-3", "retry 1-3 --failed-rows"]
    {
        let ran = cli.run(words).expect(2);
        assert!(ran.err.starts_with("error: ") && ran.err.contains("give --yes"), "{words}: {ran:?}");
    }
    assert_eq!(states(&cli), ["pending"; 4]);

    // 7 and 8 do not exist, and a range takes what there is.
    let ran = cli.run("cancel 3-8 2-3 --yes").expect(0);
    assert_eq!(ran.out, "job 4 is cancelled\njob 3 is cancelled\njob 2 is cancelled\n");
    assert_eq!(ran.err, "3 jobs cancelled\n");
    assert_eq!(states(&cli), ["pending", "cancelled", "cancelled", "cancelled"]);

    // Of a range, those that have ended are left out; one that is given by its number is refused.
    let ran = cli.run("cancel 1-4 --yes").expect(0);
    assert_eq!((ran.out.as_str(), ran.err.as_str()), ("job 1 is cancelled\n", "1 job cancelled\n"));
    assert_eq!(cli.run("cancel 1-4 --yes").expect(0).err, "there are no such jobs\n");
    cli.run("cancel 1").expect(1);
}

#[test]
fn one_refused_job_does_not_stop_the_others() {
    let cli = with_paused_jobs(3);
    cli.run("cancel 2").expect(0);
    let ran = cli.run("cancel 1 2 3 9").expect(1);
    assert_eq!(ran.out, "job 3 is cancelled\njob 1 is cancelled\n");
    assert_eq!(
        ran.err,
        "error: there is no job 9\nerror: job 2 has ended: it is cancelled\n2 jobs cancelled, 2 refused\n"
    );

    let ran = cli.run("retry 1-3 9 --yes --json").expect(1);
    assert_eq!(ids(&ran.json()), [1, 2, 3]);
    let problem: Value = serde_json::from_str(&ran.err).expect("one problem document");
    assert_eq!((&problem["job"], &problem["status"], &problem["exit_status"]), (&json!(9), &json!(404), &json!(1)));
}

#[test]
fn a_selection_of_nothing_is_no_error_and_none_is() {
    let cli = with_paused_jobs(1);
    for command in ["show", "wait", "cancel", "retry", "erase"] {
        let ran = cli.run(&format!("{command} --yes")).expect(2);
        assert!(ran.err.contains("no job is selected: give numbers (12 13), a range (9-108) or a filter"), "{ran:?}");
        for selection in ["--state failed", "5-9", "1 --state failed"] {
            // Waiting for jobs that are not there is a mistake; changing none of them is none.
            let exit = i32::from(command == "wait");
            let ran = cli.run(&format!("{command} {selection} --yes")).expect(exit);
            assert_eq!((ran.out.as_str(), ran.err.as_str()), ("", "there are no such jobs\n"), "{command} {selection}");
            let ran = cli.run(&format!("{command} {selection} --yes --json")).expect(exit);
            assert_eq!(ran.json(), json!([]), "{command} {selection}");
        }
        cli.run(&format!("{command} 9-1 --yes")).expect(2);
        let ran = cli.run(&format!("{command} 9 --state failed --yes")).expect(1);
        assert!(ran.err.contains("there is no job 9"), "{command}: {ran:?}");
    }
}

#[test]
fn a_terminal_shows_the_jobs_and_asks() {
    let cli = with_paused_jobs(7);
    let refused = answered(cli.command("cancel --instance default"), "n\n");
    assert_eq!(refused.status, 1, "{refused:?}");
    for part in ["people.csv", "and 2 more", "Cancel 7 jobs? [y/N] ", "nothing was changed"] {
        assert!(refused.text.contains(part), "{part:?} is missing: {}", refused.text);
    }
    // The end of the input is no consent either.
    assert_eq!(answered(cli.command("cancel 1-7"), "\x04").status, 1);
    assert_eq!(states(&cli), ["pending"; 7]);

    let accepted = answered(cli.command("cancel 2-3"), "y\n");
    assert_eq!(accepted.status, 0, "{accepted:?}");
    assert!(accepted.text.contains("Cancel 2 jobs? [y/N] ") && accepted.text.contains("2 jobs cancelled"));
    assert_eq!(states(&cli)[..4], ["pending", "cancelled", "cancelled", "pending"]);

    for words in ["cancel 4 5", "cancel 6-7 --yes", "show 1-7", "erase 2-7 --dry-run"] {
        let shown = answered(cli.command(words), "");
        assert!(shown.status == 0 && !shown.text.contains("[y/N]"), "{words}: {shown:?}");
    }
    let erased = answered(cli.command("erase 2-7"), "yes\n");
    assert!(erased.status == 0 && erased.text.contains("Erase the data of 6 jobs? [y/N] "), "{erased:?}");
}

#[test]
fn a_selection_is_read_page_by_page() {
    let cli = with_paused_jobs(1_005);
    let ran = cli.run("cancel 3-1004 --yes --json").expect(0);
    assert_eq!(ids(&ran.json()), (3..=1_004).rev().collect::<Vec<_>>());
    let pending = cli.run("show --state pending --json").expect(0).json();
    assert_eq!(ids(&pending), [1, 2, 1_005]);
}

#[test]
fn wait_and_show_take_ranges_and_filters() {
    let cli = CliEnv::new();
    cli.file("people.csv", PEOPLE);
    cli.file("fails.csv", ONE_FAILS);
    cli.run("add leads people.csv people.csv --group nightly").expect(0);
    cli.run("add leads fails.csv").expect(0);
    assert_eq!(ids(&cli.run("wait --group nightly --json").expect(0).json()), [1, 2]);
    assert_eq!(ids(&cli.run("wait 2-9 1 --yes --json").expect(4).json()), [2, 3, 1]);
    assert_eq!(ids(&cli.run("wait 1-3 --with-failures --json").expect(4).json()), [3]);

    let shown = cli.run("show 1-3 --name PEOPLE --json").expect(0).json();
    assert_eq!(ids(&shown), [1, 2]);
    assert_eq!(shown[0]["history"][0]["event"], "received");
    let ran = cli.run("show 1 3 9").expect(1);
    assert_eq!(ran.out.matches("\nPART  STATE").count(), 2, "{ran:?}");
    assert_eq!(ran.err, "error: there is no job 9\n2 jobs shown, 1 refused\n");
}

#[test]
fn failed_rows_of_a_selection_are_retried() {
    let cli = CliEnv::new();
    cli.file("people.csv", PEOPLE);
    cli.file("fails.csv", ONE_FAILS);
    cli.run("add leads fails.csv people.csv fails.csv --wait").expect(4);
    let refused = cli.run("retry 1").expect(1);
    assert_eq!(
        refused.err,
        "error: job 1 is complete, and some of its rows failed: \"marqueue retry 1 --failed-rows\" sends only those \
         again, as a new job\n"
    );
    let ran = cli.run("retry 1-3 --failed-rows --yes").expect(0);
    assert_eq!(ran.out, "job 4: 1 row that failed in job 1\njob 5: 1 row that failed in job 3\n");
    assert_eq!(ran.err, "job 2 has no failed rows\n2 jobs retried, 1 skipped\n");
    cli.run("wait 4-5").expect(4);
    // Many jobs at once: those whose failed rows were sent again are left out. One job alone is sent once more.
    let ran = cli.run("retry 1 --with-failures --failed-rows --yes").expect(0);
    assert!(ran.out.is_empty() && ran.err.starts_with("job 1: its failed rows were sent again as job 4"), "{ran:?}");
    assert_eq!(cli.run("retry 1 --failed-rows --json").expect(0).json()["id"], json!(6));
    let shown = cli.run("show 1").expect(0);
    assert!(shown.out.contains("retried as  job 4, 6\n"), "{shown:?}");
    assert_eq!(cli.run("show 1 --json").expect(0).json()["retries"], json!([4, 6]));

    let ran = cli.run("retry 1 3 --with fails.csv").expect(2);
    assert!(ran.err.contains("--with sends a corrected file for one job"), "{ran:?}");
    cli.run("retry 1-1 --with fails.csv --yes").expect(2);
}
