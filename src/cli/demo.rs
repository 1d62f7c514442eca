//! What does it look like at work? A daemon, the stand-in for Marketo and sample files, shown and then removed.
//!
//! It is a check as well: where a job ends otherwise than its file was made to, or the stand-in counted more than Marketo
//! allows, the exit status is 1.

use std::time::Duration;

use anyhow::Context;
use clap::Args;
use serde_json::json;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, MissedTickBehavior};

use crate::cli::demo::environment::DemoEnv;
use crate::cli::demo::live_table::LiveTable;
use crate::cli::demo::renderer::Renderer;
use crate::cli::demo::samples::Sample;
use crate::cli::exit_status::ExitStatus;
use crate::cli::{GlobalArgs, format, output};
use crate::client::{ClientError, JobFile};
use crate::domain::{JobId, JobState};
use crate::store::Job;

mod environment;
mod live_table;
mod renderer;
mod samples;
mod shell_script;
mod verify;

/// Between two looks. With each of the first looks a file is dropped in, so that an eye can follow.
const TICK: Duration = Duration::from_millis(150);

/// It takes less than half of this; what takes longer stands still.
const MAX_TIME: Duration = Duration::from_secs(60);

/// More than there are.
const ALL_JOBS: u32 = 1000;

/// Show a daemon, a simulator and sample files of all three kinds at work, in a temporary folder
///
/// It needs nothing and leaves nothing: all runs in this process, against a stand-in for Marketo on 127.0.0.1, for half a
/// minute, and the folder is removed. The exit status is 1 where anything went otherwise than it should. With --json: at
/// the end, an object with "jobs", "refused" (the files that were not taken, and why) and "ledger" (what the stand-in saw).
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  marqueue demo
  marqueue demo --json")]
pub struct Demo {}

impl Demo {
    /// Carries it out, on the ambient tokio runtime. What goes wrong is said on standard error.
    pub async fn run(self, global: &GlobalArgs) -> ExitStatus {
        self.show(global).await.unwrap_or_else(|error| {
            output::note(&format!("error: {error:#}"));
            ExitStatus::Failed
        })
    }

    async fn show(self, global: &GlobalArgs) -> anyhow::Result<ExitStatus> {
        // Heard from before there is a folder, so that none is left.
        let mut stops = StopSignals::listen()?;
        let house = DemoEnv::open().await?;
        let path = house.path().display().to_string();
        let shown = tokio::select! {
            shown = tokio::time::timeout(MAX_TIME, run_demo(&house, global.json)) => Some(shown),
            () = stops.next() => None,
        };
        // Dropped unfinished, it removes the folder all the same.
        tokio::select! {
            closed = house.close() => closed?,
            () = stops.next() => {}
        }
        match shown {
            None => {
                output::note(&format!("stopped; {path} is removed"));
                Ok(ExitStatus::Interrupted)
            }
            Some(shown) => {
                shown.with_context(|| format!("the files were not through after {} s", MAX_TIME.as_secs()))??;
                if !global.json {
                    output::print(&format!("\n{path} is removed.\n"))?;
                }
                Ok(ExitStatus::Done)
            }
        }
    }
}

/// Ctrl-C, SIGTERM, and a terminal that is closed.
struct StopSignals([Signal; 3]);

