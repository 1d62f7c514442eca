//! Configuration of an instance: address, credentials, limits and polling of one Marketo subscription.

use std::path::PathBuf;
use std::time::Duration;

use jiff::civil;
use serde::Deserialize;

use crate::config::parse;
use crate::secret::Secret;

/// One Marketo subscription, with its limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// URL before `/bulk/v1`; no `/` at the end.
    pub base_url: String,
    /// URL before `/oauth/token`; no `/` at the end.
    pub identity_url: String,
    /// Client id of the API user.
    pub client_id: String,
    /// Client secret of the API user.
    pub client_secret: Secret,
    /// The file that the client secret was read from; none where it stands in the configuration itself.
    pub client_secret_file: Option<PathBuf>,
    /// What to do after an upload without a response.
    pub unknown_outcome: UnknownOutcome,
    /// Maximum of attempts to upload one batch; at least 1.
    pub max_attempts: u32,
    /// First delay after a transient error. More than zero, and at most `backoff_max`.
    pub backoff_min: Duration,
    /// Longest delay after transient errors.
    pub backoff_max: Duration,
    /// Timeout of one whole call, upload included; at least 1 s.
    pub request_timeout: Duration,
    /// How long Marketo may take for one import, its queue included, before the batch is held. More than zero.
    pub max_import_time: Duration,
    /// Whether jobs may share an import with others of the same shape.
    pub pack: bool,
    /// Rows of a first batch that goes alone; 0 for none.
    pub canary: u64,
    /// Percentage of failed rows above which no further batch of a job is uploaded; at most 100, which is none.
    pub max_failed_percent: u8,
    /// Our share of Marketo's limits.
    pub limits: Limits,
    /// Interval of status calls.
    pub polling: Polling,
}

impl Instance {
    /// Returns whether this is a simulator on this machine and not Marketo.
    pub fn is_loopback(&self) -> bool {
        is_loopback(&self.base_url)
    }
}

/// Returns whether a URL's host is this machine.
pub fn is_loopback(url: &str) -> bool {
    url::Url::parse(url).is_ok_and(|url| parse::is_loopback(&url))
}

/// What to do with a batch whose upload was sent but whose response did not arrive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UnknownOutcome {
    /// Send it again: imports update existing records, so a second one does no harm to most data.
    #[default]
    Resubmit,
    /// Leave the decision to an operator.
    Hold,
}

/// Our share of Marketo's limits.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Maximum of imports that Marketo processes at once: 1 or 2.
    pub importing: u32,
    /// Maximum of imports in Marketo's queue, those being processed included: from `importing` to 10.
    pub queued: u32,
    /// Maximum size of a whole multipart body, in bytes.
    pub upload_bytes: u64,
    /// Maximum of calls in one `window`.
    pub calls: u32,
    /// Length of the sliding window of calls.
    #[serde(deserialize_with = "parse::duration")]
    pub window: Duration,
    /// Maximum of calls at once.
    pub concurrent_calls: u32,
    /// Maximum of calls in one quota day; 0 for no limit of our own.
    pub daily_calls: u64,
    /// Start of Marketo's quota day, in UTC.
    #[serde(deserialize_with = "parse::time_of_day")]
    pub daily_reset: civil::Time,
}

/// Interval of status calls to Marketo; `min` is at most `max`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Polling {
    /// Shortest interval.
    #[serde(deserialize_with = "parse::duration")]
    pub min: Duration,
    /// Longest interval.
    #[serde(deserialize_with = "parse::duration")]
    pub max: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            importing: 2,
            queued: 10,
            upload_bytes: 10_000_000,
            calls: 50,
            window: Duration::from_secs(20),
            concurrent_calls: 5,
            daily_calls: 0,
            // "12:00 AM CST", and Adobe does not document whether that follows daylight saving: this is the later of
            // both.
            daily_reset: civil::time(6, 0, 0, 0),
        }
    }
}

impl Default for Polling {
    fn default() -> Self {
        Polling { min: Duration::from_secs(5), max: Duration::from_secs(30) }
    }
}
