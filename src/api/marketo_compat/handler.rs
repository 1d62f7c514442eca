//! Handler of the bulk import API: checks a call in Marketo's order and answers it from the jobs.

use axum::extract::{Request, State};
use axum::http::Method;
use axum::response::Response;
use axum::routing::any;
use tracing::Instrument;

use crate::api::auth::identity::Identity;
use crate::api::auth::tokens::AuthError;
use crate::api::marketo_compat::call::{Call, JobQuery, find_job, identify};
use crate::api::marketo_compat::endpoints::{CallPath, Endpoint, ImportQuery};
use crate::api::marketo_compat::job_to_import;
use crate::api::marketo_compat::legacy_tokens::{StrippedAddress, take_from_query};
use crate::api::marketo_compat::oauth;
use crate::api::marketo_compat::openapi;
use crate::api::marketo_compat::report;
use crate::api::marketo_compat::response::{CompatError, CompatResponse, RequestId};
use crate::api::marketo_compat::upload;
use crate::api::openapi::route::{Access, Route};
use crate::api::state::{AppState, SharedState};
use crate::store::Job;

/// Returns the routes: wildcard paths, each with the operations that it serves.
pub(in crate::api) fn routes() -> Vec<Route> {
    let route = |path, handler, operations| Route { path, access: Access::Marketo, handler, operations };
    vec![
        route("/identity/oauth/token", any(oauth::token), openapi::logins("")),
        route("/instances/{name}/identity/oauth/token", any(oauth::token), openapi::logins("/instances/{name}")),
        route("/bulk/{*path}", any(bulk), openapi::imports("")),
        route("/instances/{name}/bulk/{*path}", any(bulk), openapi::imports("/instances/{name}")),
        // The rest of Marketo's API is not served: it answers 610 in Marketo's shape.
        route("/rest/{*path}", any(bulk), Vec::new()),
        route("/instances/{name}/rest/{*path}", any(bulk), Vec::new()),
    ]
}

/// Handles the bulk import API, and every other path that begins like one of Marketo's.
pub(in crate::api) async fn bulk(State(daemon): State<SharedState>, request: Request) -> Response {
    let id = RequestId::of(request.headers());
    let span = id.span();
    async {
        let response = handle(&daemon, request).await.unwrap_or_else(|error| {
            match error.code() {
                // Anyone can cause any number of these, and a client whose token expired causes some.
                code @ (601 | 602) => tracing::debug!(code, "call refused"),
                code => tracing::info!(code, "call refused"),
            }
            CompatResponse::Refusal(error)
        });
        id.on(response)
    }
    .instrument(span)
    .await
}

/// Checks in Marketo's order: the token, the path, the method.
async fn handle(daemon: &AppState, request: Request) -> Result<CompatResponse, CompatError> {
    let (mut head, body) = request.into_parts();
    // From here on the address contains no token, so it can be logged.
    let StrippedAddress { uri, tokens } = take_from_query(std::mem::take(&mut head.uri));
    head.uri = uri;
    let call = Call { path: CallPath::parse(head.uri.path()), method: head.method.clone() };
    let caller = identify(daemon, &head, &tokens)?;
    if let (None, Endpoint::Create(target), &Method::POST) = (&caller, &call.path.endpoint, &call.method) {
        if !daemon.legacy_tokens.are_accepted() {
            return Err(daemon.legacy_tokens.disabled_error());
        }
        let sender = upload::Sender::InForm(&call);
        let upload = upload::UploadRequest { target: target.clone(), sender, query: head.uri.query() };
        return upload::create(daemon, upload, &head.headers, body).await.map(receipt);
    }
    let caller = caller.ok_or(AuthError::Invalid)?;
    let instance = call.authorize(daemon, &caller)?;
    match call.path.endpoint {
        Endpoint::Create(ref target) => {
            let target = target.clone();
            let sender = match caller {
                Identity::Client(_) => upload::Sender::Known(caller, instance),
                // The form may have a token, which then identifies the sender, on the socket too.
                Identity::User { .. } => upload::Sender::OnSocket(&call, caller, instance),
            };
            let upload = upload::UploadRequest { target, sender, query: head.uri.query() };
            upload::create(daemon, upload, &head.headers, body).await.map(receipt)
        }
        Endpoint::Import(target, id, query) => {
            let job =
                find_job(daemon, JobQuery { caller: &caller, instance: &instance, target: &target, id: &id }).await?;
            match query {
                ImportQuery::Status => Ok(CompatResponse::Import(job_to_import::status(&job))),
                ImportQuery::Report(kind) => report::report(daemon, &job, kind).await,
            }
        }
        Endpoint::Unknown => Err(CompatError::not_found()),
    }
}

fn receipt(job: Job) -> CompatResponse {
    CompatResponse::Import(job_to_import::receipt(&job))
}
