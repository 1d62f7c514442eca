//! How does a program get its token? As from Marketo's identity service, in its shapes, which are OAuth's.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use axum::Json;
use axum::body::to_bytes;
use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, PRAGMA, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use base64::alphabet;
use base64::engine::general_purpose::{GeneralPurpose, PAD};
use base64::engine::{DecodePaddingMode, Engine};
use tracing::Instrument;

use crate::api::auth::identity;
use crate::api::auth::identity::{Identity, RequestConnection};
use crate::api::auth::tokens::{Bearer, IssuedToken, TokenTable};
use crate::api::marketo_compat::response::RequestId;
use crate::api::{AppState, SharedState};
use crate::http_server::Peer;
use crate::marketo::types::{TokenBody, TokenErrorBody};
use crate::secret::Secret;
use crate::store::StoredToken;

/// More than any id and secret take.
const MAX_FORM_BYTES: usize = 16 * 1024;

/// Anyone may send one, and has a place while it comes.
const FORM_TIMEOUT: Duration = Duration::from_secs(10);

/// A login does not wait longer for the database.
const STORE_TIMEOUT: Duration = Duration::from_secs(2);

type LoginRefusal = (StatusCode, &'static str, &'static str);

const BAD_CREDENTIALS: LoginRefusal = (StatusCode::UNAUTHORIZED, "invalid_client", "Bad client credentials");

pub(super) async fn token(State(daemon): State<SharedState>, request: Request) -> Response {
    let id = RequestId::of(request.headers());
    let span = id.span();
    let answer = async {
        match login(&daemon, request).await {
            Ok(given) => given,
            Err((status, error, description)) => {
                let body = TokenErrorBody { error: error.to_owned(), error_description: description.to_owned() };
                let mut response = (status, Json(body)).into_response();
                if status == StatusCode::UNAUTHORIZED {
                    // RFC 6749, section 5.2.
                    response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Basic"));
                }
                if status == StatusCode::TOO_MANY_REQUESTS {
                    response.headers_mut().insert(RETRY_AFTER, 5.into());
                }
                response
            }
        }
    }
    .instrument(span)
    .await;
    let head = [(CONTENT_TYPE, "application/json;charset=UTF-8"), (CACHE_CONTROL, "no-store"), (PRAGMA, "no-cache")];
    id.stamp((head, answer).into_response())
}

async fn login(daemon: &AppState, request: Request) -> Result<Response, LoginRefusal> {
    let peer = identity::peer(request.extensions());
    let connection = RequestConnection::of(request.extensions());
    let instance = instance(request.uri().path());
    let basic = basic(request.headers());
    let parameters = parameters(request).await?;
    let value = |name: &str| parameters.get(name).map(String::as_str).unwrap_or_default();
    match value("grant_type") {
        "client_credentials" => {}
        "" => return Err((StatusCode::BAD_REQUEST, "invalid_request", "Missing grant type")),
        _ => return Err((StatusCode::BAD_REQUEST, "unsupported_grant_type", "Unsupported grant type")),
    }
    let shown = match basic {
        // A client names itself in one way. Where it does so in both, the parameters are Marketo's own.
        Some(shown) if value("client_secret").is_empty() => shown,
        _ => vec![(value("client_id").to_owned(), Secret::new(value("client_secret")))],
    };
    let id = shown.first().map_or("", |(id, _)| id.as_str());
    let (on_socket, address) = match peer {
        Some(Peer::Socket { .. }) => (true, None),
        Some(Peer::Tcp(address)) => (false, Some(address)),
        None => (false, None),
    };
    let judge = |(id, secret): &(String, Secret)| daemon.tokens.verify_client(id, secret.expose(), on_socket);
    let bearer = shown.iter().find_map(judge);
    if let Some(bearer) = bearer.filter(|bearer| knows(daemon, bearer, instance.as_deref())) {
        return given(daemon, bearer).await;
    }
    // What was sent as an id may be anything, a secret too, so only one that is known is written down.
    let client_id = daemon.tokens.is_registered(id).then_some(id);
    let peer = address.map(tracing::field::display::<IpAddr>);
    if connection.may_wait() && daemon.guesses.delay(address, id).await.is_ok() {
        tracing::warn!(client_id, peer, "a login was refused");
        return Err(BAD_CREDENTIALS);
    }
    // Nothing slows these down, so not each of them may have a line.
    if let Some(left_out) = daemon.guesses.may_log_refusal() {
        tracing::warn!(client_id, peer, left_out, "a login was refused, and many wrong ones wait for their answers");
    }
    Err((StatusCode::TOO_MANY_REQUESTS, "slow_down", "Too many failed logins: try again later"))
}

