//! Frame of `status --watch`: lays the slots and the queue of the instances out for a terminal's size. Pure.

use crate::api::dto::{
    InstanceQueue, InstanceStatus, PendingJobDto, QueuedJobDto, SlotDto, SlotImportDto, SlotState, Status,
};
use crate::cli::format::{count, sanitize, waiting_label};
use crate::cli::render::{Cell, Column, Screen, Table, Tone, bar, width};
use crate::domain::Target;

/// Width of the bar of an import's time, in columns. Only wide terminals have room for it.
const BAR: usize = 20;

/// The least lines of the queue of an instance: a head and three jobs.
const MIN_QUEUE_LINES: usize = 4;

/// What is known of the daemon at one moment.
pub struct QueueFrame<'a> {
    /// The daemon and all its instances.
    pub status: &'a Status,
    /// The instances that are shown, in this order.
    pub queues: &'a [InstanceQueue],
    /// A line about the connection; none while it is there.
    pub notice: Option<&'a str>,
}

impl QueueFrame<'_> {
    /// Returns lines that fit into a terminal of this height, with one line left free.
    pub fn lines(&self, screen: &Screen, height: usize) -> Vec<String> {
        let room = height.saturating_sub(1);
        let mut last = vec![screen.paint(Tone::Faint, "q ends it; marqueue events follows each change")];
        last.extend(self.notice.map(|notice| screen.paint(Tone::Fault, notice)));
        let room = room.saturating_sub(last.len());
        let mut lines = Vec::new();
        let mut left_out = 0;
        for queue in self.queues {
            let Some(status) = self.status.instances.get(&queue.instance) else { continue };
            let section = Section { status, queue };
            let top = section.top(screen);
            if left_out > 0 || (!lines.is_empty() && lines.len() + top.len() + MIN_QUEUE_LINES > room) {
                left_out += 1;
                continue;
            }
            lines.extend(top);
            lines.extend(section.queue(screen, room.saturating_sub(lines.len() + 1)));
            lines.push(String::new());
        }
        if left_out > 0 {
            let text = format!("and {}: marqueue status --watch INSTANCE shows one", count(left_out, "more instance"));
            lines.truncate(room.saturating_sub(1));
            lines.push(screen.paint(Tone::Faint, &text));
        }
        lines.truncate(room);
        lines.extend(last);
        lines.truncate(height.saturating_sub(1));
        match screen.width {
            Some(columns) => lines.into_iter().map(|line| width::shorten_end(&line, columns)).collect(),
            None => lines,
        }
    }
}

/// One instance.
struct Section<'a> {
    status: &'a InstanceStatus,
    queue: &'a InstanceQueue,
}

