//! Check of a failure or warning file against Marketo's counts: an empty file is not proof that no row failed.

use crate::api::dto::{BatchDto, JobDto};
use crate::cli::exit_status::ExitStatus;
use crate::cli::format::count;
use crate::domain::row_counts::RowCounts;
use crate::domain::{BatchState, JobId, ReportKind};

/// Result of the check: the exit status, and a note for the user.
#[derive(Debug, PartialEq, Eq)]
pub struct CheckedReport {
    pub exit: ExitStatus,
    pub note: Option<String>,
}

/// Returns Marketo's counts of the job's complete batches, or of `part` alone; none if no such batch is complete.
pub fn marketo_counts(job: &JobDto, part: Option<u32>) -> Option<RowCounts> {
    let complete =
        |batch: &&BatchDto| batch.state == BatchState::Complete && part.is_none_or(|part| batch.part == part);
    let mut batches = job.batches.iter().filter(complete);
    let mut rows = batches.next()?.rows;
    for batch in batches {
        rows.total += batch.rows.total;
        rows.add_counts(&batch.rows);
    }
    Some(rows)
}

/// Compares the rows of a file with the counts. `in_file` is none if the rows could not be counted.
pub fn check(job: JobId, kind: ReportKind, in_file: Option<u64>, rows: &RowCounts) -> CheckedReport {
    let (counted, none, what) = match kind {
        ReportKind::Warnings => (rows.warned, format!("no row of job {job} has a warning"), "with a warning"),
        ReportKind::Failures => (rows.failed, format!("no row of job {job} has failed"), "failed"),
    };
    // Unaccounted rows do not concern warnings: a row with a warning is among the processed ones.
    let doubt = rows.discrepancy().filter(|_| kind != ReportKind::Warnings);
    let unclear =
        |note: String| CheckedReport { exit: ExitStatus::SomeRowsFailed, note: Some(format!("job {job}: {note}")) };
    match (counted, in_file) {
        (Some(0), Some(0)) => match doubt {
            None => CheckedReport { exit: ExitStatus::Done, note: Some(none) },
            Some(doubt) => unclear(format!("Marketo counted no row as {what}, but {doubt}")),
        },
        (Some(counted), Some(0)) => unclear(format!(
            "Marketo counted {} as {what} and gave no file of them, or an empty one",
            count(counted, "row")
        )),
        (Some(counted), Some(there)) if there < counted => {
            unclear(format!("Marketo counted {} as {what}, and its file has {there}", count(counted, "row")))
        }
        (None, Some(0)) => unclear(format!(
            "whether any row counts as {what} is unknown: Marketo gave neither a count nor a file of rows"
        )),
        _ => match doubt {
            None => CheckedReport { exit: ExitStatus::Done, note: None },
            Some(doubt) => unclear(doubt),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::format::samples;
    use crate::domain::JobState;

    #[test]
    fn only_a_count_of_zero_means_no_failed_rows() {
        use ReportKind::{Failures, Warnings};
        let counts = |processed, failed, warned| samples::rows(10, (processed, failed, warned));
        let fine = counts(Some(10), Some(0), Some(0));
        let three = counts(Some(7), Some(3), Some(3));
        let unknown = counts(Some(7), None, None);
        for (file, in_file, rows, exit, note) in [
            (Failures, Some(0), fine, 0, Some("no row of job 3 has failed")),
            (Warnings, Some(0), fine, 0, Some("no row of job 3 has a warning")),
            (Failures, Some(3), three, 0, None),
            (
                Failures,
                Some(0),
                three,
                4,
                Some("job 3: Marketo counted 3 rows as failed and gave no file of them, or an empty one"),
            ),
            (
                Warnings,
                Some(0),
                three,
                4,
                Some("job 3: Marketo counted 3 rows as with a warning and gave no file of them, or an empty one"),
            ),
            (Failures, Some(2), three, 4, Some("job 3: Marketo counted 3 rows as failed, and its file has 2")),
            (
                Failures,
                Some(0),
                unknown,
                4,
                Some(
                    "job 3: whether any row counts as failed is unknown: Marketo gave neither a count nor a file of rows",
                ),
            ),
            (
                Failures,
                Some(3),
                unknown,
                4,
                Some("job 3: Marketo did not count all of the 10 rows sent: 7 processed and an unknown number failed"),
            ),
            (Warnings, Some(3), unknown, 0, None),
            (
                Failures,
                Some(0),
                counts(Some(9), Some(0), Some(0)),
                4,
                Some(
                    "job 3: Marketo counted no row as failed, but 1 row of 10 is unaccounted for: Marketo counted 9 \
                     processed and 0 failed",
                ),
            ),
            (Failures, None, three, 0, None),
        ] {
            let CheckedReport { exit: actual_exit, note: actual_note } = check(JobId(3), file, in_file, &rows);
            assert_eq!((u8::from(actual_exit), actual_note.as_deref()), (exit, note), "{file:?} {in_file:?} {rows:?}");
        }
    }

    #[test]
    fn counts_are_those_of_complete_batches() {
        let mut job = samples::job(3, JobState::Failed);
        job.batches = vec![
            samples::batch(1, BatchState::Complete),
            samples::batch(2, BatchState::Complete),
            samples::batch(3, BatchState::Failed),
        ];
        job.batches[0].rows = samples::rows(10, (Some(8), Some(2), Some(0)));
        job.batches[1].rows = samples::rows(10, (Some(9), Some(1), Some(1)));
        let failed = |part| marketo_counts(&job, part).and_then(|rows| rows.failed);
        assert_eq!([failed(None), failed(Some(2)), failed(Some(3)), failed(Some(9))], [Some(3), Some(1), None, None]);
    }
}
