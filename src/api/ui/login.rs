//! Login form of the page: opens and ends sessions of browsers.

use std::time::{Duration, Instant};

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::header::{RETRY_AFTER, SET_COOKIE, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::Response;

use crate::api::auth::browser_guard::{LOGIN_PATH, SESSION_COOKIE, is_socket, session_cookies};
use crate::api::auth::identity::{Identity, RequestConnection, peer};
use crate::api::auth::login_refusal::{LoginRefusal, WrongLogin, refuse_login};
use crate::api::auth::request_origin::{TlsUse, is_https_origin};
use crate::api::auth::session_table::SESSION_LIFETIME;
use crate::api::auth::tokens::Bearer;
use crate::api::state::{AppState, SharedState};
use crate::api::ui::asset_table::Document;
use crate::api::ui::page::{document, query, see_other};
use crate::secret::Secret;

/// Where the form shows why a login failed.
const ERROR_PLACEHOLDER: &str = "<!--ERROR-->";

/// The longest form; larger than any id and secret.
const MAX_FORM_BYTES: usize = 16 * 1024;

/// How long a form may take. Anyone may send one, and it occupies a connection.
const FORM_TIMEOUT: Duration = Duration::from_secs(10);

/// Handles `GET /ui/login`: the form; who needs no login is sent to the page.
pub(super) async fn form(State(daemon): State<SharedState>, request: Request) -> Response {
    match Identity::of_request(&request, &daemon.tokens) {
        Ok(_) => see_other(&page_address(&daemon, &request)),
        Err(_) => show_form(StatusCode::OK, ""),
    }
}

/// Handles `POST /ui/login`.
pub(super) async fn log_in(State(daemon): State<SharedState>, request: Request) -> Response {
    let target = page_address(&daemon, &request);
    if is_socket(&request) {
        return see_other(&target);
    }
    let (head, body) = request.into_parts();
    let Some(Credentials { id, secret }) = read_form(body).await else {
        return show_form(StatusCode::BAD_REQUEST, "The form was not complete: send it again.");
    };
    let peer = peer(&head.extensions);
    let Some(Bearer::Client(client)) = daemon.tokens.verify_client(&id, secret.expose(), peer) else {
        let connection = RequestConnection::of(&head.extensions);
        let refusal = refuse_login(&daemon, &WrongLogin { peer, client_id: &id, connection: &connection }).await;
        return show_refusal(refusal);
    };
    // The browser's cookie is replaced, so nothing would end its session before its time.
    session_cookies(&head.headers).for_each(|cookie| daemon.sessions.close(cookie));
    match daemon.sessions.open(client, Instant::now()) {
        Ok(value) => {
            tracing::info!(client_id = id, "a browser logged in");
            with_cookie(see_other(&target), cookie(&daemon, &head.headers, &value, SESSION_LIFETIME))
        }
        Err(error) => {
            tracing::error!(%error, "session can't be opened");
            show_form(StatusCode::SERVICE_UNAVAILABLE, "No session can be opened now: see the daemon's log.")
        }
    }
}

/// Handles `POST /ui/logout`.
pub(super) async fn log_out(State(daemon): State<SharedState>, request: Request) -> Response {
    session_cookies(request.headers()).for_each(|cookie| daemon.sessions.close(cookie));
    let removal = cookie(&daemon, request.headers(), &Secret::new(""), Duration::ZERO);
    with_cookie(see_other(&format!("{}{LOGIN_PATH}", daemon.page.prefix)), removal)
}

struct Credentials {
    id: String,
    secret: Secret,
}

/// Reads the form; none where it is too long, too slow or broken off.
async fn read_form(body: Body) -> Option<Credentials> {
    let form = tokio::time::timeout(FORM_TIMEOUT, to_bytes(body, MAX_FORM_BYTES)).await.ok()?.ok()?;
    let value = |wanted: &str| {
        let mut pairs = url::form_urlencoded::parse(&form);
        pairs.find(|(name, _)| name == wanted).map(|(_, value)| value.into_owned()).unwrap_or_default()
    };
    Some(Credentials { id: value("client_id"), secret: Secret::new(value("client_secret")) })
}

/// Returns the address of the page in the state that the login's query has.
fn page_address(daemon: &AppState, request: &Request) -> String {
    format!("{}/{}", daemon.page.prefix, query(request.uri()))
}

fn show_form(status: StatusCode, error: &str) -> Response {
    let form = Document::login();
    document(status, form, &form.html.replace(ERROR_PLACEHOLDER, error))
}

fn show_refusal(refusal: LoginRefusal) -> Response {
    match refusal {
        LoginRefusal::Delayed => {
            let mut response = show_form(StatusCode::UNAUTHORIZED, "The client id or the client secret is wrong.");
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            response
        }
        LoginRefusal::AtOnce => {
            let text = "Too many failed logins: try again in some seconds.";
            let mut response = show_form(StatusCode::TOO_MANY_REQUESTS, text);
            response.headers_mut().insert(RETRY_AFTER, 5.into());
            response
        }
    }
}

/// Makes the session's cookie. Behind a proxy with TLS only the request's origin shows the TLS.
fn cookie(daemon: &AppState, headers: &HeaderMap, value: &Secret, lifetime: Duration) -> Option<HeaderValue> {
    let path = if daemon.page.prefix.is_empty() { "/" } else { daemon.page.prefix.as_str() };
    let is_secure = daemon.hosts.tls() == TlsUse::Tls || is_https_origin(headers);
    let secure = if is_secure { "; Secure" } else { "" };
    let text = format!(
        "{SESSION_COOKIE}={}; Path={path}; Max-Age={}; HttpOnly; SameSite=Strict{secure}",
        value.expose(),
        lifetime.as_secs()
    );
    let mut cookie = HeaderValue::try_from(text).ok()?;
    cookie.set_sensitive(true);
    Some(cookie)
}

fn with_cookie(mut response: Response, cookie: Option<HeaderValue>) -> Response {
    response.headers_mut().extend(cookie.map(|cookie| (SET_COOKIE, cookie)));
    response
}
