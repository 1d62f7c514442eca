//! The `status` command: shows the state of the daemon, its instances and its drop folder.

use clap::Args;

use crate::api::dto::{DropStatus, IgnoredFile, InstanceStatus, Status as Answer};
use crate::cli::exit_status::{CliError, ExitStatus};
use crate::cli::format::{count, sanitize, waiting_label};
use crate::cli::global::GlobalArgs;
use crate::cli::output;
use crate::cli::render::{Cell, Column, Screen, Table, Tone};
use crate::cli::status_watch::StatusWatch;
use crate::domain::JobId;

/// Show the slots, the queue and the limits of every instance, or of one in full
///
/// Below the table stand the problems that need attention: pauses, held jobs, and problems of the drop folder (files
/// that are ignored because of their names, and folders that can't be read). With --json: an object with "version",
/// "started_at", "instances" by name, "listen" and "drop"; of one instance, its object alone.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  marqueue status
  marqueue status emea
  marqueue status --watch
  marqueue status --json")]
pub struct Status {
    /// The instance to show in full, by its name in the configuration
    #[arg(value_name = "INSTANCE")]
    instance: Option<String>,

    /// Show what is in each slot and the queue behind them, and go on showing it as it changes, until q
    ///
    /// Each slot has its job, and when its import will probably end; the queue is in the order in which it will
    /// probably be uploaded, with what each job waits for. It needs a terminal; marqueue events follows changes
    /// elsewhere.
    #[arg(long)]
    watch: bool,
}

impl Status {
    /// Runs the command.
    ///
    /// # Errors
    /// The daemon refuses or can't be reached, the instance is unknown, or standard output is not writable.
    pub async fn run(self, global: &GlobalArgs) -> Result<ExitStatus, CliError> {
        let client = global.client()?;
        let screen = Screen::stdout();
        if self.watch && (global.json || !screen.can_redraw) {
            let text = "--watch needs a terminal, and shows no JSON: use marqueue events, or status --json each time";
            return Err(CliError::Usage(text.into()));
        }
        let status = client.status().await?;
        if let Some(name) = self.instance.as_ref().filter(|&name| !status.instances.contains_key(name)) {
            return Err(unknown_instance(name, &status));
        }
        if self.watch {
            return StatusWatch::open(&client, self.instance.as_deref()).await?.run().await;
        }
        match &self.instance {
            Some(name) => {
                let instance = &status.instances[name];
                if global.json {
                    output::print_json(instance)?;
                } else {
                    output::print(&in_full(name, instance, &screen))?;
                }
            }
            None if global.json => output::print_json(&status)?,
            None => output::print(&overview(&status, &screen))?,
        }
        Ok(ExitStatus::Done)
    }
}

fn unknown_instance(name: &str, status: &Answer) -> CliError {
    let known: Vec<&str> = status.instances.keys().map(String::as_str).collect();
    CliError::Input(format!("there is no instance \"{name}\" in the configuration: it has {}", known.join(", ")))
}

/// Returns a table with a line for each instance, and below it the problems that need attention.
fn overview(status: &Answer, screen: &Screen) -> String {
    let mut text = format!("marqueue {}, running {}\n\n", sanitize(&status.version), screen.since(status.started_at));
    let mut table = Table::new(vec![
        Column::left("INSTANCE").shortened(8),
        Column::left("UPLOADS"),
        Column::right("SLOTS"),
        Column::right("PENDING"),
        Column::right("RUNNING"),
        Column::right("COLLECTING").optional(2),
        Column::right("HELD"),
        Column::right("GIVEN UP"),
        Column::right("CALLS").optional(3),
        Column::right("TODAY").optional(1),
    ]);
    let mut remarks = Table::of_values();
    for (name, instance) in &status.instances {
        table.push(instance_row(name, instance));
        for remark in instance_remarks(instance, screen) {
            remarks.push_value(name, remark);
        }
    }
    text += &table.render(screen);
    if let Some(drop) = status.drop.as_ref().filter(|drop| **drop != DropStatus::default()) {
        for remark in drop_folder(drop) {
            remarks.push_value("drop folder", remark);
        }
    }
    if !remarks.is_empty() {
        text += "\n";
        text += &remarks.render(screen);
    }
    text
}

