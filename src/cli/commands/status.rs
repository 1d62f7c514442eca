//! The `status` command: shows the state of the daemon, its instances and its drop folder.

use clap::Args;

use crate::api::dto::{DropStatus, IgnoredFile, InstanceStatus, Status as Answer};
use crate::cli::exit_status::{CliError, ExitStatus};
use crate::cli::format::{count, sanitize, table, time};
use crate::cli::global::GlobalArgs;
use crate::cli::output;

/// Show slots, queue and limits of every instance
///
/// Also shows problems of the drop folder: files that are ignored because of their names, and folders that can't be read. With --json: an object with "version", "started_at", "instances" by name, "listen" and "drop".
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  marqueue status
  marqueue status --json")]
pub struct Status {}

impl Status {
    /// Runs the command.
    ///
    /// # Errors
    /// The daemon refuses or can't be reached, or standard output is not writable.
    pub async fn run(self, global: &GlobalArgs) -> Result<ExitStatus, CliError> {
        let status = global.client()?.status().await?;
        if global.json {
            output::print_json(&status)?;
        } else {
            output::print(&render(&status))?;
        }
        Ok(ExitStatus::Done)
    }
}

fn render(status: &Answer) -> String {
    let mut text = format!("marqueue {}, since {}\n", sanitize(&status.version), time(status.started_at));
    for (name, status) in &status.instances {
        text += &format!("\n{}\n", sanitize(name));
        let rows = instance(status).into_iter().map(|(name, value)| vec![format!("  {name}"), value]);
        text += &table(&rows.collect::<Vec<_>>());
    }
    if let Some(drop) = status.drop.as_ref().filter(|drop| **drop != DropStatus::default()) {
        text += "\ndrop folder\n";
        text += &table(&drop_folder(drop));
    }
    text
}

/// Returns the problems of the drop folder.
fn drop_folder(drop: &DropStatus) -> Vec<Vec<String>> {
    let faults = drop.faults.iter().map(|(folder, why)| (format!("  {}", sanitize(folder)), sanitize(why)));
    let files = drop.files.iter().map(|file| ("  left alone".to_owned(), left_alone(file)));
    let mut rows: Vec<Vec<String>> = faults.chain(files).map(|(name, value)| vec![name, value]).collect();
    let unlisted = drop.left_alone.saturating_sub(drop.files.len() as u64);
    if unlisted > 0 {
        rows.push(vec!["  left alone".to_owned(), format!("and {} more", count(unlisted, "file"))]);
    }
    rows
}

fn left_alone(file: &IgnoredFile) -> String {
    // The quotes make a blank at the end visible.
    format!("\"{}\": {}", sanitize(&file.path), sanitize(&file.reason))
}

