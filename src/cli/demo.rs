//! The `demo` command: imports sample files with a daemon and a simulator in this process, and shows the progress.
//!
//! It is a check as well. The exit status is 1 if a job ends in another state than its sample was made for, or if the
//! simulator counted more than Marketo allows.

use std::time::Duration;

use anyhow::Context;
use clap::Args;
use serde_json::json;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, MissedTickBehavior};

use crate::api::dto::JobDto;
use crate::cli::demo::environment::DemoEnv;
use crate::cli::demo::live_table::LiveTable;
use crate::cli::demo::page_login::PageLogin;
use crate::cli::demo::renderer::Renderer;
use crate::cli::demo::samples::Sample;
use crate::cli::exit_status::{CliError, ExitStatus};
use crate::cli::global::GlobalArgs;
use crate::cli::{error_report, format, output};
use crate::client::{ClientError, FileView, JobFile, JobQuery};
use crate::domain::{JobId, JobState, ReportKind};

mod environment;
mod live_table;
mod page;
mod page_login;
mod renderer;
mod samples;
mod shell_script;
mod verify;

/// Interval of the refresh. Each of the first refreshes adds one file, so that a viewer can follow.
const TICK: Duration = Duration::from_millis(150);

/// Timeout of the whole demo, which takes less than half of this.
const MAX_TIME: Duration = Duration::from_secs(60);

/// Page size of the job list: more than there are jobs.
const ALL_JOBS: u32 = 1000;

/// Show a daemon, a simulator and sample files of all three kinds at work, in a temporary folder
///
/// Everything runs in this process for half a minute, with a Marketo simulator on 127.0.0.1. The folder is removed at
/// the end. The exit status is 1 if any result differs from what was expected. With --json: at the end, an object with
/// "jobs", "refused" (the rejected files, with reasons) and "call_log" (the simulator's call log).
///
/// With --ui it shows nothing here: it prints the address of the daemon's page on 127.0.0.1, with an id and a secret for
/// the login, opens it where there is a desktop, and adds the sample files again and again until Ctrl-C. With --json: an
/// object with "url", "client_id" and "client_secret".
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  marqueue demo
  marqueue demo --ui
  marqueue demo --json")]
pub struct Demo {
    /// Open the page for browsers, and run until Ctrl-C
    #[arg(long)]
    ui: bool,
}

impl Demo {
    /// Runs the demo on the ambient tokio runtime, and writes its error to standard error.
    pub async fn run(self, global: &GlobalArgs) -> ExitStatus {
        self.show(global).await.unwrap_or_else(|error| {
            error_report::report(&CliError::Input(format!("{error:#}")), global);
            ExitStatus::Failed
        })
    }

    async fn show(self, global: &GlobalArgs) -> anyhow::Result<ExitStatus> {
        // Signals are handled before the folder is created, so that an early one leaves no folder.
        let mut stops = StopSignals::listen()?;
        let login = self.ui.then(PageLogin::generate);
        let env = DemoEnv::open(login.as_ref()).await?;
        let path = env.path().display().to_string();
        let result = tokio::select! {
            result = run(&env, login.as_ref(), global) => Some(result),
            () = stops.next() => None,
        };
        // If this is cancelled, the drop of the environment still removes the folder.
        tokio::select! {
            closed = env.close() => closed?,
            () = stops.next() => {}
        }
        match result {
            None => {
                output::note(&format!("stopped; {path} is removed"));
                Ok(ExitStatus::Interrupted)
            }
            Some(result) => {
                result?;
                if !global.json {
                    output::print(&format!("\n{path} is removed.\n"))?;
                }
                Ok(ExitStatus::Done)
            }
        }
    }
}

/// Runs the demo: for the page until an error, otherwise until the imports have ended.
async fn run(env: &DemoEnv, login: Option<&PageLogin>, global: &GlobalArgs) -> anyhow::Result<()> {
    if let Some(login) = login {
        return page::serve(env, login, global).await;
    }
    tokio::time::timeout(MAX_TIME, run_demo(env, global))
        .await
        .with_context(|| format!("the imports did not end within {} s", MAX_TIME.as_secs()))?
}

/// Listeners of the signals that stop the demo: SIGINT, SIGTERM and SIGHUP.
struct StopSignals([Signal; 3]);

impl StopSignals {
    fn listen() -> anyhow::Result<StopSignals> {
        let listen = |kind| signal(kind).context("signal handlers can't be installed");
        Ok(StopSignals([
            listen(SignalKind::interrupt())?,
            listen(SignalKind::terminate())?,
            listen(SignalKind::hangup())?,
        ]))
    }

