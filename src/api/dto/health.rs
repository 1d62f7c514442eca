//! Bodies of `GET /readyz`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::dto::problem::Problem;
use crate::api::dto::status::PauseDto;

/// Response of `GET /readyz`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Readiness {
    /// Whether the daemon accepts files and can import those of an instance at least.
    pub ready: bool,
    /// Whether the database can be written.
    pub store: ComponentHealth,
    /// Whether Marketo accepts the credentials, by instance.
    pub credentials: BTreeMap<String, ComponentHealth>,
    /// Health of each instance's folder in the drop folder, and of the drop folder itself as `.`; empty without a drop
    /// folder. It does not affect `ready`, because files are accepted by other ways.
    #[serde(default)]
    pub drop: BTreeMap<String, ComponentHealth>,
    /// Paused instances, with the reason.
    #[serde(default)]
    pub paused: BTreeMap<String, PauseDto>,
}

/// Health of one component.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ComponentHealth {
    /// Whether the component works.
    pub ok: bool,
    /// Of the store: `writes`, `does not write`; of credentials: `worked`, `untried`, `refused`, `unreachable`; of the
    /// drop folder: `fine`, `failed`, `stuck`.
    pub state: String,
    /// Why it does not work.
    pub reason: Option<String>,
}

/// Response of `GET /readyz` with status 503: a problem document with the readiness as extension members (RFC 9457,
/// section 3.2).
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct NotReady {
    /// The status, and all faults in one sentence.
    #[serde(flatten)]
    pub problem: Problem,
    /// The health of each component.
    #[serde(flatten)]
    pub readiness: Readiness,
}
