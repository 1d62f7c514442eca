//! Jobs that shared an import are jobs of their own afterwards: erasing, retention and notifications. And what an
//! instance, a subscription and a static list keep apart.

use std::collections::BTreeMap;

use marqueue::api::dto::JobDto;
use marqueue::domain::{JobId, JobState};
use marqueue::simulator::Settings;
use serde_json::{Value, json};

use crate::notification::Receiver;
use crate::shared_imports::{LIMITS, accepted_rows, add_all, all_ended, counts, file, paused, resume};
use crate::support::{TestEnv, quick};

/// Three jobs that have shared an import. A row of each failed, and one of the last has a warning.
async fn ended_together(env: &mut TestEnv) -> Vec<JobDto> {
    let files =
        ["a", "b", "c"].map(|name| file(&[&format!("{name}@b.c,!fail:Bad {name}"), &format!("{name}2@b.c,fine")]));
    let [first, second, third] = files;
    let jobs = add_all(env, &[first, second, format!("{third}c3@b.c,!warn:Odd\n")]).await;
    resume(env).await;
    let ended = all_ended(env, &jobs).await;
    assert_eq!(accepted_rows(env), [7], "they shared an import");
    ended
}

/// The failure file, the warning file and the results of a job.
async fn reports(env: &TestEnv, id: JobId) -> Vec<(u16, Vec<u8>)> {
    let mut reports = Vec::new();
    for what in ["failures", "warnings", "results", "file"] {
        reports.push(env.request("GET", &format!("/v1/jobs/{id}/{what}"), "").await);
    }
    reports
}

#[tokio::test]
async fn erasing_one_job_leaves_the_others_reports() {
    let mut env = paused(quick(), "").await;
    let jobs = ended_together(&mut env).await;
    // The first one stood for the import.
    for (erased, left) in [(0, &[1, 2][..]), (2, &[1][..])] {
        let mut before = Vec::new();
        for &job in left {
            before.push(reports(&env, jobs[job].id).await);
        }
        assert_eq!(env.json("POST", &format!("/v1/jobs/{}/erase", jobs[erased].id)).await.0, 200);
        assert_eq!(env.request("GET", &format!("/v1/jobs/{}/failures", jobs[erased].id), "").await.0, 410);
        for (&job, before) in left.iter().zip(before) {
            assert_eq!(before[0].0, 200);
            assert_eq!(reports(&env, jobs[job].id).await, before);
            assert_eq!(counts(&env.job(jobs[job].id).await), counts(&jobs[job]));
        }
    }
    let (status, again) = env.json("POST", &format!("/v1/jobs/{}/retry?rows=failed", jobs[1].id)).await;
    assert_eq!((status, &again["rows"]["total"]), (201, &json!(1)), "{again}");
}

#[tokio::test]
async fn retention_of_one_job_leaves_the_others_reports() {
    let mut env = paused(quick(), "").await;
    let jobs = ended_together(&mut env).await;
    let kept = reports(&env, jobs[1].id).await;
    // The other two ended ten days ago, by the database.
    env.terminate().await;
    let long_ago =
        format!("UPDATE job SET finished_at = finished_at - 864000000 WHERE id IN ({}, {})", jobs[0].id, jobs[2].id);
    execute(&env, &long_ago).await;
    env.config = format!("{}\n[retention]\nfiles = \"1d\"\nreports = \"2d\"\njobs = \"3d\"", env.config);
    env.start().await;
    for job in [&jobs[0], &jobs[2]] {
        let path = format!("/v1/jobs/{}", job.id);
        env.until("its record is gone", async |env| (env.json("GET", &path).await.0 == 404).then_some(())).await;
    }
    assert_eq!(reports(&env, jobs[1].id).await, kept);
    let job = env.job(jobs[1].id).await;
    assert_eq!((counts(&job), job.batches[0].shared_with), (counts(&jobs[1]), 2));
}

/// Changes the database while no daemon runs.
async fn execute(env: &TestEnv, sql: &str) {
    use sqlx::{AssertSqlSafe, ConnectOptions, Connection};
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(env.database());
    let mut connection = options.connect().await.expect("the database opens");
    let done = sqlx::query(AssertSqlSafe(sql.to_owned())).execute(&mut connection).await.expect("it is changed");
    assert!(done.rows_affected() > 0, "{sql}");
    connection.close().await.expect("it closes");
}

