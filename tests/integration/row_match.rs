//! Row matching: lines, results and reasons of rows that Marketo reported. With the real binary and the simulator.

use std::time::Duration;

use marqueue::api::dto::JobDto;
use marqueue::domain::{Format, JobState};
use marqueue::simulator::{ReportLineEnd, ReportOrder, ReportQuotes, ReportShape, Settings};
use serde_json::{Value, json};
use sqlx::{ConnectOptions, Connection};

use crate::cli_env::CliEnv;
use crate::support::{TestEnv, quick};

/// Imports that take no time at all.
fn instant() -> Settings {
    Settings { import_base: Duration::from_millis(1), import_per_row: Duration::ZERO, ..quick() }
}

/// A file of several batches. Notes hold line ends, so that lines are not rows; the rows that fail stand in all
/// batches.
fn people() -> String {
    let mut file = "email,name,note\n".to_owned();
    for row in 1..=200 {
        let name = match row % 10 {
            3 => "!fail:Value 'x' is wrong",
            6 => "\"!fail:Not, this\"",
            8 => "!warn:Odd",
            _ => "Ann",
        };
        let note = if row % 4 == 0 { "\"two\nlines\"" } else { "one" };
        file += &format!("p{row}@example.com,{name},{note}\n");
    }
    file
}

/// The line of a person in the file, the header being line 1.
fn line_of(file: &str, email: &str) -> u64 {
    let at = file.find(&format!("\n{email},")).expect("the person is in the file") + 1;
    file[..at].matches('\n').count() as u64 + 1
}

async fn complete(env: &mut TestEnv, query: &str, file: &str) -> JobDto {
    let id = env.add(query, file.to_owned()).await.id;
    let job = env.ended(id).await;
    assert_eq!(job.state, JobState::Complete, "{job:?}");
    job
}

/// A daemon whose uploads take few rows.
async fn small_uploads(settings: Settings) -> TestEnv {
    let mut env = TestEnv::new(settings).await;
    env.config = "limits = { upload_bytes = 1000, calls = 5000, window = \"1s\" }\n".into();
    env.start().await;
    env
}

fn records(text: &str) -> Vec<csv::StringRecord> {
    let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(text.as_bytes());
    reader.records().map(|record| record.expect("a record")).collect()
}

/// Asserts that the failures have the lines of the file.
async fn assert_lines(env: &TestEnv, job: &JobDto, file: &str) {
    let failures = records(&env.get(&format!("/v1/jobs/{}/failures?lines=true", job.id)).await);
    assert_eq!(failures[0].get(0), Some("Line"));
    assert_eq!(failures[0].len(), 5, "{:?}", failures[0]);
    assert_eq!(failures.len(), 41);
    for row in &failures[1..] {
        let line = line_of(file, row.get(1).expect("an address"));
        assert_eq!(row.get(0), Some(&line.to_string()[..]), "{row:?}");
    }
}

#[tokio::test]
async fn reported_rows_have_their_lines_in_all_batches() {
    let mut env = small_uploads(instant()).await;
    let file = people();
    let job = complete(&mut env, "target=leads&format=csv", &file).await;
    assert!(job.batches.len() > 2, "{}", job.batches.len());
    assert_lines(&env, &job, &file).await;
    // Without the column the file is as it was.
    let path = format!("/v1/jobs/{}/failures", job.id);
    let plain = env.get(&path).await;
    assert!(plain.starts_with("email,name,note,Import Failure Reason\np3@example.com,"), "{plain}");
    let without_reason = env.get(&format!("{path}?lines=true&reason=false&part=1")).await;
    assert!(without_reason.starts_with("Line,email,name,note\n4,p3@example.com,"), "{without_reason}");

    let rows: Vec<Value> = env
        .get(&format!("/v1/jobs/{}/warnings?format=ndjson", job.id))
        .await
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    assert_eq!(rows.len(), 20);
    assert_eq!(
        rows[0],
        json!({
            "line": line_of(&file, "p8@example.com"),
            "part": 1,
            "reason": "Odd",
            "row": {"email": "p8@example.com", "name": "!warn:Odd", "note": "two\nlines"},
        })
    );
    assert_eq!(rows[19]["part"], job.batches.len());
}