fn instance_row(name: &str, status: &InstanceStatus) -> [Cell; 10] {
    let InstanceStatus { pause, quiet_until, slots, queue, limits, note: _ } = status;
    let uploads = match (pause, quiet_until) {
        (Some(pause), _) => Cell::toned(format!("paused ({})", pause.kind.as_str()), Tone::Attention),
        (None, Some(_)) => Cell::toned("in backoff", Tone::Attention),
        (None, None) => Cell::toned("on", Tone::Good),
    };
    let number = |number: u64, tone: Tone| {
        let tone = if number == 0 { Tone::Faint } else { tone };
        Cell::toned(number.to_string(), tone)
    };
    let today = if limits.daily_calls > 0 {
        format!("{}/{}", limits.calls_today, limits.daily_calls)
    } else {
        limits.calls_today.to_string()
    };
    [
        name.into(),
        uploads,
        format!("{}/{}", occupied_slots(status), slots.limit).into(),
        number(queue.pending_jobs, Tone::Plain),
        number(queue.running_jobs, Tone::Active),
        number(queue.collecting.into(), Tone::Active),
        number(queue.held.len() as u64, Tone::Attention),
        number(queue.given_up.jobs, Tone::Fault),
        format!("{}/{}", limits.calls_used, limits.calls).into(),
        today.into(),
    ]
}

fn occupied_slots(status: &InstanceStatus) -> u32 {
    let slots = &status.slots;
    slots.uploading + slots.queued + slots.importing + slots.unknown
}

/// Returns the remarks about an instance, a sentence each.
fn instance_remarks(status: &InstanceStatus, screen: &Screen) -> Vec<Cell> {
    let InstanceStatus { pause, quiet_until, slots, queue, .. } = status;
    let mut remarks = Vec::new();
    if pause.is_some() || quiet_until.is_some() {
        remarks.push(Cell::toned(uploads(status, screen), Tone::Attention));
    }
    if slots.unknown > 0 {
        let unknown = count(slots.unknown.into(), "slot");
        remarks.push(format!("{unknown} may be occupied: the answer to an upload was lost").into());
    }
    if let Some(learnt) = slots.learnt {
        remarks.push(format!("Marketo last let us have {}", count(learnt.into(), "slot")).into());
    }
    if let (Some(waiting), None, None) = (&queue.waiting, pause, quiet_until) {
        remarks.push(format!("the next pending job: {}", waiting_label(waiting, screen)).into());
    }
    if !queue.held.is_empty() {
        remarks.push(Cell::toned(held(&queue.held), Tone::Attention));
    }
    if queue.given_up.jobs > 0 {
        remarks.push(Cell::toned(given_up(status), Tone::Fault));
    }
    if let Some(oldest) = queue.oldest_pending_at {
        remarks.push(format!("the oldest pending job waits {}", screen.since(oldest)).into());
    }
    remarks
}

fn uploads(status: &InstanceStatus, screen: &Screen) -> String {
    match (&status.pause, status.quiet_until) {
        (Some(pause), _) => {
            let until = pause.until.map(|until| format!(", {}", screen.until(until))).unwrap_or_default();
            format!("paused {}{until}: {}", screen.since(pause.at), pause.reason)
        }
        (None, Some(until)) => {
            format!("Marketo does not answer, or no upload succeeds; the next try is {}", screen.at(until))
        }
        (None, None) => "uploads go on".to_owned(),
    }
}