impl Section<'_> {
    /// Returns the name with the limits, and a line for each occupied slot.
    fn top(&self, screen: &Screen) -> Vec<String> {
        let InstanceStatus { pause, quiet_until, limits, .. } = self.status;
        let name = screen.paint(Tone::Head, &sanitize(&self.queue.instance));
        let state = match (pause, quiet_until) {
            (Some(pause), _) => {
                let until = pause.until.map(|until| format!(", {}", screen.until(until))).unwrap_or_default();
                let reason = sanitize(&pause.reason);
                screen.paint(Tone::Attention, &format!("paused {}{until}: {reason}", screen.since(pause.at)))
            }
            (None, Some(until)) => screen
                .paint(Tone::Attention, &format!("Marketo does not answer; the next try is {}", screen.at(*until))),
            (None, None) => screen.paint(Tone::Good, "uploads are on"),
        };
        let slots = &self.queue.slots;
        let importing = slots.iter().filter(|slot| slot.state == SlotState::Importing).count();
        let of = |used: usize, limit: u32| {
            let cells = bar(used as u64, limit.into(), limit as usize);
            format!("{} {used}/{limit}", screen.paint(Tone::Active, &cells))
        };
        let today = if limits.daily_calls > 0 { format!("/{}", limits.daily_calls) } else { String::new() };
        let used = format!(
            "importing {}   slots {}   calls {}/{} in {} s, {}{today} today",
            of(importing, self.queue.importing_limit),
            of(slots.len(), self.queue.limit),
            limits.calls_used,
            limits.calls,
            limits.window,
            limits.calls_today,
        );
        let mut lines = vec![format!("{name}: {state}"), used];
        if !slots.is_empty() {
            let mut table = Table::new(vec![
                Column::right("SLOT"),
                Column::left("STATE").at_least(9),
                Column::left("JOB"),
                Column::left("FILE").shortened(12),
                Column::left("TARGET").shortened(10).optional(2),
                Column::right("ROWS"),
                Column::left("SINCE").optional(1),
                Column::left("TIME").optional(0),
                Column::left("ENDS"),
            ]);
            for (number, slot) in (1..).zip(slots) {
                table.push(slot_row(number, slot, screen));
            }
            lines.extend(table.lines(screen));
        }
        lines
    }

    /// Returns the jobs behind the slots in at most so many lines.
    fn queue(&self, screen: &Screen, room: usize) -> Vec<String> {
        let depth = &self.status.queue;
        if self.queue.queue.is_empty() {
            return vec![screen.paint(Tone::Faint, "no job is pending")];
        }
        let mut table = Table::new(vec![
            Column::right("NEXT"),
            Column::left("JOB"),
            Column::left("FILE").shortened(12),
            Column::left("TARGET").shortened(10).optional(2),
            Column::right("ROWS"),
            Column::left("WAITS FOR").shortened(21),
            Column::left("STARTS").optional(1),
            Column::left("ENDS").optional(0),
        ]);
        // A head, and a last line that counts the others.
        let shown = room.saturating_sub(2).min(self.queue.queue.len());
        for (number, place) in (1..).zip(&self.queue.queue[..shown]) {
            table.push(queue_row(number, place, screen));
        }
        let mut lines = table.lines(screen);
        let others = depth.pending_jobs.saturating_sub(shown as u64);
        if others > 0 {
            lines.push(screen.paint(Tone::Faint, &format!("and {}", count(others, "more pending job"))));
        }
        lines.truncate(room);
        lines
    }
}

fn slot_row(number: u32, slot: &SlotDto, screen: &Screen) -> [Cell; 9] {
    let (label, tone) = match slot.state {
        SlotState::Importing => ("importing", Tone::Active),
        SlotState::Queued => ("queued", Tone::Plain),
        SlotState::Uploading => ("uploading", Tone::Active),
        SlotState::Unknown => ("unknown", Tone::Attention),
        SlotState::OtherInstance | SlotState::OtherIntegration => ("taken", Tone::Faint),
    };
    let time = |at: Option<jiff::Timestamp>| at.map(|at| screen.time(at)).unwrap_or_default();
    let since = time(slot.since);
    let ends = time(slot.estimated_end);
    let Some(import) = &slot.import else {
        let what = match slot.state {
            SlotState::Unknown => "its answer was lost",
            SlotState::OtherInstance => "another instance of the subscription",
            SlotState::OtherIntegration => "another integration",
            _ => "another client",
        };
        let empty = Cell::default;
        let what = Cell::toned(what, Tone::Faint);
        return [
            number.to_string().into(),
            Cell::toned(label, tone),
            empty(),
            what,
            empty(),
            empty(),
            since.into(),
            empty(),
            ends.into(),
        ];
    };
    let overdue = import.is_overdue;
    [
        number.to_string().into(),
        Cell::toned(if overdue { "overdue" } else { label }, if overdue { Tone::Fault } else { tone }),
        slot_job(import).into(),
        Cell::from(&import.filename),
        short_target(&import.target).into(),
        import.rows.to_string().into(),
        since.into(),
        elapsed(slot, screen),
        ends.into(),
    ]
}

