//! Files of any size and shape: split, joined, sent again, in order. With the real binary and the simulator.

use std::fmt::Write as _;
use std::time::Duration;

use crate::support::{TestEnv, leads, quick};
use marqueue::api::dto::JobDto;
use marqueue::domain::{BatchState, Format, JobState};
use marqueue::simulator::{Call, Fault, FaultEffect, Settings};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// Imports that take no time at all, of files that may be large.
fn instant() -> Settings {
    Settings { import_base: Duration::from_millis(1), import_per_row: Duration::ZERO, ..quick() }
}

/// A believable file: quoted delimiters, quotes and line ends, letters beyond ASCII, CRLF in every other format.
fn table(format: Format, bytes: usize) -> String {
    let delimiter = char::from(format.delimiter());
    let end = if format == Format::Tsv { "\r\n" } else { "\n" };
    let mut file = format!("email{delimiter}name{delimiter}notes{end}");
    let mut row = 0;
    while file.len() < bytes {
        row += 1;
        let notes = match row % 7 {
            0 => format!("\"said \"\"hello{delimiter} there\"\"{end}and left\""),
            3 => "Zoë, Ångström; naïve\tand more".replace(delimiter, "/"),
            _ => "nothing of note that anybody would want to write down".to_owned(),
        };
        write!(file, "person{row}@example.com{delimiter}Person {row}{delimiter}{notes}{end}").expect("writing to text");
    }
    file
}

/// Checks that what was uploaded is the file: each upload the header and its rows, all rows joined the file's own
/// bytes.
fn assert_sent_as_it_was(env: &TestEnv, job: &JobDto, file: &str, limit: u64) {
    let header = file.find('\n').expect("a header") + 1;
    let mut at = header as u64;
    let ledger = env.simulator.call_log();
    let mut sent: Vec<(u64, String)> = ledger
        .creates
        .iter()
        .filter_map(|create| create.file.as_ref())
        .map(|file| (file.bytes, file.sha256.clone()))
        .collect();
    for batch in &job.batches {
        assert_eq!(batch.byte_from, at, "the parts follow each other without a gap");
        at = batch.byte_to;
        let rows = &file[batch.byte_from as usize..batch.byte_to as usize];
        let mut hash = Sha256::new();
        hash.update(&file[..header]);
        hash.update(rows);
        let hash: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        let upload = ((header + rows.len()) as u64, hash);
        let found = sent.iter().position(|sent| *sent == upload);
        sent.remove(found.expect("each part was uploaded, byte for byte"));
    }
    assert_eq!(at, file.len() as u64);
    assert!(ledger.accepted().all(|create| create.body_bytes <= limit));
}

#[tokio::test]
async fn sixty_megabytes_of_each_format_arrive_unchanged() {
    for format in Format::ALL {
        let mut env = TestEnv::with_daemon(instant()).await;
        let file = table(format, 60_000_000);
        let job = env.add(&format!("target=leads&format={format}"), file.clone()).await;
        assert_eq!(job.batches.len(), 7, "as few as can be");
        let job = env.ended(job.id).await;
        assert_eq!(job.state, JobState::Complete, "{job:?}");
        assert_eq!((job.rows.processed, job.rows.failed), (Some(job.rows.total), Some(0)));
        assert_sent_as_it_was(&env, &job, &file, 10_000_000);
        let (_, back) = env.request("GET", &format!("/v1/jobs/{}/file", job.id), "").await;
        assert!(back == file.as_bytes(), "the file comes back as it was dropped in");
    }
}

#[tokio::test]
async fn a_batch_that_marketo_finds_too_large_is_halved_until_it_fits() {
    let mut env = TestEnv::with_daemon(Settings { max_body: 150_000, ..instant() }).await;
    let file = table(Format::Csv, 1_000_000);
    let id = env.add("target=leads&format=csv", file.clone()).await.id;
    let job = env.ended(id).await;
    assert_eq!(job.state, JobState::Complete, "{job:?}");
    assert_eq!(job.rows.processed, Some(job.rows.total));
    assert!(job.batches.iter().all(|batch| batch.attempts == 1), "a 413 uses up no attempt");
    assert_eq!(job.batches.len(), 8, "a million bytes in halves of halves of halves");
    assert_sent_as_it_was(&env, &job, &file, 150_000);
}