fn held(jobs: &[JobId]) -> String {
    let jobs: Vec<String> = jobs.iter().map(ToString::to_string).collect();
    format!("held, and to be retried or cancelled: {}", jobs.join(", "))
}

fn given_up(status: &InstanceStatus) -> String {
    let given_up = &status.queue.given_up;
    let first: Vec<String> = given_up.first.iter().map(ToString::to_string).collect();
    let more = given_up.jobs.saturating_sub(first.len() as u64);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("failed by their attempts with their content kept, and to be retried or erased: {}{more}", first.join(", "))
}

/// Returns the problems of the drop folder, a sentence each.
fn drop_folder(drop: &DropStatus) -> Vec<Cell> {
    let faults = drop.faults.iter().map(|(folder, why)| Cell::toned(format!("{folder}: {why}"), Tone::Fault));
    let files = drop.files.iter().map(|file| Cell::toned(left_alone(file), Tone::Attention));
    let mut remarks: Vec<Cell> = faults.chain(files).collect();
    let unlisted = drop.left_alone.saturating_sub(drop.files.len() as u64);
    if unlisted > 0 {
        remarks.push(Cell::toned(format!("{} more left alone", count(unlisted, "file")), Tone::Attention));
    }
    remarks
}

fn left_alone(file: &IgnoredFile) -> String {
    // The quotes make a blank at the end visible.
    format!("left alone: \"{}\": {}", file.path, file.reason)
}

