//! Access token: a cache that fetches one token for all calls that wait for it, keeps it until shortly before it
//! expires, and drops it when Marketo refuses it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use reqwest::header::DATE;
use tokio::sync::Mutex;

use crate::error_chain::reason;
use crate::marketo::error_codes::{ErrorAction, classify};
use crate::marketo::outbound::read_body;
use crate::marketo::response::{read_envelope, refusal_reason};
use crate::marketo::types::{TokenBody, TokenErrorBody};
use crate::secret::Secret;
use crate::untrusted_text::remark;

/// A token is not used in its last seconds: it could expire while a call is under way, and the clocks of Marketo's
/// servers differ by seconds.
const EXPIRY_MARGIN: Duration = Duration::from_secs(10);

/// The lifetime of a token whose response has none, as on Adobe's page "Authentication".
const DEFAULT_LIFETIME: Duration = Duration::from_secs(3600);

/// The maximum time that a token is kept.
const MAX_LIFETIME: Duration = Duration::from_secs(24 * 3600);

/// The timeout of a call to the identity endpoint.
pub(super) const IDENTITY_TIMEOUT: Duration = Duration::from_secs(30);

/// The maximum length of its responses in bytes; more than any has.
const MAX_RESPONSE_BYTES: usize = 64 * 1024;

/// The wait after the expiry of a token before the next request. Marketo returns the same token until it expires, with
/// less and less time left, down to 0 seconds.
const RETRY_DELAY: Duration = Duration::from_secs(1);
const MAX_TRIES: u32 = 4;

/// An access token, for the `Authorization` header of a call.
#[derive(Clone)]
pub struct AccessToken(Arc<str>);

impl AccessToken {
    pub(super) fn text(&self) -> &str {
        &self.0
    }
}

/// Why no token could be obtained.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// The identity endpoint refused the credentials.
    #[error("Marketo's identity endpoint refused the credentials: {0}")]
    Rejected(String),
    /// No response, or one that says nothing about the credentials.
    #[error("no token from Marketo's identity endpoint: {0}")]
    Transient(String),
}

pub(super) struct TokenCache {
    /// A separate client: whether a proxy is used depends on the host, and the identity endpoint may have another one.
    http: reqwest::Client,
    url: String,
    client_id: String,
    client_secret: Secret,
    /// Locked while a token is fetched, so that all waiting calls get the same one.
    cached: Mutex<Option<CachedToken>>,
    credential_status: parking_lot::Mutex<CredentialStatus>,
    /// The `Date` of the last response.
    server_time: parking_lot::Mutex<Option<Timestamp>>,
}

/// The result of the last token request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum CredentialStatus {
    /// None was made yet.
    #[default]
    Untried,
    /// It returned a token.
    Worked,
    /// The credentials were refused, with this message.
    Refused(String),
    /// No response, or one that says nothing about the credentials, with this message.
    Unreachable(String),
}

struct CachedToken {
    token: AccessToken,
    use_until: Instant,
}

impl TokenCache {
    /// Builds an empty cache for the identity endpoint at `identity_url`.
    pub fn new(http: reqwest::Client, identity_url: &str, client_id: &str, client_secret: &Secret) -> TokenCache {
        TokenCache {
            http,
            url: format!("{identity_url}/oauth/token"),
            client_id: client_id.to_owned(),
            client_secret: client_secret.clone(),
            cached: Mutex::new(None),
            credential_status: parking_lot::Mutex::default(),
            server_time: parking_lot::Mutex::default(),
        }
    }

    /// Returns the server's time of the last response.
    pub fn server_time(&self) -> Option<Timestamp> {
        *self.server_time.lock()
    }

    /// Returns the result of the last token request.
    pub fn credential_status(&self) -> CredentialStatus {
        self.credential_status.lock().clone()
    }

