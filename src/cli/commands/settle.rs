//! The `settle` command: names the import that a held batch has become on Marketo.

use clap::Args;

use crate::cli::exit_status::{CliError, ExitStatus};
use crate::cli::global::GlobalArgs;
use crate::cli::{format, output};
use crate::domain::{BatchKey, JobId, marketo_id};

/// Name the import that a held part of a job has become on Marketo; it is followed from there
///
/// For a part whose upload's outcome is unknown ("marqueue explain" says so), once you have found its import in
/// Marketo's list. "marqueue retry" sends it again instead, and "marqueue cancel" gives it up. With --json: the job as
/// an object.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  marqueue settle 12 --part 1 --marketo-batch-id 3404")]
pub struct Settle {
    /// The job's number
    #[arg(value_parser = crate::cli::global::parse_job_id)]
    id: JobId,
    /// The held part
    #[arg(long, value_name = "N")]
    part: u32,
    /// The number that Marketo shows for the import
    #[arg(long, value_name = "B", value_parser = parse_marketo_id)]
    marketo_batch_id: String,
}

impl Settle {
    /// Settles the part.
    ///
    /// # Errors
    /// The daemon refuses or can't be reached, or standard output is not writable.
    pub async fn run(self, global: &GlobalArgs) -> Result<ExitStatus, CliError> {
        let Settle { id, part, marketo_batch_id } = self;
        let job = global.client()?.settle(BatchKey { job: id, part }, &marketo_batch_id).await?;
        if global.json {
            output::print_json(&job)?;
        } else {
            let state = format::state_label(&job);
            output::print(&format!("job {id} is {state}: part {part} is Marketo's batch {marketo_batch_id}\n"))?;
        }
        Ok(ExitStatus::Done)
    }
}

fn parse_marketo_id(text: &str) -> Result<String, String> {
    match marketo_id::is_valid(text) {
        true => Ok(text.to_owned()),
        false => Err("the id of an import on Marketo has digits only".to_owned()),
    }
}
