//! Shared imports: small files of one shape go to Marketo in one upload, and each job gets its own results.

use marqueue::api::dto::JobDto;
use marqueue::domain::{BatchState, JobId, JobState};
use marqueue::simulator::{Call, Fault, FaultEffect, ReportShape, Settings};
use serde_json::json;

use crate::cli_env::CliEnv;
use crate::support::{TestEnv, quick};

const LEADS: &str = "target=leads&format=csv";
const PACK: &str = "pack = true\n";
pub const LIMITS: &str = "limits = { calls = 5000, window = \"1s\" }\n";

/// A daemon whose instance packs and is paused, so that files gather.
pub async fn paused(settings: Settings, config: &str) -> TestEnv {
    let mut env = TestEnv::new(settings).await;
    env.config = format!("{PACK}{config}{}", if config.contains("limits") { "" } else { LIMITS });
    env.start().await;
    pause(&env).await;
    env
}

pub async fn pause(env: &TestEnv) {
    assert_eq!(env.request("POST", "/v1/instances/default/pause", "").await.0, 200);
}

pub async fn resume(env: &TestEnv) {
    assert_eq!(env.request("POST", "/v1/instances/default/resume", "").await.0, 200);
}

pub async fn add_all(env: &TestEnv, files: &[String]) -> Vec<JobId> {
    let mut jobs = Vec::new();
    for file in files {
        jobs.push(env.add(LEADS, file.clone()).await.id);
    }
    jobs
}

pub async fn all_ended(env: &mut TestEnv, jobs: &[JobId]) -> Vec<JobDto> {
    let mut ended = Vec::new();
    for &id in jobs {
        ended.push(env.ended(id).await);
    }
    ended
}

pub fn file(rows: &[&str]) -> String {
    format!("email,note\n{}", rows.iter().map(|row| format!("{row}\n")).collect::<String>())
}

/// The rows of each upload that Marketo accepted.
pub fn accepted_rows(env: &TestEnv) -> Vec<u64> {
    env.simulator.call_log().imports.iter().map(|import| import.rows).collect()
}

pub fn counts(job: &JobDto) -> [Option<u64>; 3] {
    [job.rows.processed, job.rows.failed, job.rows.warned]
}

#[tokio::test]
async fn jobs_of_a_shared_import_have_their_own_results() {
    let mut env = paused(quick(), "").await;
    let mut files: Vec<String> = (0..30).map(|n| file(&[&format!("a{n}@b.c,x"), &format!("b{n}@b.c,y")])).collect();
    files[3] = file(&["c@b.c,fine", "d@b.c,!fail:Bad", "\"e@b.c\",\"!fail:Also, bad\""]);
    files[7] = file(&["f@b.c,!warn:Odd", "\"g@b.c\",\"two\nlines\"", "h@b.c,!fail:Bad"]);
    let jobs = add_all(&env, &files).await;
    assert!(env.job(jobs[0]).await.pack);
    resume(&env).await;
    let ended = all_ended(&mut env, &jobs).await;

    let log = env.simulator.call_log();
    assert_eq!((accepted_rows(&env), log.creates.len()), (vec![62], 1), "one upload");
    for (n, job) in ended.iter().enumerate() {
        let expected = match n {
            3 => [Some(1), Some(2), Some(0)],
            7 => [Some(2), Some(1), Some(1)],
            _ => [Some(2), Some(0), Some(0)],
        };
        assert_eq!((job.state, counts(job), job.rows.unaccounted), (JobState::Complete, expected, Some(0)), "{job:?}");
        assert_eq!(job.batches[0].shared_with, 29);
        let message = job.batches[0].message.as_deref().expect("a message");
        assert!(!message.contains("62"), "Marketo's message counts rows of other jobs: {message}");
    }
    let failures = env.get(&format!("/v1/jobs/{}/failures?lines=true", jobs[3])).await;
    let rows =
        "Line,email,note,Import Failure Reason\n3,d@b.c,!fail:Bad,Bad\n4,e@b.c,\"!fail:Also, bad\",\"Also, bad\"\n";
    assert_eq!(failures, rows);
    let failures = env.get(&format!("/v1/jobs/{}/failures?lines=true", jobs[7])).await;
    assert_eq!(failures, "Line,email,note,Import Failure Reason\n5,h@b.c,!fail:Bad,Bad\n");
    let warnings = env.get(&format!("/v1/jobs/{}/warnings", jobs[7])).await;
    assert_eq!(warnings, "email,note,Import Warning Reason\nf@b.c,!warn:Odd,Odd\n");
    assert_eq!(env.request("GET", &format!("/v1/jobs/{}/failures", jobs[0]), "").await.0, 404);
    let results = env.get(&format!("/v1/jobs/{}/results", jobs[7])).await;
    assert!(results.contains("g@b.c\",\"two\nlines\",imported"), "{results}");
    let (_, reasons) = env.json("GET", &format!("/v1/jobs/{}/reasons", jobs[3])).await;
    assert_eq!(reasons["failures"][0], json!({"reason": "Bad", "rows": 1, "first_line": 3}));
    // Failed rows are sent again as they were sent.
    let (status, again) = env.json("POST", &format!("/v1/jobs/{}/retry?rows=failed", jobs[3])).await;
    assert_eq!((status, &again["rows"]["total"]), (201, &json!(2)), "{again}");
    let (_, history) = env.json("GET", &format!("/v1/jobs/{}/history", jobs[0])).await;
    assert!(!history.to_string().contains("62 "), "{history}");
}