    /// Returns the cached token, or fetches one.
    ///
    /// # Errors
    /// [`TokenError`].
    pub async fn get(&self) -> Result<AccessToken, TokenError> {
        let mut cached = self.cached.lock().await;
        if let Some(cached) = cached.as_ref().filter(|cached| Instant::now() < cached.use_until) {
            return Ok(cached.token.clone());
        }
        *cached = None;
        let mut source = TokenSource::First;
        for _ in 0..MAX_TRIES {
            let fresh = self.fetch().await?;
            let left = fresh.expires_in.map_or(DEFAULT_LIFETIME, Duration::from_secs);
            let Some(used_for) = usable_for(left, source) else {
                tokio::time::sleep(left + RETRY_DELAY).await;
                source = TokenSource::AfterExpiry;
                continue;
            };
            let token = AccessToken(fresh.access_token.into());
            *cached = Some(CachedToken { token: token.clone(), use_until: Instant::now() + used_for });
            return Ok(token);
        }
        Err(TokenError::Transient("all tokens in the responses had expired".into()))
    }

    /// Drops a token that Marketo refused. A newer token in the cache is kept.
    pub async fn invalidate(&self, token: &AccessToken) {
        let mut cached = self.cached.lock().await;
        if cached.as_ref().is_some_and(|cached| cached.token.text() == token.text()) {
            *cached = None;
        }
    }

    async fn fetch(&self) -> Result<TokenBody, TokenError> {
        let fetched = self.request().await;
        *self.credential_status.lock() = match &fetched {
            Ok(_) => CredentialStatus::Worked,
            Err(error @ TokenError::Rejected(_)) => CredentialStatus::Refused(error.to_string()),
            Err(error @ TokenError::Transient(_)) => CredentialStatus::Unreachable(error.to_string()),
        };
        fetched
    }

    /// Calls the endpoint without credentials, to find out what answers there.
    pub async fn ask_without_credentials(&self) -> reqwest::Result<reqwest::Response> {
        self.http.get(&self.url).send().await
    }

    async fn request(&self) -> Result<TokenBody, TokenError> {
        let transient = |error: reqwest::Error| TokenError::Transient(reason(&error));
        // POST, so that the secret is in no URL and thus in no proxy's log.
        let form = [
            ("grant_type", "client_credentials"),
            ("client_id", &self.client_id),
            ("client_secret", self.client_secret.expose()),
        ];
        let mut response = self.http.post(&self.url).form(&form).send().await.map_err(transient)?;
        let date = response.headers().get(DATE).and_then(|date| date.to_str().ok()).and_then(parse_date);
        *self.server_time.lock() = date;
        let status = response.status();
        let unread = |reason| TokenError::Transient(format!("HTTP {}, and {reason}", status.as_u16()));
        let body = read_body(&mut response, Vec::new(), MAX_RESPONSE_BYTES).await.map_err(unread)?;
        parse_token(status.as_u16(), &body)
    }
}

/// Parses the token endpoint's response. Errors never quote an unreadable body, because it may contain a token.
fn parse_token(http: u16, body: &[u8]) -> Result<TokenBody, TokenError> {
    if http == 200
        && let Ok(token) = serde_json::from_slice(body)
    {
        return Ok(token);
    }
    // Refused credentials may also come as the usual envelope, with HTTP 200.
    if let Some(envelope) = read_envelope(body).filter(|envelope| !envelope.success) {
        let text = refusal_reason(http, &envelope).text;
        return Err(match classify(http, Some(&envelope.errors)) {
            ErrorAction::NewToken | ErrorAction::StopForCredentials => TokenError::Rejected(text),
            _ => TokenError::Transient(text),
        });
    }
    let oauth_error = serde_json::from_slice::<TokenErrorBody>(body).ok().filter(|body| !body.error.is_empty());
    let message = match &oauth_error {
        Some(error) if error.error_description.is_empty() => error.error.clone(),
        Some(error) => format!("{} ({})", error.error_description, error.error),
        None => String::new(),
    };
    let text = format!("HTTP {http} {}", remark(&message)).trim_end().to_owned();
    // OAuth's error codes of temporary failures.
    let is_transient =
        |body: &TokenErrorBody| matches!(body.error.as_str(), "temporarily_unavailable" | "server_error" | "slow_down");
    match http {
        _ if oauth_error.as_ref().is_some_and(is_transient) => Err(TokenError::Transient(text)),
        // Proxies have turned the endpoint's refusal into a 200.
        200 if oauth_error.is_some() => Err(TokenError::Rejected(text)),
        200 => Err(TokenError::Transient("the response could not be read".into())),
        401 => Err(TokenError::Rejected(text)),
        // A proxy's page says nothing about the credentials.
        400 | 403 if oauth_error.is_some() => Err(TokenError::Rejected(text)),
        _ => Err(TokenError::Transient(text)),
    }
}

