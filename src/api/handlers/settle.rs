//! `POST /v1/jobs/{id}/settle`: an operator gives the id of the import that a held batch became on Marketo.

use axum::Json;
use axum::extract::State;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::api::dto::{JobDto, Problem};
use crate::api::problem::{PathSegment, Query, job_id};
use crate::api::state::SharedState;
use crate::domain::{BatchKey, marketo_id};

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
    daemon.store.settle(BatchKey { job, part }, marketo_batch_id.clone(), daemon.clock.now()).await?;
    tracing::info!(%job, part, marketo_batch_id, "held batch settled by a client");
    Ok(Json(daemon.store.job(job).await?.into()))
}