#[tokio::test]
async fn only_files_of_one_shape_that_pass_the_checks_share_an_import() {
    let mut env = paused(quick(), "").await;
    let row = file(&["a@b.c,x"]);
    let mut alone = Vec::new();
    for query in [
        "target=leads&format=csv&check=false",
        "target=leads&format=csv&pack=false",
        "target=leads&format=csv&group=g",
        "target=leads&format=csv&canary=1",
        "target=leads&format=csv&lookup_field=email",
        "target=leads&format=csv&partition=Europe",
        "target=program-members&program_id=1044&status=Member&format=csv",
    ] {
        alone.push(env.add(query, row.clone()).await.id);
    }
    alone.push(env.add(LEADS, "note,email\nx,a@b.c\n").await.id);
    alone.push(env.add("target=leads&format=tsv", "email\tnote\na@b.c\tx\n").await.id);
    // These differ in what does not count: a byte-order mark, blank lines at the end, no last line end, the name.
    let mut packed = Vec::new();
    for (name, content) in [
        ("one.csv", row.clone()),
        ("two.csv", format!("\u{feff}{row}")),
        ("three.csv", format!("{row}\n\n")),
        ("four.csv", "email,note\nz@b.c,!fail:Bad".to_owned()),
        ("five.csv", row.clone()),
    ] {
        packed.push(env.add(&format!("{LEADS}&filename={name}"), content).await.id);
    }
    resume(&env).await;
    for job in all_ended(&mut env, &alone).await {
        assert_eq!((job.state, job.batches[0].shared_with), (JobState::Complete, 0), "{job:?}");
    }
    let shared = all_ended(&mut env, &packed).await;
    assert_eq!(shared.iter().map(counts).collect::<Vec<_>>()[3], [Some(0), Some(1), Some(0)]);
    assert!(shared.iter().all(|job| job.batches[0].shared_with == 4), "{shared:?}");
    assert_eq!(accepted_rows(&env).iter().filter(|&&rows| rows == 5).count(), 1);
}

#[tokio::test]
async fn jobs_of_an_import_that_failed_are_each_sent_alone() {
    let mut env = paused(quick(), "").await;
    let files = [file(&["a@b.c,x"]), file(&["b@b.c,!batch-failed:Broken b@b.c"]), file(&["c@b.c,x"])];
    let jobs = add_all(&env, &files).await;
    resume(&env).await;
    let ended = all_ended(&mut env, &jobs).await;
    let states: Vec<_> = ended.iter().map(|job| job.state).collect();
    assert_eq!(states, [JobState::Complete, JobState::Failed, JobState::Complete]);
    assert_eq!(accepted_rows(&env), [3, 1, 1, 1]);
    assert!(ended.iter().all(|job| job.batches[0].shared_with == 0 && !job.pack), "{ended:?}");
    for &id in [&jobs[0], &jobs[2]] {
        let (_, history) = env.json("GET", &format!("/v1/jobs/{id}/history")).await;
        let text = history.to_string();
        assert!(text.contains("unpacked") && !text.contains("Broken"), "no message about another job's row: {text}");
    }
    assert!(ended[1].error.as_ref().is_some_and(|error| error.contains("Broken")), "{:?}", ended[1].error);
}

