//! The `explain` command: shows why a job is in its state.

use clap::Args;

use crate::api::dto::ExplanationDto;
use crate::cli::exit_status::{CliError, ExitStatus};
use crate::cli::global::GlobalArgs;
use crate::cli::render::{Screen, width};
use crate::cli::{format, output};
use crate::domain::{JobId, JobState};

/// Show why a job is in its state: what it waits for, and until when
///
/// With --json: an object with "id", "state", "waits_for" (a code), "text", "until", and the estimates
/// "estimated_start" and "estimated_end".
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  marqueue explain 12")]
pub struct Explain {
    /// The job's number
    #[arg(value_parser = crate::cli::global::parse_job_id)]
    id: JobId,
}

impl Explain {
    /// Shows the explanation.
    ///
    /// # Errors
    /// The daemon refuses, or can't be reached.
    pub async fn run(self, global: &GlobalArgs) -> Result<ExitStatus, CliError> {
        let explanation = global.client()?.explain(self.id).await?;
        if global.json {
            output::print_json(&explanation)?;
        } else {
            output::print(&sentences(&explanation, &Screen::stdout()))?;
        }
        Ok(ExitStatus::Done)
    }
}

fn sentences(explanation: &ExplanationDto, screen: &Screen) -> String {
    let ExplanationDto { id, state, .. } = explanation;
    let text = format::sanitize(&explanation.text);
    let text = match state {
        JobState::Failed => format!("job {id} has failed: {text}"),
        JobState::Complete | JobState::Cancelled => format!("job {id} is {state}: {text}"),
        _ => format!("job {id} is {state}. {text}"),
    };
    let until = explanation.until.map(|until| format!("The next check is {} at the latest.", screen.at(until)));
    let expected = expected(explanation, screen);
    let paragraphs = [text].into_iter().chain(until).chain(expected);
    let lines = paragraphs.flat_map(|text| match screen.width {
        Some(columns) => width::wrap(&text, columns),
        None => vec![text],
    });
    lines.map(|line| line + "\n").collect()
}

/// Returns when an unended job will probably start and end.
fn expected(explanation: &ExplanationDto, screen: &Screen) -> Option<String> {
    let at = |at| screen.at(at);
    match (explanation.estimated_start.map(at), explanation.estimated_end.map(at)) {
        (Some(start), Some(end)) => Some(format!("Recent imports suggest that it starts {start} and ends {end}.")),
        (None, Some(end)) => Some(format!("Recent imports suggest that it ends {end}.")),
        (Some(start), None) => Some(format!("Recent imports suggest that it starts {start}.")),
        (None, None) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::format::samples;
    use crate::scheduler::explain::WaitReason;

    #[test]
    fn the_reason_comes_with_its_time() {
        let explanation = ExplanationDto {
            id: JobId(3),
            state: JobState::Running,
            waits_for: WaitReason::Import,
            text: "Marketo is importing part 1 (its batch 7).".into(),
            until: Some(samples::at(5)),
            estimated_start: None,
            estimated_end: Some(samples::at(60)),
        };
        assert_eq!(
            sentences(&explanation, &Screen::PLAIN),
            "job 3 is running. Marketo is importing part 1 (its batch 7).\n\
             The next check is at 2026-08-01T10:00:05.000Z at the latest.\n\
             Recent imports suggest that it ends at 2026-08-01T10:01:00.000Z.\n"
        );
    }

    #[test]
    fn an_ended_job_is_one_sentence_with_its_counts() {
        for (state, text, expected) in [
            (JobState::Complete, "Marketo imported 9 of its 10 rows, and 1 failed.", "is complete: Marketo imported 9"),
            (JobState::Failed, "1006: field 'x' not found", "has failed: 1006: field 'x' not found"),
            (JobState::Cancelled, "Marketo imported 0 of its 10 rows.", "is cancelled: Marketo imported 0"),
        ] {
            let explanation = ExplanationDto {
                id: JobId(3),
                state,
                waits_for: WaitReason::Nothing,
                text: text.into(),
                until: None,
                estimated_start: None,
                estimated_end: None,
            };
            let shown = sentences(&explanation, &Screen::PLAIN);
            assert!(shown.starts_with(&format!("job 3 {expected}")), "{shown}");
        }
    }
}