#[tokio::test]
async fn each_job_is_notified_with_its_own_reasons() {
    let receiver = Receiver::default();
    let mut env = paused(quick(), &format!("{LIMITS}[notify]\nurl = {:?}\n", receiver.open().await)).await;
    let jobs = ended_together(&mut env).await;
    env.until("each is notified", async |_| (receiver.of_event("job-ended").len() == jobs.len()).then_some(())).await;
    let by_job: BTreeMap<i64, Value> = receiver
        .of_event("job-ended")
        .into_iter()
        .map(|body| (body["job"]["id"].as_i64().expect("its number"), body))
        .collect();
    for (job, name) in jobs.iter().zip(["a", "b", "c"]) {
        let body = &by_job[&job.id.0];
        assert_eq!(body["job"], serde_json::to_value(job).expect("JSON"));
        assert_eq!(body["job"]["rows"]["failed"], 1);
        let reason = json!([{"reason": format!("Bad {name}"), "rows": 1, "first_line": 2}]);
        assert_eq!(body["reasons"]["failures"], reason, "{body}");
        let warned = if name == "c" { json!([{"reason": "Odd", "rows": 1, "first_line": 4}]) } else { json!([]) };
        assert_eq!(body["reasons"]["warnings"], warned, "{body}");
    }
}

#[tokio::test]
async fn two_instances_of_one_subscription_share_no_import() {
    let mut env = TestEnv::new(Settings { keep_uploads: true, ..quick() }).await;
    env.config = format!(
        "pack = true\nlimits = {{ calls = 5000, window = \"1s\" }}\n[instances.twin]\nbase_url = {:?}\n\
         client_id = \"simulator\"\nclient_secret = \"secret\"\npack = true\n\
         polling = {{ min = \"10ms\", max = \"200ms\" }}\nlimits = {{ calls = 5000, window = \"1s\" }}\n",
        env.simulator.base_url()
    );
    env.start().await;
    let mut jobs = Vec::new();
    for instance in ["default", "twin"] {
        assert_eq!(env.request("POST", &format!("/v1/instances/{instance}/pause"), "").await.0, 200);
    }
    for n in 0..4 {
        for instance in ["default", "twin"] {
            let file = file(&[&format!("{instance}{n}@b.c,!fail:Bad {instance} {n}"), &format!("{instance}{n}@b.d,x")]);
            let query = format!("target=leads&format=csv&instance={instance}");
            jobs.push((env.add(&query, file).await.id, format!("Bad {instance} {n}")));
        }
    }
    for instance in ["default", "twin"] {
        assert_eq!(env.request("POST", &format!("/v1/instances/{instance}/resume"), "").await.0, 200);
    }
    for (id, reason) in jobs {
        let job = env.ended(id).await;
        assert_eq!((job.state, counts(&job)), (JobState::Complete, [Some(1), Some(1), Some(0)]));
        assert_eq!(job.batches[0].shared_with, 3);
        let failures = env.get(&format!("/v1/jobs/{id}/failures")).await;
        assert!(failures.lines().count() == 2 && failures.contains(&reason), "{failures}");
    }
    assert_eq!(accepted_rows(&env), [8, 8]);
    for create in env.simulator.call_log().creates {
        let content = create.file.and_then(|file| file.content).expect("it is kept");
        let content = String::from_utf8_lossy(&content).into_owned();
        assert!(content.contains("default") != content.contains("twin"), "{content}");
    }
}

#[tokio::test]
async fn a_static_list_has_one_import_at_a_time() {
    let mut env = paused(quick(), "").await;
    let add = async |env: &TestEnv, list: u32, row: &str| {
        env.add(&format!("target=leads&format=csv&list_id={list}"), file(&[row])).await.id
    };
    let mut jobs = Vec::new();
    for n in 0..4 {
        let note = if n == 0 { "!stuck" } else { "!fail:Bad" };
        jobs.push(add(&env, 7, &format!("{n}@b.c,{note}")).await);
    }
    resume(&env).await;
    env.until("Marketo has the first import", async |env| (accepted_rows(env) == [4]).then_some(())).await;
    for n in 4..7 {
        jobs.push(add(&env, 7, &format!("{n}@b.c,fine")).await);
    }
    // An import for another list passes them by.
    let other = add(&env, 8, "other@b.c,fine").await;
    assert_eq!(env.ended(other).await.state, JobState::Complete);
    for &id in &jobs[4..] {
        env.until("it waits for the list", async |env| {
            let waiting = env.job(id).await.waiting?;
            (serde_json::to_value(waiting).expect("JSON")["waits_for"] == "list").then_some(())
        })
        .await;
    }
    assert_eq!(accepted_rows(&env), [4, 1]);
    env.simulator.end_stuck_imports();
    let ended = all_ended(&mut env, &jobs).await;
    assert_eq!(accepted_rows(&env), [4, 1, 3], "those that waited share the next one");
    assert_eq!(ended.iter().map(|job| job.batches[0].shared_with).collect::<Vec<_>>(), [3, 3, 3, 3, 2, 2, 2]);
    assert_eq!(ended.iter().filter(|job| job.rows.failed == Some(1)).count(), 3);
    assert_eq!(env.simulator.call_log().errors_of("1019"), 0);
}