#[tokio::test]
async fn jobs_of_a_rejected_upload_are_each_sent_alone() {
    let mut env = paused(quick(), "").await;
    env.simulator.push_fault(Fault::on(Call::Create, FaultEffect::error(1006, "Value 'secret' not found")));
    let jobs = add_all(&env, &[file(&["a@b.c,x"]), file(&["b@b.c,secret"])]).await;
    resume(&env).await;
    for job in all_ended(&mut env, &jobs).await {
        assert_eq!((job.state, job.batches[0].shared_with), (JobState::Complete, 0), "{job:?}");
        let (_, history) = env.json("GET", &format!("/v1/jobs/{}/history", job.id)).await;
        let text = history.to_string();
        assert!(text.contains("error 1006") && !text.contains("secret"), "a value of another job: {text}");
    }
    assert_eq!(accepted_rows(&env), [1, 1]);
}

#[tokio::test]
async fn too_large_upload_is_divided_between_its_jobs_first() {
    let mut env = paused(Settings { max_body: 1_500, ..quick() }, "").await;
    let note = "x".repeat(150);
    let files: Vec<String> = (0..8).map(|n| file(&[&format!("a{n}@b.c,{note}")])).collect();
    let jobs = add_all(&env, &files).await;
    resume(&env).await;
    let ended = all_ended(&mut env, &jobs).await;
    assert!(ended.iter().all(|job| job.state == JobState::Complete && job.batches.len() == 1), "{ended:?}");
    let rows = accepted_rows(&env);
    assert_eq!(rows.iter().sum::<u64>(), 8);
    assert!(rows.iter().any(|&rows| rows > 1), "{rows:?}");
}

#[tokio::test]
async fn rows_that_a_report_does_not_tell_apart_are_unknown() {
    let left_out = ReportShape { left_out: ["note".to_owned()].into(), ..ReportShape::default() };
    let mut env = paused(Settings { report_shape: left_out, ..quick() }, "").await;
    let files = [
        file(&["same@b.c,!fail:Bad", "a@b.c,fine"]),
        file(&["same@b.c,fine", "b@b.c,!fail:Worse"]),
        file(&["c@b.c,fine"]),
    ];
    let jobs = add_all(&env, &files).await;
    resume(&env).await;
    let ended = all_ended(&mut env, &jobs).await;
    assert_eq!(accepted_rows(&env), [5]);
    let none = [None, None, Some(0)];
    assert_eq!(ended.iter().map(counts).collect::<Vec<_>>(), [none, none, [Some(1), Some(0), Some(0)]]);
    let results = async |id: JobId| env.get(&format!("/v1/jobs/{id}/results")).await;
    let [first, second] = [results(jobs[0]).await, results(jobs[1]).await];
    assert_eq!(first, "email,note,Marketo Result,Marketo Reason\nsame@b.c,!fail:Bad,unknown,\na@b.c,fine,imported,\n");
    assert!(
        second.contains("same@b.c,fine,unknown,\n") && second.contains("b@b.c,!fail:Worse,failed,Worse"),
        "{second}"
    );
    assert_eq!(env.request("GET", &format!("/v1/jobs/{}/failures", jobs[0]), "").await.0, 404);
}

#[tokio::test]
async fn a_report_that_is_missing_leaves_every_row_unknown() {
    let mut env = paused(quick(), "max_attempts = 2\nbackoff_min = \"10ms\"\nbackoff_max = \"50ms\"\n").await;
    env.simulator.push_fault(Fault::on(Call::Failures, FaultEffect::http(404)).times(100));
    let jobs = add_all(&env, &[file(&["a@b.c,!fail:Bad"]), file(&["b@b.c,x"])]).await;
    resume(&env).await;
    for (job, email) in all_ended(&mut env, &jobs).await.iter().zip(["a@b.c", "b@b.c"]) {
        let (_, history) = env.json("GET", &format!("/v1/jobs/{}/history", job.id)).await;
        assert!(!history.to_string().contains("counts 1 rows"), "a count of all jobs: {history}");
        assert_eq!((job.state, counts(job), job.rows.unaccounted), (JobState::Complete, [None; 3], None), "{job:?}");
        assert_eq!(env.request("GET", &format!("/v1/jobs/{}/failures", job.id), "").await.0, 404);
        let results = env.get(&format!("/v1/jobs/{}/results", job.id)).await;
        assert!(results.contains(email) && results.contains(",unknown,"), "{results}");
    }
    assert_eq!(accepted_rows(&env), [2], "nothing is sent again");
}

