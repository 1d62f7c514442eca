//! Token endpoint: issues access tokens in the shapes of Marketo's identity service, which are OAuth's (RFC 6749).

use std::borrow::Cow;
use std::collections::BTreeMap;
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
use crate::api::auth::login_refusal::{LoginRefusal, WrongLogin, refuse_login};
use crate::api::auth::tokens::{Bearer, IssuedToken, TokenTable};
use crate::api::marketo_compat::response::RequestId;
use crate::api::state::{AppState, SharedState};
use crate::marketo::types::{TokenBody, TokenErrorBody};
use crate::secret::Secret;
use crate::store::StoredToken;

/// The longest form; larger than any id and secret.
const MAX_FORM_BYTES: usize = 16 * 1024;

/// How long a form may take. Anyone may send one, and it occupies a connection.
const FORM_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a login waits for the database.
const STORE_TIMEOUT: Duration = Duration::from_secs(2);

/// Why a login is refused.
struct LoginError {
    status: StatusCode,
    /// OAuth's error code.
    code: &'static str,
    description: &'static str,
}

impl LoginError {
    const fn new(status: StatusCode, code: &'static str, description: &'static str) -> LoginError {
        LoginError { status, code, description }
    }
}

const BAD_CREDENTIALS: LoginError =
    LoginError::new(StatusCode::UNAUTHORIZED, "invalid_client", "Bad client credentials");

/// Credentials of a login.
struct Credentials {
    id: String,
    secret: Secret,
}

/// Handles `GET` and `POST /identity/oauth/token`.
pub(super) async fn token(State(daemon): State<SharedState>, request: Request) -> Response {
    let id = RequestId::of(request.headers());
    let span = id.span();
    let response = async {
        match login(&daemon, request).await {
            Ok(response) => response,
            Err(LoginError { status, code, description }) => {
                let body = TokenErrorBody { error: code.to_owned(), error_description: description.to_owned() };
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
    id.add_to((head, response).into_response())
}

async fn login(daemon: &AppState, request: Request) -> Result<Response, LoginError> {
    let peer = identity::peer(request.extensions());
    let connection = RequestConnection::of(request.extensions());
    let instance = instance_in_path(request.uri().path());
    let basic = basic_credentials(request.headers());
    let parameters = read_parameters(request).await?;
    let value = |name: &str| parameters.get(name).map(String::as_str).unwrap_or_default();
    match value("grant_type") {
        "client_credentials" => {}
        "" => return Err(LoginError::new(StatusCode::BAD_REQUEST, "invalid_request", "Missing grant type")),
        _ => return Err(LoginError::new(StatusCode::BAD_REQUEST, "unsupported_grant_type", "Unsupported grant type")),
    }
    let credentials = match basic {
        // Where a client sends both, the parameters count, as at Marketo.
        Some(credentials) if value("client_secret").is_empty() => credentials,
        _ => vec![Credentials { id: value("client_id").to_owned(), secret: Secret::new(value("client_secret")) }],
    };
    let id = credentials.first().map_or("", |given| given.id.as_str());
    let verify = |given: &Credentials| daemon.tokens.verify_client(&given.id, given.secret.expose(), peer);
    let bearer = credentials.iter().find_map(verify);
    if let Some(bearer) = bearer.filter(|bearer| may_use_instance(daemon, bearer, instance.as_deref())) {
        return issue_token(daemon, bearer).await;
    }
    match refuse_login(daemon, &WrongLogin { peer, client_id: id, connection: &connection }).await {
        LoginRefusal::Delayed => Err(BAD_CREDENTIALS),
        LoginRefusal::AtOnce => {
            Err(LoginError::new(StatusCode::TOO_MANY_REQUESTS, "slow_down", "Too many failed logins: try again later"))
        }
    }
}

/// Returns whether the owner may use the instance in the path. Where it may not, the login fails.
fn may_use_instance(daemon: &AppState, bearer: &Bearer, instance: Option<&str>) -> bool {
    let Some(instance) = instance else { return true };
    let is_allowed = match bearer {
        Bearer::Client(client) => Identity::Client(client.clone()).may_use(instance),
        Bearer::Socket => true,
    };
    is_allowed && daemon.scheduler(instance).is_some()
}

/// Issues the owner's token and stores it.
async fn issue_token(daemon: &AppState, bearer: Bearer) -> Result<Response, LoginError> {
    match daemon.tokens.issue(bearer, Instant::now(), daemon.clock.now()) {
        Ok(IssuedToken { token, left, bearer, to_keep }) => {
            if let Some(stored) = to_keep
                && store_token(daemon, stored).await
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
            tracing::error!(%error, "token can't be issued");
            let status = StatusCode::SERVICE_UNAVAILABLE;
            Err(LoginError::new(status, "temporarily_unavailable", "No token can be issued now"))
        }
    }
}

/// Stores a token's hash. Returns false where that fails, because a full or damaged disk is no reason to refuse a
/// login: the token then becomes invalid at the next restart, unless a later login stores it.
async fn store_token(daemon: &AppState, stored: StoredToken) -> bool {
    let drop_before = TokenTable::drop_before(stored.issued_at);
    let client_id = stored.client_id.clone();
    let error = match tokio::time::timeout(STORE_TIMEOUT, daemon.store.insert_api_token(stored, drop_before)).await {
        Ok(Ok(())) => return true,
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("the database did not answer within {STORE_TIMEOUT:?}"),
    };
    tracing::warn!(client_id, error, "token can't be stored: it becomes invalid when the daemon restarts");
    false
}

/// Returns id and secret of an `Authorization: Basic` header (RFC 6749, section 2.3.1), which Go's OAuth library tries
/// first. The standard encodes them as in a form, and not every program does so: the result has both readings, the
/// standard's first.
fn basic_credentials(headers: &HeaderMap) -> Option<Vec<Credentials>> {
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
    let standard = decoded(id).zip(decoded(secret)).map(|(id, secret)| Credentials { id, secret: Secret::new(secret) });
    let plain = Credentials { id: id.to_owned(), secret: Secret::new(secret) };
    Some(standard.into_iter().chain([plain]).collect())
}

/// Returns the instance that a path names.
fn instance_in_path(path: &str) -> Option<String> {
    let name = path.strip_prefix("/instances/")?.split('/').next()?;
    Some(percent_encoding::percent_decode_str(name).decode_utf8_lossy().into_owned())
}

/// Reads the parameters of the query, and with POST those of the form too.
async fn read_parameters(request: Request) -> Result<BTreeMap<String, String>, LoginError> {
    let pairs = |text: &[u8]| url::form_urlencoded::parse(text).into_owned().collect::<Vec<_>>();
    let mut parameters: BTreeMap<_, _> =
        pairs(request.uri().query().unwrap_or_default().as_bytes()).into_iter().collect();
    match *request.method() {
        Method::GET => {}
        Method::POST => {
            let too_long = LoginError::new(StatusCode::PAYLOAD_TOO_LARGE, "invalid_request", "The form is too long");
            let too_slow =
                LoginError::new(StatusCode::REQUEST_TIMEOUT, "invalid_request", "The form did not come in time");
            let form = tokio::time::timeout(FORM_TIMEOUT, to_bytes(request.into_body(), MAX_FORM_BYTES));
            let form = form.await.map_err(|_| too_slow)?.map_err(|_| too_long)?;
            parameters.extend(pairs(&form));
        }
        _ => {
            let status = StatusCode::METHOD_NOT_ALLOWED;
            return Err(LoginError::new(status, "method_not_allowed", "Only GET and POST are supported"));
        }
    }
    Ok(parameters)
}
