//! Path prefix: removes `api.ui_prefix` from the address, where a reverse proxy has left it there.

use axum::extract::{Request, State};
use axum::http::Uri;
use axum::http::uri::PathAndQuery;
use axum::middleware::Next;
use axum::response::Response;

use crate::api::state::SharedState;
use crate::api::ui::page::{query, see_other};

/// Where a request with a prefix leads.
#[derive(Debug, PartialEq, Eq)]
enum Resolved {
    /// To this address of the routes.
    Route(Uri),
    /// To the prefix with a slash at its end: the page's own addresses are relative to it.
    AddSlash,
}

/// Middleware around the router: serves what is below the prefix as without it.
pub(in crate::api) async fn strip_prefix(
    State(daemon): State<SharedState>,
    mut request: Request,
    next: Next,
) -> Response {
    match resolve(request.uri(), &daemon.page.prefix) {
        Some(Resolved::Route(uri)) => *request.uri_mut() = uri,
        Some(Resolved::AddSlash) => return see_other(&format!("{}/{}", daemon.page.prefix, query(request.uri()))),
        None => {}
    }
    next.run(request).await
}

/// Resolves an address that begins with the prefix; none where it does not, or there is no prefix.
fn resolve(uri: &Uri, prefix: &str) -> Option<Resolved> {
    let rest = uri.path().strip_prefix(prefix).filter(|_| !prefix.is_empty())?;
    if rest.is_empty() {
        return Some(Resolved::AddSlash);
    }
    let path = rest.starts_with('/').then(|| format!("{rest}{}", query(uri)))?;
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(path).ok()?);
    Uri::from_parts(parts).ok().map(Resolved::Route)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefix_is_removed_from_paths_below_it() {
        let to = |path: &str| Some(Resolved::Route(path.parse().unwrap()));
        for (path, prefix, expected) in [
            ("/mq/v1/jobs?limit=1", "/mq", to("/v1/jobs?limit=1")),
            ("/mq/", "/mq", to("/")),
            ("/mq//v1", "/mq", to("//v1")),
            ("http://queue.example.com/mq/ui/app.js", "/mq", to("http://queue.example.com/ui/app.js")),
            ("/mq", "/mq", Some(Resolved::AddSlash)),
            ("/mqx/v1", "/mq", None),
            ("/v1/jobs", "/mq", None),
            ("/v1/jobs", "", None),
            ("/a/b/v1/jobs", "/a/b", to("/v1/jobs")),
        ] {
            assert_eq!(resolve(&path.parse().unwrap(), prefix), expected, "{path} {prefix}");
        }
    }
}