#[tokio::test]
async fn row_too_large_for_marketo_fails_alone() {
    let mut env = TestEnv::with_daemon(Settings { max_body: 5_000, ..instant() }).await;
    let file = format!("email,notes\na@example.com,x\nb@example.com,{}\nc@example.com,y\n", "long ".repeat(1_500));
    let id = env.add("target=leads&format=csv", file).await.id;
    let job = env.ended(id).await;
    assert_eq!((job.state, job.rows.processed), (JobState::Failed, Some(2)), "{job:?}");
    let error = job.error.expect("it says why");
    assert!(error.contains("too large (413); they are one row"), "{error}");
}

/// Two batches, each with a row that fails; in the second the column `phone` has a value.
async fn two_batches(second_phone: &str) -> (TestEnv, JobDto) {
    let mut env = TestEnv::new(instant()).await;
    env.config = "limits = { upload_bytes = 1000, calls = 5000, window = \"1s\" }\n".into();
    env.start().await;
    let filler = "x".repeat(600);
    let file = format!(
        "email,phone,notes\na@example.com,,!fail:first\nb@example.com,1,{filler}\n\
         c@example.com,2,{filler}\nd@example.com,{second_phone},!fail:\"second\"\n"
    );
    let id = env.add("target=leads&format=csv", file.replace("!fail:\"second\"", "\"!fail:se\"\"cond\"")).await.id;
    let job = env.ended(id).await;
    assert_eq!((job.state, job.batches.len(), job.rows.failed), (JobState::Complete, 2, Some(2)), "{job:?}");
    (env, job)
}

#[tokio::test]
async fn failure_files_of_all_batches_join_under_one_header() {
    let (env, job) = two_batches("").await;
    let failures = env.get(&format!("/v1/jobs/{}/failures", job.id)).await;
    let lines: Vec<&str> = failures.lines().collect();
    assert_eq!(lines.len(), 3, "{failures}");
    assert!(lines[0].ends_with("Import Failure Reason") && lines[1].ends_with("first") && lines[2].contains("se"));
    let part = env.get(&format!("/v1/jobs/{}/failures?part=2", job.id)).await;
    assert_eq!(part.lines().next(), Some(lines[0]));
    assert_eq!(part.lines().nth(1), Some(lines[2]));
}

#[tokio::test]
async fn failure_files_with_other_columns_are_served_one_by_one() {
    let (env, job) = two_batches("3").await;
    let (status, problem) = env.json("GET", &format!("/v1/jobs/{}/failures", job.id)).await;
    assert_eq!((status, &problem["type"]), (409, &"urn:marqueue:problem:parts-differ".into()), "{problem}");
    assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("?part=")), "{problem}");
    for (part, reason) in [(1, "first"), (2, "cond")] {
        let file = env.get(&format!("/v1/jobs/{}/failures?part={part}", job.id)).await;
        assert!(file.contains(reason), "{file}");
    }
    // The rows are found in the file that was sent, so the column that is missing is in the new job.
    let (status, again) = env.json("POST", &format!("/v1/jobs/{}/retry?rows=failed", job.id)).await;
    assert_eq!((status, &again["rows_without_line"]), (201, &0.into()), "{again}");
    let rows = env.get(&format!("/v1/jobs/{}/file", again["id"])).await;
    assert_eq!(rows, "email,phone,notes\na@example.com,,!fail:first\nd@example.com,3,\"!fail:se\"\"cond\"\n");
}

#[tokio::test]
async fn the_failed_rows_of_all_batches_become_one_new_job() {
    let mut env = TestEnv::new(Settings { drop_empty_columns: false, ..instant() }).await;
    env.config = "limits = { upload_bytes = 1000, calls = 5000, window = \"1s\" }\n".into();
    env.start().await;
    let filler = "x".repeat(600);
    let file = format!(
        "email;name;notes\na@example.com;\"An; n\";!fail:a\nb@example.com;B;{filler}\n\
         c@example.com;C;{filler}\nd@example.com;D;!fail:d\n"
    );
    let id = env.add("target=leads&filename=people.ssv&list_id=4&group=g&priority=3", file).await.id;
    assert_eq!(env.ended(id).await.rows.failed, Some(2));
    let (status, again) = env.json("POST", &format!("/v1/jobs/{id}/retry?rows=failed")).await;
    assert_eq!(status, 201, "{again}");
    let again: JobDto = serde_json::from_value(again).expect("a job");
    assert_eq!((again.retry_of, again.filename.as_str()), (Some(id), "people-failed-rows.ssv"));
    assert_eq!((again.priority, again.group.as_deref(), again.target.list_id()), (3, Some("g"), Some(4)));
    let rows = env.get(&format!("/v1/jobs/{}/file", again.id)).await;
    assert_eq!(rows, "email;name;notes\na@example.com;\"An; n\";!fail:a\nd@example.com;D;!fail:d\n");
    assert_eq!(env.ended(again.id).await.rows.failed, Some(2));
}

