//! The `failures`, `warnings`, `file` and `results` commands: download a job's files to standard output or a file.

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};

use clap::Args;

use crate::api::dto::JobDto;
use crate::cli::exit_status::{CliError, ExitStatus};
use crate::cli::format;
use crate::cli::global::GlobalArgs;
use crate::cli::output;
use crate::cli::output_file::{ForceOption, OutputFile, Readers, unwritable};
use crate::cli::report_check;
use crate::cli::report_check::CheckedReport;
use crate::cli::terminal_text::TerminalText;
use crate::client::{Client, ClientError, Download, FileView, JobFile};
use crate::delimited::Joiner;
use crate::domain::{JobId, JobState, ReportKind};

/// Problem type of a report that Marketo did not provide.
const NO_REPORT: &str = "urn:marqueue:problem:no-report";

/// Get the rows that failed, with Marketo's reasons
///
/// The files of all parts come as one; for a complete job without such rows, an empty one. Exit status 4 where
/// Marketo's counts say that rows are missing from it, or leave that open. With --json, which needs -o: an object with
/// "file" and "bytes".
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  marqueue failures 12
  marqueue failures 12 --lines
  marqueue failures 12 -o failed.csv --no-reason
  marqueue failures 12 --part 2 -o failed.csv --force")]
pub struct Failures {
    #[command(flatten)]
    report: Report,
}

/// Get the rows that were imported with a warning, with Marketo's reasons
///
/// The files of all parts come as one; for a complete job without such rows, an empty one. Exit status 4 where
/// Marketo's counts say that rows are missing from it, or leave that open. With --json, which needs -o: an object with
/// "file" and "bytes".
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  marqueue warnings 12
  marqueue warnings 12 -o warned.csv --json")]
pub struct Warnings {
    #[command(flatten)]
    report: Report,
}

/// Get the file as it was submitted
///
/// With --json, which needs -o: an object with "file" and "bytes".
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  marqueue file 12 > people.csv
  marqueue file 12 -o people.csv")]
pub struct File {
    #[command(flatten)]
    to: OutputTarget,
}

/// Get the file as it was submitted, with what became of each row
///
/// Two columns are added. "Marketo Result" is one of "imported", "imported with warning", "failed", "not sent" (Marketo
/// has no import with the row) and "unknown" (Marketo's files and counts do not tell); "Marketo Reason" has Marketo's
/// words. With
/// --json, which needs -o: an object with "file" and "bytes".
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  marqueue results 12 -o people-results.csv
  marqueue results 12 > people-results.csv")]
pub struct Results {
    #[command(flatten)]
    to: OutputTarget,
}

#[derive(Args, Debug)]
struct Report {
    #[command(flatten)]
    to: OutputTarget,
    /// Only those of this part of the job's file
    #[arg(long, value_name = "N")]
    part: Option<u32>,
    /// Leave out the last column, which has Marketo's reasons
    #[arg(long)]
    no_reason: bool,
    /// Add a first column "Line": the line of the row in the file as it was submitted, whose header is line 1. It is
    /// empty where it can't be told
    #[arg(long)]
    lines: bool,
}

#[derive(Args, Debug)]
struct OutputTarget {
    /// The job's number
    #[arg(value_parser = crate::cli::global::parse_job_id)]
    id: JobId,
    /// Where to write it [default: standard output]
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    force: ForceOption,
}

impl Failures {
    /// Downloads the file.
    ///
    /// # Errors
    /// The daemon refuses or can't be reached, or the output is not writable.
    pub async fn run(self, global: &GlobalArgs) -> Result<ExitStatus, CliError> {
        self.report.run(global, ReportKind::Failures).await
    }
}

impl Warnings {
    /// Downloads the file.
    ///
    /// # Errors
    /// The daemon refuses or can't be reached, or the output is not writable.
    pub async fn run(self, global: &GlobalArgs) -> Result<ExitStatus, CliError> {
        self.report.run(global, ReportKind::Warnings).await
    }
}

impl File {
    /// Downloads the file.
    ///
    /// # Errors
    /// The daemon refuses or can't be reached, or the output is not writable.
    pub async fn run(self, global: &GlobalArgs) -> Result<ExitStatus, CliError> {
        self.to.fetch(global, JobFile::File, FileView::default()).await?;
        Ok(ExitStatus::Done)
    }
}

impl Results {
    /// Downloads the file.
    ///
    /// # Errors
    /// The daemon refuses or can't be reached, or the output is not writable.
    pub async fn run(self, global: &GlobalArgs) -> Result<ExitStatus, CliError> {
        self.to.fetch(global, JobFile::Results, FileView::default()).await?;
        Ok(ExitStatus::Done)
    }
}

