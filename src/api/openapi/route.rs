//! What is a route? Its path, who may come in, what answers, and what is said of it: the router and the description are
//! both made from this, so that neither has what the other has not.

use std::collections::BTreeMap;

use axum::handler::Handler;
use axum::http::Method;
use axum::middleware::from_fn;
use axum::routing::{MethodRouter, get, post};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::Value;

use crate::api::dto::Problem;
use crate::api::{SharedState, problem};

/// Who may come in, and what is asked of them before the route is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// It asks by itself who is there, or need not know.
    Public,
    /// Whoever is known.
    Authenticated,
    /// Whoever may see the job in the path.
    JobOwner,
    /// Who may use the Unix socket.
    LocalOnly,
    /// In Marketo's way.
    Marketo,
}

impl Access {
    /// What each route behind it may answer, whatever it is.
    pub fn responses(self) -> Vec<(u16, &'static str)> {
        let mut answers = match self {
            Access::Public | Access::Marketo => return Vec::new(),
            Access::Authenticated => Vec::new(),
            Access::JobOwner => vec![(404, "There is no such job, or nothing of it")],
            Access::LocalOnly => vec![(403, "This is done over the Unix socket only")],
        };
        answers.extend([
            (400, "A parameter is wrong, missing or not known"),
            (401, "There is no valid token"),
            (500, "The database failed; the daemon's log says how"),
            (503, "The daemon is stopping, or its disk fails"),
        ]);
        answers
    }
}

pub(crate) struct Route {
    pub path: &'static str,
    pub door: Access,
    pub handler: MethodRouter<SharedState>,
    pub operations: Vec<Operation>,
}

impl Route {
    pub fn new(path: &'static str, door: Access) -> Route {
        Route { path, door, handler: MethodRouter::new(), operations: Vec::new() }
    }

    pub fn get<H: Handler<T, SharedState>, T: 'static>(self, handler: H, operation: Operation) -> Route {
        self.on(Method::GET, get(handler), operation)
    }

    pub fn post<H: Handler<T, SharedState>, T: 'static>(self, handler: H, operation: Operation) -> Route {
        self.on(Method::POST, post(handler), operation)
    }

    /// A parameter that is not known is a mistake everywhere: where an operation has none, that is seen to here; on the
    /// others, what reads theirs says so.
    fn on(mut self, method: Method, handler: MethodRouter<SharedState>, operation: Operation) -> Route {
        let bare = operation.query.is_none() && self.door != Access::Public;
        let handler = if bare { handler.layer(from_fn(problem::no_parameters)) } else { handler };
        self.handler = self.handler.merge(handler);
        self.operations.push(Operation { method, path: self.path.to_owned(), ..operation });
        self
    }
}

/// The shape of something, as a type of ours has it.
pub(crate) type Shape = fn(&mut SchemaGenerator) -> Schema;

/// One method of one path, described.
pub(crate) struct Operation {
    pub method: Method,
    pub path: String,
    pub id: String,
    pub says: String,
    /// The type that holds the parameters of the query.
    pub query: Option<Shape>,
    /// Parameters that stand elsewhere.
    pub headers: Vec<(&'static str, &'static str)>,
    /// The body that it wants: media types with their shapes.
    pub body: Vec<(&'static str, Shape)>,
    /// By status.
    pub answers: BTreeMap<u16, ResponseSpec>,
}

pub(crate) struct ResponseSpec {
    pub says: &'static str,
    pub content: Vec<(&'static str, Shape)>,
}

impl Operation {
    pub fn new(id: impl Into<String>, says: impl Into<String>) -> Operation {
        Operation {
            method: Method::GET,
            path: String::new(),
            id: id.into(),
            says: says.into(),
            query: None,
            headers: Vec::new(),
            body: Vec::new(),
            answers: BTreeMap::new(),
        }
    }

    /// Whether no token is needed anywhere.
    pub fn is_open(&self, door: Access) -> bool {
        door == Access::Public || self.path.ends_with("/oauth/token")
    }

    /// Takes the parameters that are the fields of this type.
    pub fn query<T: JsonSchema>(mut self) -> Operation {
        self.query = Some(T::json_schema);
        self
    }

    pub fn header(mut self, name: &'static str, says: &'static str) -> Operation {
        self.headers.push((name, says));
        self
    }

    pub fn body(mut self, kind: &'static str, shape: Shape) -> Operation {
        self.body.push((kind, shape));
        self
    }

    /// Answers with this type.
    pub fn json<T: JsonSchema>(self, status: u16, says: &'static str) -> Operation {
        self.answer(status, says, "application/json", of::<T>)
    }

    /// Answers with text of this kind.
    pub fn text(self, status: u16, says: &'static str, kind: &'static str) -> Operation {
        self.answer(status, says, kind, text)
    }

    pub fn error(self, status: u16, says: &'static str) -> Operation {
        self.answer(status, says, "application/problem+json", of::<Problem>)
    }

    /// Answers with no body.
    pub fn empty(mut self, status: u16, says: &'static str) -> Operation {
        self.answers.insert(status, ResponseSpec { says, content: Vec::new() });
        self
    }

    pub fn answer(mut self, status: u16, says: &'static str, kind: &'static str, shape: Shape) -> Operation {
        self.answers.entry(status).or_insert(ResponseSpec { says, content: Vec::new() }).content.push((kind, shape));
        self
    }
}

/// This type, by its name.
pub(crate) fn of<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

pub(crate) fn text(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string" })
}

/// Bytes that are no text.
pub(crate) fn bytes(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "contentMediaType": "application/octet-stream" })
}

/// Any JSON object.
pub(crate) fn object(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "object", "additionalProperties": Value::Bool(true) })
}