#[tokio::test]
async fn corrected_failure_file_becomes_a_new_job() {
    let mut env = TestEnv::new(Settings { drop_empty_columns: false, ..instant() }).await;
    env.config = "limits = { calls = 5000, window = \"1s\" }\n".into();
    env.start().await;
    let file = "email,name\na@example.com,A\nb@example.com,!fail:bad\n";
    let id = env.add("target=leads&filename=people.csv&list_id=4&group=g&priority=3", file).await.id;
    assert_eq!(env.ended(id).await.rows.failed, Some(1));
    let failures = env.get(&format!("/v1/jobs/{id}/failures")).await;
    assert_eq!(failures, "email,name,Import Failure Reason\nb@example.com,!fail:bad,bad\n");
    assert_eq!(env.get(&format!("/v1/jobs/{id}/failures?reason=false")).await, "email,name\nb@example.com,!fail:bad\n");

    // As a person edits it, with the reason column still there.
    let corrected = failures.replace("!fail:bad,", "B,");
    let retry = format!("/v1/jobs/{id}/retry?rows=corrected");
    let (status, body) = env.request("POST", &retry, corrected).await;
    let again: JobDto = serde_json::from_slice(&body).expect("a job");
    assert_eq!((status, again.retry_of, again.filename.as_str()), (201, Some(id), "people-corrected.csv"));
    assert_eq!((again.priority, again.group.as_deref(), again.target.list_id()), (3, Some("g"), Some(4)));
    let ended = env.ended(again.id).await;
    assert_eq!((ended.rows.processed, ended.rows.failed), (Some(1), Some(0)));
    assert_eq!(env.get(&format!("/v1/jobs/{}/file", again.id)).await, "email,name\nb@example.com,B\n");

    // With the column of lines, as a spreadsheet of another country saves it.
    let (status, body) = env.request("POST", &retry, "\u{feff}Line;email;name\r\n3;b@example.com;B\r\n").await;
    let again: JobDto = serde_json::from_slice(&body).expect("a job");
    assert_eq!((status, again.filename.as_str()), (201, "people-corrected.ssv"));
    let ended = env.ended(again.id).await;
    assert_eq!((ended.rows.processed, ended.rows.failed), (Some(1), Some(0)));

    let jobs = async |env: &TestEnv| env.json("GET", "/v1/jobs").await.1["jobs"].as_array().map(Vec::len);
    assert_eq!(jobs(&env).await, Some(3));
    for (path, body, expected) in [
        (
            &retry[..],
            "email,name,Import Failure Reason\nb@example.com,no\n",
            (422, "the row on line 2 has 2 fields where the header has 3"),
        ),
        (&retry, "email,name\nb@example.com\n", (422, "the header has 2 fields, but line 2 has 1")),
        (&retry, "", (422, "")),
        ("/v1/jobs/1/retry", "email\nb@example.com\n", (400, "a body is allowed with rows=corrected only")),
        ("/v1/jobs/1/retry?check=false", "", (400, "rows=corrected only")),
        ("/v1/jobs/1/retry?rows=right", "", (400, "not \\\"right\\\"")),
    ] {
        let (status, problem) = env.request("POST", path, body).await;
        let problem = String::from_utf8(problem).expect("text");
        assert!(status == expected.0 && problem.contains(expected.1), "{path} {body:?}: {status} {problem}");
    }
    assert_eq!(jobs(&env).await, Some(3), "what is refused makes no job");
}

