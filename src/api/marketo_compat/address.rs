//! Addresses of Marketo's calls as programs write them, and the form in which the routes know them.
//!
//! Some programs append `/bulk/…` to an address that ends in a slash or in `/rest`, and some step out of `/rest` with dots.
//! Only an address that begins as one of Marketo's is changed, and only into another of Marketo's: the native API and the
//! page are matched exactly, so that what a proxy in front allows or denies by path holds. For the same reason dots do not
//! lead out of `/instances/NAME`.

use axum::Router;
use axum::extract::Request;
use axum::http::uri::PathAndQuery;
use axum::http::{HeaderMap, Uri};
use axum::response::Response;
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;

use crate::api::marketo_compat::response::{CompatError, CompatResponse, RequestId};
use crate::marketo::{DAEMON_HEADER, daemon_id, is_own_call};

/// What Marketo's addresses begin with, behind an instance or not.
const ROOTS: [&str; 3] = ["identity", "bulk", "rest"];

/// Serves Marketo's addresses by `marketo`, all others by `native`.
pub(crate) fn by_address(marketo: Router, native: Router) -> Router {
    let (marketo, native) = (TowerToHyperService::new(marketo), TowerToHyperService::new(native));
    // Before routing, which reads an address as it stands.
    Router::new().fallback(async move |mut request: Request| {
        let Some(path) = canonical(request.uri().path()) else { return native.call(request).await };
        if path != request.uri().path() {
            let text = match request.uri().query() {
                Some(query) => format!("{path}?{query}"),
                None => path,
            };
            if let Ok(address) = PathAndQuery::try_from(text) {
                *request.uri_mut() = Uri::from(address);
            }
        }
        let answered = match is_own_call(request.headers()) {
            true => Ok(own_call(request.headers())),
            false => marketo.call(request).await,
        };
        answered.map(|mut answer: Response| {
            answer.headers_mut().insert(DAEMON_HEADER, daemon_id().clone());
            answer
        })
    })
}

/// The daemon has called itself. Taken as a client's, its upload would be a job that is uploaded here once more, and so on.
/// The answer stops the instance that made the call, with the reason.
fn own_call(headers: &HeaderMap) -> Response {
    let id = RequestId::of(headers);
    id.span().in_scope(|| tracing::error!("the daemon was called by itself: an instance's address leads back to it"));
    let reason = "Access denied: this address leads back to the marqueue daemon that makes the call, and not to Marketo; mend \
                  base_url and identity_url of the instance, or the name server that the daemon uses";
    id.on(CompatResponse::Refusal(CompatError::new(603, reason)))
}

/// One of Marketo's paths as the routes know it; none if it is not Marketo's. One that can't be resolved stays as it is,
/// and then is none of the calls that there are.
fn canonical(path: &str) -> Option<String> {
    let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    let (prefix, rest) = match segments.as_slice() {
        ["instances", rest @ ..] => segments.split_at(1 + rest.len().min(1)),
        [first, ..] if ROOTS.contains(first) => segments.split_at(0),
        _ => return None,
    };
    Some(resolved(prefix, rest, path.ends_with('/')).unwrap_or_else(|| path.to_owned()))
}

/// None where dots lead out of what was named, or to something else than Marketo's.
fn resolved(prefix: &[&str], rest: &[&str], mut closing_slash: bool) -> Option<String> {
    if prefix.last().is_some_and(|name| dots(name).is_some()) {
        return None;
    }
    let mut kept: Vec<&str> = Vec::new();
    for (at, segment) in rest.iter().enumerate() {
        match dots(segment) {
            Some(up) => {
                closing_slash |= at + 1 == rest.len();
                if up {
                    kept.pop()?;
                }
            }
            None => kept.push(segment),
        }
    }
    // Marketo's admin page shows the address of its REST API with `/rest` at the end.
    if let ["rest", "bulk" | "identity", ..] = kept.as_slice() {
        kept.remove(0);
    }
    if !kept.first().is_some_and(|first| ROOTS.contains(first)) {
        return None;
    }
    let all: Vec<&str> = prefix.iter().chain(&kept).copied().collect();
    Some(format!("/{}{}", all.join("/"), if closing_slash { "/" } else { "" }))
}

/// Whether the segment steps up, if it is one of dots, which may be written in percent signs too.
fn dots(segment: &str) -> Option<bool> {
    match segment.to_ascii_lowercase().replace("%2e", ".").as_str() {
        "." => Some(false),
        ".." => Some(true),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_of_marketos_is_resolved() {
        for (written, known) in [
            ("/bulk/v1/leads.json", "/bulk/v1/leads.json"),
            ("//bulk/v1/leads.json", "/bulk/v1/leads.json"),
            ("//identity//oauth/token", "/identity/oauth/token"),
            ("/rest/../bulk/v1/leads.json", "/bulk/v1/leads.json"),
            ("/rest/%2e%2E/bulk/v1/leads.json", "/bulk/v1/leads.json"),
            ("/rest/./v1/../../bulk/v1/leads.json", "/bulk/v1/leads.json"),
            ("/rest/bulk/v1/leads.json", "/bulk/v1/leads.json"),
            ("/rest//identity/oauth/token", "/identity/oauth/token"),
            ("/rest/v1/leads.json", "/rest/v1/leads.json"),
            ("/instances/eu//bulk/v1/leads.json", "/instances/eu/bulk/v1/leads.json"),
            ("//instances/eu/rest/../bulk/v1/leads.json", "/instances/eu/bulk/v1/leads.json"),
            ("/instances/eu/rest/bulk/v1/leads.json", "/instances/eu/bulk/v1/leads.json"),
            ("/bulk/v1/leads.json/", "/bulk/v1/leads.json/"),
            ("/bulk/v1/leads.json//", "/bulk/v1/leads.json/"),
            ("/bulk/v1/leads.json/.", "/bulk/v1/leads.json/"),
            ("/bulk/v1/customobjects/a%2Fb/import.json", "/bulk/v1/customobjects/a%2Fb/import.json"),
        ] {
            assert_eq!(canonical(written).as_deref(), Some(known), "{written}");
        }
    }

    #[test]
    fn dots_lead_neither_out_of_marketos_nor_out_of_an_instance() {
        for path in [
            "/bulk/../v1/jobs",
            "/rest/../metrics",
            "/rest/..",
            "/identity/%2e%2e/v1/jobs",
            "/rest/../../bulk/v1/leads.json",
            "/rest/../instances/eu/bulk/v1/leads.json",
            "/instances/eu/../../bulk/v1/leads.json",
            "/instances/eu/../us/bulk/v1/leads.json",
            "/instances/../bulk/v1/leads.json",
            "/instances/%2e%2e/bulk/v1/leads.json",
            "/instances/eu/v1/jobs",
            "/instances",
        ] {
            assert_eq!(canonical(path).as_deref(), Some(path), "it stays, and is no call");
        }
    }

    #[test]
    fn what_does_not_begin_as_marketos_is_left_alone() {
        for path in [
            "/",
            "",
            "*",
            "/v1/jobs",
            "//v1/jobs",
            "/v1/../bulk/v1/leads.json",
            "/v1/instances/eu/pause",
            "//metrics",
            "/./bulk/v1/leads.json",
            "/../bulk/v1/leads.json",
            "/BULK/v1/leads.json",
            "/%62ulk/v1/leads.json",
            "/bulk.json",
        ] {
            assert_eq!(canonical(path), None, "{path}");
        }
    }
}
