//! Tests of the JSON texts: a program that reads them must not notice a change of the database.

use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::*;
use crate::clock::from_ms;
use crate::domain::batch_rules::BatchRules;
use crate::domain::instance::{Pause, PauseKind};
use crate::domain::row_counts::RowCounts;
use crate::domain::{BatchState, Format, JobId, JobState, Source, Target};
use crate::retention::{EraseReport, RetentionRun};
use crate::scheduler::estimate::Estimate;
use crate::scheduler::explain::{Explanation, WaitReason};
use crate::store::{Batch, HistoryEntry, Job, RetentionCandidates};

const HOUR: i64 = 3_600_000;

/// Asserts the text of a body, and that reading it gives the same body.
fn assert_json<T: Serialize + DeserializeOwned>(body: &T, json: &str) {
    assert_eq!(serde_json::to_string(body).unwrap(), json);
    let read: T = serde_json::from_str(json).unwrap();
    assert_eq!(serde_json::to_string(&read).unwrap(), json);
}

fn pending_job() -> Job {
    Job {
        id: JobId(12),
        state: JobState::Pending,
        target: Target::Leads { lookup_field: None, list_id: None, partition: None },
        instance: "default".into(),
        filename: "leads.csv".into(),
        format: Format::Csv,
        priority: 0,
        group: None,
        bytes: 120,
        rows: RowCounts::uncounted(3),
        batches: vec![Batch::new(1, 3, 6, 120)],
        retry_of: None,
        not_before: None,
        batch_rules: BatchRules::default(),
        packing: None,
        source: None,
        created_at: from_ms(0),
        started_at: None,
        finished_at: None,
        content_erased_at: None,
        reports_erased_at: None,
        error: None,
        header: (0, 6),
    }
}

const PENDING_JOB: &str = concat!(
    r#"{"id":12,"state":"pending","target":{"type":"leads"},"instance":"default","filename":"leads.csv","format":"csv","#,
    r#""priority":0,"group":null,"bytes":120,"#,
    r#""rows":{"total":3,"processed":0,"failed":0,"warned":0,"unaccounted":0},"#,
    r#""batches":[{"part":1,"state":"pending","marketo_batch_id":null,"attempts":0,"message":null,"#,
    r#""rows":{"total":3,"processed":0,"failed":0,"warned":0,"unaccounted":0},"byte_from":6,"byte_to":120,"#,
    r#""not_before":null,"uploaded_at":null,"accepted_at":null,"importing_at":null,"polled_at":null,"ended_at":null,"#,
    r#""failures_bytes":null,"warnings_bytes":null,"overdue_at":null,"id_given_twice":false,"shared_with":0,"given_up":false}],"#,
    r#""retry_of":null,"source":null,"not_before":null,"#,
    r#""in_order":false,"canary":null,"max_failed_percent":null,"pack":false,"#,
    r#""created_at":"1970-01-01T00:00:00Z","started_at":null,"finished_at":null,"#,
    r#""content_erased_at":null,"reports_erased_at":null,"error":null,"waiting":null,"estimated_start":null,"estimated_end":null}"#
);

fn failed_job() -> Job {
    let rows = RowCounts { total: 3, processed: None, failed: Some(1), warned: Some(2), unaccounted: None };
    let at = |hour: i64| Some(from_ms(hour * HOUR));
    let batch = Batch {
        state: BatchState::Failed,
        marketo_batch_id: Some("3404".into()),
        attempts: 5,
        message: Some("1003: empty file".into()),
        rows,
        not_before: at(1),
        uploaded_at: at(2),
        accepted_at: at(3),
        importing_at: at(4),
        polled_at: at(5),
        ended_at: at(6),
        failures_bytes: Some(7),
        warnings_bytes: Some(8),
        overdue_at: at(7),
        id_given_twice: true,
        attempts_exhausted: true,
        waited: Duration::from_secs(9),
        ..Batch::new(1, 3, 6, 120)
    };
    Job {
        state: JobState::Failed,
        target: Target::ProgramMembers { program_id: 1044, status: "Member".into() },
        group: Some("nightly".into()),
        priority: -1,
        rows,
        batches: vec![batch],
        retry_of: Some(JobId(11)),
        source: Some(Source::Client { client_id: "crm".into() }),
        not_before: at(12),
        batch_rules: BatchRules { in_order: true, canary: Some(100), max_failed_percent: Some(5) },
        packing: None,
        started_at: at(8),
        finished_at: at(9),
        content_erased_at: at(10),
        reports_erased_at: at(11),
        error: Some("its attempts are used up".into()),
        ..pending_job()
    }
}

