//! Protection of browsers' requests: host, origin, session and the token against cross-site requests.
//!
//! It is a middleware around all routes of all listeners. A request is a browser's if it has no bearer token and
//! carries the session's cookie, `Origin` or `Sec-Fetch-Site`. Browsers send `Origin` with every request that could
//! change something, and pages can neither set nor remove these headers.

use std::time::Instant;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, COOKIE, ORIGIN};
use axum::http::{HeaderMap, HeaderName, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;

use crate::api::auth::identity::{is_bearer, peer};
use crate::api::auth::request_origin::{OriginError, TlsUse, check_origin};
use crate::api::auth::session_table::{BrowserSession, is_csrf_token};
use crate::api::dto::Problem;
use crate::api::state::{AppState, SharedState};
use crate::api::ui::security_headers::{keep_from_other_sites, protect_response};
use crate::http_server::Peer;
use crate::secret::Secret;

/// Name of the session's cookie.
pub(crate) const SESSION_COOKIE: &str = "marqueue_session";

/// Address of the login form. A login has no session yet; its origin is checked.
pub(crate) const LOGIN_PATH: &str = "/ui/login";

/// Address that leads to the page from a link on another site.
pub(crate) const OPEN_PATH: &str = "/ui/open";

const CSRF_HEADER: HeaderName = HeaderName::from_static("x-csrf-token");
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Where a request comes from, as the browser says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FetchSite {
    /// From the page itself, from the user, or without the header.
    Own,
    /// From a page of another site or another host.
    Other,
}

/// Middleware around the router: refuses requests that another site may have made, and stores the [`BrowserSession`] of
/// the others in their extensions.
pub(in crate::api) async fn guard_browser_requests(
    State(daemon): State<SharedState>,
    request: Request,
    next: Next,
) -> Response {
    check_and_serve(&daemon, request, next).await.unwrap_or_else(|problem| {
        let mut response = problem.into_response();
        protect_response(response.headers_mut());
        response
    })
}

async fn check_and_serve(daemon: &AppState, mut request: Request, next: Next) -> Result<Response, Problem> {
    let headers = request.headers();
    let has_cookie = session_cookies(headers).next().is_some();
    let is_browser = !headers.get(AUTHORIZATION).is_some_and(is_bearer)
        && (has_cookie || headers.contains_key(ORIGIN) || headers.contains_key(SEC_FETCH_SITE));
    let is_page = is_page(request.uri().path());
    if !is_browser && !is_page {
        if headers.get(AUTHORIZATION).is_some_and(is_bearer) || !is_socket(&request) {
            return Ok(next.run(request).await);
        }
        daemon.hosts.check_rebinding(request.uri(), headers).map_err(refusal)?;
        // It may be a script or an image of another site, for which browsers send none of these headers.
        let mut response = next.run(request).await;
        keep_from_other_sites(response.headers_mut());
        return Ok(response);
    }
    let tls = if is_socket(&request) { TlsUse::Plain } else { daemon.hosts.tls() };
    let host = daemon.hosts.check_host(request.uri(), headers).map_err(refusal)?;
    check_origin(headers, &host, tls).map_err(refusal)?;
    let site = fetch_site(headers);
    if site == FetchSite::Other && !is_navigation(&request) {
        return Err(refused("cross-site-request", "the request comes from another site (its Sec-Fetch-Site says so)"));
    }
    // A link on another site opens the page, but never with the session.
    let session = if site == FetchSite::Own { find_session(daemon, &request) } else { None };
    if is_browser && may_change(&request) {
        check_csrf_token(daemon, &request, session.as_ref())?;
    }
    if let Some(session) = &session {
        request.extensions_mut().insert(session.clone());
    }
    let mut response = next.run(request).await;
    protect_response(response.headers_mut());
    Ok(match session {
        Some(session) => end_with(response, session),
        None => response,
    })
}

/// Returns the values of the session's cookie. There are several where the path prefix was changed.
pub(in crate::api) fn session_cookies(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let cookies = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    cookies.flat_map(|value| value.split(';')).filter_map(|cookie| {
        let (name, value) = cookie.trim().split_once('=')?;
        (name == SESSION_COOKIE).then_some(value)
    })
}

/// Returns whether the request came over the Unix socket.
pub(in crate::api) fn is_socket(request: &Request) -> bool {
    matches!(peer(request.extensions()), Some(Peer::Socket { .. }))
}

/// Returns the session of a request over TCP. The socket needs none, and a browser sends it the cookies of other
/// daemons of the same host name.
fn find_session(daemon: &AppState, request: &Request) -> Option<BrowserSession> {
    if is_socket(request) || request.headers().get(AUTHORIZATION).is_some() {
        return None;
    }
    let now = Instant::now();
    session_cookies(request.headers()).find_map(|cookie| daemon.sessions.find(cookie, now))
}

fn is_page(path: &str) -> bool {
    path == "/" || path.starts_with("/ui/")
}

fn may_change(request: &Request) -> bool {
    request.method() != Method::GET && request.method() != Method::HEAD && request.uri().path() != LOGIN_PATH
}

/// Returns whether the request opens the page or the login form, or leads there.
fn is_navigation(request: &Request) -> bool {
    let is_read = request.method() == Method::GET || request.method() == Method::HEAD;
    is_read && matches!(request.uri().path(), "/" | LOGIN_PATH | OPEN_PATH)
}

/// Returns whether the browser says that a page of another site has caused the request.
pub(in crate::api) fn is_from_other_site(headers: &HeaderMap) -> bool {
    fetch_site(headers) == FetchSite::Other
}

fn fetch_site(headers: &HeaderMap) -> FetchSite {
    let mut values = headers.get_all(SEC_FETCH_SITE).iter();
    match values.all(|value| matches!(value.as_bytes(), b"same-origin" | b"none")) {
        true => FetchSite::Own,
        false => FetchSite::Other,
    }
}

/// Checks the token of a request that may change something. Over TCP a request without a session is left to the
/// authentication, which refuses it.
fn check_csrf_token(daemon: &AppState, request: &Request, session: Option<&BrowserSession>) -> Result<(), Problem> {
    let expected: Secret = match session {
        Some(session) => session.csrf_token.clone(),
        None if is_socket(request) => daemon.sessions.socket_csrf_token(),
        None => return Ok(()),
    };
    let sent = request.headers().get(CSRF_HEADER).map_or(&b""[..], |value| value.as_bytes());
    if is_csrf_token(sent, &expected) {
        return Ok(());
    }
    let detail = "a change by a browser needs the header X-CSRF-Token with csrf_token of /ui/session: reload the page";
    Err(refused("csrf-token-invalid", detail))
}

/// Makes a stream of events end with the session.
fn end_with(response: Response, session: BrowserSession) -> Response {
    let is_stream =
        response.headers().get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"));
    match is_stream {
        true => response.map(|body| Body::from_stream(body.into_data_stream().take_until(Box::pin(session.ended())))),
        false => response,
    }
}

fn refusal(error: OriginError) -> Problem {
    let code = match error {
        OriginError::HostUnclear | OriginError::HostUnknown(_) => "host-not-allowed",
        OriginError::OtherOrigin(_) => "origin-not-allowed",
    };
    refused(code, &error.to_string())
}

fn refused(code: &str, detail: &str) -> Problem {
    tracing::debug!(code, detail, "request of a browser refused");
    Problem::of_kind(StatusCode::FORBIDDEN, code, "The browser's request is refused", detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn the_sessions_cookie_is_found_among_others() {
        let found = |pairs: &[(&str, &str)]| session_cookies(&headers(pairs)).map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(found(&[("cookie", "a=b; marqueue_session=1; c=d")]), ["1"]);
        assert_eq!(found(&[("cookie", "marqueue_session=1"), ("cookie", "marqueue_session=2")]), ["1", "2"]);
        assert_eq!(found(&[("cookie", "xmarqueue_session=1; marqueue_session2=1; marqueue_session")]), [""; 0]);
        assert_eq!(found(&[]), [""; 0]);
    }

    #[test]
    fn every_site_but_the_own_one_is_another() {
        for (value, expected) in [
            ("same-origin", FetchSite::Own),
            ("none", FetchSite::Own),
            ("same-site", FetchSite::Other),
            ("cross-site", FetchSite::Other),
            ("", FetchSite::Other),
            ("unknown", FetchSite::Other),
        ] {
            assert_eq!(fetch_site(&headers(&[("sec-fetch-site", value)])), expected, "{value}");
        }
        assert_eq!(fetch_site(&HeaderMap::new()), FetchSite::Own);
        let both = headers(&[("sec-fetch-site", "same-origin"), ("sec-fetch-site", "cross-site")]);
        assert_eq!(fetch_site(&both), FetchSite::Other);
    }
}
