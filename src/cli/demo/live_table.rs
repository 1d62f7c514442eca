//! Live table of the demo: lays records out for a terminal's size. Pure: records in, lines out.

use std::collections::BTreeMap;

use console::{Style, measure_text_width};

use crate::api::dto::InstanceStatus;
use crate::cli::format::{padding, row_cells, sanitize};
use crate::domain::{BatchState, JobState, Target};
use crate::store::Job;

/// Width of a job's bar in columns. Only wide terminals have room for it.
const BAR: u64 = 20;

/// Order in which the states of batches are used as the label of a running job: the first that any batch has.
const LABEL_PRIORITY: [BatchState; 6] = [
    BatchState::Held,
    BatchState::Importing,
    BatchState::Collecting,
    BatchState::Uploading,
    BatchState::Queued,
    BatchState::Pending,
];

/// Snapshot of all jobs and of the instance.
pub struct LiveTable {
    /// Oldest first.
    pub jobs: Vec<Job>,
    pub instance: InstanceStatus,
    /// Maximum of imports that Marketo processes at once.
    pub importing: u32,
}

impl LiveTable {
    /// Returns lines that fit into a terminal of this size, with one line left free.
    pub fn frame(&self, width: usize, height: usize) -> Vec<String> {
        let room = height.saturating_sub(1);
        let top = [self.slots(), String::new()];
        let (table, legend) = (self.table(width), legend(&self.jobs));
        let legend = [vec![String::new()], legend].concat();
        let mut frame = top.to_vec();
        if top.len() + table.len() + legend.len() <= room {
            frame.extend(table);
            frame.extend(legend);
        } else if top.len() + table.len() <= room {
            frame.extend(table);
        } else {
            frame.extend(self.shortened(table, room.saturating_sub(top.len())));
        }
        frame.truncate(room);
        frame.into_iter().map(|line| console::truncate_str(&line, width, "…").into_owned()).collect()
    }

    /// Returns a head and one line for each job.
    pub fn table(&self, width: usize) -> Vec<String> {
        let wide = lines(&self.jobs, true);
        if wide.iter().all(|line| measure_text_width(line) <= width) { wide } else { lines(&self.jobs, false) }
    }

    /// Returns the head, the jobs that have not ended, and a last line that counts the others.
    fn shortened(&self, table: Vec<String>, room: usize) -> Vec<String> {
        let mut table = table.into_iter();
        let mut kept: Vec<String> = table.next().into_iter().collect();
        let mut others: BTreeMap<&str, usize> = BTreeMap::new();
        for (job, line) in self.jobs.iter().zip(table) {
            if !job.state.is_terminal() && kept.len() + 1 < room {
                kept.push(line);
            } else {
                *others.entry(label(job)).or_default() += 1;
            }
        }
        let others: Vec<String> = others.iter().map(|(state, number)| format!("{number} {state}")).collect();
        kept.push(format!("and {}", others.join(", ")));
        kept
    }

    fn slots(&self) -> String {
        let InstanceStatus { slots, limits, .. } = &self.instance;
        let taken = slots.uploading + slots.queued + slots.importing + slots.unknown;
        let of = |style: Style, used: u32, limit: u32| {
            let cells = bar(style, used.into(), limit.into(), limit.into());
            format!("{cells} {used}/{limit}")
        };
        format!(
            "importing {}   queued {}   calls {}/{} in {} s",
            of(Style::new().yellow(), slots.importing, self.importing),
            of(Style::new().cyan(), taken, slots.limit),
            limits.calls_used,
            limits.calls,
            limits.window
        )
    }
}

/// Returns the label of a job: its state, or that of its foremost batch.
fn label(job: &Job) -> &'static str {
    if job.state != JobState::Running {
        return job.state.as_str();
    }
    let foremost = LABEL_PRIORITY.into_iter().find(|&state| job.batches.iter().any(|batch| batch.state == state));
    foremost.map_or(job.state.as_str(), BatchState::as_str)
}

fn colour(label: &str) -> Style {
    match label {
        "complete" => Style::new().green(),
        "failed" | "cancelled" | "held" => Style::new().red(),
        "importing" => Style::new().yellow(),
        "collecting" => Style::new().magenta(),
        "uploading" | "queued" => Style::new().cyan(),
        _ => Style::new().dim(),
    }
}

