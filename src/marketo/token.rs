//! Whose word opens the door? The access token: fetched once however many calls wait for it, kept until shortly before
//! its end, and given up when Marketo refuses it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use reqwest::StatusCode;
use reqwest::header::DATE;
use tokio::sync::Mutex;

use super::cause::reason;
use super::wire::{Token, TokenError};
use crate::config::Secret;

/// A token is not used in its last seconds: a call on its way would arrive with a dead one.
const MARGIN: Duration = Duration::from_secs(10);

/// What a token is taken to live where the answer does not say: as long as Adobe's pages say that one does.
const USUAL_LIFE: Duration = Duration::from_secs(3600);

/// No token is kept for longer, whatever its answer says.
const LONGEST_LIFE: Duration = Duration::from_secs(24 * 3600);

/// How long the identity endpoint may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Marketo hands out the same token until it expires, with less and less time left, down to 0 seconds. So near the end
/// a new one is to be had only a moment later.
const BETWEEN_TWO: Duration = Duration::from_secs(1);
const TRIES: u32 = 4;

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
pub enum TokenFault {
    /// The identity endpoint knows the credentials not, or not any more.
    #[error("Marketo's identity endpoint refused the credentials: {0}")]
    Credentials(String),
    #[error("no token from Marketo's identity endpoint: {0}")]
    Passing(String),
}

pub(super) struct Tokens {
    url: String,
    client_id: String,
    client_secret: Secret,
    /// Locked while a token is fetched, so that all who wait get the one that comes.
    held: Mutex<Option<Held>>,
    trial: std::sync::Mutex<Trial>,
    /// By the last answer's `Date`.
    their_time: std::sync::Mutex<Option<Timestamp>>,
}

/// How the last request for a token went.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Trial {
    #[default]
    Untried,
    Worked,
    /// The credentials were refused, with these words.
    Refused(String),
    /// No answer, or none that says anything of the credentials.
    Unreachable(String),
}

struct Held {
    token: AccessToken,
    use_until: Instant,
}

impl Tokens {
    pub fn new(identity_url: &str, client_id: &str, client_secret: &Secret) -> Tokens {
        Tokens {
            url: format!("{identity_url}/oauth/token"),
            client_id: client_id.to_owned(),
            client_secret: client_secret.clone(),
            held: Mutex::new(None),
            trial: std::sync::Mutex::default(),
            their_time: std::sync::Mutex::default(),
        }
    }

    pub fn their_time(&self) -> Option<Timestamp> {
        *self.their_time.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub fn trial(&self) -> Trial {
        self.trial.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    pub async fn get(&self, http: &reqwest::Client) -> Result<AccessToken, TokenFault> {
        let mut held = self.held.lock().await;
        if let Some(held) = held.as_ref().filter(|held| Instant::now() < held.use_until) {
            return Ok(held.token.clone());
        }
        *held = None;
        for _ in 0..TRIES {
            let fresh = self.fetch(http).await?;
            let left = fresh.expires_in.map_or(USUAL_LIFE, Duration::from_secs);
            let Some(used_for) = used_for(left) else {
                tokio::time::sleep(BETWEEN_TWO).await;
                continue;
            };
            let token = AccessToken(fresh.access_token.into());
            *held = Some(Held { token: token.clone(), use_until: Instant::now() + used_for });
            return Ok(token);
        }
        Err(TokenFault::Passing("every token that came had already expired".into()))
    }

    /// Marketo refused this token. Another that has come since is left alone.
    pub async fn refused(&self, token: &AccessToken) {
        let mut held = self.held.lock().await;
        if held.as_ref().is_some_and(|held| held.token.text() == token.text()) {
            *held = None;
        }
    }

    async fn fetch(&self, http: &reqwest::Client) -> Result<Token, TokenFault> {
        let fetched = self.ask(http).await;
        *self.trial.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = match &fetched {
            Ok(_) => Trial::Worked,
            Err(fault @ TokenFault::Credentials(_)) => Trial::Refused(fault.to_string()),
            Err(fault @ TokenFault::Passing(_)) => Trial::Unreachable(fault.to_string()),
        };
        fetched
    }

    async fn ask(&self, http: &reqwest::Client) -> Result<Token, TokenFault> {
        let passing = |error: reqwest::Error| TokenFault::Passing(reason(&error));
        // POST, so that the secret stands in no URL and so in no proxy's log.
        let form = [
            ("grant_type", "client_credentials"),
            ("client_id", &self.client_id),
            ("client_secret", self.client_secret.expose()),
        ];
        let answer = http.post(&self.url).form(&form).timeout(PATIENCE).send().await.map_err(passing)?;
        let date = answer.headers().get(DATE).and_then(|date| date.to_str().ok()).and_then(time_of);
        *self.their_time.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = date;
        let status = answer.status();
        let body = answer.bytes().await.map_err(passing)?;
        if status == StatusCode::OK {
            // The body is not quoted: it may be a token that only its frame made unreadable.
            return serde_json::from_slice(&body)
                .map_err(|_| TokenFault::Passing("its answer could not be read".into()));
        }
        let said = serde_json::from_slice::<TokenError>(&body).ok();
        let words = match &said {
            Some(said) if said.error_description.is_empty() => said.error.clone(),
            Some(said) => format!("{} ({})", said.error_description, said.error),
            None => String::new(),
        };
        match status.as_u16() {
            401 => Err(TokenFault::Credentials(format!("HTTP 401 {words}").trim_end().to_owned())),
            400 | 403 if said.as_ref().is_some_and(|said| !said.error.is_empty()) => {
                Err(TokenFault::Credentials(format!("HTTP {} {words}", status.as_u16())))
            }
            other => Err(TokenFault::Passing(format!("HTTP {other} {words}").trim_end().to_owned())),
        }
    }
}

/// The time that a `Date` header gives.
fn time_of(date: &str) -> Option<Timestamp> {
    jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(date).ok()
}

/// How long a token is used that has so much time left; none where it has none.
fn used_for(left: Duration) -> Option<Duration> {
    // Of a token that is nearly over half the rest is used.
    let used = left.min(LONGEST_LIFE).checked_sub(MARGIN).unwrap_or_default().max(left.min(MARGIN) / 2);
    (!used.is_zero()).then_some(used)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_header_is_read_to_the_second() {
        let at = |text: &str| Some(text.parse::<Timestamp>().unwrap());
        assert_eq!(time_of("Sun, 06 Nov 1994 08:49:37 GMT"), at("1994-11-06T08:49:37Z"));
        assert_eq!(time_of("yesterday"), None);
    }

    #[test]
    fn a_token_is_used_until_shortly_before_its_end_and_never_for_longer_than_a_day() {
        for (left, used) in [
            (0, None),
            (1, Some(500)),
            (10, Some(5_000)),
            (14, Some(5_000)),
            (3600, Some(3_590_000)),
            (u64::MAX, Some(86_390_000)),
        ] {
            assert_eq!(used_for(Duration::from_secs(left)), used.map(Duration::from_millis), "{left} s");
        }
    }
}
