//! The `add` command: uploads a file to the daemon's queue.

use clap::Args;
use jiff::Timestamp;

use crate::api::dto::SubmittedJob;
use crate::cli::batch_args::{BatchArgs, PackArgs};
use crate::cli::commands::wait;
use crate::cli::error_report::{report, report_file};
use crate::cli::exit_status::{CliError, ExitStatus};
use crate::cli::global::GlobalArgs;
use crate::cli::input;
use crate::cli::input::{Input, InputOptions};
use crate::cli::job_watch::{KnownState, WatchResult, ctrl_c, still_running_notice, wait_for_jobs};
use crate::cli::once_key::once_key;
use crate::cli::render::time;
use crate::cli::target_args::TargetArgs;
use crate::cli::transfer_bar::{Direction, TransferBar};
use crate::cli::{format, output};
use crate::client::{AddedJob, Client, ClientError, NewFile};
use crate::clock::{Clock, StartTime};
use crate::delimited::Warning;
use crate::domain::{JobId, Target};

/// Add files to the queue; on return they are stored durably by the daemon
///
/// A file that is refused or can't be read is reported, the others go on, and the exit status is 1. With --json: an
/// array of the jobs that were made (with --wait: as they ended, or with exit status 3 as they were accepted), in the
/// order of the files; of a refused file there is none. Of a folder, its own files that end in .csv, .tsv or .ssv are
/// added in the order of their names; names that begin with a dot, other endings and subfolders are skipped, with a
/// line each. A folder without such files is an error (status 1). With --once, a command that was interrupted can be
/// repeated: the key is made of the content, the format, the target with its options, and the instance. It does not
/// depend on the file's name, nor on --priority, --group, --at, --pack and --no-check, and it is known as long as the
/// job's record is kept. With --at, the file is stored at once and uploaded later, at most a year ahead; later jobs of its
/// group wait too, other jobs do not. A time of day is the next one in the system's time zone (TZ); where the clocks
/// are set forward over it, it is later by as much. Warnings about a file do not refuse it; they are written on
/// standard error, and with --json stand in "warnings" too.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  marqueue add leads people.csv --wait
  marqueue add custom-object car_c cars.csv --group nightly
  marqueue add leads people.csv --at 02:00
  marqueue add leads large.csv --canary 100 --max-failed-percent 5
  marqueue add leads exports/ more.csv --once --pack
  generate-members | marqueue add program-members 1044 - --status Registered --filename members.tsv")]
pub struct Add {
    #[command(subcommand)]
    target: TargetArgs,
    #[command(flatten)]
    options: Options,
}

#[derive(Args, Debug)]
struct Options {
    #[command(flatten)]
    input: InputOptions,
    /// The Marketo instance, by its name in the configuration [default: default]
    #[arg(long, global = true, value_name = "NAME")]
    instance: Option<String>,
    /// Jobs with a higher number go first
    #[arg(long, global = true, value_name = "N", default_value_t = 0, allow_negative_numbers = true)]
    priority: i64,
    /// Jobs of one group are imported one after the other, in order
    #[arg(long, global = true, value_name = "KEY")]
    group: Option<String>,
    /// Upload not before this time: the next 02:00 of the local time, or a time such as 2026-01-31T02:00:00+01:00
    #[arg(long, global = true, value_name = "TIME")]
    at: Option<StartTime>,
    #[command(flatten)]
    batches: BatchArgs,
    #[command(flatten)]
    pack: PackArgs,
    /// The same key and file give the same job however often they are sent (one file only)
    #[arg(long, global = true, value_name = "KEY", value_parser = idempotency_key)]
    idempotency_key: Option<String>,
    /// Import each content once: one that was added so before, to the same target, gives the job of that time
    #[arg(long, global = true)]
    once: bool,
    /// Send the file as it is, without a check of its rows
    #[arg(long, global = true)]
    no_check: bool,
    /// Wait until each job has ended, and exit as "marqueue wait" does
    #[arg(long, global = true)]
    wait: bool,
}

/// Parses an idempotency key, which is sent in an HTTP header.
fn idempotency_key(text: &str) -> Result<String, String> {
    if text.is_empty() || text.bytes().any(|byte| !(b' '..=b'~').contains(&byte)) {
        return Err("a key has at least one character, and only printable ones of ASCII".to_owned());
    }
    Ok(text.to_owned())
}