fn bar(style: Style, done: u64, all: u64, cells: u64) -> String {
    let full = (done * cells).checked_div(all).unwrap_or(cells).min(cells);
    let repeated = |cell: &str, times: u64| cell.repeat(usize::try_from(times).unwrap_or(0));
    style.apply_to(format!("{}{}", repeated("█", full), repeated("░", cells - full))).to_string()
}

/// Returns the short form of a target: its kind and its key.
fn short(target: &Target) -> String {
    match target {
        Target::ProgramMembers { program_id, .. } => format!("{} {program_id}", target.kind()),
        target => target.to_string(),
    }
}

/// One field of the table.
struct Cell {
    text: String,
    style: Style,
    /// Minimum width of the column.
    width: usize,
    right: bool,
}

fn left(text: impl Into<String>) -> Cell {
    Cell { text: text.into(), style: Style::new(), width: 0, right: false }
}

fn right(text: impl ToString) -> Cell {
    Cell { right: true, ..left(text.to_string()) }
}

fn lines(jobs: &[Job], wide: bool) -> Vec<String> {
    let mut head =
        vec![right("JOB"), left("FILE"), left("TARGET"), Cell { width: 10, ..left("STATE") }, right("BATCH")];
    head.extend([right("ROWS"), Cell { width: 4, ..right("FAIL") }, right("WARN")]);
    if wide {
        head.insert(4, left("DONE"));
    }
    for cell in &mut head {
        cell.style = Style::new().bold();
    }
    let rows: Vec<Vec<Cell>> = [head].into_iter().chain(jobs.iter().map(|job| cells(job, wide))).collect();
    let widest = |column: usize| {
        rows.iter().map(|row| row[column].width.max(measure_text_width(&row[column].text))).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..rows[0].len()).map(widest).collect();
    rows.iter().map(|row| line(row, &widths)).collect()
}

fn cells(job: &Job, wide: bool) -> Vec<Cell> {
    let rows = &job.rows;
    let [done, ..] = row_cells(rows);
    let ended = job.batches.iter().filter(|batch| batch.ended_at.is_some()).count();
    let label = label(job);
    let number = |number: Option<u64>, style: Style| match number {
        Some(0) => Cell { style: Style::new().dim(), ..right("-") },
        Some(number) => Cell { style, ..right(number) },
        None => right("?"),
    };
    let mut cells = vec![
        right(job.id),
        left(sanitize(&job.filename)),
        left(sanitize(&if wide { job.target.to_string() } else { short(&job.target) })),
        Cell { style: colour(label), ..left(label) },
        right(format!("{ended}/{}", job.batches.len())),
        right(done),
        number(rows.failed, Style::new().red()),
        number(rows.warned, Style::new().yellow()),
    ];
    if wide {
        cells.insert(4, left(bar(colour(label), rows.done().unwrap_or(0), rows.total, BAR)));
    }
    cells
}

fn line(row: &[Cell], widths: &[usize]) -> String {
    let mut text = String::new();
    for (index, (cell, &width)) in row.iter().zip(widths).enumerate() {
        // Numbers are aligned right, so one blank between two of them is enough.
        let gap = match index {
            0 => "",
            _ if cell.right && row[index - 1].right => " ",
            _ => "  ",
        };
        let padding = padding(&cell.text, width);
        let styled = cell.style.apply_to(&cell.text);
        text += &if cell.right { format!("{gap}{padding}{styled}") } else { format!("{gap}{styled}{padding}") };
    }
    text
}

/// Explains why some jobs wait for others or have more than one batch.
fn legend(jobs: &[Job]) -> Vec<String> {
    let mut lists: BTreeMap<i64, Vec<&Job>> = BTreeMap::new();
    let mut groups: BTreeMap<&str, Vec<&Job>> = BTreeMap::new();
    let mut lines = Vec::new();
    for job in jobs {
        if let Some(list) = job.target.list_id() {
            lists.entry(list).or_default().push(job);
        }
        if let Some(group) = &job.group {
            groups.entry(group).or_default().push(job);
        }
        if job.batches.len() > 1 {
            lines.push(format!(
                "job {}: too large for one upload, so it goes in {} batches",
                job.id,
                job.batches.len()
            ));
        }
        if job.priority > 0 {
            lines.push(format!("job {}: priority {}, so it goes before all that wait", job.id, job.priority));
        }
    }
    for (list, jobs) in lists.iter().filter(|(_, jobs)| jobs.len() > 1) {
        lines.push(format!("jobs {}: one static list ({list}), so one import at a time", ids(jobs)));
    }
    for (group, jobs) in groups.iter().filter(|(_, jobs)| jobs.len() > 1) {
        lines.push(format!("jobs {}: one group ({}), so one after the other", ids(jobs), sanitize(group)));
    }
    lines.into_iter().map(|line| Style::new().dim().apply_to(line).to_string()).collect()
}

