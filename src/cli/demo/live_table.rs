//! Live table of the demo: lays records out for a terminal's size. Pure: records in, lines out.

use std::collections::BTreeMap;

use crate::api::dto::InstanceStatus;
use crate::api::dto::JobDto;
use crate::cli::format::{count_cell, done_label, foremost_state, sanitize, state_tone};
use crate::cli::queue_frame::short_target;
use crate::cli::render::{Cell, Column, Screen, Table, Tone, bar, width};

/// Width of a job's bar in columns. Only wide terminals have room for it.
const BAR: usize = 20;

/// Snapshot of all jobs and of the instance.
pub struct LiveTable {
    /// Oldest first.
    pub jobs: Vec<JobDto>,
    pub instance: InstanceStatus,
    /// Maximum of imports that Marketo processes at once.
    pub importing: u32,
}

impl LiveTable {
    /// Returns lines that fit into a terminal of this height, with one line left free.
    pub fn frame(&self, screen: &Screen, height: usize) -> Vec<String> {
        let room = height.saturating_sub(1);
        let top = [self.slots(screen), String::new()];
        let table = self.table(screen);
        let legend = [vec![String::new()], legend(&self.jobs, screen)].concat();
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
        match screen.width {
            Some(columns) => frame.into_iter().map(|line| width::shorten_end(&line, columns)).collect(),
            None => frame,
        }
    }

    /// Returns a head and one line for each job.
    pub fn table(&self, screen: &Screen) -> Vec<String> {
        let mut table = Table::new(vec![
            Column::right("JOB"),
            Column::left("FILE").shortened(12),
            Column::left("TARGET").shortened(12),
            Column::left("STATE").at_least(10),
            Column::left("DONE").optional(1),
            Column::right("BATCH"),
            Column::right("ROWS"),
            Column::right("FAIL"),
            Column::right("WARN"),
        ]);
        for job in &self.jobs {
            let tone = state_tone(job);
            table.push([
                job.id.to_string().into(),
                Cell::from(&job.filename),
                short_target(&job.target).into(),
                Cell::toned(label(job), tone),
                Cell::bar(job.rows.done().unwrap_or(0), job.rows.total, BAR, tone),
                ended_batches(job).into(),
                done_label(&job.rows).into(),
                count_cell(job.rows.failed, Tone::Attention),
                count_cell(job.rows.warned, Tone::Attention),
            ]);
        }
        table.lines(screen)
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

    fn slots(&self, screen: &Screen) -> String {
        let InstanceStatus { slots, limits, .. } = &self.instance;
        let taken = slots.uploading + slots.queued + slots.importing + slots.unknown;
        let of = |used: u32, limit: u32| {
            let cells = bar(used.into(), limit.into(), limit as usize);
            format!("{} {used}/{limit}", screen.paint(Tone::Active, &cells))
        };
        format!(
            "importing {}   queued {}   calls {}/{} in {} s",
            of(slots.importing, self.importing),
            of(taken, slots.limit),
            limits.calls_used,
            limits.calls,
            limits.window
        )
    }
}

/// Returns the label of a job: its state, or that of its foremost batch.
fn label(job: &JobDto) -> &'static str {
    foremost_state(job).map_or(job.state.as_str(), |state| state.as_str())
}

fn ended_batches(job: &JobDto) -> String {
    format!("{}/{}", job.batches.iter().filter(|batch| batch.ended_at.is_some()).count(), job.batches.len())
}

/// Explains why some jobs wait for others or have more than one batch.
fn legend(jobs: &[JobDto], screen: &Screen) -> Vec<String> {
    let mut lists: BTreeMap<i64, Vec<&JobDto>> = BTreeMap::new();
    let mut groups: BTreeMap<&str, Vec<&JobDto>> = BTreeMap::new();
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
    lines.into_iter().map(|line| screen.paint(Tone::Faint, &line)).collect()
}