#[tokio::test]
async fn corrected_rows_of_a_job_under_way_are_refused() {
    let mut env = TestEnv::with_daemon(quick()).await;
    env.json("POST", "/v1/instances/default/pause").await;
    let id = env.add("target=leads&filename=people.csv", leads(&["a@example.com"])).await.id;
    let (status, problem) = env.request("POST", &format!("/v1/jobs/{id}/retry?rows=corrected"), "email\n").await;
    let problem = String::from_utf8(problem).expect("text");
    assert!(status == 409 && problem.contains("its failed rows are known when it has ended"), "{status} {problem}");
    env.terminate().await;
}

#[tokio::test]
async fn leads_without_email_and_lookup_field_are_refused() {
    let env = TestEnv::with_daemon(quick()).await;
    let path = "/v1/jobs?target=leads&filename=people.csv";
    let (status, problem) = env.request("POST", path, "mail,name\na@example.com,A\n").await;
    let problem = String::from_utf8(problem).expect("text");
    assert_eq!(status, 422, "{problem}");
    assert!(
        problem.contains("which is the lookup field unless another one is given (lookup_field=FIELD)"),
        "{problem}"
    );
    for allowed in [format!("{path}&check=false"), format!("{path}&lookup_field=name")] {
        let (status, body) = env.request("POST", &allowed, "mail,name\na@example.com,A\n").await;
        assert_eq!(status, 201, "{}", String::from_utf8_lossy(&body));
    }
}

#[tokio::test]
async fn a_small_file_precedes_the_parts_of_a_large_one() {
    let mut env = TestEnv::new(instant()).await;
    env.config = "limits = { upload_bytes = 2000, importing = 2, queued = 2, calls = 5000, window = \"1s\" }\n".into();
    env.start().await;
    // Of two slots one is held by an upload without an answer, and the other by an import that ends when the test ends
    // it. So exactly one slot becomes free, and no other upload begins beside the one that it is given to.
    env.simulator.push_fault(Fault::on(Call::Create, FaultEffect::delay(Duration::from_secs(100))));
    let rows: String = (0..2_000).map(|row| format!("person{row}@example.com,!stuck\n")).collect();
    let large = env.add("target=leads&format=csv", format!("email,name\n{rows}")).await.id;
    env.until("both slots are taken", async |env| {
        let states: Vec<_> = env.job(large).await.batches.iter().map(|batch| batch.state).collect();
        let count = |states: &[BatchState], state| states.iter().filter(|&&found| found == state).count();
        let on_marketo = count(&states, BatchState::Queued) + count(&states, BatchState::Importing);
        let pending = count(&states, BatchState::Pending);
        (count(&states, BatchState::Uploading) == 1 && on_marketo == 1 && pending >= 30).then_some(())
    })
    .await;
    let small = env.add("target=custom-object&name=car_c&format=csv", "vin\n1\n").await.id;
    assert_eq!(env.job(small).await.batches[0].state, BatchState::Pending);
    env.simulator.end_stuck_imports();
    assert_eq!(env.ended(small).await.state, JobState::Complete);
    let log = env.simulator.call_log();
    let place = log.accepted().position(|create| create.path.contains("car_c"));
    assert_eq!(place, Some(2), "only the two batches that held the slots were sent before it");
    // Another upload may have begun in the slot of the small file's import, which has ended.
    let states = env.job(large).await.batches.into_iter().map(|batch| batch.state);
    assert!(states.filter(|&state| state == BatchState::Uploading).count() >= 1, "its upload is still held open");
}

#[tokio::test]
async fn no_more_calls_run_at_once_than_configured() {
    let mut env = TestEnv::new(instant()).await;
    env.config = "limits = { upload_bytes = 2000, concurrent_calls = 3, calls = 5000, window = \"1s\" }\n".into();
    env.start().await;
    // Each of the first uploads is answered late, so that others would begin beside it if they could.
    env.simulator.push_fault(Fault::on(Call::Create, FaultEffect::delay(Duration::from_secs(2))).times(6));
    let large = env.add("target=leads&format=csv", table(Format::Csv, 70_000)).await;
    assert_eq!(env.ended(large.id).await.state, JobState::Complete);
    let log = env.simulator.call_log();
    assert_eq!(log.accepted().count(), large.batches.len());
    assert_eq!(log.max_concurrent_calls, 3);
}

