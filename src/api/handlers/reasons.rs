//! `GET /v1/jobs/{id}/reasons`: Marketo's reasons of failures and warnings, with the rows of each.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;

use crate::api::dto::{Problem, ReasonDto, ReasonsDto};
use crate::api::handlers::joined_report::report_parts;
use crate::api::handlers::report_rows::ReportRows;
use crate::api::problem::{PathSegment, job_id};
use crate::api::state::SharedState;
use crate::delimited::ReasonGroups;
use crate::domain::ReportKind;
use crate::store::{Job, Store};

/// The most reasons of a kind in one response.
const MAX_REASONS: usize = 100;

/// Handles `GET /v1/jobs/{id}/reasons`.
pub(crate) async fn reasons(
    State(daemon): State<SharedState>,
    PathSegment(id): PathSegment,
) -> Result<Json<ReasonsDto>, Problem> {
    let job = daemon.store.job(job_id(&id)?).await?;
    Ok(Json(job_reasons(&daemon.store, &job, MAX_REASONS).await?))
}

/// Returns the most frequent reasons of a job, at most `max` of a kind.
///
/// # Errors
/// 410 where the reports are erased; an error of reading the database.
pub(crate) async fn job_reasons(store: &Store, job: &Job, max: usize) -> Result<ReasonsDto, Problem> {
    let mut reasons = ReasonsDto {
        failures: reasons_of(store, job, ReportKind::Failures).await?,
        warnings: reasons_of(store, job, ReportKind::Warnings).await?,
    };
    reasons.failures.truncate(max);
    reasons.warnings.truncate(max);
    Ok(reasons)
}

/// Counts the reasons of a job's reports; none where there is no such report.
async fn reasons_of(store: &Store, job: &Job, kind: ReportKind) -> Result<Vec<ReasonDto>, Problem> {
    let parts = match report_parts(job, kind, None) {
        Ok(parts) => parts,
        Err(problem) if problem.status == StatusCode::NOT_FOUND => return Ok(Vec::new()),
        Err(problem) => return Err(problem),
    };
    let mut groups = ReasonGroups::default();
    let mut rows = ReportRows::new(store, job.clone(), parts);
    while rows.next(|row, origin| groups.add(row.reason(), origin.line)).await? {}
    Ok(groups.into_sorted().into_iter().map(ReasonDto::from).collect())
}
