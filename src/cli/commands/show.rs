//! The `show` command: shows jobs, their batches and their history.

use clap::Args;
use serde::Serialize;

use crate::api::dto::{BatchDto, HistoryEntryDto, JobDto, ReasonsDto};
use crate::cli::commands::reasons::tables;
use crate::cli::confirmation::YesOption;
use crate::cli::exit_status::{CliError, ExitStatus};
use crate::cli::format;
use crate::cli::format::{
    UNACCOUNTED, batch_tone, count_cell, done_label, outcome_label, state_label, state_tone, unaccounted_cell,
    waiting_text,
};
use crate::cli::global::GlobalArgs;
use crate::cli::job_outcomes::{JobOutcome, OutcomeReport};
use crate::cli::job_selection::{JobScope, JobSelection};
use crate::cli::output;
use crate::cli::render::{Cell, Column, Screen, Table, Tone};
use crate::cli::top_reasons::top_reasons;
use crate::client::{Client, JobQuery};
use crate::domain::JobId;

/// Show jobs with their batches, the most frequent reasons of failures and warnings, and their history
///
/// A number of no job does not stop the others, and the exit status is 1. A range or a filter selects the jobs that
/// there are; --yes has no effect. "marqueue reasons" has all reasons. With --json: the job as an object, with three
/// more keys, "history", "retries" (the jobs that send its failed rows again) and "reasons" (as of "marqueue reasons",
/// at most three of each; null where there are none or they are erased); for several jobs, an array of them.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  marqueue show 12
  marqueue show 12 --json
  marqueue show --state failed --since 24h")]
pub struct Show {
    #[command(flatten)]
    selection: JobSelection,
    #[command(flatten)]
    yes: YesOption,
}

/// A job with what is shown of it.
#[derive(Serialize)]
struct Shown {
    #[serde(flatten)]
    job: JobDto,
    history: Vec<HistoryEntryDto>,
    /// The jobs that send its failed rows again, the oldest first.
    retries: Vec<JobId>,
    /// The most frequent reasons; none where it has no stored reports.
    reasons: Option<ReasonsDto>,
}

impl Show {
    /// Runs the command.
    ///
    /// # Errors
    /// The daemon refuses or can't be reached, or standard output is not writable.
    pub async fn run(self, global: &GlobalArgs) -> Result<ExitStatus, CliError> {
        // Nothing is changed, so nothing is asked; scripts may give the option to every command alike.
        let YesOption { yes: _ } = self.yes;
        let client = global.client()?;
        let screen = Screen::stdout();
        if let Some(id) = self.selection.single() {
            let shown = Shown::fetch(&client, id).await?;
            if global.json {
                output::print_json(&shown)?;
            } else {
                output::print(&shown.render(&screen))?;
            }
            return Ok(ExitStatus::Done);
        }
        let jobs = self.selection.resolve(&client, JobScope::All).await?;
        let report = OutcomeReport { done: "shown", global };
        if jobs.ids.is_empty() {
            return report.nothing();
        }
        let mut line_before = "";
        let show = async |id| {
            let shown = Shown::fetch(&client, id).await?;
            let text = format!("{line_before}{}", shown.render(&screen));
            line_before = "\n";
            Ok(JobOutcome::Done { text, value: shown })
        };
        report.apply(&jobs.ids, show).await
    }
}

impl Shown {
    async fn fetch(client: &Client, id: JobId) -> Result<Shown, CliError> {
        let job = client.job(id, None).await?;
        let history = client.history(id).await?;
        let retries = client.list(&JobQuery { retry_of: Some(id), ..JobQuery::default() }).await?;
        let retries = retries.jobs.iter().rev().map(|retry| retry.id).collect();
        let reasons = top_reasons(client, &job).await?;
        Ok(Shown { job, history, retries, reasons })
    }

    fn render(&self, screen: &Screen) -> String {
        let retries = self.retries.iter().map(JobId::to_string).collect::<Vec<_>>().join(", ");
        let mut parts = vec![record(&self.job, &retries, screen), batches(&self.job.batches, screen)];
        parts.extend(self.reasons.as_ref().map(|reasons| tables(reasons, screen)));
        parts.push(events(&self.history, screen));
        parts.join("\n")
    }
}

fn record(job: &JobDto, retries: &str, screen: &Screen) -> String {
    let mut table = Table::of_values();
    table.push_value("job", job.id.to_string());
    table.push_value("state", Cell::toned(state_label(job), state_tone(job)));
    table.push_value("target", job.target.to_string());
    table.push_value("instance", &job.instance);
    table.push_value("file", format!("{} ({}, {} bytes)", job.filename, job.format, job.bytes));
    table.push_value("rows", outcome_label(&job.rows));
    table.push_value("priority", job.priority.to_string());
    let optional = [
        ("group", job.group.clone()),
        ("rows from", job.retry_of.map(|id| format!("the failed rows of job {id}"))),
        ("retried as", (!retries.is_empty()).then(|| format!("job {retries}"))),
        ("source", job.source.as_ref().map(ToString::to_string)),
        ("packing", job.pack.then(|| "may share an import with other jobs".to_owned())),
        ("not before", job.not_before.map(|at| screen.time(at))),
        ("created", Some(screen.time(job.created_at))),
        ("started", job.started_at.map(|at| screen.time(at))),
        ("waiting", waiting_text(job, screen)),
        ("expected", expected(job, screen)),
        ("finished", job.finished_at.map(|at| screen.time(at))),
        ("content", job.content_erased_at.map(|at| format!("erased {}", screen.at(at)))),
        ("content", job.is_content_kept().then(|| "kept for a retry of the job, until it is erased".to_owned())),
        ("reports", job.reports_erased_at.map(|at| format!("erased {}", screen.at(at)))),
    ];
    for (name, value) in optional {
        if let Some(value) = value {
            table.push_value(name, value);
        }
    }
    if let Some(error) = &job.error {
        table.push_value("error", Cell::toned(error, Tone::Fault));
    }
    table.render(screen)
}

