//! Text of an event: what changed, and how it is now, as one line.

use jiff::Timestamp;

use crate::api::dto::{BatchDto, EventData, JobDto, PauseDto};
use crate::cli::format::{batch_tone, count_or_unknown, done_label, outcome_label, sanitize, state_label, state_tone};
use crate::cli::render::{Screen, Tone, time, width};
use crate::domain::{BatchState, JobState};

/// Columns of the subject. The texts of jobs with numbers of up to five digits stand below each other.
const SUBJECT_COLUMNS: usize = 17;

/// One event as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventLine {
    /// What changed: `job 12`, `job 12 part 2`, `instance eu`.
    pub subject: String,
    /// How it is now.
    pub text: String,
    /// What that means to the reader.
    pub tone: Tone,
}

impl EventLine {
    /// Makes the line of an event.
    pub fn of(event: &EventData) -> EventLine {
        match event {
            EventData::Job { job, part, .. } => {
                let batch = part.and_then(|part| job.batches.iter().find(|batch| batch.part == part));
                match batch {
                    Some(batch) => EventLine::of_batch(job, batch),
                    None => EventLine::of_job(job),
                }
            }
            EventData::Instance { name, pause, quiet_until, .. } => {
                let (text, tone) = instance_text(pause.as_ref(), *quiet_until);
                EventLine { subject: format!("instance {}", sanitize(name)), text, tone }
            }
            EventData::Missed { count } => {
                let count = count_or_unknown(*count);
                let text = format!("events were missed ({count}): \"marqueue list\" shows how the jobs are now");
                EventLine { subject: "events".to_owned(), text, tone: Tone::Attention }
            }
        }
    }

    fn of_job(job: &JobDto) -> EventLine {
        let mut text = format!("{}: {}", sanitize(&job.filename), state_label(job));
        if let (JobState::Failed, Some(error)) = (job.state, &job.error) {
            text += &format!(": {}", sanitize(error));
        }
        if job.content_erased_at.is_some() {
            text += ", content erased";
        }
        EventLine { subject: format!("job {}", job.id), text, tone: state_tone(job) }
    }

    fn of_batch(job: &JobDto, batch: &BatchDto) -> EventLine {
        let mut text = format!("{}: {}", sanitize(&job.filename), batch.state);
        match batch.state {
            BatchState::Queued | BatchState::Importing | BatchState::Collecting => {
                if let Some(id) = &batch.marketo_batch_id {
                    text += &format!(" as Marketo's batch {}", sanitize(id));
                }
                if batch.state != BatchState::Queued {
                    text += &format!(", {} rows", done_label(&batch.rows));
                }
            }
            BatchState::Complete => text += &format!(": {}", outcome_label(&batch.rows)),
            BatchState::Pending | BatchState::Held | BatchState::Failed | BatchState::Cancelled => {
                if let Some(message) = &batch.message {
                    text += &format!(": {}", sanitize(message));
                }
            }
            BatchState::Uploading => {}
        }
        let subject = format!("job {} part {}", job.id, batch.part);
        EventLine { subject, text, tone: batch_tone(batch.state) }
    }

    /// Returns the line for a screen, with its time and without a line end. On a terminal it is shortened to one row.
    pub fn render(&self, at: Timestamp, screen: &Screen) -> String {
        let at = if screen.width.is_some() { time::to_the_second(at) } else { time::exact(at) };
        let subject = format!("{}{}", self.subject, width::padding(&self.subject, SUBJECT_COLUMNS));
        let line = format!("{at}  {subject}  {}", screen.paint(self.tone, &self.text));
        match screen.width {
            Some(columns) => width::shorten_end(&line, columns),
            None => line,
        }
    }
}

fn instance_text(pause: Option<&PauseDto>, quiet_until: Option<Timestamp>) -> (String, Tone) {
    match (pause, quiet_until) {
        (Some(pause), _) => {
            let until = pause.until.map(|until| format!(" until {}", time::exact(until))).unwrap_or_default();
            (format!("paused ({}){until}: {}", pause.kind.as_str(), sanitize(&pause.reason)), Tone::Attention)
        }
        (None, Some(until)) => (format!("in backoff, the next try is at {}", time::exact(until)), Tone::Attention),
        (None, None) => ("uploads go on".to_owned(), Tone::Good),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::format::samples::{at, job};
    use crate::domain::instance::PauseKind;

    fn line(event: &EventData) -> String {
        EventLine::of(event).render(at(0), &Screen::PLAIN)
    }

    #[test]
    fn text_from_outside_stays_on_its_line() {
        let mut failed = job(3, JobState::Failed);
        failed.filename = "a\n\u{1b}[2J.csv".into();
        failed.error = Some("1013: \r\u{202e}gone".into());
        let line = line(&EventData::Job { job: Box::new(failed), part: None, at: None });
        let text = "job 3              a\\n\\u{1b}[2J.csv: failed: 1013: \\r\\u{202e}gone";
        assert_eq!(line, format!("2026-08-01T10:00:00.000Z  {text}"));
    }

    #[test]
    fn an_instance_is_shown_with_its_pause_or_backoff() {
        let event = |pause, quiet_until| EventData::Instance { name: "eu".into(), pause, quiet_until, at: None };
        let quota = PauseDto { kind: PauseKind::Quota, reason: "607".into(), at: at(0), until: Some(at(60)) };
        for (event, text) in [
            (event(Some(quota), None), "paused (quota) until 2026-08-01T10:01:00.000Z: 607"),
            (event(None, Some(at(5))), "in backoff, the next try is at 2026-08-01T10:00:05.000Z"),
            (event(None, None), "uploads go on"),
        ] {
            assert_eq!(line(&event), format!("2026-08-01T10:00:00.000Z  instance eu        {text}"));
        }
    }

    #[test]
    fn a_line_is_one_row_of_the_terminal() {
        let mut long = job(3, JobState::Pending);
        long.filename = "顧客".repeat(40);
        let event = EventData::Job { job: Box::new(long), part: None, at: None };
        let screen = Screen { width: Some(60), has_colours: true, ..Screen::PLAIN };
        let shown = EventLine::of(&event).render(at(0), &screen);
        assert!(width::width(&shown) <= 60 && shown.starts_with("2026-08-01T10:00:00Z  job 3  "), "{shown}");
    }
}
