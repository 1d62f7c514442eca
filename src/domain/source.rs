//! Source of a job: who submitted its file.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Who submitted a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Source {
    /// A local program, over the Unix socket.
    Socket {
        /// Its user id; none where the kernel does not show it to the daemon.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        uid: Option<u32>,
    },
    /// A client of the API, authenticated by its token.
    Client {
        /// Its entry in `api.clients`.
        client_id: String,
    },
    /// A file in the drop folder.
    Drop {
        /// Its path in the drop folder.
        path: String,
    },
}

impl Source {
    /// Returns the id of the client, if it is one.
    pub fn client_id(&self) -> Option<&str> {
        match self {
            Source::Client { client_id } => Some(client_id),
            Source::Socket { .. } | Source::Drop { .. } => None,
        }
    }

    /// Returns the values of the columns `source` and `source_name`.
    pub fn to_columns(&self) -> (&'static str, String) {
        match self {
            Source::Socket { uid } => ("socket", uid.map(|uid| uid.to_string()).unwrap_or_default()),
            Source::Client { client_id } => ("client", client_id.clone()),
            Source::Drop { path } => ("drop", path.clone()),
        }
    }

    /// Returns the source of these column values; none where they are invalid.
    pub fn from_columns(kind: &str, name: &str) -> Option<Source> {
        match kind {
            "socket" if name.is_empty() => Some(Source::Socket { uid: None }),
            "socket" => name.parse().ok().map(|uid| Source::Socket { uid: Some(uid) }),
            "client" => Some(Source::Client { client_id: name.to_owned() }),
            "drop" => Some(Source::Drop { path: name.to_owned() }),
            _ => None,
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Socket { uid: Some(uid) } => write!(f, "the socket, user {uid}"),
            Source::Socket { uid: None } => write!(f, "the socket"),
            Source::Client { client_id } => write!(f, "client {client_id}"),
            Source::Drop { path } => write!(f, "the drop folder, {path}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_round_trips_through_its_columns() {
        for (source, json) in [
            (Source::Socket { uid: Some(1000) }, r#"{"type":"socket","uid":1000}"#),
            (Source::Socket { uid: None }, r#"{"type":"socket"}"#),
            (Source::Client { client_id: "crm".into() }, r#"{"type":"client","client_id":"crm"}"#),
            (Source::Drop { path: "default/leads/a.csv".into() }, r#"{"type":"drop","path":"default/leads/a.csv"}"#),
        ] {
            let (kind, name) = source.to_columns();
            assert_eq!(Source::from_columns(kind, &name).as_ref(), Some(&source));
            assert_eq!(serde_json::to_string(&source).unwrap(), json);
            assert_eq!(serde_json::from_str::<Source>(json).unwrap(), source);
        }
        assert_eq!(Source::from_columns("socket", "x"), None);
        assert_eq!(Source::from_columns("post", "1"), None);
    }
}
