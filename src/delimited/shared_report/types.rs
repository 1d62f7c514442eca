//! Reports of a shared import, and the share of each job.

use crate::delimited::row_match::RowMatch;
use crate::domain::Counts;

/// The failure and warning files of a shared import, as downloaded; none where there is no such file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RawReports {
    /// The failure file.
    pub failures: Option<Vec<u8>>,
    /// The warning file.
    pub warnings: Option<Vec<u8>>,
}

/// One job's share of the reports and counts of a shared import.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobReports {
    /// Its rows that failed.
    pub failures: JobReport,
    /// Its rows with a warning.
    pub warnings: JobReport,
    /// Its counts, each none where it is unknown. Processed and failed are known together, or neither is.
    pub counts: Counts,
    /// Its rows whose outcome is unknown.
    pub unknown: UnknownRows,
}

/// One job's share of one report.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JobReport {
    /// The header of the report and the job's rows, byte for byte and in the report's order, each with a line end.
    /// Empty where no row of the job is in the report.
    pub bytes: Vec<u8>,
    /// The match of these rows, each of which has one. Rows and lines are counted from the job's first row.
    pub found: RowMatch,
}

/// The rows of a job whose outcome is unknown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UnknownRows {
    /// None: a row that stands in no report was imported, and the job's processed and failed rows are counted.
    None,
    /// These, in rising order, counted from the job's first row. Each other row is known: one that stands in no report
    /// was imported. There may be none although the job's counts are unknown.
    Rows(Vec<u32>),
    /// Every row that stands in no report.
    AllOthers,
}