const FAILED_JOB: &str = concat!(
    r#"{"id":12,"state":"failed","target":{"type":"program-members","program_id":1044,"status":"Member"},"#,
    r#""instance":"default","filename":"leads.csv","format":"csv","priority":-1,"group":"nightly","bytes":120,"#,
    r#""rows":{"total":3,"processed":null,"failed":1,"warned":2,"unaccounted":null},"#,
    r#""batches":[{"part":1,"state":"failed","marketo_batch_id":3404,"attempts":5,"message":"1003: empty file","#,
    r#""rows":{"total":3,"processed":null,"failed":1,"warned":2,"unaccounted":null},"byte_from":6,"byte_to":120,"#,
    r#""not_before":"1970-01-01T01:00:00Z","uploaded_at":"1970-01-01T02:00:00Z","accepted_at":"1970-01-01T03:00:00Z","#,
    r#""importing_at":"1970-01-01T04:00:00Z","polled_at":"1970-01-01T05:00:00Z","ended_at":"1970-01-01T06:00:00Z","#,
    r#""failures_bytes":7,"warnings_bytes":8,"overdue_at":"1970-01-01T07:00:00Z","id_given_twice":true,"shared_with":0,"given_up":true}],"#,
    r#""retry_of":11,"source":{"type":"client","client_id":"crm"},"not_before":"1970-01-01T12:00:00Z","#,
    r#""in_order":true,"canary":100,"max_failed_percent":5,"pack":false,"#,
    r#""created_at":"1970-01-01T00:00:00Z","#,
    r#""started_at":"1970-01-01T08:00:00Z","finished_at":"1970-01-01T09:00:00Z","#,
    r#""content_erased_at":"1970-01-01T10:00:00Z","reports_erased_at":"1970-01-01T11:00:00Z","#,
    r#""error":"its attempts are used up","waiting":null,"estimated_start":null,"estimated_end":null}"#
);

#[test]
fn a_job_has_each_field_and_null_for_what_is_missing() {
    assert_json(&JobDto::from(pending_job()), PENDING_JOB);
    assert_json(&JobDto::from(failed_job()), FAILED_JOB);
}

#[test]
fn a_job_of_an_older_daemon_is_read() {
    let mut json: serde_json::Value = serde_json::from_str(PENDING_JOB).unwrap();
    json.as_object_mut().unwrap().remove("source");
    for added_later in ["marketo_batch_id", "overdue_at", "id_given_twice", "given_up"] {
        json["batches"][0].as_object_mut().unwrap().remove(added_later);
    }
    assert_eq!(serde_json::from_value::<JobDto>(json).unwrap(), JobDto::from(pending_job()));
}

#[test]
fn a_marketo_id_that_is_no_number_is_text() {
    let mut job = JobDto::from(pending_job());
    job.batches[0].marketo_batch_id = Some("34040000000000000000000".into());
    let json = serde_json::to_value(&job).unwrap();
    assert_eq!(json["batches"][0]["marketo_batch_id"], "34040000000000000000000");
}

#[test]
fn a_submitted_job_has_its_warnings_beside_the_jobs_fields() {
    let warning = Warning { code: "empty-lookup-value".into(), detail: "no value".into(), line: Some(3), rows: None };
    let body = SubmittedJob { job: pending_job().into(), warnings: vec![warning] };
    let warnings = r#","warnings":[{"code":"empty-lookup-value","detail":"no value","line":3,"rows":null}]}"#;
    assert_json(&body, &format!("{}{warnings}", PENDING_JOB.strip_suffix('}').unwrap()));
}

