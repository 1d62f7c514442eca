//! Delivery: passes a notification to the command's standard input, or sends it to the URL as a POST.

use std::time::Duration;

use hmac::{Hmac, Mac};
use jiff::Timestamp;
use reqwest::header::CONTENT_TYPE;
use sha2::Sha256;

use crate::config;
use crate::config::NotificationChannel;
use crate::error_chain::innermost;
use crate::marketo::outbound::client_for;
use crate::notification::command::Commands;
use crate::notification::message::Message;
use crate::secret::Secret;

/// Delivers notifications over the configured channel.
pub(super) struct Delivery {
    transport: Transport,
    timeout: Duration,
}

enum Transport {
    Command(Commands),
    Url(Endpoint),
}

impl Delivery {
    /// Returns none where no notification is configured. At most `max_concurrent` commands run at a time.
    ///
    /// # Errors
    /// The reason as text, when TLS cannot be set up.
    pub fn new(config: &config::Notify, max_concurrent: u32) -> Result<Option<Delivery>, String> {
        let transport = match &config.way {
            None => return Ok(None),
            Some(NotificationChannel::Command { program, arguments }) => {
                Transport::Command(Commands::new(program, arguments, config.timeout, max_concurrent))
            }
            Some(NotificationChannel::Url { url, secret }) => {
                let http = client_for(url).build().map_err(|error| format!("notify.url: {error}"))?;
                Transport::Url(Endpoint { http, url: url.clone(), secret: secret.clone() })
            }
        };
        Ok(Some(Delivery { transport, timeout: config.timeout }))
    }

    /// Delivers a message.
    ///
    /// # Errors
    /// The reason as text. It contains nothing of the body or of the response.
    pub async fn send(&self, message: &Message, now: Timestamp) -> Result<(), String> {
        match &self.transport {
            Transport::Command(commands) => commands.run(message).await,
            Transport::Url(endpoint) => {
                let timed_out = |_| format!("it took longer than {:?} (notify.timeout)", self.timeout);
                tokio::time::timeout(self.timeout, endpoint.post(message, now)).await.map_err(timed_out)?
            }
        }
    }
}

/// The URL that is called.
struct Endpoint {
    http: reqwest::Client,
    url: String,
    /// Signs the payload.
    secret: Option<Secret>,
}

impl Endpoint {
    async fn post(&self, message: &Message, now: Timestamp) -> Result<(), String> {
        let at = now.as_second().to_string();
        let mut request =
            self.http.post(&self.url).header(CONTENT_TYPE, "application/json").header("Marqueue-Timestamp", &at);
        if let Some(job) = message.job {
            request = request.header("Marqueue-Job", job.to_string());
        }
        if let Some(secret) = &self.secret {
            request = request.header("Marqueue-Signature", signature(secret, &at, &message.body));
        }
        // The URL may contain a secret.
        let response =
            request.body(message.body.clone()).send().await.map_err(|error| innermost(&error.without_url()))?;
        if response.status().is_success() {
            Ok(())
        } else {
            Err(format!("the response was HTTP {}", response.status().as_u16()))
        }
    }
}

/// Returns `sha256=` and the hexadecimal HMAC-SHA256 of the time, a dot and the body.
fn signature(secret: &Secret, at: &str, body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.expose().as_bytes()).expect("HMAC takes a key of any length");
    mac.update(at.as_bytes());
    mac.update(b".");
    mac.update(body);
    format!("sha256={}", hex::encode(mac.finalize().into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signature_matches_openssl() {
        // printf '1785578400.{}' | openssl dgst -sha256 -hmac whsec
        assert_eq!(signature(&Secret::new("whsec"), "1785578400", b"{}"), EXPECTED);
    }

    const EXPECTED: &str = "sha256=345a246af6b2e94c3bc25e76c5065050e2e0079da72b6c93657072f7b3c737a1";
}
