//! Routes of existing jobs: list, show and wait, history, explain, cancel.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use jiff::{SignedDuration, Timestamp};
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::sync::broadcast::error::RecvError;

use crate::api::auth::identity::{Identity, RequestConnection};
use crate::api::dto::{ExplanationDto, History, HistoryEntryDto, JobDto, JobsPage, Problem};
use crate::api::instance_rows::InstanceRows;
use crate::api::job_view::{job_view, job_views};
use crate::api::problem::{PathSegment, Query, job_id};
use crate::api::state::{AppState, SharedState};
use crate::domain::{JobId, JobState};
use crate::store::{ChangeEvent, ClientScope, Job, JobFilter, JobPage};

/// Jobs of a page, by default and at most.
const DEFAULT_LIMIT: u32 = 50;
const MAX_LIMIT: u32 = 10_000;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ListQuery {
    /// Only jobs in this state.
    #[schemars(with = "Option<JobState>")]
    state: Option<String>,
    /// Only jobs of this instance.
    instance: Option<String>,
    /// Only jobs of this kind of target.
    #[schemars(extend("enum" = TARGETS))]
    target: Option<String>,
    /// Only jobs of this group.
    group: Option<String>,
    /// Only jobs that came over the socket, from a client over TCP, or from the drop folder.
    #[schemars(extend("enum" = SOURCES))]
    source: Option<String>,
    /// Only jobs that were accepted since then: a time (RFC 3339), or a duration such as `2h` before now.
    since: Option<String>,
    /// `true`: only jobs with rows that failed.
    #[schemars(with = "Option<bool>")]
    failures: Option<String>,
    /// Only jobs whose file name has this part, in capital or small letters.
    q: Option<String>,
    /// Only jobs that send the failed rows of this job again.
    #[schemars(with = "Option<JobId>")]
    retry_of: Option<String>,
    /// The most jobs of the page; default 50.
    #[schemars(with = "Option<u32>", range(min = 1, max = 10_000))]
    limit: Option<String>,
    /// Only jobs with an id below this one: `next_before` of the previous page.
    #[schemars(with = "Option<JobId>")]
    before: Option<String>,
}

const TARGETS: [&str; 3] = ["leads", "custom-object", "program-members"];
const SOURCES: [&str; 3] = ["socket", "client", "drop"];

impl ListQuery {
    /// Parses the page, with one job more than its limit. An empty parameter counts as missing: `?state=&limit=` is
    /// allowed.
    fn page(self, caller: &Identity, now: Timestamp) -> Result<(JobPage, usize), Problem> {
        let given = |text: Option<String>| text.filter(|text| !text.is_empty());
        let limit = match given(self.limit) {
            None => DEFAULT_LIMIT,
            Some(text) => match text.parse() {
                Ok(limit @ 1..=MAX_LIMIT) => limit,
                _ => return Err(Problem::bad_request(format!("limit must be from 1 to {MAX_LIMIT}, not \"{text}\""))),
            },
        };
        let visible_to = match caller {
            Identity::User { .. } => None,
            Identity::Client(client) => {
                Some(ClientScope { client_id: client.id.clone(), instances: client.instances.clone() })
            }
        };
        let filter = JobFilter {
            state: given(self.state).map(|state| state.parse::<JobState>()).transpose()?,
            instance: given(self.instance),
            target: given(self.target).map(|kind| one_of("target", kind, &TARGETS)).transpose()?,
            group: given(self.group),
            source: given(self.source).map(|kind| one_of("source", kind, &SOURCES)).transpose()?,
            since: given(self.since).map(|since| parse_since(&since, now)).transpose()?,
            has_failed_rows: given(self.failures)
                .map(|text| one_of("failures", text, &["true", "false"]))
                .transpose()?
                .is_some_and(|text| text == "true"),
            name_part: given(self.q),
            retry_of: given(self.retry_of).map(|id| job_id(&id)).transpose()?,
            visible_to,
        };
        let before = given(self.before).map(|id| job_id(&id)).transpose()?;
        Ok((JobPage { filter, limit: limit + 1, before }, limit as usize))
    }
}

fn one_of(parameter: &str, value: String, allowed: &[&str]) -> Result<String, Problem> {
    if allowed.contains(&&value[..]) {
        return Ok(value);
    }
    let allowed = allowed.join(", ");
    Err(Problem::bad_request(format!("{parameter} must be one of {allowed}, not \"{value}\"")))
}

/// Parses a time, or a duration before `now`.
fn parse_since(text: &str, now: Timestamp) -> Result<Timestamp, Problem> {
    let duration = || text.parse::<SignedDuration>().ok().filter(|duration| !duration.is_negative());
    let since = text.parse::<Timestamp>().ok().or_else(|| now.checked_sub(duration()?).ok());
    let wanted = "a time such as 2026-01-31T12:00:00Z, or a duration such as 2h";
    since.ok_or_else(|| Problem::bad_request(format!("since must be {wanted}, not \"{text}\"")))
}