#[tokio::test]
async fn a_batch_that_was_split_keeps_its_lines() {
    let mut env = TestEnv::with_daemon(Settings { max_body: 900, ..instant() }).await;
    let file = people();
    let job = complete(&mut env, "target=leads&format=csv", &file).await;
    assert!(job.batches.len() > 2, "{}", job.batches.len());
    assert_lines(&env, &job, &file).await;
}

#[tokio::test]
async fn lines_are_found_for_batches_of_earlier_versions() {
    let mut env = small_uploads(instant()).await;
    let file = people();
    let job = complete(&mut env, "target=leads&format=csv", &file).await;
    assert!(env.terminate().await.success());
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(env.database());
    let mut connection = options.connect().await.expect("the database opens");
    let stored: i64 =
        sqlx::query_scalar("SELECT count(*) FROM row_match").fetch_one(&mut connection).await.expect("a count");
    let reports = job.batches.iter().flat_map(|batch| [batch.failures_bytes, batch.warnings_bytes]).flatten();
    assert_eq!(stored as usize, reports.count());
    for sql in ["DELETE FROM row_match", "UPDATE batch SET first_line = NULL"] {
        sqlx::query(sql).execute(&mut connection).await.expect("it is changed");
    }
    connection.close().await.expect("it closes");
    env.start().await;
    assert_lines(&env, &job, &file).await;
}

#[tokio::test]
async fn lines_are_kept_after_the_submitted_file_is_erased() {
    let mut env = TestEnv::new(instant()).await;
    env.config =
        "limits = { upload_bytes = 1000, calls = 5000, window = \"1s\" }\n[retention]\nfiles = \"1ms\"\n".into();
    env.start().await;
    let file = people();
    let job = complete(&mut env, "target=leads&format=csv", &file).await;
    env.until("the file is erased", async |env| {
        env.json("POST", "/v1/retention").await;
        env.job(job.id).await.content_erased_at
    })
    .await;
    assert_lines(&env, &job, &file).await;
    let (status, _) = env.json("GET", &format!("/v1/jobs/{}/results", job.id)).await;
    assert_eq!(status, 410);
}

