//! How do jobs read on a terminal? Pure: records in, text out. Times are UTC to the second.

use jiff::Timestamp;

use crate::job::JobState;
use crate::store::{Job, Rows};

/// Rows of cells with each column as wide as its widest cell. The last column is not padded.
pub fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for row in rows {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:<width$}")).collect();
        text += cells.join("  ").trim_end();
        text.push('\n');
    }
    text
}

/// Without what could steer the terminal: names and messages come from elsewhere.
pub fn plain(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { '\u{fffd}' } else { letter }).collect()
}

pub fn time(at: Timestamp) -> String {
    format!("{at:.0}")
}

/// `2 rows`, `1 row`, `2 batches`.
pub fn count(number: u64, one: &str) -> String {
    if number == 1 {
        format!("1 {one}")
    } else {
        format!("{number} {one}{}", if one.ends_with("ch") { "es" } else { "s" })
    }
}

/// `1000 rows, 998 processed, 2 failed, 1 with a warning`; failures and warnings are left out where there are none.
pub fn outcome(rows: &Rows) -> String {
    let mut text = format!("{}, {} processed", count(rows.total, "row"), rows.processed);
    if rows.failed > 0 {
        text += &format!(", {} failed", rows.failed);
    }
    if rows.warned > 0 {
        text += &format!(", {} with a warning", rows.warned);
    }
    text
}

/// A job's state; while it is running, also those of its batches.
pub fn standing(job: &Job) -> String {
    if job.state != JobState::Running {
        return job.state.to_string();
    }
    let mut states: Vec<(&str, u64)> = Vec::new();
    for batch in &job.batches {
        match states.iter_mut().find(|(state, _)| *state == batch.state.as_str()) {
            Some((_, number)) => *number += 1,
            None => states.push((batch.state.as_str(), 1)),
        }
    }
    let words: Vec<String> = match states[..] {
        [(state, 1)] => vec![state.to_owned()],
        _ => states.iter().map(|(state, number)| format!("{number} {state}")).collect(),
    };
    format!("running ({})", words.join(", "))
}

/// One line about a job that has ended: what came of it.
pub fn ending(job: &Job) -> String {
    let (id, file) = (job.id, plain(&job.filename));
    match (job.state, &job.error) {
        (JobState::Failed, Some(error)) => format!("job {id}: {file} has failed: {}", plain(error)),
        (state, _) => format!("job {id}: {file} is {state}: {}", outcome(&job.rows)),
    }
}

/// Records to try the texts on.
#[cfg(test)]
pub mod samples {
    use super::*;
    use crate::job::{BatchState, Format, JobId, Source, Target};
    use crate::store::Batch;

    /// 2026-08-01T10:00:00Z and some seconds.
    pub fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_785_578_400 + second).unwrap()
    }

    pub fn job(id: i64, state: JobState) -> Job {
        Job {
            id: JobId(id),
            state,
            target: Target::Leads { lookup_field: None, list_id: None, partition: None },
            instance: "default".into(),
            filename: "people.csv".into(),
            format: Format::Csv,
            priority: 0,
            group: None,
            bytes: 1234,
            rows: Rows { total: 10, ..Rows::default() },
            batches: vec![batch(1, BatchState::Pending)],
            retry_of: None,
            source: Some(Source::Socket { uid: Some(1000) }),
            created_at: at(0),
            started_at: None,
            finished_at: None,
            content_erased_at: None,
            reports_erased_at: None,
            error: None,
            header: (0, 6),
        }
    }

    pub fn batch(part: u32, state: BatchState) -> Batch {
        Batch { state, ..Batch::untouched(part, 10, 6, 1234) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::BatchState as S;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [vec!["ID".into(), "FILE".into(), "X".into()], vec!["12345".into(), "größe".into(), String::new()]];
        assert_eq!(table(&rows), "ID     FILE   X\n12345  größe\n");
        assert_eq!(table(&[]), "");
    }

    #[test]
    fn times_are_utc_to_the_second() {
        assert_eq!(time(samples::at(0)), "2026-08-01T10:00:00Z");
        assert_eq!(time(crate::clock::from_ms(1_785_578_400_999)), "2026-08-01T10:00:00Z");
    }

    #[test]
    fn a_name_can_t_steer_the_terminal() {
        assert_eq!(plain("a\x1b[2J\nb.csv"), "a\u{fffd}[2J\u{fffd}b.csv");
    }

    #[test]
    fn a_running_job_shows_its_batches() {
        let mut job = samples::job(1, JobState::Running);
        for (states, text) in [
            (vec![S::Importing], "running (importing)"),
            (vec![S::Held, S::Held], "running (2 held)"),
            (vec![S::Complete, S::Importing, S::Pending, S::Pending], "running (1 complete, 1 importing, 2 pending)"),
        ] {
            job.batches = states.into_iter().zip(1..).map(|(state, part)| samples::batch(part, state)).collect();
            assert_eq!(standing(&job), text);
        }
        job.state = JobState::Complete;
        assert_eq!(standing(&job), "complete");
    }

    #[test]
    fn the_last_line_about_a_job_tells_what_came_of_it() {
        let mut job = samples::job(7, JobState::Complete);
        job.rows = Rows { total: 10, processed: 8, failed: 2, warned: 1 };
        assert_eq!(ending(&job), "job 7: people.csv is complete: 10 rows, 8 processed, 2 failed, 1 with a warning");
        job.state = JobState::Failed;
        job.error = Some("1006: field 'x' not found".into());
        assert_eq!(ending(&job), "job 7: people.csv has failed: 1006: field 'x' not found");
        job.state = JobState::Cancelled;
        job.rows = Rows { total: 1, ..Rows::default() };
        assert_eq!(ending(&job), "job 7: people.csv is cancelled: 1 row, 0 processed");
    }
}
