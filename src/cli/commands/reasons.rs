//! The `reasons` command: shows Marketo's reasons of failures and warnings, with the rows of each.

use clap::Args;

use crate::api::dto::{ReasonDto, ReasonsDto};
use crate::cli::exit_status::{CliError, ExitStatus};
use crate::cli::global::GlobalArgs;
use crate::cli::output;
use crate::cli::render::{Column, Screen, Table};
use crate::domain::JobId;

/// Show Marketo's reasons of failures and warnings, with the number of rows of each
///
/// Reasons that differ only in values in quotes are one, with "…" in place of the values. LINE is the first line in the
/// submitted file with that reason. With --json: an object with "failures" and "warnings", lists of objects with
/// "reason", "rows" and "first_line"; at most 100 of each.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  marqueue reasons 12
  marqueue reasons 12 --json")]
pub struct Reasons {
    /// The job's number
    #[arg(value_parser = crate::cli::global::parse_job_id)]
    id: JobId,
}

/// In place of a reason that is unknown.
const UNKNOWN_REASON: &str = "(malformed or too many different reasons: see the file)";

impl Reasons {
    /// Shows the reasons.
    ///
    /// # Errors
    /// The daemon refuses or can't be reached, or standard output is not writable.
    pub async fn run(self, global: &GlobalArgs) -> Result<ExitStatus, CliError> {
        let reasons = global.client()?.reasons(self.id).await?;
        if global.json {
            output::print_json(&reasons)?;
        } else if reasons == ReasonsDto::default() {
            output::note(&format!("job {} has no rows with reasons", self.id));
        } else {
            output::print(&tables(&reasons, &Screen::stdout()))?;
        }
        Ok(ExitStatus::Done)
    }
}

/// Returns a table of the failures and one of the warnings, where there are any.
pub(super) fn tables(reasons: &ReasonsDto, screen: &Screen) -> String {
    let tables = [("FAILED", &reasons.failures), ("WARNED", &reasons.warnings)];
    let shown = tables.into_iter().filter(|(_, reasons)| !reasons.is_empty());
    shown.map(|(head, reasons)| table(head, reasons, screen)).collect::<Vec<_>>().join("\n")
}

/// Returns a table of reasons, with the number of rows below `head`.
fn table(head: &'static str, reasons: &[ReasonDto], screen: &Screen) -> String {
    let mut table = Table::new(vec![Column::right(head), Column::right("LINE"), Column::left("REASON").wrapped(20)]);
    for ReasonDto { reason, rows, first_line } in reasons {
        table.push([
            rows.to_string().into(),
            first_line.map_or_else(|| "-".to_owned(), |line| line.to_string()).into(),
            reason.as_deref().unwrap_or(UNKNOWN_REASON).into(),
        ]);
    }
    table.render(screen)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_and_warnings_have_a_table_each() {
        let reason =
            |reason: Option<&str>, rows, first_line| ReasonDto { reason: reason.map(str::to_owned), rows, first_line };
        let failures = vec![reason(Some("Value '…' not found"), 12, Some(7)), reason(None, 1, None)];
        let both = ReasonsDto { failures, warnings: vec![reason(Some("odd"), 3, Some(2))] };
        assert_eq!(
            tables(&both, &Screen::PLAIN),
            "FAILED  LINE  REASON\n\
             \x20   12     7  Value '…' not found\n\
             \x20    1     -  (malformed or too many different reasons: see the file)\n\
             \n\
             WARNED  LINE  REASON\n\
             \x20    3     2  odd\n"
        );
        let warnings = ReasonsDto { failures: Vec::new(), ..both };
        assert_eq!(tables(&warnings, &Screen::PLAIN), "WARNED  LINE  REASON\n     3     2  odd\n");
    }
}
