//! The `show` command: shows one job, its batches and its history.

use clap::Args;
use serde::Serialize;

use crate::cli::exit_status::{CliError, ExitStatus};
use crate::cli::format::{
    UNACCOUNTED, outcome_label, row_cells, sanitize, state_label, table, time, without_idle_column,
};
use crate::cli::global::GlobalArgs;
use crate::cli::output;
use crate::domain::JobId;
use crate::store::{Batch, HistoryEntry, Job};

/// Show one job with its batches and its history
///
/// With --json: the job as an object, with one more key, "history".
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  marqueue show 12
  marqueue show 12 --json")]
pub struct Show {
    /// The job's number
    #[arg(value_parser = crate::cli::global::parse_job_id)]
    id: JobId,
}

#[derive(Serialize)]
struct Shown<'a> {
    #[serde(flatten)]
    job: &'a Job,
    history: &'a [HistoryEntry],
}

impl Show {
    /// Runs the command.
    ///
    /// # Errors
    /// The daemon refuses or can't be reached, or standard output is not writable.
    pub async fn run(self, global: &GlobalArgs) -> Result<ExitStatus, CliError> {
        let client = global.client()?;
        let job = client.job(self.id, None).await?;
        let history = client.history(self.id).await?;
        if global.json {
            output::print_json(&Shown { job: &job, history: &history })?;
        } else {
            output::print(&format!("{}\n{}\n{}", record(&job), batches(&job.batches), events(&history)))?;
        }
        Ok(ExitStatus::Done)
    }
}

fn record(job: &Job) -> String {
    let mut lines = vec![
        ("job", job.id.to_string()),
        ("state", state_label(job)),
        ("target", sanitize(&job.target.to_string())),
        ("instance", sanitize(&job.instance)),
        ("file", format!("{} ({}, {} bytes)", sanitize(&job.filename), job.format, job.bytes)),
        ("rows", outcome_label(&job.rows)),
        ("priority", job.priority.to_string()),
    ];
    lines.extend(job.group.as_ref().map(|group| ("group", sanitize(group))));
    lines.extend(job.retry_of.map(|id| ("rows from", format!("the failed rows of job {id}"))));
    lines.extend(job.source.as_ref().map(|source| ("source", sanitize(&source.to_string()))));
    lines.push(("created", time(job.created_at)));
    lines.extend(job.started_at.map(|at| ("started", time(at))));
    lines.extend(job.finished_at.map(|at| ("finished", time(at))));
    lines.extend(job.content_erased_at.map(|at| ("content", format!("erased at {}", time(at)))));
    let waits = "kept for someone to retry the job, or to erase it";
    lines.extend(job.is_content_kept().then(|| ("content", waits.to_owned())));
    lines.extend(job.reports_erased_at.map(|at| ("reports", format!("erased at {}", time(at)))));
    lines.extend(job.error.as_ref().map(|error| ("error", sanitize(error))));
    table(&lines.into_iter().map(|(name, value)| vec![name.to_owned(), value]).collect::<Vec<_>>())
}

fn batches(batches: &[Batch]) -> String {
    let head = ["PART", "STATE", "MARKETO ID", "ATTEMPTS", "DONE", "FAILED", UNACCOUNTED, "MESSAGE"]
        .map(str::to_owned)
        .to_vec();
    let row = |batch: &Batch| {
        let [done, failed, unaccounted] = row_cells(&batch.rows);
        vec![
            batch.part.to_string(),
            batch.state.to_string(),
            sanitize(batch.marketo_batch_id.as_deref().unwrap_or("-")),
            batch.attempts.to_string(),
            done,
            failed,
            unaccounted,
            sanitize(batch.message.as_deref().unwrap_or_default()),
        ]
    };
    table(&without_idle_column([head].into_iter().chain(batches.iter().map(row)).collect(), UNACCOUNTED))
}

fn events(history: &[HistoryEntry]) -> String {
    let head = ["AT", "PART", "EVENT", "STATE", "REQUEST ID", "MESSAGE"].map(str::to_owned).to_vec();
    let row = |entry: &HistoryEntry| {
        vec![
            time(entry.at),
            entry.part.map_or_else(|| "-".to_owned(), |part| part.to_string()),
            entry.event.clone(),
            entry.state.clone(),
            sanitize(entry.request_id.as_deref().unwrap_or("-")),
            sanitize(entry.message.as_deref().unwrap_or_default()),
        ]
    };
    table(&[head].into_iter().chain(history.iter().map(row)).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::format::samples;
    use crate::domain::{BatchState, JobState};

    #[test]
    fn a_record_has_a_line_for_what_there_is() {
        let mut job = samples::job(12, JobState::Complete);
        job.rows = samples::rows(10, (Some(9), Some(1), Some(0)));
        job.group = Some("nightly".into());
        job.started_at = Some(samples::at(1));
        job.finished_at = Some(samples::at(62));
        job.content_erased_at = Some(samples::at(90));
        assert_eq!(
            record(&job),
            "job       12\n\
             state     complete\n\
             target    leads\n\
             instance  default\n\
             file      people.csv (csv, 1234 bytes)\n\
             rows      10 rows, 9 processed, 1 failed\n\
             priority  0\n\
             group     nightly\n\
             source    the socket, user 1000\n\
             created   2026-08-01T10:00:00Z\n\
             started   2026-08-01T10:00:01Z\n\
             finished  2026-08-01T10:01:02Z\n\
             content   erased at 2026-08-01T10:01:30Z\n"
        );
    }

    #[test]
    fn batches_and_events_have_a_line_each() {
        let mut batch = samples::batch(1, BatchState::Complete);
        batch.marketo_batch_id = Some("3404".into());
        batch.attempts = 1;
        batch.message = Some("Import succeeded".into());
        assert_eq!(
            batches(&[batch]),
            "PART  STATE     MARKETO ID  ATTEMPTS  DONE  FAILED  MESSAGE\n\
             1     complete  3404        1         0/10  0       Import succeeded\n"
        );
        let entry = HistoryEntry {
            at: samples::at(0),
            part: None,
            event: "received".into(),
            state: "pending".into(),
            message: None,
            request_id: None,
        };
        let other = HistoryEntry {
            part: Some(1),
            event: "accepted".into(),
            request_id: Some("e42b#1".into()),
            ..entry.clone()
        };
        assert_eq!(
            events(&[entry, other]),
            "AT                    PART  EVENT     STATE    REQUEST ID  MESSAGE\n\
             2026-08-01T10:00:00Z  -     received  pending  -\n\
             2026-08-01T10:00:00Z  1     accepted  pending  e42b#1\n"
        );
    }

    #[test]
    fn the_history_stands_beside_the_jobs_own_keys() {
        let job = samples::job(12, JobState::Pending);
        let json = serde_json::to_value(Shown { job: &job, history: &[] }).unwrap();
        assert_eq!((&json["id"], &json["history"]), (&12.into(), &serde_json::json!([])));
    }
}
