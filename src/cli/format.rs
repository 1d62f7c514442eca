//! Text of jobs and counts: records in, text and its meaning out.

use crate::api::dto::{JobDto, WaitingDto};
use crate::cli::render::{Cell, Screen, Tone};
use crate::domain::row_counts::RowCounts;
use crate::domain::{BatchState, JobState};
use crate::scheduler::explain::WaitReason;
use crate::untrusted_text;

/// Escapes control characters, so that an untrusted name or message stays one line and cannot control the terminal.
pub fn sanitize(text: &str) -> String {
    untrusted_text::escape(text).into_owned()
}

/// Formats a number with its noun: `2 rows`, `1 row`, `2 batches`.
pub fn count(number: u64, one: &str) -> String {
    if number == 1 {
        format!("1 {one}")
    } else {
        format!("{number} {one}{}", if one.ends_with("ch") { "es" } else { "s" })
    }
}

/// Formats a number of bytes: `20.0 MB`.
pub fn byte_count(bytes: u64) -> String {
    match bytes {
        ..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{} kB", bytes / 1_000),
        1_000_000..1_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.1} GB", bytes as f64 / 1e9),
    }
}

/// Formats the counts of rows: `1000 rows, 997 processed, 2 failed, 1 with a warning, 1 unaccounted for`. A count of 0
/// is left out, except that of processed rows; a count that Marketo did not give is `unknown`.
pub fn outcome_label(rows: &RowCounts) -> String {
    let mut text = processed_label(rows, [(rows.failed, "failed"), (rows.warned, "with a warning")]);
    match rows.unaccounted {
        Some(0) => {}
        Some(more) if more < 0 => text += &format!(", {} more counted than sent", more.unsigned_abs()),
        Some(less) => text += &format!(", {less} unaccounted for"),
        None => text += ", unknown unaccounted for",
    }
    text
}

/// Formats the number of rows and of processed ones, followed by `others` that are not 0.
fn processed_label<const N: usize>(rows: &RowCounts, others: [(Option<u64>, &str); N]) -> String {
    let mut text = format!("{}, {} processed", count(rows.total, "row"), count_or_unknown(rows.processed));
    for (number, what) in others {
        if number != Some(0) {
            text += &format!(", {} {what}", count_or_unknown(number));
        }
    }
    text
}

/// Says which rows of a complete job were not imported, or may not have been: `2 rows failed, 1 row unaccounted for`.
/// None where each row was imported.
fn shortfall(job: &JobDto) -> Option<String> {
    let mut parts = Vec::new();
    match job.rows.failed {
        Some(0) if job.has_failed_rows() => parts.push("some rows failed".to_owned()),
        Some(0) => {}
        Some(failed) => parts.push(format!("{} failed", count(failed, "row"))),
        None if job.has_failed_rows() => parts.push("some rows failed".to_owned()),
        None => parts.push("failed rows unknown".to_owned()),
    }
    match job.rows.unaccounted {
        Some(0) => {}
        Some(more) if more < 0 => parts.push(format!("{} counted too many", count(more.unsigned_abs(), "row"))),
        Some(less) => parts.push(format!("{} unaccounted for", count(less.unsigned_abs(), "row"))),
        None if job.rows.failed.is_none() => {}
        None => parts.push("processed rows unknown".to_owned()),
    }
    (!parts.is_empty()).then(|| parts.join(", "))
}

/// Formats a count, or `unknown` if Marketo did not give it.
pub fn count_or_unknown(count: Option<u64>) -> String {
    count.map_or_else(|| "unknown".to_owned(), |count| count.to_string())
}

/// Formats how many rows Marketo has processed, of how many: `300/1000`, or `?/1000` where it gave no count.
pub fn done_label(rows: &RowCounts) -> String {
    format!("{}/{}", rows.done().map_or_else(|| "?".to_owned(), |done| done.to_string()), rows.total)
}

/// Returns the cell of the rows that are in none of Marketo's counts.
pub fn unaccounted_cell(rows: &RowCounts) -> Cell {
    match rows.unaccounted {
        Some(0) => Cell::toned("0", Tone::Faint),
        Some(number) => Cell::toned(number.to_string(), Tone::Attention),
        None => Cell::toned("?", Tone::Attention),
    }
}

/// Head of the column for rows that are in none of Marketo's counts.
pub const UNACCOUNTED: &str = "UNACCOUNTED";

/// Order in which the states of batches stand for a running job: the first that any batch has.
const LABEL_PRIORITY: [BatchState; 6] = [
    BatchState::Held,
    BatchState::Importing,
    BatchState::Collecting,
    BatchState::Uploading,
    BatchState::Queued,
    BatchState::Pending,
];