fn instance(status: &InstanceStatus) -> Vec<(&'static str, String)> {
    let InstanceStatus { pause, quiet_until, slots, queue, limits } = status;
    let state = match (pause, quiet_until) {
        (Some(pause), _) => {
            let until = pause.until.map(|until| format!(", until {}", time(until))).unwrap_or_default();
            format!("paused since {}{until}: {}", time(pause.at), sanitize(&pause.reason))
        }
        (None, Some(until)) => {
            format!("Marketo does not answer, or no upload succeeds; one is tried at {}", time(*until))
        }
        (None, None) => "uploads go on".to_owned(),
    };
    let taken = slots.uploading + slots.queued + slots.importing + slots.unknown;
    let mut slots_text = format!(
        "{taken} of {} taken: {} uploading, {} queued, {} importing",
        slots.limit, slots.uploading, slots.queued, slots.importing
    );
    if slots.unknown > 0 {
        slots_text += &format!(", {} unknown", slots.unknown);
    }
    if let Some(learnt) = slots.learnt {
        slots_text += &format!("; Marketo last let us have {learnt}");
    }
    let mut waiting = format!(
        "{} pending ({}), {} running, {} collecting",
        count(queue.pending_jobs, "job"),
        count(queue.pending_batches, "batch"),
        queue.running_jobs,
        queue.collecting
    );
    if let Some(oldest) = queue.oldest_pending_at {
        waiting += &format!("; the oldest waits since {}", time(oldest));
    }
    let of_day = if limits.daily_calls > 0 { format!(" of {}", limits.daily_calls) } else { String::new() };
    let calls = format!(
        "{} of {} in {} s, at most {} at once; {}{of_day} today",
        limits.calls_used, limits.calls, limits.window, limits.concurrent_calls, limits.calls_today
    );
    let mut lines = vec![("state", state), ("slots", slots_text), ("queue", waiting), ("calls", calls)];
    if !queue.held.is_empty() {
        let held: Vec<String> = queue.held.iter().map(ToString::to_string).collect();
        lines.push(("held", format!("jobs {}: retry or cancel them", held.join(", "))));
    }
    if queue.given_up.jobs > 0 {
        let first: Vec<String> = queue.given_up.first.iter().map(ToString::to_string).collect();
        let more = queue.given_up.jobs.saturating_sub(first.len() as u64);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let text = "failed by their attempts, and their content is kept: retry or erase them";
        lines.push(("given up", format!("jobs {}{more} {text}", first.join(", "))));
    }
    lines
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::api::dto::{Limits, Queue, Slots};
    use crate::cli::format::samples::at;
    use crate::domain::JobId;
    use crate::domain::instance::{Pause, PauseKind};
    use crate::store::RetentionCandidates;

    fn quiet() -> InstanceStatus {
        InstanceStatus {
            pause: None,
            quiet_until: None,
            slots: Slots { uploading: 0, queued: 0, importing: 0, unknown: 0, limit: 10, learnt: None },
            queue: Queue::default(),
            limits: Limits {
                calls_used: 0,
                calls: 50,
                window: 20.0,
                concurrent_calls: 5,
                calls_today: 0,
                daily_calls: 0,
            },
        }
    }

    #[test]
    fn every_instance_has_a_block_of_its_own() {
        let mut busy = quiet();
        busy.pause = Some(Pause { kind: PauseKind::Quota, reason: "607".into(), at: at(0), until: Some(at(3600)) });
        busy.slots = Slots { uploading: 1, queued: 3, importing: 2, unknown: 1, limit: 10, learnt: Some(6) };
        busy.queue = Queue {
            pending_jobs: 1,
            pending_batches: 2,
            running_jobs: 6,
            collecting: 1,
            held: vec![JobId(4), JobId(5)],
            given_up: RetentionCandidates { jobs: 3, bytes: 70, first: vec![JobId(7), JobId(9)] },
            oldest_pending_at: Some(at(1)),
        };
        busy.limits.daily_calls = 10_000;
        let status = Answer {
            version: "0.1.0".into(),
            started_at: at(0),
            listen: None,
            instances: BTreeMap::from([("default".into(), quiet()), ("emea".into(), busy)]),
            drop: Some(DropStatus::default()),
        };
        assert_eq!(
            render(&status),
            "marqueue 0.1.0, since 2026-08-01T10:00:00Z\n\
             \n\
             default\n\
             \x20 state  uploads go on\n\
             \x20 slots  0 of 10 taken: 0 uploading, 0 queued, 0 importing\n\
             \x20 queue  0 jobs pending (0 batches), 0 running, 0 collecting\n\
             \x20 calls  0 of 50 in 20 s, at most 5 at once; 0 today\n\
             \n\
             emea\n\
             \x20 state     paused since 2026-08-01T10:00:00Z, until 2026-08-01T11:00:00Z: 607\n\
             \x20 slots     7 of 10 taken: 1 uploading, 3 queued, 2 importing, 1 unknown; Marketo last let us have 6\n\
             \x20 queue     1 job pending (2 batches), 6 running, 1 collecting; the oldest waits since 2026-08-01T10:00:01Z\n\
             \x20 calls     0 of 50 in 20 s, at most 5 at once; 0 of 10000 today\n\
             \x20 held      jobs 4, 5: retry or cancel them\n\
             \x20 given up  jobs 7, 9 and 1 more failed by their attempts, and their content is kept: retry or erase them\n"
        );
    }

    #[test]
    fn the_drop_folder_shows_what_someone_should_look_at() {
        let file = |path: &str| IgnoredFile { path: path.into(), reason: "its name ends in none of .csv".into() };
        let status = Answer {
            version: "0.1.0".into(),
            started_at: at(0),
            listen: None,
            instances: BTreeMap::new(),
            drop: Some(DropStatus {
                left_alone: 12,
                files: vec![file("eu/leads/a.zip"), file("eu/leads/b.csv \x1b[2J")],
                faults: BTreeMap::from([("eu".into(), "looking at its folder has not ended for 31 s".into())]),
            }),
        };
        assert_eq!(
            render(&status),
            "marqueue 0.1.0, since 2026-08-01T10:00:00Z\n\
             \n\
             drop folder\n\
             \x20 eu          looking at its folder has not ended for 31 s\n\
             \x20 left alone  \"eu/leads/a.zip\": its name ends in none of .csv\n\
             \x20 left alone  \"eu/leads/b.csv \\u{1b}[2J\": its name ends in none of .csv\n\
             \x20 left alone  and 10 files more\n"
        );
    }
}
