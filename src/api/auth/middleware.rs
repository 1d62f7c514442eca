//! Access rules as middlewares: authentication, routes of the Unix socket, and owners of jobs.

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::Response;

use crate::api::auth::identity::Identity;
use crate::api::dto::Problem;
use crate::api::problem::{PathSegment, job_id};
use crate::api::state::SharedState;
use crate::config::ClientAccess;
use crate::store::StoreError;

/// Middleware: refuses a request without a known sender with 401, and stores the [`Identity`] in its extensions.
pub(crate) async fn authenticate(
    State(daemon): State<SharedState>,
    mut request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let caller = Identity::of_request(&request, &daemon.tokens)?;
    request.extensions_mut().insert(caller);
    Ok(next.run(request).await)
}

/// Middleware of routes that concern the jobs of all clients: refuses a client of `api.clients` with 403.
pub(crate) async fn require_local(caller: Identity, request: Request, next: Next) -> Result<Response, Problem> {
    match caller {
        Identity::User { .. } => Ok(next.run(request).await),
        Identity::Client(_) => {
            let detail = "this route concerns the jobs of all clients: use it over the Unix socket without a token";
            Err(Problem::plain(StatusCode::FORBIDDEN, detail))
        }
    }
}

/// Middleware of each method that changes something: refuses a client with `access = "read"` with 403.
pub(crate) async fn require_write(caller: Identity, request: Request, next: Next) -> Result<Response, Problem> {
    match caller {
        Identity::Client(client) if client.access == ClientAccess::Read => {
            let detail =
                format!("client {} may see its jobs and change nothing: its api.clients.access is \"read\"", client.id);
            Err(Problem::of_kind(StatusCode::FORBIDDEN, "read-only-client", "The client may only read", detail))
        }
        _ => Ok(next.run(request).await),
    }
}

/// Middleware of every route below `/v1/jobs/{id}`: answers 404 for another client's job.
pub(crate) async fn require_job_owner(
    State(daemon): State<SharedState>,
    caller: Identity,
    PathSegment(id): PathSegment,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    // A local user may see every job, so the store is not read.
    if let Identity::Client(_) = caller {
        let id = job_id(&id)?;
        if !caller.owns(&daemon.store.job(id).await?) {
            return Err(StoreError::NoJob(id).into());
        }
    }
    Ok(next.run(request).await)
}