/// Returns the state of a running job's foremost batch; none if the job does not run.
pub fn foremost_state(job: &JobDto) -> Option<BatchState> {
    let any = |state: &BatchState| job.batches.iter().any(|batch| batch.state == *state);
    LABEL_PRIORITY.into_iter().find(any).filter(|_| job.state == JobState::Running)
}

/// Returns what a job's state means to its reader.
pub fn state_tone(job: &JobDto) -> Tone {
    match job.state {
        JobState::Complete if shortfall(job).is_some() => Tone::Attention,
        JobState::Complete => Tone::Good,
        JobState::Failed => Tone::Fault,
        JobState::Cancelled => Tone::Attention,
        JobState::Running => foremost_state(job).map_or(Tone::Active, batch_tone),
        JobState::Receiving | JobState::Pending => Tone::Faint,
    }
}

/// Returns what a batch's state means to its reader.
pub fn batch_tone(state: BatchState) -> Tone {
    match state {
        BatchState::Complete => Tone::Good,
        BatchState::Failed => Tone::Fault,
        BatchState::Cancelled | BatchState::Held => Tone::Attention,
        BatchState::Pending => Tone::Faint,
        BatchState::Uploading | BatchState::Queued | BatchState::Importing | BatchState::Collecting => Tone::Active,
    }
}

