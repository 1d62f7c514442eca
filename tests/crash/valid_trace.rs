//! A constructed trace that violates no invariant, for the tests of the oracle.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::Duration;

use marqueue::api::dto::JobDto;
use marqueue::clock::from_ms;
use marqueue::domain::row_counts::RowCounts;
use marqueue::domain::{Counts, JobId, RemoteStatus, Target};
use marqueue::simulator::CallLog;
use marqueue::simulator::call_log::{Create, File as SentFile, Import, Outcome};

use super::files::File;
use super::trace::{DaemonRun, FinalJob, Limits, Reply, Submission, Trace};

/// Two runs, and each file's batches one after the other.
pub fn valid_trace() -> Trace {
    let limits = Limits { in_flight: 1, calls: 9, calls_at_once: 2, hold: false };
    let (mut jobs, mut call_log) = (Vec::new(), CallLog::default());
    let files: Vec<Submission> = (0..24)
        .map(|n| Submission { file: File::of(5, "ann", n, true), reply: Reply::Job(JobId(n as i64 + 1)) })
        .collect();
    for (n, submission) in files.iter().enumerate() {
        let file = &submission.file;
        for batch in file.rows().collect::<Vec<_>>().chunks(20) {
            import(&mut call_log, file, batch[0]..batch[batch.len() - 1] + 1);
        }
        jobs.push(found(n as i64 + 1, file));
    }
    let all = call_log.creates.len();
    let runs = [all / 2, all].map(|creates| DaemonRun { creates, known: BTreeSet::new(), left: false });
    Trace { limits, files, runs: runs.into(), jobs, incomplete: 0, call_log }
}

fn import(call_log: &mut CallLog, file: &File, rows: Range<usize>) {
    let id = 1001 + call_log.imports.len() as u64;
    let at = Duration::from_secs(10 * id);
    let (bytes, sha256) = file.upload_of(rows.clone());
    let mut query = BTreeMap::from([("format".to_owned(), file.format.to_string())]);
    let path = match &file.target {
        Target::Leads { list_id, .. } => {
            query.extend(list_id.map(|list| ("listId".to_owned(), list.to_string())));
            "/bulk/v1/leads.json"
        }
        Target::CustomObject { .. } => "/bulk/v1/customobjects/car_c/import.json",
        Target::ProgramMembers { status, .. } => {
            query.insert("programMemberStatus".to_owned(), status.clone());
            "/bulk/v1/program/1044/members/import.json"
        }
    };
    call_log.creates.push(Create {
        at,
        path: path.into(),
        query,
        body_bytes: bytes,
        file: Some(SentFile { name: file.name.clone(), bytes, sha256 }),
        outcome: Outcome::Accepted(id),
        answer_lost: false,
    });
    let seconds = |seconds| Some(at + Duration::from_secs(seconds));
    call_log.imports.push(Import {
        id,
        accepted: at,
        started: seconds(1),
        ended: seconds(5),
        rows: rows.len() as u64,
        status: RemoteStatus::Complete,
        counts: Counts::default(),
        asked: seconds(6),
    });
}

fn found(id: i64, file: &File) -> FinalJob {
    let end = file.end();
    let rows = RowCounts {
        total: end.total,
        processed: end.processed,
        failed: end.failed,
        warned: end.warned,
        unaccounted: Some(0),
    };
    let job = JobDto {
        id: JobId(id),
        state: end.state,
        target: file.target.clone(),
        instance: "default".into(),
        filename: file.name.clone(),
        format: file.format,
        priority: file.priority,
        group: file.group.clone(),
        bytes: file.content.len() as u64,
        rows,
        batches: Vec::new(),
        retry_of: None,
        not_before: None,
        in_order: false,
        canary: None,
        max_failed_percent: None,
        pack: false,
        source: None,
        content_erased_at: None,
        reports_erased_at: None,
        created_at: from_ms(0),
        started_at: None,
        finished_at: None,
        error: None,
        waiting: None,
        estimated_start: None,
        estimated_end: None,
    };
    FinalJob { job, content: file.content.clone(), failures: end.failures, warnings: end.warnings }
}