/// Returns the job of a slot, with the part of a job of several and the number of jobs that share the import.
fn slot_job(import: &SlotImportDto) -> String {
    let SlotImportDto { job, part, parts, shared_with, .. } = import;
    match (parts, shared_with) {
        (0 | 1, 0) => job.to_string(),
        (0 | 1, others) => format!("{job}+{others}"),
        (parts, _) => format!("{job} {part}/{parts}"),
    }
}

/// Returns a bar of how much of an import's expected time is over.
fn elapsed(slot: &SlotDto, screen: &Screen) -> Cell {
    let (SlotState::Importing, Some(since), Some(end), Some(now)) =
        (slot.state, slot.since, slot.estimated_end, screen.now)
    else {
        return Cell::default();
    };
    let ms = |span: jiff::SignedDuration| u64::try_from(span.as_millis()).unwrap_or(0);
    Cell::bar(ms(now.duration_since(since)), ms(end.duration_since(since)).max(1), BAR, Tone::Active)
}

fn queue_row(number: u32, place: &QueuedJobDto, screen: &Screen) -> [Cell; 8] {
    let time = |at: Option<jiff::Timestamp>| at.map(|at| screen.time(at)).unwrap_or_default();
    let starts = time(place.estimated_start);
    let Some(job) = &place.job else {
        let empty = Cell::default;
        let other = Cell::toned("another client", Tone::Faint);
        return [number.to_string().into(), empty(), other, empty(), empty(), empty(), starts.into(), empty()];
    };
    let PendingJobDto { id, filename, target, rows, waiting, estimated_end, .. } = job;
    let waiting = waiting.as_ref().map(|waiting| waiting_label(waiting, screen)).unwrap_or_default();
    [
        number.to_string().into(),
        id.to_string().into(),
        Cell::from(filename),
        short_target(target).into(),
        rows.to_string().into(),
        waiting.into(),
        starts.into(),
        time(*estimated_end).into(),
    ]
}