fn ids(jobs: &[&Job]) -> String {
    jobs.iter().map(|job| job.id.to_string()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use console::strip_ansi_codes;

    use super::*;
    use crate::api::dto::{Limits, Queue, Slots};
    use crate::cli::format::samples::{batch, job};

    fn table(jobs: Vec<Job>) -> LiveTable {
        let slots = Slots { uploading: 1, queued: 3, importing: 2, unknown: 0, limit: 10, learnt: None };
        let queue = Queue::default();
        let limits =
            Limits { calls_used: 7, calls: 50, window: 20.0, concurrent_calls: 5, calls_today: 0, daily_calls: 0 };
        let instance = InstanceStatus { pause: None, quiet_until: None, slots, queue, limits };
        LiveTable { jobs, instance, importing: 2 }
    }

    fn running(id: i64) -> Job {
        let mut job = job(id, JobState::Running);
        job.batches = vec![batch(1, BatchState::Queued), batch(2, BatchState::Importing)];
        (job.rows.total, job.rows.processed, job.rows.failed) = (20, Some(9), Some(1));
        job
    }

    fn plainly(lines: &[String]) -> Vec<String> {
        lines.iter().map(|line| strip_ansi_codes(line).into_owned()).collect()
    }

    #[test]
    fn slots_stand_above_a_line_for_each_job() {
        let mut member = running(12);
        member.target = Target::ProgramMembers { program_id: 1044, status: "Registered".into() };
        let table = table(vec![job(3, JobState::Complete), member]);
        assert_eq!(
            plainly(&table.frame(80, 24)),
            [
                "importing ██ 2/2   queued ██████░░░░ 6/10   calls 7/50 in 20 s",
                "",
                "JOB  FILE        TARGET                STATE       BATCH  ROWS FAIL WARN",
                "  3  people.csv  leads                 complete      0/1  0/10    -    -",
                " 12  people.csv  program-members 1044  importing     0/2 10/20    1    -",
                "",
                "job 12: too large for one upload, so it goes in 2 batches",
            ]
        );
        assert_eq!(
            plainly(&table.frame(120, 24))[4],
            " 12  people.csv  program-members 1044 (Registered)  importing   ██████████░░░░░░░░░░    0/2 10/20    1    -"
        );
    }

    #[test]
    fn a_frame_fits_into_any_terminal() {
        let table = table((1..=15).map(running).collect());
        for (width, height) in [(80, 24), (80, 12), (40, 6), (10, 3), (1, 1), (300, 100)] {
            let frame = table.frame(width, height);
            assert!(frame.len() < height || frame.is_empty(), "{width}x{height}: {frame:#?}");
            assert!(frame.iter().all(|line| measure_text_width(line) <= width), "{width}x{height}: {frame:#?}");
        }
    }

    #[test]
    fn on_a_low_terminal_those_that_have_ended_are_only_counted() {
        let states = [JobState::Complete, JobState::Pending, JobState::Complete, JobState::Pending, JobState::Pending];
        let jobs = (1..).zip(states).map(|(id, state)| job(id, state)).collect();
        let frame = plainly(&table(jobs).frame(80, 7));
        let (ids, last) = (&frame[3..frame.len() - 1], &frame[frame.len() - 1]);
        assert!(ids.len() == 2 && ids[0].starts_with("  2 ") && ids[1].starts_with("  4 "), "{frame:#?}");
        assert_eq!(last, "and 2 complete, 1 pending");
    }

    #[test]
    fn jobs_that_wait_for_each_other_are_explained() {
        let mut jobs: Vec<Job> = (1..=5).map(|id| job(id, JobState::Pending)).collect();
        for job in &mut jobs[..2] {
            job.target = Target::Leads { lookup_field: None, list_id: Some(7), partition: None };
        }
        for job in &mut jobs[2..4] {
            job.group = Some("nightly".into());
        }
        jobs[4].priority = 10;
        assert_eq!(
            plainly(&legend(&jobs)),
            [
                "job 5: priority 10, so it goes before all that wait",
                "jobs 1, 2: one static list (7), so one import at a time",
                "jobs 3, 4: one group (nightly), so one after the other",
            ]
        );
        assert!(legend(&jobs[1..3]).is_empty());
    }
}