#[tokio::test]
async fn a_lost_answer_holds_all_jobs_and_settle_continues_all() {
    let mut env = paused(quick(), "unknown_outcome = \"hold\"\n").await;
    env.simulator.push_fault(Fault::on(Call::Create, FaultEffect::LoseAnswer));
    let jobs = add_all(&env, &[file(&["a@b.c,x"]), file(&["b@b.c,!fail:Bad"]), file(&["c@b.c,x"])]).await;
    resume(&env).await;
    for &id in &jobs {
        env.until("it is held", async |env| (env.job(id).await.batches[0].state == BatchState::Held).then_some(()))
            .await;
    }
    assert_eq!(env.json("POST", &format!("/v1/jobs/{}/cancel", jobs[2])).await.0, 200);
    let import = env.simulator.call_log().imports[0].id;
    let settle = format!("/v1/jobs/{}/settle?part=1&marketo_batch_id={import}", jobs[1]);
    assert_eq!(env.json("POST", &settle).await.0, 200);
    let ended = all_ended(&mut env, &jobs).await;
    let states: Vec<_> = ended.iter().map(|job| job.state).collect();
    assert_eq!(states, [JobState::Complete, JobState::Complete, JobState::Cancelled]);
    assert_eq!(counts(&ended[1]), [Some(0), Some(1), Some(0)]);
    assert_eq!(accepted_rows(&env), [3]);
}

#[tokio::test]
async fn a_killed_daemon_resumes_a_shared_import() {
    let mut env = paused(quick(), "").await;
    let jobs = add_all(&env, &[file(&["a@b.c,!stuck"]), file(&["b@b.c,!fail:Bad"])]).await;
    resume(&env).await;
    env.until("Marketo has it", async |env| {
        (env.job(jobs[1]).await.batches[0].state == BatchState::Importing).then_some(())
    })
    .await;
    let (_, explained) = env.json("GET", &format!("/v1/jobs/{}/explain", jobs[1])).await;
    let text = explained["text"].as_str().expect("a sentence");
    assert!(text.contains("It shares an import with 1 other job."), "{text}");
    let (status, problem) = env.json("POST", &format!("/v1/jobs/{}/cancel", jobs[0])).await;
    assert_eq!(status, 409, "{problem}");
    env.kill();
    env.start().await;
    env.simulator.end_stuck_imports();
    let ended = all_ended(&mut env, &jobs).await;
    assert_eq!(
        ended.iter().map(counts).collect::<Vec<_>>(),
        [[Some(1), Some(0), Some(0)], [Some(0), Some(1), Some(0)]]
    );
    assert_eq!(env.simulator.call_log().accepted().count(), 1);
}

#[test]
fn commands_show_that_a_job_shares_an_import() {
    let mut cli = CliEnv::new();
    cli.env.kill();
    cli.env.config = format!("{LIMITS}backoff_min = \"10ms\"\nbackoff_max = \"50ms\"\nmax_attempts = 2\n");
    cli.start();
    cli.run("pause").expect(0);
    cli.file("one.csv", "email,note\na@example.com,!fail:Bad\n");
    cli.file("two.csv", "email,note\nb@example.com,fine\n");
    cli.file("alone.csv", "email,note\nc@example.com,fine\n");
    cli.run("add leads one.csv two.csv --pack").expect(0);
    cli.run("add leads alone.csv").expect(0);
    cli.env.simulator.push_fault(Fault::on(Call::Failures, FaultEffect::http(404)).times(100));
    cli.run("resume default").expect(0);
    // The report is missing, so nothing is known of either job.
    cli.run("wait 1 2").expect(4);
    cli.run("wait 3").expect(0);
    assert_eq!(cli.run("show 1 --json").expect(0).json()["batches"][0]["shared_with"], 1);
    let shown = cli.run("show 2").expect(0).out;
    assert!(shown.contains("shared with 1 other job; the import of 2 jobs has ended"), "{shown}");
    assert_eq!(cli.run("show 3 --json").expect(0).json()["batches"][0]["shared_with"], 0);
    let results = cli.run("results 2").out;
    assert!(results.contains("b@example.com,fine,unknown,"), "{results}");
    cli.run("failures 2").expect(4);
}
