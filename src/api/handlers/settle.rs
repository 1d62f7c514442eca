//! `POST /v1/jobs/{id}/settle`: an operator gives the id of the import that a held batch became on Marketo.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::api::dto::{JobDto, Problem};
use crate::api::job_view::job_view;
use crate::api::problem::{PathSegment, Query, job_id};
use crate::api::state::{AppState, SharedState};
use crate::domain::{BatchKey, marketo_id};
use crate::scheduler::ImportCheck;
use crate::store::Job;

/// How long Marketo is waited for, the wait at the rate limiter included. The command line waits longer.
const MAX_CHECK_TIME: Duration = Duration::from_secs(30);

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SettleQuery {
    /// The number of the held batch.
    #[schemars(with = "u32")]
    part: Option<String>,
    /// The id that Marketo shows for the import.
    #[schemars(with = "String", length(min = 1, max = marketo_id::MAX_LENGTH), regex(pattern = r"^[0-9]+$"))]
    marketo_batch_id: Option<String>,
}

/// Handles `POST /v1/jobs/{id}/settle`.
pub(crate) async fn settle(
    State(daemon): State<SharedState>,
    PathSegment(id): PathSegment,
    Query(found): Query<SettleQuery>,
) -> Result<Json<JobDto>, Problem> {
    let job = job_id(&id)?;
    let part = found.part.unwrap_or_default();
    let part = part
        .parse()
        .map_err(|_| Problem::bad_request(format!("part must be the number of the held batch, not \"{part}\"")))?;
    let marketo_batch_id = found.marketo_batch_id.unwrap_or_default();
    if !marketo_id::is_valid(&marketo_batch_id) {
        return Err(Problem::bad_request("marketo_batch_id must be the import's id on Marketo: digits only"));
    }
    let key = BatchKey { job, part };
    let held = daemon.store.check_settle(key, &marketo_batch_id).await?;
    check_import(&daemon, &held, &marketo_batch_id).await?;
    daemon.store.settle(key, marketo_batch_id.clone(), daemon.clock.now()).await?;
    tracing::info!(%job, part, marketo_batch_id, "held batch settled by a client");
    Ok(Json(job_view(&daemon, daemon.store.job(job).await?).await))
}

/// Asks Marketo for the import: a mistyped id would be polled in vain, and the job's own import be lost.
///
/// # Errors
/// 409 where Marketo has no such import of the job's target, 503 where it could not be asked.
async fn check_import(daemon: &AppState, job: &Job, marketo_batch_id: &str) -> Result<(), Problem> {
    let Some(scheduler) = daemon.scheduler(&job.instance) else {
        return Err(not_asked(marketo_batch_id, &format!("the configuration has no instance \"{}\"", job.instance)));
    };
    let check = tokio::time::timeout(MAX_CHECK_TIME, scheduler.check_import(&job.target, marketo_batch_id));
    match check.await {
        Ok(check) => match check? {
            ImportCheck::Found(_) => Ok(()),
            ImportCheck::Unknown(reason) => Err(Problem::of_kind(
                StatusCode::CONFLICT,
                "unknown-import",
                "Marketo does not have the import",
                format!(
                    "Marketo has no batch {marketo_batch_id} of {}, so nothing was changed: compare the id with Marketo's \
                     list of imports. Marketo's answer: {reason}",
                    job.target
                ),
            )),
            ImportCheck::Unanswered(reason) => Err(not_asked(marketo_batch_id, &reason)),
        },
        Err(_) => {
            let reason = format!("there was no answer within {} s", MAX_CHECK_TIME.as_secs());
            Err(not_asked(marketo_batch_id, &reason))
        }
    }
}

fn not_asked(marketo_batch_id: &str, reason: &str) -> Problem {
    let detail = format!(
        "Marketo could not be asked for batch {marketo_batch_id}, so nothing was changed; try again when it answers. \
         The reason: {reason}"
    );
    Problem::of_kind(StatusCode::SERVICE_UNAVAILABLE, "import-not-checked", "Marketo could not be asked", detail)
}
