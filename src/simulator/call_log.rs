//! Call log: the highest numbers, every create call and every import, by which a test checks the client.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::domain::{Counts, RemoteStatus};

/// Log of all calls up to now. Times are seconds since the simulator's start.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct CallLog {
    /// Imports in the queue at once: those being processed and other integrations' included.
    pub max_queued: usize,
    /// Imports being processed at once.
    pub max_importing: usize,
    /// Calls that came within one window, refused ones included, token calls not.
    pub max_calls_in_window: usize,
    /// Calls under way at once, refused ones included, token calls not.
    pub max_concurrent_calls: usize,
    /// How many calls of each kind came.
    pub calls: BTreeMap<Call, u64>,
    /// How many answers were errors, by code (`1016`) or HTTP status (`http 413`), those of faults included.
    pub errors: BTreeMap<String, u64>,
    /// Calls that a fault dropped before the rules saw them. They count nowhere else.
    pub lost_requests: u64,
    /// Every create call, in order of arrival of its last byte.
    pub creates: Vec<Create>,
    /// Every import, in the order of the queue.
    pub imports: Vec<Import>,
    /// How long the processing slots were busy, all slots together.
    #[serde(with = "seconds")]
    pub busy: Duration,
}

/// A kind of call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Call {
    /// A request for a token.
    Token,
    /// An upload.
    Create,
    /// A status call.
    Status,
    /// A download of the failed rows.
    Failures,
    /// A download of the rows with a warning.
    Warnings,
    /// Anything that is no endpoint.
    Other,
}

/// One create call.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Create {
    /// When its last byte arrived.
    #[serde(with = "seconds")]
    pub at: Duration,
    /// The path of the request.
    pub path: String,
    /// The query parameters.
    pub query: BTreeMap<String, String>,
    /// The whole body, as its Content-Length said.
    pub body_bytes: u64,
    /// The part that holds the file, where the body was read and has one.
    pub file: Option<File>,
    /// The result.
    pub outcome: Outcome,
    /// A fault kept the outcome from the client.
    pub answer_lost: bool,
}

/// The file of a create call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct File {
    /// Its name.
    pub name: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// SHA-256 of the file alone, in lower-case hex digits.
    pub sha256: String,
    /// Its bytes, where the settings say to keep them. Not part of the log as JSON.
    #[serde(skip)]
    pub content: Option<Bytes>,
}

/// Result of a create call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// An import was queued; the batch id.
    Accepted(u64),
    /// The call was refused.
    Refused {
        /// As in [`CallLog::errors`].
        code: String,
        /// Marketo's message.
        message: String,
    },
}

/// One import.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Import {
    /// The batch id.
    pub id: u64,
    /// When it was accepted.
    #[serde(with = "seconds")]
    pub accepted: Duration,
    /// When its processing started; none until then.
    #[serde(with = "optional_seconds")]
    pub started: Option<Duration>,
    /// When it ended; none until then.
    #[serde(with = "optional_seconds")]
    pub ended: Option<Duration>,
    /// Number of rows.
    pub rows: u64,
    /// Its current status.
    pub status: RemoteStatus,
    /// The counts at its end, known from the start.
    pub counts: Counts,
    /// When the first status or report call for its id arrived, which proves that the client received the response to
    /// its upload. None until then.
    #[serde(with = "optional_seconds")]
    pub asked: Option<Duration>,
}

impl CallLog {
    /// Returns the number of calls of this kind.
    pub fn calls_of(&self, kind: Call) -> u64 {
        self.calls.get(&kind).copied().unwrap_or(0)
    }

    /// Returns the number of responses with this code.
    pub fn errors_of(&self, code: &str) -> u64 {
        self.errors.get(code).copied().unwrap_or(0)
    }

    /// Returns the create calls that became imports.
    pub fn accepted(&self) -> impl Iterator<Item = &Create> {
        self.creates.iter().filter(|create| matches!(create.outcome, Outcome::Accepted(_)))
    }
}

/// Returns the most intervals that cover one instant. An interval does not cover its end.
pub(super) fn max_overlap(intervals: impl Iterator<Item = (Duration, Duration)>) -> usize {
    let mut edges: Vec<(Duration, i64)> = intervals.flat_map(|(start, end)| [(start, 1), (end, -1)]).collect();
    edges.sort_unstable();
    let (mut at_once, mut max) = (0, 0);
    for (_, step) in edges {
        at_once += step;
        max = max.max(at_once);
    }
    usize::try_from(max).unwrap_or(0)
}

mod seconds {
    use std::time::Duration;

    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(time: &Duration, output: S) -> Result<S::Ok, S::Error> {
        output.serialize_f64(time.as_secs_f64())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<Duration, D::Error> {
        Duration::try_from_secs_f64(f64::deserialize(input)?).map_err(D::Error::custom)
    }
}

mod optional_seconds {
    use std::time::Duration;

    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(time: &Option<Duration>, output: S) -> Result<S::Ok, S::Error> {
        match time {
            Some(time) => output.serialize_some(&time.as_secs_f64()),
            None => output.serialize_none(),
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<Option<Duration>, D::Error> {
        let seconds = Option::<f64>::deserialize(input)?;
        seconds.map(|seconds| Duration::try_from_secs_f64(seconds).map_err(D::Error::custom)).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_and_a_start_at_one_instant_do_not_overlap() {
        let seconds = |(start, end)| (Duration::from_secs(start), Duration::from_secs(end));
        for (intervals, expected) in [
            (vec![], 0),
            (vec![(0, 2), (2, 4)], 1),
            (vec![(0, 3), (2, 4)], 2),
            (vec![(0, 9), (1, 3), (3, 5), (4, 6)], 3),
        ] {
            assert_eq!(max_overlap(intervals.clone().into_iter().map(seconds)), expected, "{intervals:?}");
        }
    }

    #[test]
    fn a_call_log_round_trips_through_json() {
        let mut call_log = CallLog { busy: Duration::from_millis(1500), ..CallLog::default() };
        call_log.calls.insert(Call::Create, 2);
        call_log.imports.push(Import {
            id: 7,
            accepted: Duration::from_secs(1),
            started: Some(Duration::from_secs(2)),
            ended: None,
            rows: 3,
            status: RemoteStatus::Importing,
            counts: Counts::default(),
            asked: None,
        });
        let json = serde_json::to_value(&call_log).unwrap();
        assert_eq!(json["busy"], 1.5);
        assert_eq!(json["calls"]["create"], 2);
        let again: CallLog = serde_json::from_value(json).unwrap();
        assert_eq!(again.calls_of(Call::Create), 2);
        assert_eq!((again.imports[0].started, again.imports[0].ended), (Some(Duration::from_secs(2)), None));
    }
}