impl StopSignals {
    fn listen() -> anyhow::Result<StopSignals> {
        let listen = |kind| signal(kind).context("signals can't be waited for");
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

/// Everything but the coming and going of the house.
async fn run_demo(house: &DemoEnv, json: bool) -> anyhow::Result<()> {
    let samples = samples::samples();
    for sample in &samples {
        house.write(sample)?;
    }
    let mut face = Renderer::new(json);
    face.print(&format!(
        "A daemon, a stand-in for Marketo and {} files, in {}.\nNothing leaves this machine.",
        samples.len(),
        house.path().display()
    ))?;
    let began = Instant::now();
    let passed = import_samples(house, &samples, &mut face).await?;
    let took = began.elapsed().as_secs();
    drop(face);

    let ledger = house.ledger();
    let mut expected = Vec::new();
    for &(sample, id) in &passed.added {
        let job = passed.jobs.iter().find(|job| job.id == id);
        expected.push((sample, job.with_context(|| format!("job {id} is not in the list of jobs"))?));
    }
    let faults = verify::faults(&expected, &ledger, &house.settings, &house.limits);
    if json {
        let refused: Vec<_> =
            passed.refused.iter().map(|(file, reason)| json!({"file": file, "reason": reason})).collect();
        output::print_json(&json!({"jobs": passed.jobs, "refused": refused, "ledger": ledger}))?;
    } else {
        let summary = verify::summary(&passed.jobs, &ledger, &house.settings, &house.limits);
        let failures = failures(house, &passed.jobs).await?;
        output::print(&format!(
            "\nThrough in {took} s: {summary}\n{failures}\nThe same by hand, in a new folder:\n\n{}",
            shell_script::shell_script()
        ))?;
    }
    anyhow::ensure!(faults.is_empty(), "{}", faults.join("; "));
    Ok(())
}

/// How the files went.
struct DemoResult<'a> {
    jobs: Vec<Job>,
    added: Vec<(&'a Sample, JobId)>,
    /// Names and reasons.
    refused: Vec<(&'static str, String)>,
}

/// Drops the files in, and shows them until all have ended.
async fn import_samples<'a>(
    house: &DemoEnv,
    samples: &'a [Sample],
    face: &mut Renderer,
) -> anyhow::Result<DemoResult<'a>> {
    let mut passed = DemoResult { jobs: Vec::new(), added: Vec::new(), refused: Vec::new() };
    let mut to_come = samples.iter();
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let next = to_come.next();
        if let Some(sample) = next {
            match house.add(sample).await {
                Ok(added) => passed.added.push((sample, added.job.id)),
                Err(ClientError::Refused(problem)) if sample.refused => {
                    face.print(&format!("{} is refused: {}", sample.filename, format::sanitize(&problem.detail)))?;
                    passed.refused.push((sample.filename, problem.detail));
                }
                Err(error) => return Err(error).context(sample.filename),
            }
            anyhow::ensure!(
                !sample.refused || !passed.refused.is_empty(),
                "{} was taken, and should not be",
                sample.filename
            );
        }
        let board = read_table(house).await?;
        if next.is_none() && board.jobs.iter().all(|job| job.state.is_terminal()) {
            face.finish(&board)?;
            passed.jobs = board.jobs;
            return Ok(passed);
        }
        face.show(&board)?;
    }
}

async fn read_table(house: &DemoEnv) -> anyhow::Result<LiveTable> {
    let status = house.client.status().await?;
    let instance = status.instances.into_values().next().context("the daemon has no instance")?;
    let mut jobs = house.client.list(None, Some(ALL_JOBS), None).await?.jobs;
    jobs.reverse();
    Ok(LiveTable { jobs, instance, importing: house.limits.importing })
}

/// The failure file of one job, with the command that gives it.
async fn failures(house: &DemoEnv, jobs: &[Job]) -> anyhow::Result<String> {
    let some_failed = |job: &&Job| job.state == JobState::Complete && job.has_failed_rows();
    let job = jobs.iter().find(some_failed).context("no rows have failed, and some should")?;
    let mut download = house.client.file(job.id, JobFile::Failures, None).await?;
    let mut file = Vec::new();
    while let Some(bytes) = download.next().await? {
        file.extend_from_slice(&bytes);
    }
    let file = String::from_utf8(file).with_context(|| format!("the failures of job {} are no text", job.id))?;
    let lines: Vec<String> = file.lines().map(format::sanitize).collect();
    anyhow::ensure!(
        job.rows.failed.is_some_and(|failed| lines.len() as u64 == failed + 1),
        "the failures of job {} are {} lines, and {} rows failed",
        job.id,
        lines.len(),
        format::count_or_unknown(job.rows.failed)
    );
    Ok(format!(
        "The rows of {} that failed, as \"marqueue failures {}\" gives them:\n\n{}\n",
        job.filename,
        job.id,
        lines.join("\n")
    ))
}
