//! The `explain` command: shows why a job is in its state.

use clap::Args;

use crate::cli::exit_status::{CliError, ExitStatus};
use crate::cli::global::GlobalArgs;
use crate::cli::{format, output};
use crate::domain::JobId;
use crate::scheduler::explain::Explanation;

/// Say why a job is where it is: what it waits for, and until when
///
/// With --json: an object with "id", "state", "waits_for" (a word), "text" and "until".
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
    pub async fn run(self, global: &GlobalArgs) -> Result<ExitStatus, CliError> {
        let explanation = global.client()?.explain(self.id).await?;
        if global.json {
            output::print_json(&explanation)?;
        } else {
            output::print(&sentences(&explanation))?;
        }
        Ok(ExitStatus::Done)
    }
}

fn sentences(explanation: &Explanation) -> String {
    let mut said =
        format!("job {} is {}. {}\n", explanation.id, explanation.state, format::sanitize(&explanation.text));
    if let Some(until) = explanation.until {
        said += &format!("It is looked at again at {} at the latest.\n", format::time(until));
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::format::samples;
    use crate::domain::JobState;
    use crate::scheduler::explain::WaitReason;

    #[test]
    fn the_reason_comes_with_its_time() {
        let explanation = Explanation {
            id: JobId(3),
            state: JobState::Running,
            waits_for: WaitReason::Import,
            text: "Marketo is importing part 1 (its batch 7).".into(),
            until: Some(samples::at(5)),
        };
        assert_eq!(
            sentences(&explanation),
            "job 3 is running. Marketo is importing part 1 (its batch 7).\n\
             It is looked at again at 2026-08-01T10:00:05Z at the latest.\n"
        );
    }
}