/// Returns when an unended job will probably start and end.
fn expected(job: &JobDto, screen: &Screen) -> Option<String> {
    let parts = [("to start", job.estimated_start), ("to end", job.estimated_end)];
    let parts: Vec<String> =
        parts.into_iter().filter_map(|(what, at)| Some(format!("{what} {}", screen.at(at?)))).collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

/// Returns the last message about a batch, and with how many jobs it shares its import.
fn message_cell(batch: &BatchDto) -> String {
    let message = batch.message.as_deref().unwrap_or_default();
    match (batch.shared_with, message) {
        (0, _) => message.to_owned(),
        (others, "") => format!("shared with {}", format::count(u64::from(others), "other job")),
        (others, _) => format!("shared with {}; {message}", format::count(u64::from(others), "other job")),
    }
}

fn batches(batches: &[BatchDto], screen: &Screen) -> String {
    let mut table = Table::new(vec![
        Column::right("PART"),
        Column::left("STATE"),
        Column::left("MARKETO ID").shortened(8),
        Column::right("ATTEMPTS").optional(1),
        Column::right("DONE"),
        Column::right("FAILED"),
        Column::right(UNACCOUNTED).optional(2),
        Column::left("MESSAGE").wrapped(20),
    ]);
    for batch in batches {
        table.push([
            batch.part.to_string().into(),
            Cell::toned(batch.state.as_str(), batch_tone(batch.state)),
            batch.marketo_batch_id.as_deref().unwrap_or("-").into(),
            batch.attempts.to_string().into(),
            done_label(&batch.rows).into(),
            count_cell(batch.rows.failed, Tone::Attention),
            unaccounted_cell(&batch.rows),
            message_cell(batch).into(),
        ]);
    }
    table.remove_idle(UNACCOUNTED, "0");
    table.render(screen)
}

fn events(history: &[HistoryEntryDto], screen: &Screen) -> String {
    let mut table = Table::new(vec![
        Column::left("AT").at_least(10),
        Column::right("PART"),
        Column::left("EVENT"),
        Column::left("STATE"),
        Column::left("REQUEST ID").at_least(16).optional(1),
        Column::left("MESSAGE").wrapped(20),
    ]);
    for entry in history {
        table.push([
            screen.time(entry.at).into(),
            entry.part.map_or_else(|| "-".to_owned(), |part| part.to_string()).into(),
            Cell::from(&entry.event),
            Cell::from(&entry.state),
            entry.request_id.as_deref().unwrap_or("-").into(),
            entry.message.as_deref().unwrap_or_default().into(),
        ]);
    }
    table.render(screen)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::format::samples;
    use crate::domain::{BatchState, JobState};

    #[test]
    fn a_job_has_a_line_for_each_known_value() {
        let mut job = samples::job(12, JobState::Complete);
        job.rows = samples::rows(10, (Some(9), Some(1), Some(0)));
        job.group = Some("nightly".into());
        job.pack = true;
        job.started_at = Some(samples::at(1));
        job.finished_at = Some(samples::at(62));
        job.content_erased_at = Some(samples::at(90));
        assert_eq!(
            record(&job, "13, 17", &Screen::PLAIN),
            "job         12\n\
             state       complete, 1 row failed\n\
             target      leads\n\
             instance    default\n\
             file        people.csv (csv, 1234 bytes)\n\
             rows        10 rows, 9 processed, 1 failed\n\
             priority    0\n\
             group       nightly\n\
             retried as  job 13, 17\n\
             source      the socket, user 1000\n\
             packing     may share an import with other jobs\n\
             created     2026-08-01T10:00:00.000Z\n\
             started     2026-08-01T10:00:01.000Z\n\
             finished    2026-08-01T10:01:02.000Z\n\
             content     erased at 2026-08-01T10:01:30.000Z\n"
        );
    }

    #[test]
    fn each_batch_and_each_event_has_a_line() {
        let mut batch = samples::batch(1, BatchState::Complete);
        batch.marketo_batch_id = Some("3404".into());
        batch.attempts = 1;
        batch.message = Some("Import succeeded".into());
        assert_eq!(
            batches(&[batch], &Screen::PLAIN),
            "PART  STATE     MARKETO ID  ATTEMPTS  DONE  FAILED  MESSAGE\n\
             \x20  1  complete  3404               1  0/10       0  Import succeeded\n"
        );
        let entry = HistoryEntryDto {
            at: samples::at(0),
            part: None,
            event: "received".into(),
            state: "pending".into(),
            message: None,
            request_id: None,
        };
        let other = HistoryEntryDto {
            part: Some(1),
            event: "accepted".into(),
            request_id: Some("e42b#1".into()),
            ..entry.clone()
        };
        assert_eq!(
            events(&[entry, other], &Screen::PLAIN),
            "AT                        PART  EVENT     STATE    REQUEST ID        MESSAGE\n\
             2026-08-01T10:00:00.000Z     -  received  pending  -\n\
             2026-08-01T10:00:00.000Z     1  accepted  pending  e42b#1\n"
        );
    }

    #[test]
    fn the_history_stands_beside_the_jobs_own_keys() {
        let job = samples::job(12, JobState::Pending);
        let json =
            serde_json::to_value(Shown { job, history: Vec::new(), retries: vec![JobId(13)], reasons: None }).unwrap();
        assert_eq!((&json["id"], &json["history"]), (&12.into(), &serde_json::json!([])));
        assert_eq!(json["retries"], serde_json::json!([13]));
    }
}
