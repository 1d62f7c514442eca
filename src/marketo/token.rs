//! Whose word opens the door? The access token: fetched once however many calls wait for it, kept until shortly before
//! its end, and given up when Marketo refuses it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use reqwest::header::DATE;
use tokio::sync::Mutex;

use crate::error_chain::reason;
use crate::marketo::error_codes::{ErrorAction, classify};
use crate::marketo::outbound::read_body;
use crate::marketo::response::{error_text, read_envelope};
use crate::marketo::types::{TokenBody, TokenErrorBody};
use crate::secret::Secret;
use crate::untrusted_text::remark;

/// A token is not used in its last seconds: a call on its way would arrive with one that has ended, and Marketo's clocks
/// do not agree to the second.
const EXPIRY_MARGIN: Duration = Duration::from_secs(10);

/// What a token is taken to live where the answer does not say: as long as Adobe's pages say that one does.
const DEFAULT_LIFETIME: Duration = Duration::from_secs(3600);

/// No token is kept for longer, whatever its answer says.
const MAX_LIFETIME: Duration = Duration::from_secs(24 * 3600);

/// How long the identity endpoint may take.
pub(super) const IDENTITY_TIMEOUT: Duration = Duration::from_secs(30);

/// More than any of its answers has.
const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// Marketo hands out the same token until it expires, with less and less time left, down to 0 seconds. So near the end
/// a new one is to be had only this long after it.
const RETRY_DELAY: Duration = Duration::from_secs(1);
const MAX_TRIES: u32 = 4;

/// A token for the header of a call.
#[derive(Clone)]
pub struct AccessToken(Arc<str>);

impl AccessToken {
    pub(super) fn text(&self) -> &str {
        &self.0
    }
}

/// There is no token to be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// The identity endpoint knows the credentials not, or not any more.
    #[error("Marketo's identity endpoint refused the credentials: {0}")]
    Rejected(String),
    #[error("no token from Marketo's identity endpoint: {0}")]
    Transient(String),
}

pub(super) struct TokenCache {
    /// A client of its own: whether a proxy is used depends on the host, and identity's may be another.
    http: reqwest::Client,
    url: String,
    client_id: String,
    client_secret: Secret,
    /// Locked while a token is fetched, so that all who wait get the one that comes.
    held: Mutex<Option<CachedToken>>,
    credential_status: std::sync::Mutex<CredentialStatus>,
    /// By the last answer's `Date`.
    server_time: std::sync::Mutex<Option<Timestamp>>,
}

/// How the last request for a token went.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum CredentialStatus {
    #[default]
    Untried,
    Worked,
    /// The credentials were refused, with these words.
    Refused(String),
    /// No answer, or none that says anything of the credentials.
    Unreachable(String),
}

struct CachedToken {
    token: AccessToken,
    use_until: Instant,
}

impl TokenCache {
    pub fn new(http: reqwest::Client, identity_url: &str, client_id: &str, client_secret: &Secret) -> TokenCache {
        TokenCache {
            http,
            url: format!("{identity_url}/oauth/token"),
            client_id: client_id.to_owned(),
            client_secret: client_secret.clone(),
            held: Mutex::new(None),
            credential_status: std::sync::Mutex::default(),
            server_time: std::sync::Mutex::default(),
        }
    }