/// Parses a `Date` header.
fn parse_date(date: &str) -> Option<Timestamp> {
    jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(date).ok()
}

/// How a token was obtained. The identity service returns the same token until it expires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TokenSource {
    /// By a first request: it may be about to expire.
    First,
    /// By a request after the expiry of the token before: it is new.
    AfterExpiry,
}

/// Returns how long to use a token with this remaining lifetime; none in its last seconds. Where it was fetched after
/// the one before expired, it is new and its lifetime is short, so half of that is used.
fn usable_for(left: Duration, source: TokenSource) -> Option<Duration> {
    let used = left.min(MAX_LIFETIME).saturating_sub(EXPIRY_MARGIN);
    let used = if source == TokenSource::AfterExpiry { used.max(left.min(EXPIRY_MARGIN) / 2) } else { used };
    (!used.is_zero()).then_some(used)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn date_header_is_read_to_the_second() {
        let at = |text: &str| Some(text.parse::<Timestamp>().unwrap());
        assert_eq!(parse_date("Sun, 06 Nov 1994 08:49:37 GMT"), at("1994-11-06T08:49:37Z"));
        assert_eq!(parse_date("yesterday"), None);
    }

    #[test]
    fn token_is_not_used_in_its_last_seconds() {
        // Seconds left, and milliseconds of use: of the first token, and of one fetched after another expired.
        for (left, first, later) in [
            (0, None, None),
            (1, None, Some(500)),
            (10, None, Some(5_000)),
            (14, Some(4_000), Some(5_000)),
            (3600, Some(3_590_000), Some(3_590_000)),
            (u64::MAX, Some(86_390_000), Some(86_390_000)),
        ] {
            let used = [TokenSource::First, TokenSource::AfterExpiry]
                .map(|source| usable_for(Duration::from_secs(left), source));
            assert_eq!(used, [first, later].map(|used| used.map(Duration::from_millis)), "{left} s");
        }
    }

    #[test]
    fn credentials_are_rejected_by_401_or_an_oauth_error() {
        let html = b"<html>Forbidden</html>";
        let oauth = br#"{"error":"invalid_client","error_description":"Bad client credentials"}"#;
        let envelope = |code: &str| format!(r#"{{"success":false,"errors":[{{"code":"{code}","message":"m"}}]}}"#);
        for (http, body, credentials) in [
            (401, &oauth[..], true),
            (401, b"", true),
            (401, b"Unauthorized", true),
            (401, html, true),
            (400, oauth, true),
            (403, oauth, true),
            (403, html, false),
            (403, b"", false),
            (200, envelope("601").as_bytes(), true),
            (401, envelope("603").as_bytes(), true),
            (200, envelope("608").as_bytes(), false),
            (401, envelope("608").as_bytes(), false),
            (200, html, false),
            (500, oauth, false),
            (200, oauth, true),
            (200, br#"{"error":"unauthorized"}"#, true),
            (200, br#"{"error":"temporarily_unavailable","error_description":"later"}"#, false),
            (401, br#"{"error":"temporarily_unavailable"}"#, false),
            (200, br#"{"error":""}"#, false),
            (200, b"{}", false),
        ] {
            let error = parse_token(http, body).err().expect("no token");
            let found = matches!(error, TokenError::Rejected(_));
            assert_eq!(found, credentials, "{http} {}", String::from_utf8_lossy(body));
        }
        assert!(parse_token(200, br#"{"access_token":"t","expires_in":"60"}"#).is_ok());
        let message = |body: &[u8]| parse_token(200, body).err().expect("no token").to_string();
        assert!(message(oauth).ends_with("refused the credentials: HTTP 200 Bad client credentials (invalid_client)"));
        let allowlist = br#"{"success":false,"errors":[{"code":"603","message":"Access denied for IP 192.0.2.1"}]}"#;
        assert!(message(allowlist).ends_with("refused the credentials: 603: Access denied for IP 192.0.2.1"));
    }
}