impl Report {
    async fn run(&self, global: &GlobalArgs, kind: ReportKind) -> Result<ExitStatus, CliError> {
        let view = FileView { part: self.part, without_reasons: self.no_reason, with_lines: self.lines };
        self.to.check(global)?;
        // Asked for before the file: what ends in between is in the file.
        let open = open_parts(&global.client()?.job(self.to.id, None).await?, self.part);
        let CopyResult { rows, whole, .. } = self.to.fetch(global, JobFile::Report(kind), view).await?;
        if !whole {
            return Ok(ExitStatus::Done);
        }
        if open > 0 {
            output::note(&format!(
                "job {} has not ended: rows of {} may be added to this file",
                self.to.id,
                format::count(open as u64, "batch")
            ));
            return Ok(ExitStatus::SomeRowsFailed);
        }
        let job = global.client()?.job(self.to.id, None).await?;
        let Some(counted) = report_check::marketo_counts(&job, self.part) else { return Ok(ExitStatus::Done) };
        let CheckedReport { exit, note } = report_check::check(self.to.id, kind, rows, &counted);
        if let Some(note) = note {
            output::note(&note);
        }
        Ok(exit)
    }
}

/// Returns how many batches of the job, or of `part` alone, have not ended.
fn open_parts(job: &JobDto, part: Option<u32>) -> usize {
    let batches = job.batches.iter().filter(|batch| part.is_none_or(|part| batch.part == part));
    batches.filter(|batch| !batch.state.is_terminal()).count()
}

/// Result of a download.
struct CopyResult {
    bytes: u64,
    /// Rows below the header; none if they could not be counted.
    rows: Option<u64>,
    /// False if the reader of standard output closed it before the end.
    whole: bool,
}

impl OutputTarget {
    /// Returns the output file; none for standard output.
    fn path(&self) -> Option<&Path> {
        self.output.as_deref().filter(|path| *path != Path::new("-"))
    }

    /// Checks that the output can be written where it is wanted, before the daemon is asked.
    fn check(&self, global: &GlobalArgs) -> Result<(), CliError> {
        match self.path() {
            None if global.json => {
                let text = "the file itself would go to standard output: with --json, name an output file with -o FILE";
                Err(CliError::Usage(text.to_owned()))
            }
            None => Ok(()),
            Some(path) => OutputFile::check(path, self.force.existing()),
        }
    }

    /// Downloads the file. The output file is created only after the daemon has accepted the request.
    async fn fetch(&self, global: &GlobalArgs, file: JobFile, view: FileView) -> Result<CopyResult, CliError> {
        self.check(global)?;
        let (path, existing) = (self.path(), self.force.existing());
        let download = open(&global.client()?, self.id, file, view).await?;
        let Some(path) = path else {
            let mut out = io::stdout().lock();
            let shown = Shown::on(&out);
            return copy(download, &mut out, shown).await;
        };
        let mut target = OutputFile::create(path, existing, Readers::Umask)?;
        let shown = Shown::on(target.as_file());
        let copied = copy(download, &mut target, shown).await.map_err(|failure| match failure {
            CliError::Output(error) => unwritable(path, &error),
            failure => failure,
        })?;
        target.finish()?;
        if global.json {
            output::print_json(&serde_json::json!({"file": path, "bytes": copied.bytes}))?;
        }
        Ok(copied)
    }
}

/// None where the job is complete and Marketo gave no such file: then no rows are concerned, and that is no error.
async fn open(client: &Client, id: JobId, file: JobFile, view: FileView) -> Result<Option<Download>, CliError> {
    match client.file(id, file, view).await {
        Err(ClientError::Refused(problem)) if problem.kind == NO_REPORT => {
            let complete = client.job(id, None).await?.state == JobState::Complete;
            if complete { Ok(None) } else { Err(ClientError::Refused(problem).into()) }
        }
        opened => Ok(Some(opened?)),
    }
}

/// How the bytes of a file are written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shown {
    /// As they are, to a file or a pipe.
    Raw,
    /// Escaped, so that nothing in them controls the terminal.
    Escaped,
}

impl Shown {
    fn on(target: &impl IsTerminal) -> Shown {
        if target.is_terminal() { Shown::Escaped } else { Shown::Raw }
    }
}

/// Writes the downloaded file, and counts its rows.
async fn copy(download: Option<Download>, to: &mut impl Write, shown: Shown) -> Result<CopyResult, CliError> {
    let mut copied = CopyResult { bytes: 0, rows: Some(0), whole: true };
    let Some(mut download) = download else { return Ok(copied) };
    let mut shown = (shown == Shown::Escaped).then(TerminalText::default);
    let (mut counter, mut unused, mut countable) = (Joiner::new(), Vec::new(), true);
    counter.begin(1);
    while let Some(bytes) = download.next().await? {
        copied.bytes += bytes.len() as u64;
        countable = countable && counter.push(&bytes, &mut unused).is_ok();
        unused.clear();
        let written = match &mut shown {
            Some(shown) => to.write_all(shown.push(&bytes).as_bytes()),
            None => to.write_all(&bytes),
        };
        if !output::check_pipe(written)? {
            return Ok(CopyResult { whole: false, ..copied });
        }
    }
    countable = countable && counter.end(&mut unused).is_ok();
    copied.rows = countable.then(|| counter.rows());
    let rest = shown.map(TerminalText::finish).unwrap_or_default();
    output::check_pipe(to.write_all(rest.as_bytes()).and_then(|()| to.flush()))?;
    Ok(copied)
}
