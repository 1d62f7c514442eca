//! How do jobs stand? List, show and wait, history, explain, cancel.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use jiff::SignedDuration;
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::sync::broadcast::error::RecvError;

use super::caller::{Caller, Connection};
use super::problem::{Query, Segment, job_id};
use super::types::{Explanation, History, JobsPage, Problem};
use super::{Daemon, Shared};
use crate::job::{JobId, JobState};
use crate::schedule::{Rules, explain as reasons};
use crate::store::{Change, Job};

const LIMIT: u32 = 50;
const MOST: u32 = 10_000;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Page {
    /// Only those in this state.
    #[schemars(with = "Option<JobState>")]
    state: Option<String>,
    /// How many; 50 unless it is said.
    #[schemars(with = "Option<u32>", range(min = 1, max = 10_000))]
    limit: Option<String>,
    /// Only those with an id below this one: `next_before` of the page before.
    #[schemars(with = "Option<JobId>")]
    before: Option<String>,
}

pub(super) async fn list(
    State(daemon): State<Shared>,
    caller: Caller,
    Query(page): Query<Page>,
) -> Result<Json<JobsPage>, Problem> {
    // An empty parameter is one that was left out, as `?state=&limit=` in the contract shows it.
    let given = |text: Option<String>| text.filter(|text| !text.is_empty());
    let state = given(page.state).map(|word| word.parse::<JobState>()).transpose()?;
    let before = given(page.before).map(|id| job_id(&id)).transpose()?;
    let limit = match given(page.limit) {
        None => LIMIT,
        Some(text) => match text.parse() {
            Ok(limit @ 1..=MOST) => limit,
            _ => return Err(Problem::bad_request(format!("limit must be from 1 to {MOST}, not \"{text}\""))),
        },
    };
    // One more than asked for tells whether there is a next page.
    let mut jobs = match &caller {
        Caller::User { .. } => daemon.store.jobs(state, limit + 1, before).await?,
        Caller::Client(client) => {
            daemon.store.jobs_of(&client.id, client.instances.as_deref(), state, limit + 1, before).await?
        }
    };
    let more = jobs.len() > limit as usize;
    jobs.truncate(limit as usize);
    let next_before = if more { jobs.last().map(|job| job.id) } else { None };
    Ok(Json(JobsPage { jobs, next_before }))
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Waiting {
    /// A duration such as `30s`: the answer comes when the job has ended, or then. An hour is the most. Where too many
    /// answers wait it comes at once.
    wait: Option<String>,
}

/// The longest that one request waits; a client that wants more asks again.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

pub(super) async fn show(
    State(daemon): State<Shared>,
    connection: Connection,
    Segment(id): Segment,
    Query(Waiting { wait }): Query<Waiting>,
) -> Result<Json<Job>, Problem> {
    let id = job_id(&id)?;
    let Some(wait) = wait.filter(|wait| !wait.is_empty()) else { return Ok(Json(daemon.store.job(id).await?)) };
    let wait = wait
        .parse::<SignedDuration>()
        .ok()
        .and_then(|wait| Duration::try_from(wait).ok())
        .ok_or_else(|| Problem::bad_request(format!("wait must be a duration such as 30s, not \"{wait}\"")))?;
    if !connection.may_wait() {
        return Ok(Json(daemon.store.job(id).await?));
    }
    Ok(Json(ended_or_then(&daemon, id, wait.min(LONGEST_WAIT)).await?))
}

/// The job when it has ended, or as it is after `wait`.
async fn ended_or_then(daemon: &Daemon, id: JobId, wait: Duration) -> Result<Job, Problem> {
    let deadline = tokio::time::Instant::now() + wait;
    // Listens before it looks, so that an end between the two is not missed.
    let mut changes = daemon.store.subscribe();
    loop {
        let job = daemon.store.job(id).await?;
        if job.state.has_ended() {
            return Ok(job);
        }
        let about_it = async {
            loop {
                match changes.recv().await {
                    Ok(Change::Job(changed)) if changed == id => return,
                    // Some were missed; this one may be among them.
                    Err(RecvError::Lagged(_) | RecvError::Closed) => return,
                    Ok(_) => {}
                }
            }
        };
        tokio::select! {
            () = about_it => {}
            () = tokio::time::sleep_until(deadline) => return Ok(daemon.store.job(id).await?),
            () = daemon.stop.cancelled() => return Ok(job),
        }
    }
}

pub(super) async fn history(State(daemon): State<Shared>, Segment(id): Segment) -> Result<Json<History>, Problem> {
    Ok(Json(History { history: daemon.store.history(job_id(&id)?).await? }))
}

pub(super) async fn explain(State(daemon): State<Shared>, Segment(id): Segment) -> Result<Json<Explanation>, Problem> {
    let job = daemon.store.job(job_id(&id)?).await?;
    let Some(lane) = daemon.lane(&job.instance) else {
        let detail = format!("instance \"{}\" is not in the configuration any more, so its jobs wait", job.instance);
        return Err(Problem::plain(axum::http::StatusCode::CONFLICT, detail));
    };
    let now = daemon.clock.now();
    let ahead = daemon.store.ahead_in_group(&job).await?;
    let snapshot = lane.snapshot(now).await?;
    Ok(Json(reasons::explain(&job, ahead, &snapshot, &Rules::of(&lane.config()), lane.calls_at(now), now)))
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Cancelling {
    /// `true`: also gives up imports that Marketo has not ended within `max_import_time`.
    #[schemars(with = "Option<bool>")]
    abandon: Option<String>,
}

pub(super) async fn cancel(
    State(daemon): State<Shared>,
    Segment(id): Segment,
    Query(Cancelling { abandon }): Query<Cancelling>,
) -> Result<Json<Job>, Problem> {
    let (id, now) = (job_id(&id)?, daemon.clock.now());
    let abandon = match abandon.as_deref() {
        None | Some("" | "false") => false,
        Some("true") => true,
        Some(other) => return Err(Problem::bad_request(format!("abandon must be true or false, not \"{other}\""))),
    };
    if abandon {
        daemon.store.abandon(id, now).await?
    } else {
        daemon.store.cancel(id, now).await?
    };
    tracing::info!(job = %id, abandon, "cancelled by a client");
    Ok(Json(daemon.store.job(id).await?))
}
