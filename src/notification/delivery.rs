//! How is somebody told? A command gets the words on its standard input, a URL gets them as a POST.

use std::time::Duration;

use hmac::{Hmac, Mac};
use jiff::Timestamp;
use reqwest::header::CONTENT_TYPE;
use sha2::Sha256;

use crate::config;
use crate::config::NotificationChannel;
use crate::domain::JobId;
use crate::marketo::outbound::client_for;
use crate::notification::command::Commands;
use crate::secret::Secret;

pub(super) struct Delivery {
    way: Transport,
    timeout: Duration,
}

enum Transport {
    Command(Commands),
    Url { http: reqwest::Client, url: String, secret: Option<Secret> },
}

impl Delivery {
    /// `at_once`: how many commands run at the same time.
    pub fn new(config: &config::Notify, at_once: u32) -> Result<Option<Delivery>, String> {
        let way = match &config.way {
            None => return Ok(None),
            Some(NotificationChannel::Command { program, arguments }) => {
                Transport::Command(Commands::new(program, arguments, config.timeout, at_once))
            }
            Some(NotificationChannel::Url { url, secret }) => {
                let http = client_for(url).build().map_err(|error| format!("notify.url: {error}"))?;
                Transport::Url { http, url: url.clone(), secret: secret.clone() }
            }
        };
        Ok(Some(Delivery { way, timeout: config.timeout }))
    }

    /// Tells `body`, and says why that failed. No reason holds anything of what was told or answered.
    pub async fn send(&self, job: JobId, body: Vec<u8>, now: Timestamp) -> Result<(), String> {
        match &self.way {
            Transport::Command(commands) => commands.run(job, &body).await,
            Transport::Url { http, url, secret } => {
                let telling = post(http, url, secret.as_ref(), job, body, now);
                let over = |_| format!("it took longer than {:?} (notify.timeout)", self.timeout);
                tokio::time::timeout(self.timeout, telling).await.map_err(over)?
            }
        }
    }
}

async fn post(
    http: &reqwest::Client,
    url: &str,
    secret: Option<&Secret>,
    job: JobId,
    body: Vec<u8>,
    now: Timestamp,
) -> Result<(), String> {
    let at = now.as_second().to_string();
    let mut request = http
        .post(url)
        .header(CONTENT_TYPE, "application/json")
        .header("Marqueue-Job", job.to_string())
        .header("Marqueue-Timestamp", &at);
    if let Some(secret) = secret {
        request = request.header("Marqueue-Signature", signature(secret, &at, &body));
    }
    // The URL may hold a secret of its own.
    let answer = request.body(body).send().await.map_err(|error| innermost(&error.without_url()))?;
    if answer.status().is_success() { Ok(()) } else { Err(format!("it answered HTTP {}", answer.status().as_u16())) }
}

fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

/// `sha256=` and, in hex digits, the HMAC-SHA256 of the time, a dot and the body.
fn signature(secret: &Secret, at: &str, body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.expose().as_bytes()).expect("a key of any length will do");
    mac.update(at.as_bytes());
    mac.update(b".");
    mac.update(body);
    mac.finalize().into_bytes().iter().fold("sha256=".to_owned(), |text, byte| format!("{text}{byte:02x}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_can_be_made_again_by_others() {
        // printf '1785578400.{}' | openssl dgst -sha256 -hmac whsec
        assert_eq!(signature(&Secret::new("whsec"), "1785578400", b"{}"), EXPECTED);
    }

    const EXPECTED: &str = "sha256=345a246af6b2e94c3bc25e76c5065050e2e0079da72b6c93657072f7b3c737a1";
}