/// Returns a job's state; for a running job, with the states of its batches, and for a complete one, with the rows that
/// were not imported.
pub fn state_label(job: &JobDto) -> String {
    match job.state {
        JobState::Running => {}
        JobState::Complete => {
            return shortfall(job).map_or_else(|| "complete".to_owned(), |rows| format!("complete, {rows}"));
        }
        state => return state.to_string(),
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

/// Returns the cell of a job's state, for a table with a line for each job: of a running job, only the state of its
/// foremost batch.
pub fn state_cell(job: &JobDto) -> Cell {
    let label = match foremost_state(job) {
        Some(state) if job.batches.len() == 1 => format!("running ({state})"),
        Some(state) => {
            let ended = job.batches.iter().filter(|batch| batch.ended_at.is_some()).count();
            format!("running ({state}, {ended}/{} done)", job.batches.len())
        }
        None => state_label(job),
    };
    Cell::toned(label, state_tone(job))
}

/// Returns why a job waits, as [`waiting_label`] does. None where it has ended, or the daemon did not say.
pub fn waiting_text(job: &JobDto, screen: &Screen) -> Option<String> {
    job.waiting.as_ref().map(|waiting| waiting_label(waiting, screen))
}

/// Formats what is waited for, with the time of the next try: `Marketo's queue is full, next try in 20 s`.
pub fn waiting_label(waiting: &WaitingDto, screen: &Screen) -> String {
    let WaitingDto { waits_for, text, until } = waiting;
    let when = until.and_then(|until| match waits_for {
        WaitReason::Slot | WaitReason::Service | WaitReason::Backoff | WaitReason::List | WaitReason::Calls => {
            Some(format!(", next try {}", screen.at(until)))
        }
        WaitReason::NotBefore => Some(format!(", {}", screen.at(until))),
        WaitReason::Quota => Some(format!(", {}", screen.until(until))),
        // The next look at an import says nothing about its end.
        _ => None,
    });
    format!("{text}{}", when.unwrap_or_default())
}

/// Returns the cell of a job's state as [`state_cell`] does; for a pending job with what it waits for.
pub fn explained_state_cell(job: &JobDto, screen: &Screen) -> Cell {
    match waiting_text(job, screen).filter(|_| job.state == JobState::Pending) {
        Some(reason) => Cell::toned(format!("pending: {reason}"), state_tone(job)),
        None => state_cell(job),
    }
}

/// Returns how many rows of a job's file Marketo has processed. A batch that Marketo has not counted yet adds nothing.
pub fn done_rows(job: &JobDto) -> u64 {
    job.batches.iter().filter_map(|batch| batch.rows.done()).sum()
}

/// Formats how many rows of a job Marketo has processed, as [`done_label`] does. As long as the job has not ended, a
/// count that is missing is one that is to come.
pub fn job_done_label(job: &JobDto) -> String {
    match job.rows.done() {
        None if !job.state.is_terminal() => format!("{}/{}", done_rows(job), job.rows.total),
        _ => done_label(&job.rows),
    }
}

/// Returns the cell of a number of rows that were not imported as they should: 0 is of no interest, `?` is a count that
/// Marketo did not give.
pub fn count_cell(number: Option<u64>, tone: Tone) -> Cell {
    match number {
        Some(0) => Cell::toned("0", Tone::Faint),
        Some(number) => Cell::toned(number.to_string(), tone),
        None => Cell::toned("?", Tone::Attention),
    }
}

/// Returns one line about an ended job: its state and its counts of rows, or its error.
pub fn summary_line(job: &JobDto) -> String {
    let (id, file) = (job.id, sanitize(&job.filename));
    match (job.state, &job.error) {
        (JobState::Failed, Some(error)) => format!("job {id}: {file} has failed: {}", sanitize(error)),
        (JobState::Complete, _) => {
            let outcome = processed_label(&job.rows, [(job.rows.warned, "with a warning")]);
            format!("job {id}: {file} is {}: {outcome}", state_label(job))
        }
        (state, _) => format!("job {id}: {file} is {state}: {}", outcome_label(&job.rows)),
    }
}

/// Records for tests of the texts.
#[cfg(test)]
pub mod samples {
    use jiff::Timestamp;

    use crate::api::dto::{BatchDto, JobDto};
    use crate::domain::row_counts::RowCounts;
    use crate::domain::{BatchState, Counts, Format, JobId, JobState, Source, Target};
    use crate::store::Batch;

    /// 2026-08-01T10:00:00Z and some seconds.
    pub fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_785_578_400 + second).unwrap()
    }

    pub fn job(id: i64, state: JobState) -> JobDto {
        JobDto {
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
            not_before: None,
            in_order: false,
            canary: None,
            max_failed_percent: None,
            pack: false,
            source: Some(Source::Socket { uid: Some(1000) }),
            created_at: at(0),
            started_at: None,
            finished_at: None,
            content_erased_at: None,
            reports_erased_at: None,
            error: None,
            waiting: None,
            estimated_start: None,
            estimated_end: None,
        }
    }

    /// Of a complete import: processed, failed, warned.
    pub fn rows(total: u64, (processed, failed, warned): (Option<u64>, Option<u64>, Option<u64>)) -> RowCounts {
        RowCounts::complete(total, Counts { processed, failed, warned })
    }

    pub fn batch(part: u32, state: BatchState) -> BatchDto {
        BatchDto { state, ..BatchDto::from(Batch::new(part, 10, 6, 1234)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::BatchState as S;

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
        job.rows = samples::rows(10, (Some(10), Some(0), Some(0)));
        assert_eq!(state_label(&job), "complete");
    }

    #[test]
    fn the_summary_line_has_the_outcome() {
        let mut job = samples::job(7, JobState::Complete);
        for (counts, text) in [
            ((Some(10), Some(0), Some(0)), "complete: 10 rows, 10 processed"),
            ((Some(8), Some(2), Some(1)), "complete, 2 rows failed: 10 rows, 8 processed, 1 with a warning"),
            ((Some(0), Some(10), Some(0)), "complete, 10 rows failed: 10 rows, 0 processed"),
            ((Some(8), Some(1), Some(0)), "complete, 1 row failed, 1 row unaccounted for: 10 rows, 8 processed"),
            ((Some(10), Some(1), Some(0)), "complete, 1 row failed, 1 row counted too many: 10 rows, 10 processed"),
            ((Some(10), None, Some(0)), "complete, failed rows unknown: 10 rows, 10 processed"),
            ((None, Some(0), Some(0)), "complete, processed rows unknown: 10 rows, unknown processed"),
        ] {
            job.rows = samples::rows(10, counts);
            assert_eq!(summary_line(&job), format!("job 7: people.csv is {text}"));
            let is_clean = counts.0 == Some(10) && counts.1 == Some(0);
            assert_eq!(state_tone(&job), if is_clean { Tone::Good } else { Tone::Attention }, "{text}");
        }
        job.state = JobState::Failed;
        job.error = Some("1006: field 'x' not found".into());
        assert_eq!(summary_line(&job), "job 7: people.csv has failed: 1006: field 'x' not found");
        job.state = JobState::Cancelled;
        job.rows = RowCounts::uncounted(1);
        assert_eq!(summary_line(&job), "job 7: people.csv is cancelled: 1 row, 0 processed");
    }

    #[test]
    fn a_stored_failure_file_means_failed_rows_without_a_count() {
        let mut job = samples::job(7, JobState::Complete);
        job.rows = samples::rows(10, (Some(10), Some(0), Some(0)));
        job.batches[0].failures_bytes = Some(20);
        assert_eq!((state_label(&job).as_str(), state_tone(&job)), ("complete, some rows failed", Tone::Attention));
    }
}
