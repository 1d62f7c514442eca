//! Verification of the demo: compares the jobs' ends and the simulator's counts with what was expected.

use crate::api::dto::JobDto;
use crate::cli::demo::samples::Sample;
use crate::cli::format::{count, count_or_unknown, summary_line};
use crate::cli::render::{Column, Screen, Table};
use crate::config::Limits;
use crate::domain::row_counts::RowCounts;
use crate::domain::{Counts, JobState};
use crate::simulator::{Call, CallLog, Settings};

/// Returns every difference from the expected result; none means that the demo has succeeded.
pub fn faults(jobs: &[(&Sample, &JobDto)], ledger: &CallLog, settings: &Settings, own: &Limits) -> Vec<String> {
    let mut faults = Vec::new();
    for (sample, job) in jobs {
        let processed = sample.rows - sample.failed;
        let (failed, warned) = (Some(sample.failed), Some(sample.warned));
        let expected = RowCounts::complete(sample.rows, Counts { processed: Some(processed), failed, warned });
        if job.state != JobState::Complete || job.rows != expected {
            faults.push(format!("{}, which is not its expected end", summary_line(job)));
        }
    }
    let batches: usize = jobs.iter().map(|(_, job)| job.batches.len()).sum();
    let imports = ledger.imports.len();
    if imports != batches {
        faults.push(format!("the simulator has {imports} imports of {batches} batches"));
    }
    for Counted { what, most, limit, .. } in counted(ledger, settings, own) {
        if most > limit {
            faults.push(format!("the simulator counted {most} {what}, but {limit} are allowed"));
        }
    }
    for (error, times) in &ledger.errors {
        faults.push(format!("the simulator answered {error}, {}", count(*times, "time")));
    }
    faults
}

/// The highest number of one of Marketo's limits.
struct Counted {
    what: String,
    most: usize,
    /// The daemon's limit.
    own: u32,
    /// Marketo's limit.
    limit: usize,
}

fn counted(ledger: &CallLog, settings: &Settings, own: &Limits) -> [Counted; 4] {
    let counted = |what: &str, most, own, limit| Counted { what: what.to_owned(), most, own, limit };
    let calls = format!("calls in {} s", settings.window.as_secs());
    [
        counted("imports in its queue", ledger.max_queued, own.queued, settings.queued),
        counted("imports worked on at once", ledger.max_importing, own.importing, settings.importing),
        counted(&calls, ledger.max_calls_in_window, own.calls, settings.calls),
        counted("calls at once", ledger.max_concurrent_calls, own.concurrent_calls, settings.concurrent_calls),
    ]
}

