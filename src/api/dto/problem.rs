//! Error body of the API: RFC 9457's problem document.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The `User-Agent` of this program's own client, so that errors name options as the command line has them.
pub const COMMAND_LINE_AGENT: &str = concat!("marqueue-cli/", env!("CARGO_PKG_VERSION"));

/// An error response: RFC 9457's `application/problem+json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Problem {
    /// Type of the problem, for programs: `about:blank` where the status says enough, else `urn:marqueue:problem:` and
    /// a name.
    #[serde(rename = "type")]
    pub kind: String,
    /// The type in words.
    pub title: String,
    /// HTTP status.
    pub status: u16,
    /// What is wrong with this request, in one sentence.
    pub detail: String,
}