#[tokio::test]
async fn imports_of_one_list_or_group_run_one_after_another() {
    let mut env = TestEnv::with_daemon(quick()).await;
    let mut ids = Vec::new();
    for n in 0..6 {
        ids.push(env.add("target=leads&format=csv&list_id=12", leads(&[&format!("{n}@example.com")])).await.id);
        // A later one of the group is urgent, and still waits for its turn.
        let query = format!("target=custom-object&name=g_c&format=csv&group=g&priority={n}");
        ids.push(env.add(&query, "id\n1\n2\n").await.id);
    }
    for &id in &ids {
        assert_eq!(env.ended(id).await.state, JobState::Complete);
    }
    let ledger = env.simulator.call_log();
    assert_eq!(ledger.errors_of("1019"), 0);
    let group: Vec<JobDto> = {
        let mut jobs = Vec::new();
        for &id in ids.iter().skip(1).step_by(2) {
            jobs.push(env.job(id).await);
        }
        jobs
    };
    for pair in group.windows(2) {
        let ended = pair[0].finished_at.expect("it ended");
        assert!(pair[1].started_at.expect("it began") >= ended, "{pair:?}");
    }
}

#[tokio::test]
async fn a_repeated_idempotency_key_gives_one_job() {
    let env = TestEnv::with_daemon(quick()).await;
    let send = async |key: &str, file: &str| {
        let query = "/v1/jobs?target=leads&format=csv";
        let http = reqwest::Client::builder().unix_socket(env.socket()).build().expect("a client");
        let request = http.post(format!("http://daemon{query}")).header("Idempotency-Key", key).body(file.to_owned());
        let answer = request.send().await.expect("an answer");
        let status = answer.status().as_u16();
        (status, answer.json::<Value>().await.expect("JSON"))
    };
    let file = leads(&["a@example.com"]);
    let (status, first) = send("k1", &file).await;
    assert_eq!(status, 201);
    let (status, second) = send("k1", &file).await;
    assert_eq!((status, &second["id"]), (200, &first["id"]));
    let (status, problem) = send("k1", &leads(&["b@example.com"])).await;
    assert_eq!((status, &problem["type"]), (422, &"urn:marqueue:problem:idempotency-key-reused".into()));
    assert_eq!(send("k2", &file).await.0, 201);
}

#[tokio::test]
async fn bad_file_is_refused_with_its_fault_and_not_stored() {
    let env = TestEnv::with_daemon(quick()).await;
    for (query, file, code, words) in [
        ("format=csv", "", "empty", "empty"),
        ("format=csv", "email\n", "header-only", "header"),
        ("format=csv", "email,name\na@b.c\n", "ragged-rows", "line 2"),
        ("format=csv", "email, name\na@b.c,x\n", "spaced-column", "column 2"),
        ("format=csv&lookup_field=id", "email\na@b.c\n", "missing-column", "id"),
        ("format=tsv", "email,name\na@b.c,x\n", "wrong-delimiter", "csv"),
    ] {
        let path = format!("/v1/jobs?target=leads&{query}");
        let (status, body) = env.request("POST", &path, file).await;
        let problem: Value = serde_json::from_slice(&body).expect("JSON");
        assert_eq!((status, &problem["type"]), (422, &format!("urn:marqueue:problem:{code}").into()), "{problem}");
        assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains(words)), "{problem}");
        // As it is: what only a check would have found is for Marketo to refuse.
        let (status, _) = env.request("POST", &format!("{path}&check=false"), file).await;
        assert_eq!(status, if matches!(code, "empty" | "header-only") { 422 } else { 201 }, "{code}");
    }
    let (_, body) = env.request("POST", "/v1/jobs?target=leads&format=csv", b"email\n\xff\xfe@b.c\n".to_vec()).await;
    let problem: Value = serde_json::from_slice(&body).expect("JSON");
    assert_eq!(problem["type"], "urn:marqueue:problem:not-utf8");
    assert_eq!(env.json("GET", "/v1/jobs").await.1["jobs"].as_array().map(Vec::len), Some(4));
}