#[test]
fn a_page_has_the_number_of_the_next_one_or_null() {
    let page = |next_before| JobsPage { jobs: vec![pending_job().into()], next_before };
    assert_json(&page(Some(JobId(12))), &format!(r#"{{"jobs":[{PENDING_JOB}],"next_before":12}}"#));
    assert_json(&page(None), &format!(r#"{{"jobs":[{PENDING_JOB}],"next_before":null}}"#));
}

#[test]
fn an_event_has_its_type_and_the_job() {
    let job = Box::new(JobDto::from(pending_job()));
    let at = Some(from_ms(1_785_578_400_500));
    let with_job = |rest: &str| format!(r#"{{"type":"job","job":{PENDING_JOB},{rest}}}"#);
    assert_json(&EventData::Job { job: job.clone(), part: None, at: None }, &with_job(r#""part":null,"at":null"#));
    assert_json(&EventData::Job { job, part: Some(1), at }, &with_job(r#""part":1,"at":"2026-08-01T10:00:00.5Z""#));
    let idle = EventData::Instance { name: "eu".into(), pause: None, quiet_until: None, at };
    let json = r#"{"type":"instance","name":"eu","pause":null,"quiet_until":null,"at":"2026-08-01T10:00:00.5Z"}"#;
    assert_json(&idle, json);
    assert_json(&EventData::Missed { count: Some(3) }, r#"{"type":"missed","count":3}"#);
}

#[test]
fn an_alert_has_its_kind_and_all_its_fields() {
    let at = from_ms(1_785_578_400_500);
    let pause =
        Pause { kind: PauseKind::Quota, reason: "607: Quota".into(), at, until: Some(from_ms(1_785_590_000_000)) };
    assert_eq!(
        serde_json::to_string(&InstancePausedAlert::new("eu".into(), pause)).unwrap(),
        r#"{"event":"instance-paused","instance":"eu","pause":{"kind":"quota","reason":"607: Quota","at":"2026-08-01T10:00:00.5Z","until":"2026-08-01T13:13:20Z"}}"#
    );
    let job = JobDto::from(pending_job());
    let held = BatchHeldAlert { event: BatchHeldAlert::EVENT, job, part: 2, reason: "cut".into(), at };
    assert_eq!(
        serde_json::to_string(&held).unwrap(),
        format!(
            r#"{{"event":"batch-held","job":{PENDING_JOB},"part":2,"reason":"cut","at":"2026-08-01T10:00:00.5Z"}}"#
        )
    );
    assert_eq!(
        serde_json::to_string(&DiskFullAlert::new("/d/q.db".into(), at)).unwrap(),
        r#"{"event":"disk-full","database":"/d/q.db","at":"2026-08-01T10:00:00.5Z"}"#
    );
}

#[test]
fn a_notification_says_whether_the_content_waits() {
    let reason = ReasonDto { reason: Some("Value not found".into()), rows: 2, first_line: Some(3) };
    let reasons = ReasonsDto { failures: vec![reason], warnings: Vec::new() };
    let text = |job: Job| serde_json::to_string(&JobEndedNotification::new(job, reasons.clone())).unwrap();
    let given = r#""reasons":{"failures":[{"reason":"Value not found","rows":2,"first_line":3}],"warnings":[]}}"#;
    let expected = format!(r#"{{"event":"job-ended","job":{FAILED_JOB},"content_waits":false,{given}"#);
    assert_eq!(text(failed_job()), expected);
    let kept = Job { content_erased_at: None, ..failed_job() };
    assert!(text(kept).ends_with(&format!(r#","content_waits":true,{given}"#)));
}

#[test]
fn a_history_entry_has_null_for_what_is_missing() {
    let entry = HistoryEntry {
        at: from_ms(1_500),
        part: None,
        event: "received".into(),
        state: "pending".into(),
        message: None,
        request_id: None,
    };
    let full = HistoryEntry {
        part: Some(1),
        message: Some("3404".into()),
        request_id: Some("e42b#1".into()),
        ..entry.clone()
    };
    let body = History { history: vec![entry.into(), full.into()] };
    assert_json(
        &body,
        concat!(
            r#"{"history":[{"at":"1970-01-01T00:00:01.5Z","part":null,"event":"received","state":"pending","#,
            r#""message":null,"request_id":null},"#,
            r#"{"at":"1970-01-01T00:00:01.5Z","part":1,"event":"received","state":"pending","#,
            r#""message":"3404","request_id":"e42b#1"}]}"#
        ),
    );
}

#[test]
fn an_explanation_has_a_reason_and_its_time_or_null() {
    let explanation = Explanation {
        id: JobId(12),
        state: JobState::Running,
        waits_for: WaitReason::MarketoQueue,
        text: "Part 1 is in Marketo's queue.".into(),
        until: None,
    };
    let until = Explanation { until: Some(from_ms(HOUR)), ..explanation.clone() };
    let with = |until: &str| {
        format!(
            r#"{{"id":12,"state":"running","waits_for":"marketo-queue","text":"Part 1 is in Marketo's queue.","until":{until},"estimated_start":null,"estimated_end":null}}"#
        )
    };
    assert_json(&ExplanationDto::new(explanation, Estimate::default()), &with("null"));
    assert_json(&ExplanationDto::new(until, Estimate::default()), &with(r#""1970-01-01T01:00:00Z""#));
}

#[test]
fn a_pause_has_its_kind_and_its_end_or_null() {
    let pause =
        Pause { kind: PauseKind::Operator, reason: "an operator paused it".into(), at: from_ms(0), until: None };
    assert_json(
        &PauseDto::from(pause),
        r#"{"kind":"operator","reason":"an operator paused it","at":"1970-01-01T00:00:00Z","until":null}"#,
    );
    let quota = Pause { kind: PauseKind::Quota, reason: "607".into(), at: from_ms(0), until: Some(from_ms(HOUR)) };
    assert_json(
        &PauseDto::from(quota),
        r#"{"kind":"quota","reason":"607","at":"1970-01-01T00:00:00Z","until":"1970-01-01T01:00:00Z"}"#,
    );
}

#[test]
fn a_retention_run_lists_its_jobs() {
    let due = RetentionCandidates { jobs: 2, bytes: 70, first: vec![JobId(7), JobId(9)] };
    let run = RetentionRun {
        at: from_ms(0),
        dry_run: true,
        content: due,
        reports: RetentionCandidates::default(),
        records: RetentionCandidates::default(),
        clean: false,
    };
    assert_json(
        &RetentionRunDto::from(run),
        concat!(
            r#"{"at":"1970-01-01T00:00:00Z","dry_run":true,"content":{"jobs":2,"bytes":70,"first":[7,9]},"#,
            r#""reports":{"jobs":0,"bytes":0,"first":[]},"records":{"jobs":0,"bytes":0,"first":[]},"clean":false}"#
        ),
    );
}

#[test]
fn an_erase_report_has_null_for_what_was_not_erased() {
    let report = EraseReport {
        job: JobId(12),
        dry_run: false,
        bytes: 120,
        content_erased_at: Some(from_ms(HOUR)),
        reports_erased_at: None,
        clean: true,
    };
    assert_json(
        &EraseReportDto::from(report),
        concat!(
            r#"{"job":12,"dry_run":false,"bytes":120,"content_erased_at":"1970-01-01T01:00:00Z","#,
            r#""reports_erased_at":null,"clean":true}"#
        ),
    );
}

#[test]
fn a_readiness_with_a_problem_is_one_object() {
    let health = ComponentHealth { ok: false, state: "refused".into(), reason: Some("401".into()) };
    let readiness = Readiness {
        ready: false,
        store: ComponentHealth { ok: true, state: "writes".into(), reason: None },
        credentials: [("default".to_owned(), health)].into(),
        drop: [].into(),
        paused: [].into(),
    };
    let problem = Problem {
        kind: "about:blank".into(),
        title: "Service Unavailable".into(),
        status: 503,
        detail: "instance default: 401".into(),
    };
    assert_json(
        &NotReady { problem, readiness },
        concat!(
            r#"{"type":"about:blank","title":"Service Unavailable","status":503,"detail":"instance default: 401","#,
            r#""ready":false,"store":{"ok":true,"state":"writes","reason":null},"#,
            r#""credentials":{"default":{"ok":false,"state":"refused","reason":"401"}},"drop":{},"paused":{}}"#
        ),
    );
}
