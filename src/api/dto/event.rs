//! Data of the server-sent events of `GET /v1/events`.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::dto::job::JobDto;
use crate::api::dto::status::PauseDto;
use crate::clock::TimestampSchema;

/// The most jobs that one `GET /v1/events?job=` follows.
pub const MAX_FOLLOWED: usize = 1000;

/// Data of one server-sent event of `GET /v1/events`. The event's name is `job`, `instance`, or `missed` where the
/// client read too slowly and events were dropped.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum EventData {
    /// A job or one of its batches changed.
    Job {
        /// The job as it is now.
        job: Box<JobDto>,
        /// The batch that changed; none where it was the job itself.
        part: Option<u32>,
        /// When it changed; none for the state at the begin of the stream.
        #[schemars(with = "Option<TimestampSchema>")]
        #[serde(default)]
        at: Option<Timestamp>,
    },
    /// The state of an instance changed.
    Instance {
        /// Name of the instance.
        name: String,
        /// Its pause now; none where it is not paused.
        #[serde(default)]
        pause: Option<PauseDto>,
        /// End of its backoff; no upload begins until then.
        #[schemars(with = "Option<TimestampSchema>")]
        #[serde(default)]
        quiet_until: Option<Timestamp>,
        /// When it changed.
        #[schemars(with = "Option<TimestampSchema>")]
        #[serde(default)]
        at: Option<Timestamp>,
    },
    /// Events were dropped.
    Missed {
        /// How many events were dropped; none where that is unknown, as after a restart of the daemon.
        count: Option<u64>,
    },
}