#[tokio::test]
async fn a_byte_order_mark_is_not_sent_and_stays_in_the_file() {
    let mut env = TestEnv::with_daemon(quick()).await;
    let file = "\u{feff}email,name\na@example.com,A\n";
    let id = env.add("target=leads&format=csv", file).await.id;
    assert_eq!(env.ended(id).await.rows.processed, Some(1));
    assert_eq!(env.get(&format!("/v1/jobs/{id}/file")).await, file);
    let sent = env.simulator.call_log().creates[0].file.clone().expect("a file");
    assert_eq!(sent.bytes, file.len() as u64 - 3);
}

#[tokio::test]
async fn a_cancelled_job_is_not_sent_and_can_be_retried() {
    let mut env = TestEnv::with_daemon(quick()).await;
    env.json("POST", "/v1/instances/default/pause").await;
    let id = env.add("target=leads&format=csv", leads(&["a@example.com"])).await.id;
    let (status, job) = env.json("POST", &format!("/v1/jobs/{id}/cancel")).await;
    assert_eq!((status, &job["state"]), (200, &"cancelled".into()));
    env.json("POST", "/v1/instances/default/resume").await;
    assert_eq!(env.json("POST", &format!("/v1/jobs/{id}/cancel")).await.0, 409);
    assert_eq!(env.simulator.call_log().creates.len(), 0);
    assert_eq!(env.json("POST", &format!("/v1/jobs/{id}/retry")).await.0, 200);
    let job = env.ended(id).await;
    assert_eq!((job.state, job.batches[0].state), (JobState::Complete, BatchState::Complete));
}

#[tokio::test]
async fn unreadable_body_or_query_is_refused_with_a_problem() {
    let env = TestEnv::with_daemon(quick()).await;
    let http = reqwest::Client::builder().unix_socket(env.socket()).build().expect("a client");
    for (header, value) in [("Content-Type", "multipart/form-data; boundary=x"), ("Content-Encoding", "gzip")] {
        let request = http.post("http://daemon/v1/jobs?target=leads&format=csv").header(header, value);
        let answer = request.body(leads(&["a@example.com"])).send().await.expect("an answer");
        assert_eq!(answer.status().as_u16(), 415, "{value}");
    }
    for path in ["/v1/jobs?bogus=1", "/v1/jobs?limit=1&limit=2", "/v1/jobs/1/failures?part=-1", "/v1/jobs/%ff"] {
        let answer = http.get(format!("http://daemon{path}")).send().await.expect("an answer");
        let kind = answer.headers()["content-type"].to_str().expect("text").to_owned();
        assert_eq!((answer.status().as_u16(), kind.as_str()), (400, "application/problem+json"), "{path}");
    }
    assert_eq!(env.json("GET", "/v1/jobs").await.1["jobs"].as_array().map(Vec::len), Some(0));
}

#[tokio::test]
async fn failure_files_join_wherever_a_chunk_ends() {
    let mut env = TestEnv::new(Settings { drop_empty_columns: false, ..instant() }).await;
    env.config = "limits = { upload_bytes = 700000, calls = 5000, window = \"1s\" }\n".into();
    env.start().await;
    // Every row fails, and nearly all of each is within quotes.
    let mut file = String::from("email,notes\n");
    for row in 0..1_500 {
        writeln!(file, "{row}@example.com,\"!fail:{}\n, \"\"quoted\"\"\"", "long ".repeat(120))
            .expect("writing to text");
    }
    let id = env.add("target=leads&format=csv", file.clone()).await.id;
    let job = env.ended(id).await;
    assert!(job.batches.len() > 1 && job.batches[0].failures_bytes > Some(300_000), "{job:?}");
    assert_eq!((job.state, job.rows.failed), (JobState::Complete, Some(1_500)));
    let failures = env.get(&format!("/v1/jobs/{id}/failures")).await;
    assert_eq!(failures.matches("@example.com").count(), 1_500);
    assert_eq!(failures.matches("Import Failure Reason").count(), 1);
    let (status, again) = env.json("POST", &format!("/v1/jobs/{id}/retry?rows=failed")).await;
    assert_eq!((status, &again["rows"]["total"]), (201, &1_500.into()), "{again}");
}

