//! `POST /v1/check`: the checks of a file and how it would be split, before it is sent as a job.

use axum::Json;
use axum::body::{Body, HttpBody};
use axum::extract::State;
use axum::http::HeaderMap;

use crate::api::auth::identity::Identity;
use crate::api::dto::{FileCheck, Problem};
use crate::api::handlers::create::{read, reject_content_encoding, submission_channel};
use crate::api::problem::Query;
use crate::api::state::SharedState;
use crate::intake::IntakeError;

/// Handles `POST /v1/check`. A file that would be refused is no error here: the response says why.
pub(crate) async fn check(
    State(daemon): State<SharedState>,
    caller: Identity,
    Query(mut parameters): Query<Vec<(String, String)>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<FileCheck>, Problem> {
    reject_content_encoding(&headers)?;
    if parameters.iter().all(|(name, _)| name != "instance") {
        parameters.push(("instance".to_owned(), caller.default_instance().to_owned()));
    }
    let (new, checks) = read(parameters, None, caller.source())?;
    caller.check_instance(&new.instance)?;
    if let Some(announced) = body.size_hint().exact() {
        daemon.intake.check_announced_size(announced)?;
    }
    let (filename, format) = (new.filename.clone(), new.format);
    let mut found =
        FileCheck { filename, format, ok: false, layout: None, warnings: Vec::new(), fault: None, detail: None };
    let channel = submission_channel(&headers);
    match daemon.intake.check(new, checks, body.into_data_stream()).await {
        Ok(mut layout) => {
            found.ok = true;
            found.warnings = std::mem::take(&mut layout.warnings);
            found.layout = Some(layout.into());
        }
        Err(IntakeError::File(fault)) => {
            found.fault = Some(fault.code().to_owned());
            found.detail = Some(fault.message(channel));
        }
        Err(error) => return Err(Problem::of_intake(error, channel)),
    }
    Ok(Json(found))
}
