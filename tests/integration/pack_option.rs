//! The option `pack` of an instance, a job and a drop folder, and what excludes it.

use std::fs;

use marqueue::api::dto::JobDto;
use marqueue::domain::JobState;
use serde_json::json;

use crate::cli_env::CliEnv;
use crate::support::{TestEnv, leads, quick};

const LEADS: &str = "target=leads&format=csv";

async fn env(instance: &str) -> TestEnv {
    let mut env = TestEnv::new(quick()).await;
    instance.clone_into(&mut env.config);
    env.start().await;
    env
}

#[tokio::test]
async fn option_of_a_job_overrides_that_of_its_instance() {
    for (instance, default) in [("", false), ("pack = true\n", true)] {
        let mut env = env(instance).await;
        for (parameter, pack) in [("", default), ("&pack=true", true), ("&pack=false", false)] {
            let job = env.add(&format!("{LEADS}{parameter}"), leads(&["a@example.com"])).await;
            assert_eq!(job.pack, pack, "{instance}{parameter}");
            assert_eq!(env.ended(job.id).await.state, JobState::Complete);
        }
        for alone in ["&group=g", "&canary=1", "&check=false"] {
            let job = env.add(&format!("{LEADS}{alone}"), leads(&["a@example.com"])).await;
            assert!(!job.pack, "{instance}{alone}");
        }
    }
}

#[tokio::test]
async fn wrong_value_and_excluded_option_are_refused() {
    let env = env("").await;
    for (wrong, reason) in [
        ("pack=yes", "pack must be true or false, not \"yes\""),
        ("pack=true&group=g", "a job of a group cannot share an import (pack): leave out one of both"),
        ("pack=true&canary=1", "a job with a canary cannot share an import (pack): leave out one of both"),
        ("pack=true&check=false", "a file without checks cannot share an import (pack): leave out one of both"),
    ] {
        let path = format!("/v1/jobs?{LEADS}&{wrong}");
        let (status, body) = env.request("POST", &path, leads(&["a@example.com"])).await;
        let problem: serde_json::Value = serde_json::from_slice(&body).expect("a problem document");
        assert_eq!((status, &problem["detail"]), (400, &json!(reason)), "{wrong}");
    }
}

#[tokio::test]
async fn job_toml_sets_it_for_a_folder() {
    let mut env = TestEnv::new(quick()).await;
    let drop = env.folder.path().join("drop");
    env.config = format!("[drop]\npath = {drop:?}\nsettle = \"10ms\"\n");
    env.start().await;
    let folder = drop.join("default/leads");
    fs::create_dir_all(&folder).expect("a folder");
    fs::write(folder.join("job.toml"), "pack = true\n").expect("options");
    fs::write(folder.join("a.part"), leads(&["a@example.com"])).expect("a file");
    fs::rename(folder.join("a.part"), folder.join("a.csv")).expect("it is renamed");
    let dropped = env
        .until("the dropped file is a job", async |env| {
            let page = env.json("GET", "/v1/jobs?source=drop").await.1;
            page["jobs"].as_array().and_then(|jobs| jobs.first().cloned())
        })
        .await;
    assert_eq!(dropped["pack"], json!(true));
}

/// Makes a new job of rows of `job`, by this query, and returns it when it has ended.
async fn retried(env: &mut TestEnv, job: &JobDto, query: &str, body: &'static str) -> JobDto {
    let (status, answer) = env.request("POST", &format!("/v1/jobs/{}/retry?{query}", job.id), body).await;
    assert_eq!(status, 201, "{query}: {}", String::from_utf8_lossy(&answer));
    let retried: JobDto = serde_json::from_slice(&answer).expect("a job");
    env.ended(retried.id).await
}

#[tokio::test]
async fn derived_job_of_a_packed_one_is_accepted() {
    let mut env = env("").await;
    let file = "email,firstName\na@example.com,!fail:Not this one\nb@example.com,Ben\n";
    let corrected = "email,firstName\na@example.com,Ann\n";
    for (parameter, pack) in [("&pack=true", true), ("&group=g", false), ("", false)] {
        let job = env.add(&format!("{LEADS}{parameter}"), file).await;
        let job = env.ended(job.id).await;
        assert_eq!((job.pack, job.rows.failed), (pack, Some(1)));
        for (query, body, derived_pack) in [
            ("rows=failed", "", false),
            ("rows=corrected", corrected, pack),
            ("rows=corrected&check=false", corrected, false),
        ] {
            let derived = retried(&mut env, &job, query, body).await;
            assert_eq!((derived.pack, &derived.group), (derived_pack, &job.group), "{query}{parameter}");
        }
    }
}

#[test]
fn add_has_an_option_for_and_one_against_it() {
    let mut cli = CliEnv::new();
    cli.env.kill();
    "pack = true\n".clone_into(&mut cli.env.config);
    cli.start();
    cli.file("people.csv", "email\na@example.com\n");
    for (options, pack) in [("", true), ("--pack", true), ("--no-pack", false), ("--group g", false)] {
        let added = cli.run(&format!("add leads people.csv --json {options}")).expect(0).json();
        assert_eq!(added[0]["pack"], json!(pack), "{options}");
    }
    assert!(cli.run("show 1").expect(0).out.contains("may share an import with other jobs"));
    assert!(!cli.run("show 3").expect(0).out.contains("may share an import"));
    for both in ["add leads people.csv --pack --no-pack", "add --pack leads people.csv --no-pack"] {
        let ran = cli.run(both).expect(2);
        assert!(ran.err.contains("--pack and --no-pack exclude each other"), "{ran:?}");
    }
    let ran = cli.run("add leads people.csv --pack --group g").expect(1);
    assert!(ran.err.contains("a job of a group cannot share an import (pack)"), "{ran:?}");
}