#[tokio::test]
async fn results_are_the_file_with_the_result_of_each_row() {
    let mut env = small_uploads(instant()).await;
    let file = people();
    let job = complete(&mut env, "target=leads&filename=people.csv", &file).await;
    let results = env.get(&format!("/v1/jobs/{}/results", job.id)).await;
    let (found, sent) = (records(&results), records(&file));
    assert_eq!(found.len(), sent.len());
    for (row, (found, sent)) in found.iter().zip(&sent).enumerate() {
        let added = match (row, row % 10) {
            (0, _) => ["Marketo Result", "Marketo Reason"],
            (_, 3) => ["failed", "Value 'x' is wrong"],
            (_, 6) => ["failed", "Not, this"],
            (_, 8) => ["imported with warning", "Odd"],
            _ => ["imported", ""],
        };
        assert_eq!(found.iter().collect::<Vec<_>>(), sent.iter().chain(added).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn rows_without_reports_are_unknown_or_not_sent() {
    let mut env = small_uploads(instant()).await;
    env.json("POST", "/v1/instances/default/pause").await;
    let file = "\u{feff}email;name\r\na@example.com;A\r\nb@example.com;B\r\n\r\n";
    let id = env.add("target=leads&filename=people.ssv", file).await.id;
    env.json("POST", &format!("/v1/jobs/{id}/cancel")).await;
    assert_eq!(
        env.get(&format!("/v1/jobs/{id}/results")).await,
        "\u{feff}email;name;Marketo Result;Marketo Reason\r\na@example.com;A;not sent;\r\n\
         b@example.com;B;not sent;\r\n\r\n"
    );
    env.json("POST", "/v1/instances/default/resume").await;
    // The import failed as a whole: how many of its rows Marketo had imported by then is unknown.
    let id = env.add("target=leads&format=csv", "email,name\na@example.com,!batch-failed:Broken\n").await.id;
    assert_eq!(env.ended(id).await.state, JobState::Failed);
    let results = env.get(&format!("/v1/jobs/{id}/results")).await;
    assert!(results.ends_with("\na@example.com,!batch-failed:Broken,unknown,\n"), "{results}");
    // The failure file lacks the column `email`, which is empty in all its rows. Two rows fit, and one of them failed.
    let file = "email,name\n,Ann\na@example.com,Ann\nb@example.com,Bob\n";
    let id = env.add("target=leads&format=csv&check=false", file).await.id;
    assert_eq!(env.ended(id).await.rows.failed, Some(1));
    assert_eq!(
        env.get(&format!("/v1/jobs/{id}/results")).await,
        "email,name,Marketo Result,Marketo Reason\n,Ann,unknown,\na@example.com,Ann,unknown,\n\
         b@example.com,Bob,imported,\n"
    );
    assert_eq!(
        env.get(&format!("/v1/jobs/{id}/failures?lines=true")).await,
        "Line,name,Import Failure Reason\n,Ann,Value for lookup field 'email' not found\n"
    );
}

#[tokio::test]
async fn results_without_counts_follow_the_list_of_unknown_rows() {
    let mut env = TestEnv::new(instant()).await;
    env.start().await;
    let file = "email,name\na@example.com,A\nb@example.com,!fail:No\nc@example.com,C\nd@example.com,!warn:Odd\n";
    let job = complete(&mut env, "target=leads&format=csv", file).await;
    assert!(env.terminate().await.success());
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(env.database());
    let mut connection = options.connect().await.expect("the database opens");
    // As for a job of which an equal row was in the same import: row 2 may have failed.
    let sql = "UPDATE batch SET processed = NULL, failed = NULL, warned = NULL, unknown_rows = x'0102'";
    sqlx::query(sql).execute(&mut connection).await.expect("it is changed");
    connection.close().await.expect("it closes");
    env.start().await;
    assert_eq!(
        env.get(&format!("/v1/jobs/{}/results", job.id)).await,
        "email,name,Marketo Result,Marketo Reason\na@example.com,A,imported,\nb@example.com,!fail:No,failed,No\n\
         c@example.com,C,unknown,\nd@example.com,!warn:Odd,imported with warning,Odd\n"
    );
    let (status, again) = env.json("POST", &format!("/v1/jobs/{}/retry?rows=failed", job.id)).await;
    assert_eq!((status, &again["rows_without_line"]), (201, &json!(0)), "{again}");
    let new = env.get(&format!("/v1/jobs/{}/file", again["id"])).await;
    assert_eq!(new, "email,name\nb@example.com,!fail:No\n", "an unknown row is not sent again");
}

#[tokio::test]
async fn reasons_are_counted_with_their_first_lines() {
    let mut env = small_uploads(instant()).await;
    let file = "email,name\na@example.com,!fail:Value 'x' is wrong\nb@example.com,\"!fail:No\"\n\
                c@example.com,!fail:Value 'y' is wrong\nd@example.com,!warn:Odd\n";
    let job = complete(&mut env, "target=leads&format=csv", file).await;
    let (status, reasons) = env.json("GET", &format!("/v1/jobs/{}/reasons", job.id)).await;
    assert_eq!(status, 200);
    assert_eq!(
        reasons,
        json!({
            "failures": [
                {"reason": "Value '…' is wrong", "rows": 2, "first_line": 2},
                {"reason": "No", "rows": 1, "first_line": 3},
            ],
            "warnings": [{"reason": "Odd", "rows": 1, "first_line": 5}],
        })
    );
    let none = complete(&mut env, "target=leads&format=csv", "email\na@example.com\n").await;
    let (status, reasons) = env.json("GET", &format!("/v1/jobs/{}/reasons", none.id)).await;
    assert_eq!((status, reasons), (200, json!({"failures": [], "warnings": []})));
    env.json("POST", &format!("/v1/jobs/{}/erase", job.id)).await;
    for path in ["reasons", "results", "failures?lines=true", "failures?format=ndjson"] {
        let (status, _) = env.json("GET", &format!("/v1/jobs/{}/{path}", job.id)).await;
        assert_eq!(status, 410, "{path}");
    }
}

#[tokio::test]
async fn failed_rows_without_a_line_are_left_out_and_named() {
    let mut env = small_uploads(instant()).await;
    // The failure file lacks the column `email`: of the first two rows one failed, and the third is recognised by its
    // name.
    let file = "email,name\r\n,Ann\r\na@example.com,Ann\r\n,\"Bob\"\r\n";
    let id = complete(&mut env, "target=leads&format=csv&check=false", file).await.id;
    let (status, again) = env.json("POST", &format!("/v1/jobs/{id}/retry?rows=failed")).await;
    assert_eq!((status, &again["rows_without_line"], &again["rows"]["total"]), (201, &json!(1), &json!(1)), "{again}");
    assert_eq!(again["without_line"], json!([{"part": 1, "report_line": 2}]));
    let new = env.get(&format!("/v1/jobs/{}/file", again["id"])).await;
    assert_eq!(new, "email,name\r\n,\"Bob\"\r\n", "as it was sent");

    let id =
        complete(&mut env, "target=leads&format=csv&check=false", "email,name\n,Ann\na@example.com,Ann\n").await.id;
    let (status, problem) = env.json("POST", &format!("/v1/jobs/{id}/retry?rows=failed")).await;
    assert_eq!((status, &problem["type"]), (409, &json!("urn:marqueue:problem:rows-not-recoverable")), "{problem}");
    assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("none of the 1 rows")), "{problem}");
}

/// Rows that fail each with a reason that names its line, and rows of which there are two.
fn told_by_reasons(delimiter: char) -> String {
    let mut file = ["email", "name", "city", "note"].join(&delimiter.to_string()) + "\n";
    for row in 0..60 {
        let line = file.matches('\n').count() + 1;
        let email = if row % 5 == 0 { String::new() } else { format!("p{row}@example.com") };
        let name = if row % 3 == 0 { format!("!fail:line {line}") } else { "Ann".to_owned() };
        let city = ["", "Lima", "\"Paris, \"\"Texas\"\";\t\nUSA\""][row % 3 * usize::from(row % 2 == 0)];
        let note = ["x", "", "\"y \"\"z\"\"\""][row % 7 % 3];
        file += &([&email, &name, city, note].join(&delimiter.to_string()) + "\n");
    }
    file
}

/// How many rows of failure files have a line, and how many have none.
#[derive(Debug, Default, PartialEq, Eq)]
struct Lines {
    known: usize,
    unknown: usize,
}

/// Sends a file to a Marketo with reports of this shape, and asks for all that comes of the match.
async fn lines_with(settings: Settings, format: Format) -> Lines {
    let mut env = small_uploads(settings).await;
    let file = told_by_reasons(char::from(format.delimiter()));
    let job = complete(&mut env, &format!("target=leads&check=false&format={format}"), &file).await;
    let lines = assert_lines_of_reasons(&env, &job, &file).await;
    assert_reports_lose_no_byte(&env, &job).await;
    assert_sent_again(&env, &job, &file, &lines).await;
    let results = env.get(&format!("/v1/jobs/{}/results", job.id)).await;
    let count = |result: &str| {
        let delimiter = char::from(format.delimiter());
        results.matches(&format!("{delimiter}{result}{delimiter}")).count()
    };
    assert_eq!(count("failed"), lines.known, "{results}");
    assert_eq!(count("unknown") == 0, lines.unknown == 0, "{results}");
    lines
}

/// A line that is known has to be the one of the reason.
async fn assert_lines_of_reasons(env: &TestEnv, job: &JobDto, file: &str) -> Lines {
    let mut lines = Lines::default();
    for row in env.get(&format!("/v1/jobs/{}/failures?format=ndjson", job.id)).await.lines() {
        let row: Value = serde_json::from_str(row).expect("JSON");
        let Some(line) = row["line"].as_u64() else {
            lines.unknown += 1;
            continue;
        };
        lines.known += 1;
        let reason = row["reason"].as_str().expect("a malformed row has no line");
        let text = file.lines().nth(line as usize - 1).expect("a line of the file");
        // A row without an e-mail address may fail for that.
        let lacks_email = reason.contains("lookup field") && text.starts_with(['\t', ',', ';']);
        assert!(lacks_email || reason == format!("line {line}"), "{row} {text}");
    }
    lines
}

/// The files are as Marketo gave them, and with lines the rest of each row is the same.
async fn assert_reports_lose_no_byte(env: &TestEnv, job: &JobDto) {
    for batch in job.batches.iter().filter(|batch| batch.failures_bytes.is_some()) {
        let path = format!("/v1/jobs/{}/failures?part={}", job.id, batch.part);
        let plain = env.get(&path).await;
        assert_eq!(Some(plain.len() as u64), batch.failures_bytes);
        let with_lines = env.get(&format!("{path}&lines=true")).await;
        let mut rest = with_lines.as_str();
        for piece in plain.split_inclusive([',', ';', '\t', '\r', '\n', '"']) {
            let at = rest.find(piece).unwrap_or_else(|| panic!("{piece:?} is missing in {with_lines}"));
            rest = &rest[at + piece.len()..];
        }
    }
}

/// What is sent again are the rows whose lines are known, byte for byte and in their order.
async fn assert_sent_again(env: &TestEnv, job: &JobDto, file: &str, lines: &Lines) {
    let (status, again) = env.json("POST", &format!("/v1/jobs/{}/retry?rows=failed", job.id)).await;
    if lines.known == 0 {
        assert_eq!(status, 409, "{again}");
        return;
    }
    assert_eq!((status, &again["rows"]["total"]), (201, &json!(lines.known)), "{again}");
    assert_eq!(again["rows_without_line"], lines.unknown, "{again}");
    let new = env.get(&format!("/v1/jobs/{}/file", again["id"])).await;
    let (header, mut rows) = new.split_once('\n').expect("a header");
    assert!(file.starts_with(header));
    let mut sent = file;
    while let Some((row, rest)) = rows.split_once('\n') {
        let at = sent.find(&format!("\n{row}\n")).unwrap_or_else(|| panic!("{row:?} was not sent"));
        (sent, rows) = (&sent[at + row.len() + 1..], rest);
    }
}

#[tokio::test]
async fn rows_of_reports_of_any_order_and_quoting_are_found() {
    for (shape, format) in [
        (ReportShape::default(), Format::Csv),
        (ReportShape { order: ReportOrder::Reversed, ..ReportShape::default() }, Format::Tsv),
        (ReportShape { quotes: ReportQuotes::Everywhere, ..ReportShape::default() }, Format::Ssv),
        (ReportShape { line_end: ReportLineEnd::CrLf, ..ReportShape::default() }, Format::Csv),
        (ReportShape { line_end: ReportLineEnd::Cr, ..ReportShape::default() }, Format::Csv),
    ] {
        let settings = Settings { report_shape: shape.clone(), ..instant() };
        assert_eq!(lines_with(settings, format).await, Lines { known: 28, unknown: 0 }, "{shape:?}");
    }
    // The delimiter is that of the header.
    let settings = Settings { reports_in_csv: true, ..instant() };
    assert_eq!(lines_with(settings, Format::Tsv).await, Lines { known: 28, unknown: 0 });
}

#[tokio::test]
async fn rows_of_odd_reports_have_the_right_line_or_none() {
    let left_out = |columns: &[&str]| ReportShape {
        left_out: columns.iter().map(|&column| column.to_owned()).collect(),
        ..ReportShape::default()
    };
    let mut found = Vec::new();
    for shape in [
        left_out(&["city", "note"]),
        left_out(&["email"]),
        left_out(&["name", "email"]),
        left_out(&["email", "name", "city", "note"]),
        ReportShape { quotes: ReportQuotes::Backslashes, ..ReportShape::default() },
        ReportShape { appended: b"1,2\n\"no end".to_vec(), ..ReportShape::default() },
    ] {
        let Lines { known, unknown } = lines_with(Settings { report_shape: shape, ..instant() }, Format::Csv).await;
        found.push([known, unknown]);
    }
    // Rows that nothing tells apart any more have no line. Quotes with backslashes let some rows run together.
    assert_eq!(found, [[21, 7], [22, 6], [2, 26], [0, 28], [18, 12], [28, 6]]);
}

#[test]
fn commands_show_lines_results_and_reasons() {
    let cli = CliEnv::new();
    cli.file("people.csv", "email,note\na@example.com,x\nb@example.com,!fail:Bad\nc@example.com,!warn:Odd\n");
    cli.run("add leads people.csv --wait").expect(4);
    assert_eq!(
        cli.run("failures 1 --lines").expect(0).out,
        "Line,email,note,Import Failure Reason\n3,b@example.com,!fail:Bad,Bad\n"
    );
    assert_eq!(cli.run("warnings 1 --lines --no-reason").expect(0).out, "Line,email,note\n4,c@example.com,!warn:Odd\n");
    let results = "email,note,Marketo Result,Marketo Reason\na@example.com,x,imported,\n\
                   b@example.com,!fail:Bad,failed,Bad\nc@example.com,!warn:Odd,imported with warning,Odd\n";
    assert_eq!(cli.run("results 1").expect(0).out, results);
    let written = cli.run("results 1 -o results.csv --json").expect(0).json();
    assert_eq!(written, json!({"file": "results.csv", "bytes": results.len()}));
    let reasons = json!({
        "failures": [{"reason": "Bad", "rows": 1, "first_line": 3}],
        "warnings": [{"reason": "Odd", "rows": 1, "first_line": 4}],
    });
    assert_eq!(cli.run("reasons 1 --json").expect(0).json(), reasons);
    assert_eq!(cli.run("show 1 --json").expect(0).json()["reasons"], reasons);
    let tables = "FAILED  LINE  REASON\n     1     3  Bad\n\nWARNED  LINE  REASON\n     1     4  Odd\n";
    assert_eq!(cli.run("reasons 1").expect(0).out, tables);
    assert!(cli.run("show 1").expect(0).out.contains(tables));
    // The corrected file may have the lines.
    cli.run("failures 1 --lines -o failed.csv").expect(0);
    cli.run("retry 1 --with failed.csv").expect(0);
    assert_eq!(cli.run("file 2").expect(0).out, "email,note\nb@example.com,!fail:Bad\n");

    cli.file("fine.csv", "email\na@example.com\n");
    cli.run("add leads fine.csv --wait").expect(0);
    let ran = cli.run("reasons 3").expect(0);
    assert_eq!((ran.out.as_str(), ran.err.as_str()), ("", "job 3 has no rows with reasons\n"));
    assert_eq!(cli.run("show 3 --json").expect(0).json()["reasons"], Value::Null);
    cli.run("erase 1").expect(0);
    for words in ["results 1", "reasons 1", "failures 1 --lines"] {
        assert!(cli.run(words).expect(1).err.contains("erased"), "{words}");
    }
    assert_eq!(cli.run("show 1 --json").expect(0).json()["reasons"], Value::Null);
}