/// To an instance that a client may not use, it is unknown.
fn knows(daemon: &AppState, bearer: &Bearer, instance: Option<&str>) -> bool {
    let Some(instance) = instance else { return true };
    let may = match bearer {
        Bearer::Client(client) => Identity::Client(client.clone()).may_use(instance),
        Bearer::Socket => true,
    };
    may && daemon.scheduler(instance).is_some()
}

async fn given(daemon: &AppState, bearer: Bearer) -> Result<Response, LoginRefusal> {
    match daemon.tokens.issue(bearer, Instant::now(), daemon.clock.now()) {
        Ok(IssuedToken { token, left, bearer, to_keep }) => {
            if let Some(stored) = to_keep
                && keep(daemon, stored).await
            {
                daemon.tokens.mark_stored(&bearer, &token);
            }
            let scope = match bearer {
                Bearer::Client(client) => client.id.clone(),
                Bearer::Socket => "socket".to_owned(),
            };
            let token = TokenBody {
                access_token: token,
                token_type: "bearer".to_owned(),
                expires_in: Some(left.as_secs()),
                scope,
            };
            Ok(Json(token).into_response())
        }
        Err(error) => {
            tracing::error!(%error, "no token could be given");
            Err((StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable", "No token can be made now"))
        }
    }
}

/// Puts a token's hash on the disk, if that goes. A full or damaged disk is no reason to refuse a login: the token then
/// ends with this daemon, unless a later login can keep it.
async fn keep(daemon: &AppState, stored: StoredToken) -> bool {
    let drop_before = TokenTable::drop_before(stored.issued_at);
    let client_id = stored.client_id.clone();
    let error = match tokio::time::timeout(STORE_TIMEOUT, daemon.store.insert_api_token(stored, drop_before)).await {
        Ok(Ok(())) => return true,
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("the database did not answer within {STORE_TIMEOUT:?}"),
    };
    tracing::warn!(client_id, error, "a token is in memory only, and ends with this daemon");
    false
}

/// Id and secret of an `Authorization: Basic` header (RFC 6749, section 2.3.1), which Go's OAuth library tries first. They
/// are encoded as in a form, and not every program does so: both readings, the standard's first.
fn basic(headers: &HeaderMap) -> Option<Vec<(String, Secret)>> {
    let (kind, encoded) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    if !kind.eq_ignore_ascii_case("basic") {
        return None;
    }
    let engine = GeneralPurpose::new(&alphabet::STANDARD, PAD.with_decode_padding_mode(DecodePaddingMode::Indifferent));
    let text = String::from_utf8(engine.decode(encoded.trim()).ok()?).ok()?;
    let (id, secret) = text.split_once(':')?;
    let decoded = |text: &str| {
        let spaced = text.replace('+', " ");
        percent_encoding::percent_decode_str(&spaced).decode_utf8().ok().map(Cow::into_owned)
    };
    let standard = decoded(id).zip(decoded(secret)).map(|(id, secret)| (id, Secret::new(secret)));
    Some(standard.into_iter().chain([(id.to_owned(), Secret::new(secret))]).collect())
}

/// The one that a path names.
fn instance(path: &str) -> Option<String> {
    let name = path.strip_prefix("/instances/")?.split('/').next()?;
    Some(percent_encoding::percent_decode_str(name).decode_utf8_lossy().into_owned())
}

/// From the query, and with POST from the form too.
async fn parameters(request: Request) -> Result<BTreeMap<String, String>, LoginRefusal> {
    let pairs = |text: &[u8]| url::form_urlencoded::parse(text).into_owned().collect::<Vec<_>>();
    let mut parameters: BTreeMap<_, _> =
        pairs(request.uri().query().unwrap_or_default().as_bytes()).into_iter().collect();
    match *request.method() {
        Method::GET => {}
        Method::POST => {
            let too_long = (StatusCode::PAYLOAD_TOO_LARGE, "invalid_request", "The form is too long");
            let too_slow = (StatusCode::REQUEST_TIMEOUT, "invalid_request", "The form did not come in time");
            let form = tokio::time::timeout(FORM_TIMEOUT, to_bytes(request.into_body(), MAX_FORM_BYTES));
            let form = form.await.map_err(|_| too_slow)?.map_err(|_| too_long)?;
            parameters.extend(pairs(&form));
        }
        _ => return Err((StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "Only GET and POST are supported")),
    }
    Ok(parameters)
}
