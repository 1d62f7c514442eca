//! Arguments of `add` about batches: how those of one job depend on each other, and whether jobs share an import.

use clap::Args;

use crate::cli::exit_status::CliError;
use crate::client::BatchOptions;

/// How the batches of a job depend on each other. A file within one upload is one batch, unless --canary is given.
#[derive(Args, Clone, Copy, Debug)]
pub struct BatchArgs {
    /// Upload each batch when the one before it is complete: for files that have several rows of one record
    #[arg(long, global = true)]
    in_order: bool,
    /// Upload a first batch of N rows alone; the others wait until it is complete [default: as configured]
    #[arg(long, global = true, value_name = "N")]
    canary: Option<u64>,
    /// Upload no further batch once more than P percent of the imported rows failed [default: as configured]
    #[arg(long, global = true, value_name = "P", value_parser = clap::value_parser!(u8).range(..=100))]
    max_failed_percent: Option<u8>,
}

impl BatchArgs {
    /// Returns the settings of the new job.
    pub fn options(self) -> BatchOptions {
        let BatchArgs { in_order, canary, max_failed_percent } = self;
        BatchOptions { in_order, canary, max_failed_percent }
    }
}

/// Whether the jobs may share an import with others.
#[derive(Args, Clone, Copy, Debug)]
pub struct PackArgs {
    /// Let small files share an import with others of the same target, options and header [default: as configured]
    #[arg(long, global = true)]
    pack: bool,
    /// Import each file on its own, whatever the instance's default is
    #[arg(long, global = true)]
    no_pack: bool,
}

impl PackArgs {
    /// Returns the choice; none where the instance's default applies.
    ///
    /// # Errors
    /// Both options are given. The parser does not notice it where one stands before the target and one behind it.
    pub fn choice(self) -> Result<Option<bool>, CliError> {
        match (self.pack, self.no_pack) {
            (true, true) => {
                Err(CliError::Usage("--pack and --no-pack exclude each other: leave out one of them".to_owned()))
            }
            (true, false) => Ok(Some(true)),
            (false, true) => Ok(Some(false)),
            (false, false) => Ok(None),
        }
    }
}
