//! Most frequent reasons of a job's failed rows and warnings, for the commands that show how a job ended.

use crate::api::dto::{JobDto, ReasonDto, ReasonsDto};
use crate::cli::format::{count, sanitize};
use crate::client::{Client, ClientError};

/// The most reasons of a kind that are shown.
const TOP_REASONS: usize = 3;

/// The status of a request for erased data.
const GONE: u16 = 410;

/// Returns the most frequent reasons; none where the job has no stored reports.
///
/// # Errors
/// The daemon refuses or can't be reached.
pub async fn top_reasons(client: &Client, job: &JobDto) -> Result<Option<ReasonsDto>, ClientError> {
    let has_reports = job.batches.iter().any(|batch| batch.failures_bytes.or(batch.warnings_bytes).is_some());
    if !has_reports || job.reports_erased_at.is_some() {
        return Ok(None);
    }
    let mut reasons = match client.reasons(job.id).await {
        Ok(reasons) => reasons,
        // The reports were erased meanwhile. The rest of the job is shown.
        Err(ClientError::Refused(problem)) if problem.status == GONE => return Ok(None),
        Err(error) => return Err(error),
    };
    reasons.failures.truncate(TOP_REASONS);
    reasons.warnings.truncate(TOP_REASONS);
    Ok((reasons != ReasonsDto::default()).then_some(reasons))
}

/// Formats a reason of failed rows: `12 rows failed, the first on line 7: Value '…' not found`.
pub fn failure_line(reason: &ReasonDto) -> String {
    let ReasonDto { reason, rows, first_line } = reason;
    let first = first_line.map(|line| format!(", the first on line {line}")).unwrap_or_default();
    let text = reason.as_deref().map_or_else(|| "for an unknown reason".to_owned(), sanitize);
    format!("{} failed{first}: {text}", count(*rows, "row"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failure_line_has_rows_line_and_reason() {
        let reason = ReasonDto { reason: Some("Value '…' not found\n".into()), rows: 12, first_line: Some(7) };
        assert_eq!(failure_line(&reason), "12 rows failed, the first on line 7: Value '…' not found\\n");
        let unknown = ReasonDto { reason: None, rows: 1, first_line: None };
        assert_eq!(failure_line(&unknown), "1 row failed: for an unknown reason");
    }
}
