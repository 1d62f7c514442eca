//! Address normalisation: turns the addresses that programs write for Marketo's API into those of the routes.
//!
//! Some programs append `/bulk/…` to an address that ends in a slash or in `/rest`, and some leave `/rest` with `..`.
//! Only an address that begins like one of Marketo's is changed, and only into another of Marketo's. The native API is
//! matched exactly, so that a proxy in front can allow and deny it by path. For the same reason `..` can't leave
//! `/instances/NAME`.

use axum::Router;
use axum::extract::Request;
use axum::http::uri::PathAndQuery;
use axum::http::{HeaderMap, Uri};
use axum::response::Response;
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;

use crate::api::marketo_compat::response::{CompatError, CompatResponse, RequestId};
use crate::marketo::{DAEMON_HEADER, daemon_id, is_own_call};

/// First segments of Marketo's addresses, after an instance or without one.
const ROOTS: [&str; 3] = ["identity", "bulk", "rest"];

/// Makes a router that serves Marketo's addresses with `marketo` and all others with `native`.
pub(crate) fn by_address(marketo: Router, native: Router) -> Router {
    let (marketo, native) = (TowerToHyperService::new(marketo), TowerToHyperService::new(native));
    // The address is normalised before routing.
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
        let result = match is_own_call(request.headers()) {
            true => Ok(own_call(request.headers())),
            false => marketo.call(request).await,
        };
        result.map(|mut response: Response| {
            response.headers_mut().insert(DAEMON_HEADER, daemon_id().clone());
            response
        })
    })
}

/// Answers a call of the daemon to itself. Its upload would otherwise become a job that is uploaded here again, without
/// an end. The response's 603 pauses the instance that made the call, with the reason.
fn own_call(headers: &HeaderMap) -> Response {
    let id = RequestId::of(headers);
    id.span().in_scope(|| tracing::error!("the daemon called itself: an instance's address leads back to it"));
    let reason = "Access denied: this address leads back to the marqueue daemon that makes the call, and not to Marketo: correct \
                  base_url and identity_url of the instance, or the name server that the daemon uses";
    id.on(CompatResponse::Refusal(CompatError::new(603, reason)))
}

/// Returns one of Marketo's paths as the routes have it; none if it is not Marketo's. One that can't be resolved stays
/// unchanged and then matches no endpoint.
fn canonical(path: &str) -> Option<String> {
    let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    let (prefix, rest) = match segments.as_slice() {
        ["instances", rest @ ..] => segments.split_at(1 + rest.len().min(1)),
        [first, ..] if ROOTS.contains(first) => segments.split_at(0),
        _ => return None,
    };
    let split = SplitPath { prefix, rest, has_closing_slash: path.ends_with('/') };
    Some(resolve(&split).unwrap_or_else(|| path.to_owned()))
}

/// A path by its segments.
struct SplitPath<'a> {
    /// `instances` and the instance's name, or nothing.
    prefix: &'a [&'a str],
    rest: &'a [&'a str],
    has_closing_slash: bool,
}

/// Resolves dot segments. None where they lead out of the instance or out of Marketo's paths.
fn resolve(path: &SplitPath<'_>) -> Option<String> {
    let SplitPath { prefix, rest, has_closing_slash: mut closing_slash } = *path;
    if prefix.last().is_some_and(|name| dot_segment(name).is_some()) {
        return None;
    }
    let mut kept: Vec<&str> = Vec::new();
    for (at, segment) in rest.iter().enumerate() {
        match dot_segment(segment) {
            Some(DotSegment::Current) => closing_slash |= at + 1 == rest.len(),
            Some(DotSegment::Parent) => {
                closing_slash |= at + 1 == rest.len();
                kept.pop()?;
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

/// A segment of dots.
enum DotSegment {
    /// `.`
    Current,
    /// `..`
    Parent,
}

/// Parses a segment of dots, which may be percent-encoded.
fn dot_segment(segment: &str) -> Option<DotSegment> {
    match segment.to_ascii_lowercase().replace("%2e", ".").as_str() {
        "." => Some(DotSegment::Current),
        ".." => Some(DotSegment::Parent),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_of_marketo_is_normalised() {
        for (written, expected) in [
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
            assert_eq!(canonical(written).as_deref(), Some(expected), "{written}");
        }
    }

    #[test]
    fn dot_segments_do_not_leave_the_path_or_the_instance() {
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
            assert_eq!(canonical(path).as_deref(), Some(path), "it is unchanged, and matches no endpoint");
        }
    }

    #[test]
    fn other_addresses_are_not_normalised() {
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