impl Add {
    /// Sends the files, and with `--wait` waits for their jobs.
    ///
    /// # Errors The arguments do not go together, or standard output is not writable. A rejected file is no error here,
    /// but part of the exit status.
    pub async fn run(self, global: &GlobalArgs) -> Result<ExitStatus, CliError> {
        let (target, files) = self.target.into_parts();
        if self.options.once && self.options.idempotency_key.is_some() {
            let text = "--once makes an idempotency key for each file: leave out either --once or --idempotency-key";
            return Err(CliError::Usage(text.to_owned()));
        }
        let pack = self.options.pack.choice()?;
        let inputs = input::inputs(&files, &self.options.input)?;
        let sources = &inputs.files;
        if self.options.idempotency_key.is_some() && sources.len() > 1 {
            let text = format!("--idempotency-key goes with one file, and {} are given", sources.len());
            return Err(CliError::Usage(text));
        }
        let client = global.client()?;
        let exit = inputs.report(global);
        let mut jobs = Vec::new();
        // The same for all files of the command, also where sending them goes past that time of day.
        let now = Clock::System.now();
        let at = self.options.at.map(|at| at.resolve_in_system_zone(now)).transpose().map_err(CliError::Usage)?;
        if let Some(at) = at.filter(|&at| at < now) {
            output::note(&format!("{} is past: nothing waits for it", time::to_the_second(at)));
        }
        let submission =
            Submission { client: &client, target: &target, options: &self.options, not_before: at, pack, global };
        let sent = tokio::select! {
            sent = submission.send_all(sources, &mut jobs) => exit.and(sent?),
            () = ctrl_c() => {
                if !jobs.is_empty() {
                    output::note(&still_running_notice(&ids(&jobs)));
                }
                return Ok(ExitStatus::Interrupted);
            }
        };
        let ended = if self.options.wait && sent != ExitStatus::NoDaemon && !jobs.is_empty() {
            match wait_for_jobs(&client, &ids(&jobs), KnownState::Accepted).await {
                Ok(WatchResult::Ended(ended)) => wait::print_results(&client, &ended, global).await?,
                Ok(WatchResult::Interrupted) => return Ok(ExitStatus::Interrupted),
                Err(error) => {
                    // The jobs are stored by the daemon, so an error from here on does not mean that they failed.
                    report(&error.into(), global);
                    output::note(&still_running_notice(&ids(&jobs)));
                    if global.json {
                        output::print_json(&jobs)?;
                    }
                    ExitStatus::NoDaemon
                }
            }
        } else {
            if global.json {
                output::print_json(&jobs)?;
            }
            ExitStatus::Done
        };
        Ok(sent.and(ended))
    }
}

/// What all files of one command share.
struct Submission<'a> {
    client: &'a Client,
    target: &'a Target,
    options: &'a Options,
    not_before: Option<Timestamp>,
    pack: Option<bool>,
    global: &'a GlobalArgs,
}

impl Submission<'_> {
    /// Sends one file after the other, and appends the jobs to `jobs`.
    async fn send_all(&self, sources: &[Input], jobs: &mut Vec<SubmittedJob>) -> Result<ExitStatus, CliError> {
        let mut exit = ExitStatus::Done;
        for source in sources {
            match self.send(source).await {
                Ok(added) => {
                    let line = accepted(source, &added);
                    if self.options.wait {
                        output::note(&line);
                    } else if !self.global.json {
                        output::print(&format!("{line}\n"))?;
                    }
                    for warning in &added.warnings {
                        output::note(&warned(source, warning));
                    }
                    jobs.push(SubmittedJob { job: added.job, warnings: added.warnings });
                }
                Err(failure) if failure.exit() == ExitStatus::NoDaemon => {
                    report(&failure, self.global);
                    return Ok(ExitStatus::NoDaemon);
                }
                Err(failure) => {
                    report_file(&source.shown(), &failure, self.global);
                    exit = exit.and(failure.exit());
                }
            }
        }
        Ok(exit)
    }

    async fn send(&self, source: &Input) -> Result<AddedJob, CliError> {
        let options = self.options;
        let mut new = NewFile {
            target: self.target.clone(),
            filename: source.filename.clone(),
            format: source.format,
            instance: options.instance.clone(),
            priority: options.priority,
            group: options.group.clone(),
            not_before: self.not_before,
            batches: options.batches.options(),
            pack: self.pack,
            idempotency_key: options.idempotency_key.clone(),
            check: !options.no_check,
        };
        let bar = |bytes| TransferBar::new(&source.filename, Direction::Upload, bytes);
        let added = if options.once {
            let hashed = source.open_hashed().await?;
            new.idempotency_key = Some(once_key(&new, hashed.sha256));
            let bar = bar(Some(hashed.bytes));
            self.client.add(&new, hashed.content, bar.updater()).await
        } else {
            let opened = source.open().await?;
            let bar = bar(opened.bytes);
            self.client.add(&new, opened.content, bar.updater()).await
        };
        added.map_err(|error| match error {
            ClientError::Content(error) => input::unreadable(&error),
            error => error.into(),
        })
    }
}

fn ids(jobs: &[SubmittedJob]) -> Vec<JobId> {
    jobs.iter().map(|taken| taken.job.id).collect()
}

fn warned(source: &Input, warning: &Warning) -> String {
    format!("warning: {}: {}", format::sanitize(&source.shown()), format::sanitize(&warning.detail))
}

fn accepted(source: &Input, added: &AddedJob) -> String {
    let job = &added.job;
    if added.seen_before {
        let file = format::sanitize(&source.filename);
        return format!("{file}: already accepted as job {}, which is {}", job.id, format::state_label(job));
    }
    let file = format::sanitize(&job.filename);
    let (rows, batches) = (format::count(job.rows.total, "row"), format::count(job.batches.len() as u64, "batch"));
    let earliest = job.not_before.map(|at| format!(", not before {}", time::to_the_second(at))).unwrap_or_default();
    format!("job {}: {file}, {rows} in {batches}{earliest}", job.id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::format::samples;
    use crate::domain::JobState;

    #[test]
    fn an_accepted_file_is_reported_with_its_job() {
        let files = [std::path::PathBuf::from("in/same-people.csv")];
        let source = &input::inputs(&files, &InputOptions::default()).unwrap().files[0];
        let mut added = AddedJob { job: samples::job(12, JobState::Pending), seen_before: false, warnings: Vec::new() };
        assert_eq!(accepted(source, &added), "job 12: people.csv, 10 rows in 1 batch");
        added.seen_before = true;
        assert_eq!(accepted(source, &added), "same-people.csv: already accepted as job 12, which is pending");
    }

    #[test]
    fn a_key_that_no_header_accepts_is_a_usage_error() {
        assert!(idempotency_key("2026-08-01 nightly").is_ok());
        for key in ["", "a\nb", "schlüssel"] {
            assert!(idempotency_key(key).is_err(), "{key}");
        }
    }
}