fn ids(jobs: &[&JobDto]) -> String {
    jobs.iter().map(|job| job.id.to_string()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::dto::{Limits, Queue, Slots};
    use crate::cli::format::samples::{batch, job};
    use crate::domain::{BatchState, JobState, Target};

    fn table(jobs: Vec<JobDto>) -> LiveTable {
        let slots = Slots { uploading: 1, queued: 3, importing: 2, unknown: 0, limit: 10, learnt: None };
        let queue = Queue::default();
        let limits =
            Limits { calls_used: 7, calls: 50, window: 20.0, concurrent_calls: 5, calls_today: 0, daily_calls: 0 };
        let instance = InstanceStatus { pause: None, note: None, quiet_until: None, slots, queue, limits };
        LiveTable { jobs, instance, importing: 2 }
    }

    fn running(id: i64) -> JobDto {
        let mut job = job(id, JobState::Running);
        job.batches = vec![batch(1, BatchState::Queued), batch(2, BatchState::Importing)];
        (job.rows.total, job.rows.processed, job.rows.failed) = (20, Some(9), Some(1));
        job
    }

    fn at(width: usize) -> Screen {
        Screen { width: Some(width), ..Screen::PLAIN }
    }

    #[test]
    fn slots_stand_above_a_line_for_each_job() {
        let mut member = running(12);
        member.target = Target::ProgramMembers { program_id: 1044, status: "Registered".into() };
        let table = table(vec![job(3, JobState::Complete), member]);
        assert_eq!(
            table.frame(&at(80), 24),
            [
                "importing ██ 2/2   queued ██████░░░░ 6/10   calls 7/50 in 20 s",
                "",
                "JOB  FILE        TARGET                STATE       BATCH   ROWS  FAIL  WARN",
                "  3  people.csv  leads                 complete      0/1   0/10     0     0",
                " 12  people.csv  program-members 1044  importing     0/2  10/20     1     0",
                "",
                "job 12: too large for one upload, so it goes in 2 batches",
            ]
        );
        assert_eq!(
            table.frame(&at(120), 24)[4],
            " 12  people.csv  program-members 1044  importing   ██████████░░░░░░░░░░    0/2  10/20     1     0"
        );
    }

    #[test]
    fn a_frame_fits_into_any_terminal() {
        let table = table((1..=15).map(running).collect());
        for (columns, height) in [(80, 24), (80, 12), (40, 6), (10, 3), (1, 1), (300, 100)] {
            let frame = table.frame(&at(columns), height);
            assert!(frame.len() < height || frame.is_empty(), "{columns}x{height}: {frame:#?}");
            assert!(frame.iter().all(|line| width::width(line) <= columns), "{columns}x{height}: {frame:#?}");
        }
    }

    #[test]
    fn ended_jobs_are_only_counted_on_a_low_terminal() {
        let states = [JobState::Complete, JobState::Pending, JobState::Complete, JobState::Pending, JobState::Pending];
        let jobs = (1..).zip(states).map(|(id, state)| job(id, state)).collect();
        let frame = table(jobs).frame(&at(80), 7);
        let (ids, last) = (&frame[3..frame.len() - 1], &frame[frame.len() - 1]);
        assert!(ids.len() == 2 && ids[0].starts_with("  2 ") && ids[1].starts_with("  4 "), "{frame:#?}");
        assert_eq!(last, "and 2 complete, 1 pending");
    }

    #[test]
    fn jobs_that_wait_for_each_other_are_explained() {
        let mut jobs: Vec<JobDto> = (1..=5).map(|id| job(id, JobState::Pending)).collect();
        for job in &mut jobs[..2] {
            job.target = Target::Leads { lookup_field: None, list_id: Some(7), partition: None };
        }
        for job in &mut jobs[2..4] {
            job.group = Some("nightly".into());
        }
        jobs[4].priority = 10;
        assert_eq!(
            legend(&jobs, &Screen::PLAIN),
            [
                "job 5: priority 10, so it goes before all that wait",
                "jobs 1, 2: one static list (7), so one import at a time",
                "jobs 3, 4: one group (nightly), so one after the other",
            ]
        );
        assert!(legend(&jobs[1..3], &Screen::PLAIN).is_empty());
    }
}