    pub fn server_time(&self) -> Option<Timestamp> {
        *self.server_time.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub fn credential_status(&self) -> CredentialStatus {
        self.credential_status.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    pub async fn get(&self) -> Result<AccessToken, TokenError> {
        let mut held = self.held.lock().await;
        if let Some(held) = held.as_ref().filter(|held| Instant::now() < held.use_until) {
            return Ok(held.token.clone());
        }
        *held = None;
        let mut waited_out = false;
        for _ in 0..MAX_TRIES {
            let fresh = self.fetch().await?;
            let left = fresh.expires_in.map_or(DEFAULT_LIFETIME, Duration::from_secs);
            let Some(used_for) = usable_for(left, waited_out) else {
                tokio::time::sleep(left + RETRY_DELAY).await;
                waited_out = true;
                continue;
            };
            let token = AccessToken(fresh.access_token.into());
            *held = Some(CachedToken { token: token.clone(), use_until: Instant::now() + used_for });
            return Ok(token);
        }
        Err(TokenError::Transient("every token that came had already expired".into()))
    }

    /// Marketo refused this token. Another that has come since is left alone.
    pub async fn invalidate(&self, token: &AccessToken) {
        let mut held = self.held.lock().await;
        if held.as_ref().is_some_and(|held| held.token.text() == token.text()) {
            *held = None;
        }
    }

    async fn fetch(&self) -> Result<TokenBody, TokenError> {
        let fetched = self.ask().await;
        *self.credential_status.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = match &fetched {
            Ok(_) => CredentialStatus::Worked,
            Err(fault @ TokenError::Rejected(_)) => CredentialStatus::Refused(fault.to_string()),
            Err(fault @ TokenError::Transient(_)) => CredentialStatus::Unreachable(fault.to_string()),
        };
        fetched
    }

    /// Asks with nothing in hand, to see who answers.
    pub async fn ask_without_credentials(&self) -> reqwest::Result<reqwest::Response> {
        self.http.get(&self.url).send().await
    }

    async fn ask(&self) -> Result<TokenBody, TokenError> {
        let passing = |error: reqwest::Error| TokenError::Transient(reason(&error));
        // POST, so that the secret stands in no URL and so in no proxy's log.
        let form = [
            ("grant_type", "client_credentials"),
            ("client_id", &self.client_id),
            ("client_secret", self.client_secret.expose()),
        ];
        let mut answer = self.http.post(&self.url).form(&form).send().await.map_err(passing)?;
        let date = answer.headers().get(DATE).and_then(|date| date.to_str().ok()).and_then(parse_date);
        *self.server_time.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = date;
        let status = answer.status();
        let unread = |reason| TokenError::Transient(format!("HTTP {}, and {reason}", status.as_u16()));
        let body = read_body(&mut answer, Vec::new(), MAX_ANSWER_BYTES).await.map_err(unread)?;
        parse_token(status.as_u16(), &body)
    }
}

/// The token in identity's answer. Its body is quoted nowhere: it may be a token that only its frame made unreadable.
fn parse_token(http: u16, body: &[u8]) -> Result<TokenBody, TokenError> {
    if http == 200
        && let Ok(token) = serde_json::from_slice(body)
    {
        return Ok(token);
    }
    // Refused credentials have come as the usual envelope too, with HTTP 200.
    if let Some(envelope) = read_envelope(body).filter(|envelope| !envelope.success) {
        let words = error_text(http, &envelope);
        return Err(match classify(http, Some(&envelope.errors)) {
            ErrorAction::NewToken | ErrorAction::StopForCredentials => TokenError::Rejected(words),
            _ => TokenError::Transient(words),
        });
    }
    let said = serde_json::from_slice::<TokenErrorBody>(body).ok().filter(|said| !said.error.is_empty());
    let words = match &said {
        Some(said) if said.error_description.is_empty() => said.error.clone(),
        Some(said) => format!("{} ({})", said.error_description, said.error),
        None => String::new(),
    };
    let text = format!("HTTP {http} {}", remark(&words)).trim_end().to_owned();
    // OAuth's own words for what passes.
    let passes =
        |said: &TokenErrorBody| matches!(said.error.as_str(), "temporarily_unavailable" | "server_error" | "slow_down");
    match http {
        _ if said.as_ref().is_some_and(passes) => Err(TokenError::Transient(text)),
        // Something in between has been seen to make a 200 of identity's refusal.
        200 if said.is_some() => Err(TokenError::Rejected(text)),
        200 => Err(TokenError::Transient("its answer could not be read".into())),
        401 => Err(TokenError::Rejected(text)),
        // A page of something in between says nothing of the credentials.
        400 | 403 if said.is_some() => Err(TokenError::Rejected(text)),
        _ => Err(TokenError::Transient(text)),
    }
}

/// The time that a `Date` header gives.
fn parse_date(date: &str) -> Option<Timestamp> {
    jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(date).ok()
}

/// How long a token is used that has so much time left; none where these are its last seconds. `waited_out`: the one
/// before was left to end, so that this one is new, and a short life is all that it has. Half of that is used.
fn usable_for(left: Duration, waited_out: bool) -> Option<Duration> {
    let used = left.min(MAX_LIFETIME).saturating_sub(EXPIRY_MARGIN);
    let used = if waited_out { used.max(left.min(EXPIRY_MARGIN) / 2) } else { used };
    (!used.is_zero()).then_some(used)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_header_is_read_to_the_second() {
        let at = |text: &str| Some(text.parse::<Timestamp>().unwrap());
        assert_eq!(parse_date("Sun, 06 Nov 1994 08:49:37 GMT"), at("1994-11-06T08:49:37Z"));
        assert_eq!(parse_date("yesterday"), None);
    }

    #[test]
    fn a_token_is_not_used_in_its_last_seconds() {
        // Seconds left, and milliseconds that it is used for: as the first that comes, and after another has ended.
        for (left, first, later) in [
            (0, None, None),
            (1, None, Some(500)),
            (10, None, Some(5_000)),
            (14, Some(4_000), Some(5_000)),
            (3600, Some(3_590_000), Some(3_590_000)),
            (u64::MAX, Some(86_390_000), Some(86_390_000)),
        ] {
            let used = [false, true].map(|waited_out| usable_for(Duration::from_secs(left), waited_out));
            assert_eq!(used, [first, later].map(|used| used.map(Duration::from_millis)), "{left} s");
        }
    }

    #[test]
    fn identity_refuses_credentials_by_401_or_in_its_own_words() {
        let html = b"<html>Forbidden</html>";
        let own = br#"{"error":"invalid_client","error_description":"Bad client credentials"}"#;
        let envelope = |code: &str| format!(r#"{{"success":false,"errors":[{{"code":"{code}","message":"m"}}]}}"#);
        for (http, body, credentials) in [
            (401, &own[..], true),
            (401, b"", true),
            (401, b"Unauthorized", true),
            (401, html, true),
            (400, own, true),
            (403, own, true),
            (403, html, false),
            (403, b"", false),
            (200, envelope("601").as_bytes(), true),
            (401, envelope("603").as_bytes(), true),
            (200, envelope("608").as_bytes(), false),
            (401, envelope("608").as_bytes(), false),
            (200, html, false),
            (500, own, false),
            (200, own, true),
            (200, br#"{"error":"unauthorized"}"#, true),
            (200, br#"{"error":"temporarily_unavailable","error_description":"later"}"#, false),
            (401, br#"{"error":"temporarily_unavailable"}"#, false),
            (200, br#"{"error":""}"#, false),
            (200, b"{}", false),
        ] {
            let fault = parse_token(http, body).err().expect("no token");
            let found = matches!(fault, TokenError::Rejected(_));
            assert_eq!(found, credentials, "{http} {}", String::from_utf8_lossy(body));
        }
        assert!(parse_token(200, br#"{"access_token":"t","expires_in":"60"}"#).is_ok());
        let said = |body: &[u8]| parse_token(200, body).err().expect("no token").to_string();
        assert!(said(own).ends_with("refused the credentials: HTTP 200 Bad client credentials (invalid_client)"));
        let allowlist = br#"{"success":false,"errors":[{"code":"603","message":"Access denied for IP 192.0.2.1"}]}"#;
        assert!(said(allowlist).ends_with("refused the credentials: 603: Access denied for IP 192.0.2.1"));
    }
}
