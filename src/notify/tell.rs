//! How is somebody told? A command gets the words on its standard input, a URL gets them as a POST.

use std::process::Stdio;
use std::time::Duration;

use hmac::{Hmac, Mac};
use jiff::Timestamp;
use reqwest::header::CONTENT_TYPE;
use sha2::Sha256;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::config::{self, NotifyWay, Secret};
use crate::job::JobId;
use crate::marketo::outbound::client_for;

/// The variables of a command that tell which job it is about.
const JOB: &str = "MARQUEUE_JOB_ID";

pub(super) struct Teller {
    way: Way,
    timeout: Duration,
}

enum Way {
    Command { program: String, arguments: Vec<String> },
    Url { http: reqwest::Client, url: String, secret: Option<Secret> },
}

impl Teller {
    pub fn new(config: &config::Notify) -> Result<Option<Teller>, String> {
        let way = match &config.way {
            None => return Ok(None),
            Some(NotifyWay::Command { program, arguments }) => {
                Way::Command { program: program.clone(), arguments: arguments.clone() }
            }
            Some(NotifyWay::Url { url, secret }) => {
                let http = client_for(url).build().map_err(|error| format!("notify.url: {error}"))?;
                Way::Url { http, url: url.clone(), secret: secret.clone() }
            }
        };
        Ok(Some(Teller { way, timeout: config.timeout }))
    }

    /// Tells `body`, and says why that failed. No reason holds anything of what was told or answered.
    pub async fn tell(&self, job: JobId, body: Vec<u8>, now: Timestamp) -> Result<(), String> {
        let telling = async {
            match &self.way {
                Way::Command { program, arguments } => run(program, arguments, job, &body).await,
                Way::Url { http, url, secret } => post(http, url, secret.as_ref(), job, body, now).await,
            }
        };
        let over = |_| format!("it took longer than {:?} (notify.timeout)", self.timeout);
        tokio::time::timeout(self.timeout, telling).await.map_err(over)?
    }
}

async fn run(program: &str, arguments: &[String], job: JobId, body: &[u8]) -> Result<(), String> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    // The daemon's own may have secrets.
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"MARQUEUE_")) {
        command.env_remove(name);
    }
    command.env(JOB, job.to_string());
    let mut child = command.spawn().map_err(|error| format!("{program} can't be run: {error}"))?;
    if let Some(mut input) = child.stdin.take() {
        // A command that does not read it may still do what it has to.
        let _ = input.write_all(body).await;
        let _ = input.write_all(b"\n").await;
    }
    let status = child.wait().await.map_err(|error| format!("{program} was lost: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("{program} ended with {status}")) }
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
