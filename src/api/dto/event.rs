//! Data of the server-sent events of `GET /v1/events`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::dto::job::JobDto;

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
    },
    /// The state of an instance changed.
    Instance {
        /// Name of the instance.
        name: String,
    },
    /// Events were dropped.
    Missed {
        /// How many events were dropped; none where that is unknown, as after a restart of the daemon.
        count: Option<u64>,
    },
}