    async fn next(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}

/// Runs the demo in an open environment, and verifies the result.
async fn run_demo(env: &DemoEnv, global: &GlobalArgs) -> anyhow::Result<()> {
    let samples = samples::samples();
    for sample in &samples {
        env.write(sample)?;
    }
    let mut renderer = if global.json { Renderer::Silent } else { Renderer::for_stdout() };
    renderer.print(&format!(
        "A daemon, a Marketo simulator and {} files, in {}.\nNothing leaves this machine.",
        samples.len(),
        env.path().display()
    ))?;
    let began = Instant::now();
    let result = import_samples(env, &samples, &mut renderer).await?;
    let took = began.elapsed().as_secs();
    drop(renderer);

    let ledger = env.call_log();
    let mut expected = Vec::new();
    for &(sample, id) in &result.added {
        let job = result.jobs.iter().find(|job| job.id == id);
        expected.push((sample, job.with_context(|| format!("job {id} is not in the list of jobs"))?));
    }
    let faults = verify::faults(&expected, &ledger, &env.settings, &env.limits);
    if global.json {
        let refused: Vec<_> =
            result.refused.iter().map(|(file, reason)| json!({"file": file, "reason": reason})).collect();
        output::print_json(&json!({"jobs": result.jobs, "refused": refused, "call_log": ledger}))?;
    } else {
        let summary = verify::summary(&result.jobs, &ledger, &env.settings, &env.limits);
        let failures = failures(env, &result.jobs).await?;
        output::print(&format!(
            "\nDone in {took} s: {summary}\n{failures}\n\"marqueue demo --ui\" shows it in a browser.\n\
             To repeat this by hand in a new folder:\n\n{}",
            shell_script::shell_script()
        ))?;
    }
    anyhow::ensure!(faults.is_empty(), "{}", faults.join("; "));
    Ok(())
}

/// Result of the imports.
struct DemoResult<'a> {
    jobs: Vec<JobDto>,
    added: Vec<(&'a Sample, JobId)>,
    /// Names and reasons of the rejected files.
    refused: Vec<(&'static str, String)>,
}

/// Adds the files to the queue, and shows the jobs until all have ended.
async fn import_samples<'a>(
    env: &DemoEnv,
    samples: &'a [Sample],
    renderer: &mut Renderer,
) -> anyhow::Result<DemoResult<'a>> {
    let mut result = DemoResult { jobs: Vec::new(), added: Vec::new(), refused: Vec::new() };
    let mut remaining = samples.iter();
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let next = remaining.next();
        if let Some(sample) = next {
            match env.add(sample).await {
                Ok(added) => result.added.push((sample, added.job.id)),
                Err(ClientError::Refused(problem)) if sample.refused => {
                    renderer.print(&format!(
                        "{} is refused: {}",
                        sample.filename,
                        format::sanitize(&problem.detail)
                    ))?;
                    result.refused.push((sample.filename, problem.detail));
                }
                Err(error) => return Err(error).context(sample.filename),
            }
            anyhow::ensure!(
                !sample.refused || !result.refused.is_empty(),
                "{} was accepted, but should have been rejected",
                sample.filename
            );
        }
        let table = read_table(env).await?;
        if next.is_none() && table.jobs.iter().all(|job| job.state.is_terminal()) {
            renderer.finish(&table)?;
            result.jobs = table.jobs;
            return Ok(result);
        }
        renderer.show(&table)?;
    }
}

async fn read_table(env: &DemoEnv) -> anyhow::Result<LiveTable> {
    let status = env.client.status().await?;
    let instance = status.instances.into_values().next().context("the daemon has no instance")?;
    let mut jobs = env.client.list(&JobQuery { limit: Some(ALL_JOBS), ..JobQuery::default() }).await?.jobs;
    jobs.reverse();
    Ok(LiveTable { jobs, instance, importing: env.limits.importing })
}

/// Returns the failure file of one job, with the command that downloads it.
async fn failures(env: &DemoEnv, jobs: &[JobDto]) -> anyhow::Result<String> {
    let some_failed = |job: &&JobDto| job.state == JobState::Complete && job.has_failed_rows();
    let job = jobs.iter().find(some_failed).context("no row has failed, but some should have")?;
    let mut download = env.client.file(job.id, JobFile::Report(ReportKind::Failures), FileView::default()).await?;
    let mut file = Vec::new();
    while let Some(bytes) = download.next().await? {
        file.extend_from_slice(&bytes);
    }
    let file = String::from_utf8(file).with_context(|| format!("the failures of job {} are not UTF-8", job.id))?;
    let lines: Vec<String> = file.lines().map(format::sanitize).collect();
    anyhow::ensure!(
        job.rows.failed.is_some_and(|failed| lines.len() as u64 == failed + 1),
        "the failures of job {} have {} lines, but {} rows failed",
        job.id,
        lines.len(),
        format::count_or_unknown(job.rows.failed)
    );
    Ok(format!(
        "The rows of {} that failed, as written by \"marqueue failures {}\":\n\n{}\n",
        job.filename,
        job.id,
        lines.join("\n")
    ))
}
