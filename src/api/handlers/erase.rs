//! `POST /v1/jobs/{id}/erase` and `POST /v1/retention`: erase one job's data, or all data past its retention period.
//! With `dry_run` they only report what would be erased.

use axum::Json;
use axum::extract::State;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::api::auth::identity::RequestConnection;
use crate::api::dto::{EraseReportDto, Problem, RetentionRunDto};
use crate::api::problem::{PathSegment, Query, job_id};
use crate::api::state::SharedState;
use crate::retention::EraseMode;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct EraseQuery {
    /// Only report what would be erased.
    #[schemars(with = "Option<bool>")]
    dry_run: Option<String>,
}

impl EraseQuery {
    fn mode(&self) -> Result<EraseMode, Problem> {
        match self.dry_run.as_deref() {
            None | Some("" | "false") => Ok(EraseMode::Erase),
            Some("true") => Ok(EraseMode::DryRun),
            Some(other) => Err(Problem::bad_request(format!("dry_run must be true or false, not \"{other}\""))),
        }
    }
}

/// Handles `POST /v1/jobs/{id}/erase`.
pub(crate) async fn job(
    State(daemon): State<SharedState>,
    connection: RequestConnection,
    PathSegment(id): PathSegment,
    Query(how): Query<EraseQuery>,
) -> Result<Json<EraseReportDto>, Problem> {
    let (id, mode) = (job_id(&id)?, how.mode()?);
    connection.check_may_wait()?;
    let retention = daemon.retention.clone();
    let erasure = run_detached(async move { retention.erase(id, mode).await }).await?;
    if mode == EraseMode::Erase {
        tracing::info!(job = %id, bytes = erasure.bytes, clean = erasure.clean, "job data erased by a client");
    }
    Ok(Json(erasure.into()))
}

/// Handles `POST /v1/retention`.
pub(crate) async fn due(
    State(daemon): State<SharedState>,
    connection: RequestConnection,
    Query(how): Query<EraseQuery>,
) -> Result<Json<RetentionRunDto>, Problem> {
    let mode = how.mode()?;
    connection.check_may_wait()?;
    let retention = daemon.retention.clone();
    let pass = run_detached(async move { retention.run_once(mode).await }).await?;
    if mode == EraseMode::Erase {
        tracing::info!(
            content = pass.content.jobs,
            reports = pass.reports.jobs,
            records = pass.records.jobs,
            clean = pass.clean,
            "expired data erased by a client"
        );
    }
    Ok(Json(pass.into()))
}

/// Runs `work` to its end, also where the client closes the connection before.
async fn run_detached<T: Send + 'static>(
    work: impl Future<Output = Result<T, crate::store::StoreError>> + Send + 'static,
) -> Result<T, Problem> {
    match tokio::spawn(work).await {
        Ok(done) => Ok(done?),
        Err(_) => Err(Problem::plain(
            axum::http::StatusCode::INTERNAL_SERVER_ERROR,
            "the work was aborted: see the daemon's log",
        )),
    }
}