/// Returns all that is known of one instance.
fn in_full(name: &str, status: &InstanceStatus, screen: &Screen) -> String {
    let InstanceStatus { slots, queue, limits, .. } = status;
    let mut slots_text = format!(
        "{} of {} taken: {} uploading, {} queued, {} importing",
        occupied_slots(status),
        slots.limit,
        slots.uploading,
        slots.queued,
        slots.importing
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
        waiting += &format!("; the oldest waits {}", screen.since(oldest));
    }
    if let (Some(reason), None, None) = (&queue.waiting, &status.pause, status.quiet_until) {
        waiting += &format!("; the next: {}", waiting_label(reason, screen));
    }
    let of_day = if limits.daily_calls > 0 { format!(" of {}", limits.daily_calls) } else { String::new() };
    let calls = format!(
        "{} of {} in {} s, at most {} at once; {}{of_day} today",
        limits.calls_used, limits.calls, limits.window, limits.concurrent_calls, limits.calls_today
    );
    let is_on = status.pause.is_none() && status.quiet_until.is_none();
    let mut table = Table::of_values();
    table.push_value("instance", name);
    table.push_value("uploads", Cell::toned(uploads(status, screen), if is_on { Tone::Good } else { Tone::Attention }));
    table.push_value("slots", slots_text);
    table.push_value("queue", waiting);
    table.push_value("calls", calls);
    if !queue.held.is_empty() {
        table.push_value("jobs", Cell::toned(held(&queue.held), Tone::Attention));
    }
    if queue.given_up.jobs > 0 {
        table.push_value("jobs", Cell::toned(given_up(status), Tone::Fault));
    }
    table.render(screen)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::api::dto::{Limits, PauseDto, Queue, RetentionCandidatesDto, Slots, WaitingDto};
    use crate::cli::format::samples::at;
    use crate::domain::instance::PauseKind;
    use crate::scheduler::explain::WaitReason;

    fn idle_status() -> InstanceStatus {
        InstanceStatus {
            pause: None,
            note: None,
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

    fn full_status() -> InstanceStatus {
        let mut busy = idle_status();
        busy.pause = Some(PauseDto { kind: PauseKind::Quota, reason: "607".into(), at: at(0), until: Some(at(3600)) });
        busy.slots = Slots { uploading: 1, queued: 3, importing: 2, unknown: 1, limit: 10, learnt: Some(6) };
        busy.queue = Queue {
            pending_jobs: 1,
            pending_batches: 2,
            running_jobs: 6,
            collecting: 1,
            held: vec![JobId(4), JobId(5)],
            given_up: RetentionCandidatesDto { jobs: 3, bytes: 70, first: vec![JobId(7), JobId(9)] },
            oldest_pending_at: Some(at(1)),
            waiting: Some(WaitingDto {
                waits_for: WaitReason::Slot,
                text: "waits for a free slot".into(),
                until: None,
            }),
        };
        busy.limits.daily_calls = 10_000;
        busy
    }

    fn answer(instances: BTreeMap<String, InstanceStatus>, drop: DropStatus) -> Answer {
        Answer { version: "0.1.0".into(), started_at: at(0), listen: None, instances, drop: Some(drop) }
    }

    #[test]
    fn every_instance_has_a_line_and_remarks_below() {
        let instances = BTreeMap::from([("default".into(), idle_status()), ("emea".into(), full_status())]);
        assert_eq!(
            overview(&answer(instances, DropStatus::default()), &Screen::PLAIN),
            "marqueue 0.1.0, running since 2026-08-01T10:00:00.000Z\n\
             \n\
             INSTANCE  UPLOADS         SLOTS  PENDING  RUNNING  COLLECTING  HELD  GIVEN UP  CALLS    TODAY\n\
             default   on               0/10        0        0           0     0         0   0/50        0\n\
             emea      paused (quota)   7/10        1        6           1     2         3   0/50  0/10000\n\
             \n\
             emea  paused since 2026-08-01T10:00:00.000Z, until 2026-08-01T11:00:00.000Z: 607\n\
             emea  1 slot may be occupied: the answer to an upload was lost\n\
             emea  Marketo last let us have 6 slots\n\
             emea  held, and to be retried or cancelled: 4, 5\n\
             emea  failed by their attempts with their content kept, and to be retried or erased: 7, 9 and 1 more\n\
             emea  the oldest pending job waits since 2026-08-01T10:00:01.000Z\n"
        );
    }

    #[test]
    fn one_instance_is_shown_in_full() {
        let screen = Screen { now: Some(at(180)), width: Some(80), ..Screen::PLAIN };
        assert_eq!(
            in_full("emea", &full_status(), &screen),
            "instance  emea\n\
             uploads   paused for 3 min, for another 57 min: 607\n\
             slots     7 of 10 taken: 1 uploading, 3 queued, 2 importing, 1 unknown; Marketo\n\
             \x20         last let us have 6\n\
             queue     1 job pending (2 batches), 6 running, 1 collecting; the oldest waits\n\
             \x20         for 2 min\n\
             calls     0 of 50 in 20 s, at most 5 at once; 0 of 10000 today\n\
             jobs      held, and to be retried or cancelled: 4, 5\n\
             jobs      failed by their attempts with their content kept, and to be retried or\n\
             \x20         erased: 7, 9 and 1 more\n"
        );
    }

    #[test]
    fn problems_of_the_drop_folder_are_shown() {
        let file = |path: &str| IgnoredFile { path: path.into(), reason: "its name ends in none of .csv".into() };
        let drop = DropStatus {
            left_alone: 12,
            files: vec![file("eu/leads/a.zip"), file("eu/leads/b.csv \x1b[2J")],
            faults: BTreeMap::from([("eu".into(), "looking at its folder has not ended for 31 s".into())]),
        };
        let text = overview(&answer(BTreeMap::from([("default".into(), idle_status())]), drop), &Screen::PLAIN);
        let (_, remarks) = text.rsplit_once("\n\n").unwrap();
        assert_eq!(
            remarks,
            "drop folder  eu: looking at its folder has not ended for 31 s\n\
             drop folder  left alone: \"eu/leads/a.zip\": its name ends in none of .csv\n\
             drop folder  left alone: \"eu/leads/b.csv \\u{1b}[2J\": its name ends in none of .csv\n\
             drop folder  10 files more left alone\n"
        );
    }
}