/// Returns the totals of the jobs, and the highest numbers of the call log.
pub fn summary<'a>(
    jobs: impl IntoIterator<Item = &'a JobDto>,
    ledger: &CallLog,
    settings: &Settings,
    own: &Limits,
) -> String {
    let (mut number, mut batches, mut rows) = (0, 0, RowCounts::default());
    for job in jobs {
        number += 1;
        batches += job.batches.len() as u64;
        rows.total += job.rows.total;
        rows.add_counts(&job.rows);
    }
    let mut table = Table::new(vec![
        Column::left("COUNTED BY THE SIMULATOR"),
        Column::right("MOST"),
        Column::right("OUR LIMIT"),
        Column::right("MARKETO'S"),
    ]);
    for Counted { what, most, own, limit } in counted(ledger, settings, own) {
        table.push([what.into(), most.to_string().into(), own.to_string().into(), limit.to_string().into()]);
    }
    let kinds = [Call::Create, Call::Status, Call::Failures, Call::Warnings].map(|kind| ledger.calls_of(kind));
    let [creates, statuses, failures, warnings] = kinds;
    let all: u64 = kinds.iter().sum();
    let refused: u64 = ledger.errors.values().sum();
    format!(
        "{} in {}\n\
         {}: {} processed, {} failed, {} with a warning\n\
         \n\
         {}\
         {all} calls: {creates} uploads, {statuses} status calls, {failures} failure and {warnings} warning files; \
         {refused} refused\n",
        count(number, "job"),
        count(batches, "batch"),
        count(rows.total, "row"),
        count_or_unknown(rows.processed),
        count_or_unknown(rows.failed),
        count_or_unknown(rows.warned),
        table.render(&Screen::PLAIN)
    )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::cli::format::samples::job;
    use crate::domain::RemoteStatus;
    use crate::simulator::call_log::Import;

    fn limits() -> Limits {
        Limits { calls: 50, ..Limits::default() }
    }

    fn good() -> (Sample, JobDto, CallLog) {
        let sample = crate::cli::demo::samples::samples().swap_remove(0);
        let mut job = job(1, JobState::Complete);
        let counts = (Some(sample.rows - sample.failed), Some(sample.failed), Some(sample.warned));
        job.rows = crate::cli::format::samples::rows(sample.rows, counts);
        let mut ledger = CallLog { max_queued: 10, max_importing: 2, ..CallLog::default() };
        ledger.imports.push(Import {
            id: 1,
            accepted: Duration::ZERO,
            started: None,
            ended: None,
            rows: sample.rows,
            status: RemoteStatus::Complete,
            counts: Counts::default(),
            asked: None,
        });
        (sample, job, ledger)
    }

    fn found((sample, job, ledger): &(Sample, JobDto, CallLog)) -> Vec<String> {
        faults(&[(sample, job)], ledger, &Settings::default(), &limits())
    }

    #[test]
    fn expected_results_have_no_fault() {
        assert_eq!(found(&good()), Vec::<String>::new());
    }

    #[test]
    fn each_unexpected_result_is_found() {
        let spoilt = |spoil: fn(&mut JobDto, &mut CallLog)| {
            let mut all = good();
            spoil(&mut all.1, &mut all.2);
            found(&all).join("; ")
        };
        for (fault, text) in [
            (spoilt(|job, _| job.state = JobState::Cancelled), "is cancelled"),
            (
                spoilt(|job, _| job.rows.failed = job.rows.failed.map(|failed| failed + 1)),
                "which is not its expected end",
            ),
            (spoilt(|job, _| job.rows.warned = Some(0)), "which is not its expected end"),
            (spoilt(|_, ledger| ledger.imports.extend_from_within(..)), "has 2 imports of 1 batches"),
            (spoilt(|_, ledger| ledger.max_queued = 11), "counted 11 imports in its queue, but 10 are allowed"),
            (spoilt(|_, ledger| ledger.max_importing = 3), "counted 3 imports worked on at once"),
            (spoilt(|_, ledger| ledger.max_calls_in_window = 101), "counted 101 calls in 20 s"),
            (spoilt(|_, ledger| ledger.max_concurrent_calls = 11), "counted 11 calls at once"),
            (spoilt(|_, ledger| ledger.errors = [("1016".into(), 2)].into()), "answered 1016, 2 times"),
        ] {
            assert!(fault.contains(text), "{text}: {fault}");
        }
    }

    #[test]
    fn numbers_of_marketos_side_come_from_the_call_log() {
        let (_, job, mut ledger) = good();
        ledger.max_calls_in_window = 44;
        ledger.calls.insert(Call::Create, 17);
        ledger.calls.insert(Call::Status, 40);
        ledger.errors.insert("1016".into(), 1);
        assert_eq!(
            summary([&job], &ledger, &Settings::default(), &limits()),
            "1 job in 1 batch\n\
             180 rows: 177 processed, 3 failed, 1 with a warning\n\
             \n\
             COUNTED BY THE SIMULATOR   MOST  OUR LIMIT  MARKETO'S\n\
             imports in its queue         10         10         10\n\
             imports worked on at once     2          2          2\n\
             calls in 20 s                44         50        100\n\
             calls at once                 0          5         10\n\
             57 calls: 17 uploads, 40 status calls, 0 failure and 0 warning files; 1 refused\n"
        );
    }
}
