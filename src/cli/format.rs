//! Text format of jobs, counts, times and tables on a terminal: records in, text out. Times are UTC, to the second.

use console::measure_text_width;
use jiff::Timestamp;

use crate::domain::JobState;
use crate::domain::row_counts::RowCounts;
use crate::store::Job;
use crate::untrusted_text;

/// Lays rows of cells out as lines, with each column as wide as its widest cell on a terminal. Trailing blanks are cut.
pub fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width =
        |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| measure_text_width(cell)).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for row in rows {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, &width)| pad_right(cell, width)).collect();
        text += cells.join("  ").trim_end();
        text.push('\n');
    }
    text
}

/// Pads a cell with blanks at its right to `width` columns of the terminal.
pub fn pad_right(cell: &str, width: usize) -> String {
    format!("{cell}{}", padding(cell, width))
}

/// Returns the blanks that widen a cell to `width` columns of the terminal.
pub fn padding(cell: &str, width: usize) -> String {
    " ".repeat(width.saturating_sub(measure_text_width(cell)))
}

/// Escapes control characters, so that an untrusted name or message stays one line and cannot control the terminal.
pub fn sanitize(text: &str) -> String {
    untrusted_text::escape(text).into_owned()
}

/// Formats a time in UTC, to the second.
pub fn time(at: Timestamp) -> String {
    format!("{at:.0}")
}

/// Formats a number with its noun: `2 rows`, `1 row`, `2 batches`.
pub fn count(number: u64, one: &str) -> String {
    if number == 1 {
        format!("1 {one}")
    } else {
        format!("{number} {one}{}", if one.ends_with("ch") { "es" } else { "s" })
    }
}

/// Formats the counts of rows: `1000 rows, 997 processed, 2 failed, 1 with a warning, 1 unaccounted for`. A count of 0
/// is left out, except that of processed rows; a count that Marketo did not give is `unknown`.
pub fn outcome_label(rows: &RowCounts) -> String {
    let mut text = format!("{}, {} processed", count(rows.total, "row"), count_or_unknown(rows.processed));
    for (number, what) in [(rows.failed, "failed"), (rows.warned, "with a warning")] {
        if number != Some(0) {
            text += &format!(", {} {what}", count_or_unknown(number));
        }
    }
    match rows.unaccounted {
        Some(0) => {}
        Some(more) if more < 0 => text += &format!(", {} more counted than sent", more.unsigned_abs()),
        Some(less) => text += &format!(", {less} unaccounted for"),
        None => text += ", unknown unaccounted for",
    }
    text
}

/// Formats a count, or `unknown` if Marketo did not give it.
pub fn count_or_unknown(count: Option<u64>) -> String {
    count.map_or_else(|| "unknown".to_owned(), |count| count.to_string())
}

/// Returns the cells DONE, FAILED and UNACCOUNTED of a table; `?` is a count that Marketo did not give.
pub fn row_cells(rows: &RowCounts) -> [String; 3] {
    let cell = |count: Option<String>| count.unwrap_or_else(|| "?".to_owned());
    let done = cell(rows.done().map(|done| done.to_string()));
    [
        format!("{done}/{}", rows.total),
        cell(rows.failed.map(|failed| failed.to_string())),
        cell(rows.unaccounted.map(|unaccounted| unaccounted.to_string())),
    ]
}

/// Head of the column for rows that are in none of Marketo's counts.
pub const UNACCOUNTED: &str = "UNACCOUNTED";

/// Removes the column `name` from a table, its head included, if it is 0 in every row.
pub fn without_idle_column(mut table: Vec<Vec<String>>, name: &str) -> Vec<Vec<String>> {
    let column = table.first().and_then(|head| head.iter().position(|cell| cell == name));
    if let Some(column) = column.filter(|&column| table.iter().skip(1).all(|row| row[column] == "0")) {
        for row in &mut table {
            row.remove(column);
        }
    }
    table
}

/// Returns a job's state; for a running job, with the states of its batches.
pub fn state_label(job: &Job) -> String {
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
    let labels: Vec<String> = match states[..] {
        [(state, 1)] => vec![state.to_owned()],
        _ => states.iter().map(|(state, number)| format!("{number} {state}")).collect(),
    };
    format!("running ({})", labels.join(", "))
}

/// Returns one line about an ended job: its state and its counts of rows, or its error.
pub fn summary_line(job: &Job) -> String {
    let (id, file) = (job.id, sanitize(&job.filename));
    match (job.state, &job.error) {
        (JobState::Failed, Some(error)) => format!("job {id}: {file} has failed: {}", sanitize(error)),
        (state, _) => format!("job {id}: {file} is {state}: {}", outcome_label(&job.rows)),
    }
}

/// Records for tests of the texts.
#[cfg(test)]
pub mod samples {
    use super::*;
    use crate::domain::{BatchState, Counts, Format, JobId, Source, Target};
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
            rows: RowCounts::uncounted(10),
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

    /// Of a complete import: processed, failed, warned.
    pub fn rows(total: u64, (processed, failed, warned): (Option<u64>, Option<u64>, Option<u64>)) -> RowCounts {
        RowCounts::complete(total, Counts { processed, failed, warned })
    }

    pub fn batch(part: u32, state: BatchState) -> Batch {
        Batch { state, ..Batch::new(part, 10, 6, 1234) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::BatchState as S;

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
    fn names_cannot_control_the_terminal() {
        assert_eq!(sanitize("a\x1b[2J\nb.csv"), r"a\u{1b}[2J\nb.csv");
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
            assert_eq!(state_label(&job), text);
        }
        job.state = JobState::Complete;
        assert_eq!(state_label(&job), "complete");
    }

    #[test]
    fn the_summary_line_has_the_outcome() {
        let mut job = samples::job(7, JobState::Complete);
        for (counts, text) in [
            ((Some(8), Some(2), Some(1)), "8 processed, 2 failed, 1 with a warning"),
            ((Some(8), Some(0), Some(0)), "8 processed, 2 unaccounted for"),
            ((Some(10), Some(1), Some(0)), "10 processed, 1 failed, 1 more counted than sent"),
            ((Some(10), None, Some(0)), "10 processed, unknown failed, unknown unaccounted for"),
            ((None, None, None), "unknown processed, unknown failed, unknown with a warning, unknown unaccounted for"),
        ] {
            job.rows = samples::rows(10, counts);
            assert_eq!(summary_line(&job), format!("job 7: people.csv is complete: 10 rows, {text}"));
        }
        job.state = JobState::Failed;
        job.error = Some("1006: field 'x' not found".into());
        assert_eq!(summary_line(&job), "job 7: people.csv has failed: 1006: field 'x' not found");
        job.state = JobState::Cancelled;
        job.rows = RowCounts::uncounted(1);
        assert_eq!(summary_line(&job), "job 7: people.csv is cancelled: 1 row, 0 processed");
    }
}
