//! The `erase` and `retention` commands: erase the data of jobs early, or all data that is due.

use clap::Args;

use crate::api::dto::{EraseReportDto, RetentionCandidatesDto, RetentionRunDto};
use crate::cli::confirmation::{Confirmation, Decision, YesOption};
use crate::cli::exit_status::{CliError, ExitStatus};
use crate::cli::format::count;
use crate::cli::global::GlobalArgs;
use crate::cli::job_outcomes::{JobOutcome, OutcomeReport};
use crate::cli::job_selection::{JobScope, JobSelection};
use crate::cli::output;
use crate::cli::render::time;
use crate::domain::JobId;
use crate::retention::EraseMode;

/// Erase the content, the failures and the warnings of jobs for good; their records stay
///
/// A job that has not ended is refused, the others go on, and the exit status is 1. Jobs selected by a range or a
/// filter are shown first, and a question is asked; without a terminal, --yes is needed. --dry-run asks nothing. With
/// --json: an object with "bytes", "content_erased_at", "reports_erased_at" and "clean", which is true when nothing of
/// it is in any file of the database any more; for several jobs, an array of them.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  marqueue erase 12 --dry-run
  marqueue erase 12
  marqueue erase 9-108 --state complete --yes")]
pub struct Erase {
    #[command(flatten)]
    selection: JobSelection,
    #[command(flatten)]
    yes: YesOption,
    /// Only show what would be erased
    #[arg(long)]
    dry_run: bool,
}

/// Erase at once what is due by the configuration's table "retention"
///
/// The daemon does so by itself. With --json: an object with "content", "reports" and "records", each with "jobs",
/// "bytes" and the "first" of the jobs.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  marqueue retention --dry-run
  marqueue retention")]
pub struct Retention {
    /// Only show what would be erased
    #[arg(long)]
    dry_run: bool,
}

impl Erase {
    /// Requests the erasure.
    ///
    /// # Errors
    /// The daemon refuses, or can't be reached.
    pub async fn run(self, global: &GlobalArgs) -> Result<ExitStatus, CliError> {
        let (client, mode) = (global.client()?, mode(self.dry_run));
        if let Some(id) = self.selection.single() {
            let erasure = client.erase(id, mode).await?;
            if global.json {
                output::print_json(&erasure)?;
            } else {
                output::print(&erased(&erasure))?;
            }
            return Ok(ExitStatus::Done);
        }
        // A dry run changes nothing, so it asks nothing.
        let option = YesOption { yes: self.yes.yes || self.dry_run };
        let confirmation = Confirmation { action: "Erase the data of", selection: &self.selection, option };
        confirmation.check()?;
        let jobs = self.selection.resolve(&client, JobScope::All).await?;
        let report = OutcomeReport { done: if self.dry_run { "would be erased" } else { "erased" }, global };
        if jobs.ids.is_empty() {
            return report.nothing();
        }
        if confirmation.ask(&jobs)? == Decision::No {
            return report.declined();
        }
        let erase = async |id| {
            let erasure = client.erase(id, mode).await?;
            Ok(JobOutcome::Done { text: erased(&erasure), value: erasure })
        };
        report.apply(&jobs.ids, erase).await
    }
}

impl Retention {
    /// Requests the erasure.
    ///
    /// # Errors
    /// The daemon refuses, or can't be reached.
    pub async fn run(self, global: &GlobalArgs) -> Result<ExitStatus, CliError> {
        let pass = global.client()?.retention(mode(self.dry_run)).await?;
        if global.json {
            output::print_json(&pass)?;
        } else {
            output::print(&retention_text(&pass))?;
        }
        Ok(ExitStatus::Done)
    }
}

/// Returns the mode that the option `--dry-run` asks for.
fn mode(dry_run: bool) -> EraseMode {
    if dry_run { EraseMode::DryRun } else { EraseMode::Erase }
}

/// Note for data that is still in the write-ahead log because a reader holds it open.
const SOON: &str = "it is removed from the database's log as soon as no reader uses it\n";

fn erased(erasure: &EraseReportDto) -> String {
    let (id, bytes) = (erasure.job, erasure.bytes);
    let mut text = match (bytes, erasure.dry_run) {
        (0, _) => format!("job {id} has nothing to erase any more\n"),
        (_, true) => format!("job {id}: {bytes} bytes would be erased\n"),
        (_, false) => format!("job {id}: {bytes} bytes were erased\n"),
    };
    if !erasure.dry_run && !erasure.clean {
        text += SOON;
    }
    text
}

fn retention_text(pass: &RetentionRunDto) -> String {
    let action = if pass.dry_run { "would be erased" } else { "were erased" };
    let line = |due: &RetentionCandidatesDto, what: &str| {
        let first: Vec<String> = due.first.iter().take(5).map(JobId::to_string).collect();
        let dots = if due.jobs > first.len() as u64 { ", …" } else { "" };
        let of = if due.jobs == 0 { String::new() } else { format!(": {}{dots}", first.join(", ")) };
        format!("{what} of {}{of}\n", count(due.jobs, "job"))
    };
    let mut text = format!("at {} {action}:\n", time::exact(pass.at));
    text += &line(&pass.content, "the content");
    text += &line(&pass.reports, "the failures and warnings");
    text += &line(&pass.records, "the record");
    if !pass.dry_run && !pass.clean {
        text += SOON;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::format::samples;

    #[test]
    fn due_data_has_a_line_for_each_kind() {
        let due = |ids: std::ops::Range<i64>| RetentionCandidatesDto {
            jobs: ids.clone().count() as u64,
            bytes: 7,
            first: ids.map(JobId).collect(),
        };
        let pass = RetentionRunDto {
            at: samples::at(0),
            dry_run: true,
            content: due(1..8),
            reports: due(1..2),
            records: due(0..0),
            clean: true,
        };
        assert_eq!(
            retention_text(&pass),
            "at 2026-08-01T10:00:00.000Z would be erased:\n\
             the content of 7 jobs: 1, 2, 3, 4, 5, …\n\
             the failures and warnings of 1 job: 1\n\
             the record of 0 jobs\n"
        );
    }

    #[test]
    fn an_erasure_shows_what_was_erased() {
        let mut erasure = EraseReportDto {
            job: JobId(3),
            dry_run: true,
            bytes: 20,
            content_erased_at: None,
            reports_erased_at: None,
            clean: true,
        };
        assert_eq!(erased(&erasure), "job 3: 20 bytes would be erased\n");
        (erasure.dry_run, erasure.clean) = (false, false);
        assert_eq!(
            erased(&erasure),
            "job 3: 20 bytes were erased\nit is removed from the database's log as soon as no reader uses it\n"
        );
        (erasure.bytes, erasure.clean) = (0, true);
        assert_eq!(erased(&erasure), "job 3 has nothing to erase any more\n");
    }
}
