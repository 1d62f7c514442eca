//! A constructed trace that violates no invariant, for the tests of the oracle.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use marqueue::api::dto::{BatchDto, HistoryEntryDto, JobDto};
use marqueue::clock::from_ms;
use marqueue::domain::row_counts::RowCounts;
use marqueue::domain::{Counts, JobId, RemoteStatus, Target};
use marqueue::simulator::CallLog;
use marqueue::simulator::call_log::{Create, File as SentFile, Import, Outcome};
use serde_json::json;

use super::files::{File, PACKED};
use super::trace::{DaemonRun, FinalJob, Limits, Reply, Submission, Trace};
use super::uploads::hex;

/// Two runs, and each file's batches one after the other.
pub fn valid_trace() -> Trace {
    let limits = Limits { in_flight: 1, calls: 9, calls_at_once: 2, hold: false, pack: false };
    let (mut jobs, mut call_log) = (Vec::new(), CallLog::default());
    let mut files = Vec::new();
    for (packed, history) in packed_jobs(&mut call_log) {
        jobs.push(found(&packed, history));
        files.push(packed);
    }
    for file in (0..24).map(|n| File::of(5, "ann", n, true)) {
        for batch in file.rows().collect::<Vec<_>>().chunks(20) {
            import(&mut call_log, &[&file], batch[0]..batch[batch.len() - 1] + 1);
        }
        jobs.push(found(&file, Vec::new()));
        files.push(file);
    }
    for (id, found) in (1..).zip(&mut jobs) {
        found.job.id = JobId(id);
        found.job.batches.extend(batch(&call_log, &files, found));
    }
    let files = (1..).zip(files).map(|(id, file)| Submission { file, reply: Reply::Job(JobId(id)) }).collect();
    let all = call_log.creates.len();
    let runs = [all / 2, all].map(|creates| DaemonRun { creates, known: BTreeSet::new(), left: false });
    Trace { limits, files, runs: runs.into(), jobs, incomplete: 0, call_log }
}

/// Files that share imports, and the history of the job of each: an import of three, one that fails and whose files are
/// sent again alone, and one that is too large and is divided.
fn packed_jobs(call_log: &mut CallLog) -> Vec<(File, Vec<HistoryEntryDto>)> {
    let all: Vec<File> = (0..200).map(|n| File::of(5, PACKED[0], n, true)).collect();
    let failing = all.iter().find(|file| file.fails_whole()).expect("a file whose import fails");
    let fine = || all.iter().filter(|file| !file.fails_whole() && file.has_shape_of(failing));
    let take = |from, number| fine().skip(from).take(number).collect::<Vec<_>>();

    let together = take(0, 3);
    import(call_log, &together, 0..0);

    let mut failed = take(3, 2);
    failed.push(failing);
    import(call_log, &failed, 0..0);
    call_log.imports.last_mut().expect("the import").status = RemoteStatus::Failed;
    for file in &failed {
        import(call_log, &[file], file.rows());
    }

    let mut divided = take(5, 4);
    divided.sort_by_key(|file| file.content.len());
    import(call_log, &divided, 0..0);
    call_log.imports.pop();
    let refused = call_log.creates.last_mut().expect("the upload");
    refused.outcome = Outcome::Refused { code: "http 413".into(), message: String::new() };
    let bytes = refused.file.take().expect("its file").bytes;
    // The two smallest are less than half of it.
    import(call_log, &divided[..2], 0..0);
    for file in &divided[2..] {
        import(call_log, &[file], file.rows());
    }

    let too_large = format!("Marketo found {bytes} bytes too large (413): its 4 jobs are sent in smaller imports");
    let with = |files: Vec<&File>, history: &[HistoryEntryDto]| {
        files.into_iter().map(|file| (file.clone(), history.to_vec())).collect::<Vec<_>>()
    };
    [with(together, &[]), with(failed, &[entry("unpacked", "")]), with(divided, &[entry("split", &too_large)])].concat()
}

fn entry(event: &str, message: &str) -> HistoryEntryDto {
    let (event, message) = (event.to_owned(), Some(message.to_owned()));
    HistoryEntryDto { at: from_ms(0), part: Some(1), event, state: "pending".into(), message, request_id: None }
}

/// An import of these rows of a file, or of all rows of several files.
fn import(call_log: &mut CallLog, files: &[&File], rows: Range<usize>) {
    let file = files[0];
    let id = 1001 + call_log.imports.len() as u64;
    let at = Duration::from_secs(10 * id);
    let (sent, rows) = match files {
        [file] => {
            let (bytes, sha256) = file.upload_of(rows.clone());
            (SentFile { name: file.name.clone(), bytes, sha256, content: None }, rows.len())
        }
        files => (shared_file(files), files.iter().map(|file| file.rows().len()).sum()),
    };
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
        // The form around the file.
        body_bytes: sent.bytes + 100,
        file: Some(sent),
        outcome: Outcome::Accepted(id),
        answer_lost: false,
    });
    let seconds = |seconds| Some(at + Duration::from_secs(seconds));
    call_log.imports.push(Import {
        id,
        accepted: at,
        started: seconds(1),
        ended: seconds(5),
        rows: rows as u64,
        status: RemoteStatus::Complete,
        counts: Counts::default(),
        asked: seconds(6),
    });
}

/// One header, and the rows of all files.
pub fn shared_file(files: &[&File]) -> SentFile {
    let rows = files.iter().flat_map(|file| file.rows_with_line_end());
    let content: Bytes = files[0].header().iter().copied().chain(rows).collect();
    let (bytes, sha256) = (content.len() as u64, hex(&content));
    SentFile { name: files[0].name.clone(), bytes, sha256, content: Some(content) }
}

/// The batch of a job that has one import, as its last upload left it.
fn batch(call_log: &CallLog, files: &[File], found: &FinalJob) -> Option<BatchDto> {
    let file = files.iter().find(|file| file.name == found.job.filename && file.pack == Some(true))?;
    let create = call_log.accepted().filter(|create| is_about(create, &file.name)).last()?;
    let Outcome::Accepted(id) = create.outcome else { return None };
    let others = files.iter().filter(|other| other.name != file.name && is_about(create, &other.name)).count();
    let batch = json!({
        "part": 1, "state": found.job.state, "marketo_batch_id": id, "attempts": 1, "rows": found.job.rows,
        "byte_from": file.header().len(), "byte_to": file.content.len(), "shared_with": others,
    });
    Some(serde_json::from_value(batch).expect("a batch"))
}

/// Whether the upload has rows of the file of this name.
pub fn is_about(create: &Create, name: &str) -> bool {
    let Some(file) = &create.file else { return false };
    let row = format!("\n{name}-0@");
    let content = file.content.as_deref().unwrap_or_default();
    file.name == name || content.windows(row.len()).any(|window| window == row.as_bytes())
}

fn found(file: &File, history: Vec<HistoryEntryDto>) -> FinalJob {
    let end = file.end();
    let rows = RowCounts {
        total: end.total,
        processed: end.processed,
        failed: end.failed,
        warned: end.warned,
        unaccounted: Some(0),
    };
    let job = JobDto {
        id: JobId(0),
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
        pack: file.pack == Some(true),
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
    FinalJob { job, content: file.content.clone(), failures: end.failures, warnings: end.warnings, history }
}