/// Returns the short form of a target: its kind and its key.
pub fn short_target(target: &Target) -> String {
    match target {
        Target::ProgramMembers { program_id, .. } => format!("{} {program_id}", target.kind()),
        target => target.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::api::dto::{Limits, PauseDto, Queue, Slots, WaitingDto};
    use crate::cli::format::samples::at;
    use crate::domain::JobId;
    use crate::domain::instance::PauseKind;
    use crate::scheduler::explain::WaitReason;

    const LEADS: Target = Target::Leads { lookup_field: None, list_id: None, partition: None };

    fn import(job: i64, filename: &str) -> SlotImportDto {
        let filename = filename.to_owned();
        SlotImportDto {
            job: JobId(job),
            part: 1,
            parts: 1,
            shared_with: 0,
            filename,
            target: LEADS,
            rows: 500,
            is_overdue: false,
        }
    }

    fn slot(state: SlotState, import: Option<SlotImportDto>) -> SlotDto {
        SlotDto { state, import, since: Some(at(-30)), estimated_end: Some(at(10)) }
    }

    fn pending(id: i64, filename: &str) -> QueuedJobDto {
        let waiting = WaitingDto { waits_for: WaitReason::Slot, text: "waits for a free slot".into(), until: None };
        let job = PendingJobDto {
            id: JobId(id),
            filename: filename.into(),
            target: LEADS,
            rows: 20,
            pending_batches: 1,
            priority: 0,
            group: None,
            waiting: Some(waiting),
            estimated_end: Some(at(90)),
        };
        QueuedJobDto { job: Some(job), estimated_start: Some(at(60)) }
    }

    fn queue(instance: &str) -> InstanceQueue {
        let mut packed = import(4, "顧客名簿-二〇二六年-最終版-とても長い名前.csv");
        packed.shared_with = 3;
        let mut large = import(5, "webinar-registrations-2026-08-01-emea-final-version.csv");
        (large.part, large.parts) = (2, 12);
        let unknown = SlotDto { since: None, estimated_end: None, ..slot(SlotState::Unknown, None) };
        InstanceQueue {
            instance: instance.into(),
            limit: 10,
            importing_limit: 2,
            slots: vec![
                slot(SlotState::Importing, Some(packed)),
                slot(SlotState::Importing, None),
                slot(SlotState::Queued, Some(large)),
                slot(SlotState::Uploading, Some(import(6, "a.csv"))),
                unknown,
                SlotDto { since: None, estimated_end: None, ..slot(SlotState::OtherIntegration, None) },
            ],
            queue: vec![pending(7, "people.csv"), QueuedJobDto { job: None, estimated_start: None }],
            has_more: true,
        }
    }

    fn status(names: &[&str]) -> Status {
        let slots = Slots { uploading: 1, queued: 1, importing: 2, unknown: 1, limit: 10, learnt: None };
        let limits = Limits {
            calls_used: 7,
            calls: 50,
            window: 20.0,
            concurrent_calls: 5,
            calls_today: 90,
            daily_calls: 50_000,
        };
        let queue = Queue { pending_jobs: 40, ..Queue::default() };
        let instance = InstanceStatus { pause: None, note: None, quiet_until: None, slots, queue, limits };
        let instances: BTreeMap<String, InstanceStatus> =
            names.iter().map(|&name| (name.to_owned(), instance.clone())).collect();
        Status { version: "1".into(), started_at: at(0), instances, listen: None, drop: None }
    }

    fn screen(columns: usize) -> Screen {
        Screen { width: Some(columns), now: Some(at(0)), ..Screen::PLAIN }
    }

    #[test]
    fn slots_stand_above_the_queue() {
        let frame = QueueFrame { status: &status(&["default"]), queues: &[queue("default")], notice: None }
            .lines(&screen(80), 24);
        begins_with(
            &frame,
            &[
                "default: uploads are on",
                "importing ██ 2/2   slots ██████░░░░ 6/10   calls 7/50 in 20 s, 90/50000 today",
            ],
        );
        let text = frame.join("\n");
        for part in ["4+3", "another client", "5 2/12", "its answer was lost", "waits for a free slot"] {
            assert!(text.contains(part), "{part}:\n{text}");
        }
        assert!(text.contains("and 38 more pending jobs"), "{text}");
        let wide = QueueFrame { status: &status(&["default"]), queues: &[queue("default")], notice: None }
            .lines(&screen(200), 50);
        assert!(wide.join("\n").contains("███████████████░░░░░"), "{wide:#?}");
    }

    /// Compares the first lines.
    fn begins_with(frame: &[String], expected: &[&str]) {
        assert_eq!(&frame[..expected.len()], expected, "{frame:#?}");
    }

    #[test]
    fn a_frame_fits_into_any_terminal() {
        let mut paused = status(&["default", "emea", "apac"]);
        let reason = "607: the daily quota is used up ".repeat(9);
        let pause = PauseDto { kind: PauseKind::Quota, reason, at: at(-60), until: Some(at(3600)) };
        paused.instances.get_mut("emea").unwrap().pause = Some(pause);
        let queues = [queue("default"), queue("emea"), queue("apac")];
        for (columns, height) in [(200, 50), (80, 24), (80, 12), (40, 6), (10, 3), (1, 1), (300, 100)] {
            let frame = QueueFrame { status: &paused, queues: &queues, notice: Some("the connection is lost") };
            let lines = frame.lines(&screen(columns), height);
            assert!(lines.len() < height || lines.is_empty(), "{columns}x{height}: {lines:#?}");
            assert!(lines.iter().all(|line| width::width(line) <= columns), "{columns}x{height}: {lines:#?}");
        }
    }

    #[test]
    fn instances_without_room_are_counted() {
        let names: Vec<String> = (0..5).map(|number| format!("i{number}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let queues: Vec<InstanceQueue> = names.iter().map(|name| queue(name)).collect();
        let status = status(&names);
        let lines = QueueFrame { status: &status, queues: &queues, notice: None }.lines(&screen(80), 24);
        assert!(lines.iter().any(|line| line.starts_with("and 4 more instances")), "{lines:#?}");
    }
}