/// Handles `GET /v1/jobs`.
pub(crate) async fn list(
    State(daemon): State<SharedState>,
    caller: Identity,
    Query(query): Query<ListQuery>,
) -> Result<Json<JobsPage>, Problem> {
    // One job more is read, to know whether there is a next page.
    let (page, limit) = query.page(&caller, daemon.clock.now())?;
    let mut jobs = daemon.store.find_jobs(&page).await?;
    let more = jobs.len() > limit;
    jobs.truncate(limit);
    let next_before = if more { jobs.last().map(|job| job.id) } else { None };
    Ok(Json(JobsPage { jobs: job_views(&daemon, jobs).await, next_before }))
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct WaitQuery {
    /// A duration such as `30s`, at most an hour: the response is sent when the job has ended, or after this time. It
    /// is sent at once where too many responses wait.
    wait: Option<String>,
}

/// The longest time that one request waits.
const MAX_WAIT: Duration = Duration::from_secs(3600);

/// Handles `GET /v1/jobs/{id}`.
pub(crate) async fn show(
    State(daemon): State<SharedState>,
    connection: RequestConnection,
    PathSegment(id): PathSegment,
    Query(WaitQuery { wait }): Query<WaitQuery>,
) -> Result<Json<JobDto>, Problem> {
    let id = job_id(&id)?;
    let Some(wait) = wait.filter(|wait| !wait.is_empty()) else {
        return Ok(Json(job_view(&daemon, daemon.store.job(id).await?).await));
    };
    let wait = wait
        .parse::<SignedDuration>()
        .ok()
        .and_then(|wait| Duration::try_from(wait).ok())
        .ok_or_else(|| Problem::bad_request(format!("wait must be a duration such as 30s, not \"{wait}\"")))?;
    if !connection.may_wait() {
        return Ok(Json(job_view(&daemon, daemon.store.job(id).await?).await));
    }
    let job = wait_for_end(&daemon, id, wait.min(MAX_WAIT)).await?;
    Ok(Json(job_view(&daemon, job).await))
}

/// Returns the job when it has ended, or its state after `wait`.
async fn wait_for_end(daemon: &AppState, id: JobId, wait: Duration) -> Result<Job, Problem> {
    let deadline = tokio::time::Instant::now() + wait;
    // Subscribed before the job is read. In the other order its end could fall in between and be missed.
    let mut changes = daemon.store.subscribe();
    loop {
        let job = daemon.store.job(id).await?;
        if job.state.is_terminal() {
            return Ok(job);
        }
        let job_changed = async {
            loop {
                match changes.recv().await {
                    Ok(ChangeEvent::Job(changed)) if changed == id => return,
                    // Events were dropped; one of this job may be among them.
                    Err(RecvError::Lagged(_) | RecvError::Closed) => return,
                    Ok(_) => {}
                }
            }
        };
        tokio::select! {
            () = job_changed => {}
            () = tokio::time::sleep_until(deadline) => return Ok(daemon.store.job(id).await?),
            () = daemon.stop.cancelled() => return Ok(job),
        }
    }
}

/// Handles `GET /v1/jobs/{id}/history`.
pub(crate) async fn history(
    State(daemon): State<SharedState>,
    PathSegment(id): PathSegment,
) -> Result<Json<History>, Problem> {
    let history = daemon.store.history(job_id(&id)?).await?;
    Ok(Json(History { history: history.into_iter().map(HistoryEntryDto::from).collect() }))
}

/// Handles `GET /v1/jobs/{id}/explain`.
pub(crate) async fn explain(
    State(daemon): State<SharedState>,
    PathSegment(id): PathSegment,
) -> Result<Json<ExplanationDto>, Problem> {
    let job = daemon.store.job(job_id(&id)?).await?;
    let Some(scheduler) = daemon.scheduler(&job.instance) else {
        let detail = format!("instance \"{}\" is no longer configured, so its jobs wait", job.instance);
        return Err(Problem::plain(axum::http::StatusCode::CONFLICT, detail));
    };
    let rows = InstanceRows::read(&daemon.store, scheduler, job.group.clone().into_iter().collect()).await?;
    Ok(Json(ExplanationDto::new(rows.explained(&job).explain(), rows.forecast.estimate(&job))))
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CancelQuery {
    /// `true`: also gives up imports that Marketo has not ended within `max_import_time`.
    #[schemars(with = "Option<bool>")]
    abandon: Option<String>,
}

/// Handles `POST /v1/jobs/{id}/cancel`.
pub(crate) async fn cancel(
    State(daemon): State<SharedState>,
    PathSegment(id): PathSegment,
    Query(CancelQuery { abandon }): Query<CancelQuery>,
) -> Result<Json<JobDto>, Problem> {
    let (id, now) = (job_id(&id)?, daemon.clock.now());
    let abandon = match abandon.as_deref() {
        None | Some("" | "false") => false,
        Some("true") => true,
        Some(other) => return Err(Problem::bad_request(format!("abandon must be true or false, not \"{other}\""))),
    };
    if abandon {
        // The abandoned import occupies its slot for a time that starts now, so the stored times must agree with the
        // clock.
        let now = daemon.store.observe_clock(&daemon.clock).await?.now();
        daemon.store.abandon(id, now).await?
    } else {
        daemon.store.cancel(id, now).await?
    };
    tracing::info!(job = %id, abandon, "job cancelled by a client");
    Ok(Json(job_view(&daemon, daemon.store.job(id).await?).await))
}
