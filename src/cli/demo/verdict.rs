//! Did all go as it should? What came of the jobs, and what the stand-in for Marketo counted, against what was expected.

use crate::cli::text::{count, ending, table};
use crate::config::Limits;
use crate::job::JobState;
use crate::simulator::{Call, Ledger, Settings};
use crate::store::{Job, Rows};

use super::samples::Sample;

/// Every way in which it did not; none is as it should be.
pub fn faults(jobs: &[(&Sample, &Job)], ledger: &Ledger, settings: &Settings, own: &Limits) -> Vec<String> {
    let mut faults = Vec::new();
    for (sample, job) in jobs {
        let processed = sample.rows - sample.failed;
        let expected = Rows { total: sample.rows, processed, failed: sample.failed, warned: sample.warned };
        if job.state != JobState::Complete || job.rows != expected {
            faults.push(format!("{}, and not as it was made to end", ending(job)));
        }
    }
    let batches: usize = jobs.iter().map(|(_, job)| job.batches.len()).sum();
    let imports = ledger.imports.len();
    if imports != batches {
        faults.push(format!("Marketo's stand-in has {imports} imports of {batches} batches"));
    }
    for Counted { what, most, limit, .. } in counted(ledger, settings, own) {
        if most > limit {
            faults.push(format!("Marketo's stand-in counted {most} {what}, and {limit} are allowed"));
        }
    }
    for (error, times) in &ledger.errors {
        faults.push(format!("Marketo's stand-in answered {error}, {}", count(*times, "time")));
    }
    faults
}

/// What was counted of one of Marketo's limits.
struct Counted {
    what: String,
    most: usize,
    /// What the daemon keeps to.
    own: u32,
    /// What Marketo allows.
    limit: usize,
}

fn counted(ledger: &Ledger, settings: &Settings, own: &Limits) -> [Counted; 4] {
    let counted = |what: &str, most, own, limit| Counted { what: what.to_owned(), most, own, limit };
    let calls = format!("calls in {} s", settings.window.as_secs());
    [
        counted("imports in its queue", ledger.most_queued, own.queued, settings.queued),
        counted("imports worked on at once", ledger.most_importing, own.importing, settings.importing),
        counted(&calls, ledger.most_calls_in_window, own.calls, settings.calls),
        counted("calls at once", ledger.most_concurrent_calls, own.concurrent_calls, settings.concurrent_calls),
    ]
}

/// What came of it, in numbers. Those of Marketo's side are the ledger's.
pub fn summary<'a>(
    jobs: impl IntoIterator<Item = &'a Job>,
    ledger: &Ledger,
    settings: &Settings,
    own: &Limits,
) -> String {
    let (mut number, mut batches, mut rows) = (0, 0, Rows::default());
    for job in jobs {
        number += 1;
        batches += job.batches.len() as u64;
        rows.total += job.rows.total;
        rows.processed += job.rows.processed;
        rows.failed += job.rows.failed;
        rows.warned += job.rows.warned;
    }
    let head = ["COUNTED BY THE STAND-IN", "MOST", "OUR LIMIT", "MARKETO'S"].map(str::to_owned).to_vec();
    let line = |Counted { what, most, own, limit }| vec![what, most.to_string(), own.to_string(), limit.to_string()];
    let counted: Vec<_> = [head].into_iter().chain(counted(ledger, settings, own).map(line)).collect();
    let kinds = [Call::Create, Call::Status, Call::Failures, Call::Warnings].map(|kind| ledger.calls_of(kind));
    let [creates, statuses, failures, warnings] = kinds;
    let all: u64 = kinds.iter().sum();
    let refused: u64 = ledger.errors.values().sum();
    format!(
        "{} in {}, {}: {} processed, {} failed, {} with a warning\n\
         \n\
         {}\
         {all} calls: {creates} uploads, {statuses} questions, {failures} failure and {warnings} warning files; \
         {refused} refused\n",
        count(number, "job"),
        count(batches, "batch"),
        count(rows.total, "row"),
        rows.processed,
        rows.failed,
        rows.warned,
        table(&counted)
    )
}
