//! Route: path, access rule, handler and description.
//!
//! Router and OpenAPI document are both made from routes, so that neither has a route that the other lacks.

use std::collections::BTreeMap;

use axum::handler::Handler;
use axum::http::Method;
use axum::middleware::from_fn;
use axum::routing::{MethodRouter, get, post};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::Value;

use crate::api::auth::middleware::require_write;
use crate::api::dto::Problem;
use crate::api::problem;
use crate::api::state::SharedState;

/// Access rule of a route, checked before its handler runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// Everyone; the handler checks the sender itself, or need not know it.
    Public,
    /// Every sender with an identity.
    Authenticated,
    /// The owner of the job in the path.
    JobOwner,
    /// Users of the Unix socket without a client's token.
    LocalOnly,
    /// As at Marketo: the handler checks the token and answers in Marketo's shapes.
    Marketo,
}

impl Access {
    /// Returns the error responses that all routes with this rule have in common.
    pub fn responses(self) -> Vec<(u16, &'static str)> {
        let mut responses = match self {
            Access::Public | Access::Marketo => return Vec::new(),
            Access::Authenticated => Vec::new(),
            Access::JobOwner => vec![(404, "There is no such job, or it has no such file")],
            Access::LocalOnly => vec![(403, "This route is served over the Unix socket only")],
        };
        responses.extend([
            (400, "A parameter is invalid, missing or unknown"),
            (401, "There is no valid token"),
            (500, "The database failed: see the daemon's log"),
            (503, "The daemon is stopping, or its disk failed"),
        ]);
        responses
    }
}

/// A path with its handlers and their descriptions.
pub(crate) struct Route {
    /// The path as axum writes it.
    pub path: &'static str,
    /// Who may use it.
    pub access: Access,
    /// The handlers of all methods.
    pub handler: MethodRouter<SharedState>,
    /// The descriptions of all methods.
    pub operations: Vec<Operation>,
}

impl Route {
    /// Makes a route without a method.
    pub fn new(path: &'static str, access: Access) -> Route {
        Route { path, access, handler: MethodRouter::new(), operations: Vec::new() }
    }

    /// Adds the method GET.
    pub fn get<H: Handler<T, SharedState>, T: 'static>(self, handler: H, operation: Operation) -> Route {
        self.on(Method::GET, get(handler), operation)
    }

    /// Adds the method POST.
    pub fn post<H: Handler<T, SharedState>, T: 'static>(self, handler: H, operation: Operation) -> Route {
        self.on(Method::POST, post(handler), operation)
    }

    /// Adds a method. Unknown parameters are refused everywhere: here where the operation has none, and by the
    /// handler's extractor where it has some.
    fn on(mut self, method: Method, handler: MethodRouter<SharedState>, operation: Operation) -> Route {
        let without_parameters = operation.query.is_none() && self.access != Access::Public;
        let handler = if without_parameters { handler.layer(from_fn(problem::no_parameters)) } else { handler };
        // Every other method counts as a change, so that a new route can't forget it.
        let may_change = method != Method::GET && self.access != Access::Public;
        let handler = if may_change { handler.layer(from_fn(require_write)) } else { handler };
        self.handler = self.handler.merge(handler);
        self.operations.push(Operation { method, path: self.path.to_owned(), ..operation });
        self
    }
}

/// Makes the schema of a type.
pub(crate) type Shape = fn(&mut SchemaGenerator) -> Schema;

/// Description of one method of a path.
pub(crate) struct Operation {
    /// The method.
    pub method: Method,
    /// The path as OpenAPI writes it.
    pub path: String,
    /// `operationId`.
    pub id: String,
    /// One sentence.
    pub summary: String,
    /// The type whose fields are the parameters of the query.
    pub query: Option<Shape>,
    /// Parameters in headers: name and description.
    pub headers: Vec<(&'static str, &'static str)>,
    /// Request body: media types with their schemas.
    pub body: Vec<(&'static str, Shape)>,
    /// Whether a request must have a body, where there is one.
    pub body_is_required: bool,
    /// Responses by status.
    pub responses: BTreeMap<u16, ResponseSpec>,
}

/// Description of one response.
pub(crate) struct ResponseSpec {
    /// One sentence.
    pub description: &'static str,
    /// Media types with their schemas.
    pub content: Vec<(&'static str, Shape)>,
}

impl Operation {
    /// Makes a description without parameters, body and responses.
    pub fn new(id: impl Into<String>, summary: impl Into<String>) -> Operation {
        Operation {
            method: Method::GET,
            path: String::new(),
            id: id.into(),
            summary: summary.into(),
            query: None,
            headers: Vec::new(),
            body: Vec::new(),
            body_is_required: true,
            responses: BTreeMap::new(),
        }
    }

    /// Returns whether the operation needs no token, over TCP too.
    pub fn is_open(&self, access: Access) -> bool {
        access == Access::Public || self.path.ends_with("/oauth/token")
    }

    /// Adds the fields of this type as parameters of the query.
    pub fn query<T: JsonSchema>(mut self) -> Operation {
        self.query = Some(T::json_schema);
        self
    }

    /// Adds a parameter in a header.
    pub fn header(mut self, name: &'static str, description: &'static str) -> Operation {
        self.headers.push((name, description));
        self
    }

    /// Adds a media type of the request body.
    pub fn body(mut self, kind: &'static str, shape: Shape) -> Operation {
        self.body.push((kind, shape));
        self
    }

    /// Adds a media type of a request body that may be left out.
    pub fn optional_body(mut self, kind: &'static str, shape: Shape) -> Operation {
        self.body_is_required = false;
        self.body(kind, shape)
    }

    /// Adds a response with this type as JSON.
    pub fn json<T: JsonSchema>(self, status: u16, description: &'static str) -> Operation {
        self.response(status, description, "application/json", of::<T>)
    }

    /// Adds a response with text of this media type.
    pub fn text(self, status: u16, description: &'static str, kind: &'static str) -> Operation {
        self.response(status, description, kind, text)
    }

    /// Adds a response with a problem document.
    pub fn error(self, status: u16, description: &'static str) -> Operation {
        self.response(status, description, "application/problem+json", of::<Problem>)
    }

    /// Adds a response without a body.
    pub fn empty(mut self, status: u16, description: &'static str) -> Operation {
        self.responses.insert(status, ResponseSpec { description, content: Vec::new() });
        self
    }

    /// Adds a response with this media type and schema.
    pub fn response(mut self, status: u16, description: &'static str, kind: &'static str, shape: Shape) -> Operation {
        self.responses
            .entry(status)
            .or_insert(ResponseSpec { description, content: Vec::new() })
            .content
            .push((kind, shape));
        self
    }
}

/// Returns a reference to the schema of this type.
pub(crate) fn of<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

/// Returns the schema of text.
pub(crate) fn text(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string" })
}

/// Returns the schema of binary data.
pub(crate) fn bytes(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "contentMediaType": "application/octet-stream" })
}

/// Returns the schema of any JSON object.
pub(crate) fn object(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "object", "additionalProperties": Value::Bool(true) })
}