#[tokio::test]
async fn invalid_files_are_refused_unless_unchecked() {
    let env = TestEnv::with_daemon(quick()).await;
    for (file, code, words) in [
        ("ana@example.com,Ana\nbob@example.com,Bob\n", "no-header", "column 1 of line 1"),
        ("email\u{200b},name\nana@example.com,Ana\n", "bad-name", "U+200B"),
        ("email,Import Failure Reason\nana@example.com,x\n", "reason-column", "--with"),
        ("email,name\nana@example.com,Ana\n\u{feff}email,name\nbob@example.com,Bob\n", "mark-inside", "line 3"),
        ("email,name\nana@example.com,Ana\nemail,name\nbob@example.com,Bob\n", "header-again", "line 3"),
        ("email,name\nana@example.com,Ana\n,\n,\n", "empty-rows", "2 rows"),
        ("email,name,x\nana@example.com,Ana\r,x\n", "cr-in-field", "line 2"),
        ("\u{feff}\u{feff}email,name\nana@example.com,Ana\n", "second-mark", "two byte-order marks"),
    ] {
        let path = "/v1/jobs?target=leads&format=csv";
        let (status, body) = env.request("POST", path, file).await;
        let problem: Value = serde_json::from_slice(&body).expect("JSON");
        assert_eq!((status, &problem["type"]), (422, &format!("urn:marqueue:problem:{code}").into()), "{problem}");
        let detail = problem["detail"].as_str().expect("text");
        assert!(detail.contains(words) && !detail.contains("Ana") && !detail.contains("ana@"), "{detail}");
        let (status, _) = env.request("POST", &format!("{path}&check=false"), file).await;
        assert_eq!(status, 201, "{code}");
    }
    assert_eq!(env.json("GET", "/v1/jobs").await.1["jobs"].as_array().map(Vec::len), Some(8));
}

#[tokio::test]
async fn warnings_are_in_the_answer_and_the_history() {
    let env = TestEnv::with_daemon(quick()).await;
    // One within a piece, one of several, whose job is finished on another path.
    for rows in [1, 20_000] {
        let file = format!("name,email\n{}x,\n", "Ana Maria Lopez,ana@example.com\n".repeat(rows));
        let (status, body) = env.request("POST", "/v1/jobs?target=leads&format=csv", file.clone()).await;
        let job: Value = serde_json::from_slice(&body).expect("JSON");
        let warning = &job["warnings"][0];
        assert_eq!(
            (status, &warning["code"], &warning["rows"]),
            (201, &"empty-lookup-value".into(), &1.into()),
            "{job}"
        );
        assert_eq!(warning["line"], rows + 2);
        let (_, history) = env.json("GET", &format!("/v1/jobs/{}/history", job["id"])).await;
        let events: Vec<&Value> = history["history"].as_array().expect("a list").iter().collect();
        let warned = events.iter().position(|entry| entry["event"] == "warned").expect("a line of the history");
        assert_eq!(events[warned]["message"], warning["detail"]);
        assert_eq!(events[warned - 1]["event"], "received");
        // Unchecked, there is no warning about it.
        let (_, body) = env.request("POST", "/v1/jobs?target=leads&format=csv&check=false", file).await;
        let job: Value = serde_json::from_slice(&body).expect("JSON");
        assert_eq!(job["warnings"], serde_json::json!([]));
    }
}

#[tokio::test]
async fn messages_show_no_value_of_a_missing_header() {
    let mut env = TestEnv::with_daemon(quick()).await;
    // The mark makes the simulator refuse the first name that it reads.
    let file = "\u{feff}Ana Maria,212-555-0101,x@example.com\nBob,212-555-0102,y@example.com\n";
    let id = env.add("target=custom-object&name=car_c&format=csv&check=false", file).await.id;
    let job = env.ended(id).await;
    assert_eq!(job.state, JobState::Failed);
    let error = job.error.clone().expect("it says why");
    assert!(error.contains("1006") && error.contains("not found"), "{error}");
    let output =
        [env.get(&format!("/v1/jobs/{id}")).await, env.get(&format!("/v1/jobs/{id}/history")).await, env.log()];
    assert!(output.iter().all(|output| !output.contains("Ana Maria")), "{output:?}");
    // The message about a header names the column.
    let id = env.add("target=custom-object&name=car_c&format=csv&check=false", "\u{feff}vin,color\n1,x\n").await.id;
    let error = env.ended(id).await.error.expect("it says why");
    assert!(error.contains("'vin' not found"), "{error}");
}
