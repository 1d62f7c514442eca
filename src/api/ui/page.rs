//! Handlers of the page's documents and files.

use axum::extract::{Path, Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH, LOCATION, REFRESH};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri};
use axum::response::{IntoResponse, Response};

use crate::api::auth::browser_guard::{LOGIN_PATH, OPEN_PATH, is_from_other_site};
use crate::api::auth::identity::Identity;
use crate::api::problem;
use crate::api::state::SharedState;
use crate::api::ui::asset_table::{Asset, Document};
use crate::api::ui::content_encoding::Encoding;
use crate::api::ui::security_headers::{protect_document, protect_response};

const HTML: &str = "text/html; charset=utf-8";

/// Handles `GET /`: the page; for an unknown sender a redirection to the login form.
///
/// A browser that follows a link on another site does not send the session's strict cookie. It is asked to open
/// [`OPEN_PATH`], which is then a request of the daemon's own page and has the cookie.
pub(super) async fn index(State(daemon): State<SharedState>, request: Request) -> Response {
    match Identity::of_request(&request, &daemon.tokens) {
        Ok(_) => {
            let index = Document::index();
            let mut response = Encoding::of_request(request.headers()).response(HTML, &index.html);
            protect_document(response.headers_mut(), &index.style_source);
            response
        }
        Err(_) if is_from_other_site(request.headers()) => {
            refresh(&format!("{}{OPEN_PATH}{}", daemon.page.prefix, query(request.uri())))
        }
        Err(_) => see_other(&format!("{}{LOGIN_PATH}{}", daemon.page.prefix, query(request.uri()))),
    }
}

/// Handles `GET /ui/open`: leads to the page, or for an unknown sender to the login form.
pub(super) async fn open(State(daemon): State<SharedState>, request: Request) -> Response {
    let path = if Identity::of_request(&request, &daemon.tokens).is_ok() { "/" } else { LOGIN_PATH };
    see_other(&format!("{}{path}{}", daemon.page.prefix, query(request.uri())))
}

/// Handles `GET /ui/{asset}`. The browser asks each time whether its copy is current, so that an update of the daemon
/// never mixes two versions.
pub(super) async fn asset(Path(name): Path<String>, headers: HeaderMap, uri: Uri) -> Response {
    let Some(asset) = Asset::find(&name) else { return problem::no_such_path(uri).await.into_response() };
    let encoding = Encoding::of_request(&headers);
    let etag = match encoding {
        Encoding::Identity => asset.etag(),
        // Each encoding has a tag of its own: it is a tag of the bytes that are sent.
        Encoding::Gzip => format!("{}-gzip\"", asset.etag().trim_end_matches('"')),
    };
    let sent = headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let is_current = sent.flat_map(|value| value.split(',')).any(|tag| tag.trim().trim_start_matches("W/") == etag);
    let mut response = match is_current {
        true => StatusCode::NOT_MODIFIED.into_response(),
        false => encoding.response(asset.media_type, asset.content),
    };
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.extend(HeaderValue::try_from(etag).ok().map(|etag| (ETAG, etag)));
    protect_response(headers);
    response
}

/// Makes the response with a document, whose text is `html`.
pub(super) fn document(status: StatusCode, document: &Document, html: &str) -> Response {
    let mut response = (status, [(CONTENT_TYPE, HTML)], html.to_owned()).into_response();
    protect_document(response.headers_mut(), &document.style_source);
    response
}

/// Makes a redirection to this address, which the browser fetches with GET.
pub(super) fn see_other(address: &str) -> Response {
    let mut response = StatusCode::SEE_OTHER.into_response();
    response.headers_mut().extend(HeaderValue::try_from(address).ok().map(|address| (LOCATION, address)));
    protect_response(response.headers_mut());
    response
}

/// Makes an empty document that the browser leaves for this address at once. Unlike a redirection, that is a request of
/// the daemon's own page and not of the one with the link.
fn refresh(address: &str) -> Response {
    let mut response = ([(CONTENT_TYPE, HTML)], "<!doctype html><title>marqueue</title>").into_response();
    let value = HeaderValue::try_from(format!("0; url={address}"));
    response.headers_mut().extend(value.ok().map(|value| (REFRESH, value)));
    protect_response(response.headers_mut());
    response
}

/// Returns the query with its question mark; empty without one. The page's state stands there, and outlasts the login.
pub(super) fn query(uri: &Uri) -> String {
    uri.query().map(|query| format!("?{query}")).unwrap_or_default()
}
