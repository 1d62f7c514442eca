//! `GET /openapi.json`: the OpenAPI document.
//!
//! It is made from the routes that the router is made of and from the types that the handlers return, so that it can't
//! differ from what the daemon does.

use std::sync::{Arc, LazyLock};

use axum::Extension;
use axum::http::Method;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use crate::api::dto::Problem;
use crate::api::openapi::route::{Access, Operation, Route, Shape, of};
use crate::domain::JobId;

/// The document as it is sent. Making it takes a few megabytes, which would be most of what an idle daemon allocates, so
/// it is made for the first client that asks for it.
#[derive(Clone)]
pub(crate) struct Document(Arc<LazyLock<Bytes, Box<dyn FnOnce() -> Bytes + Send>>>);

/// Handles `GET /openapi.json`.
pub(crate) async fn openapi(Extension(Document(text)): Extension<Document>) -> Response {
    ([(CONTENT_TYPE, "application/json")], Bytes::clone(&text)).into_response()
}

impl Document {
    /// Returns a document that is made once, of the routes that this function returns.
    pub fn of(routes: fn() -> Vec<Route>) -> Document {
        Document(Arc::new(LazyLock::new(Box::new(move || Bytes::from(describe(&routes()).to_string())))))
    }
}

fn describe(routes: &[Route]) -> Value {
    let mut types = SchemaSettings::draft2020_12()
        .for_serialize()
        .with(|settings| settings.definitions_path = "/components/schemas".into())
        .into_generator();
    let mut paths = Map::new();
    for route in routes {
        for operation in &route.operations {
            let path = paths.entry(&operation.path).or_insert_with(|| json!({}));
            path[operation.method.as_str().to_ascii_lowercase()] = operation_of(operation, route.access, &mut types);
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "marqueue",
            "description": "A job queue for Adobe Marketo's Bulk Import API: its own routes, and Marketo's.",
            "version": env!("CARGO_PKG_VERSION"),
            "license": { "name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0" },
        },
        "servers": [{ "url": "/", "description": "The listener that this document was read from" }],
        "tags": [
            { "name": "native", "description": "Errors are problem documents (RFC 9457)" },
            { "name": "marketo", "description": "Marketo's own shapes: HTTP 200 for nearly all responses, and `success` shows whether the call succeeded" },
        ],
        "paths": paths,
        "components": {
            "schemas": types.take_definitions(true),
            "securitySchemes": { "token": {
                "type": "http",
                "scheme": "bearer",
                "description": "From /identity/oauth/token. The Unix socket needs none",
            } },
        },
    })
}

fn operation_of(operation: &Operation, access: Access, types: &mut SchemaGenerator) -> Value {
    let mut responses = Map::new();
    let read_only = (403, "The client may only read");
    let may_change = operation.method != Method::GET && matches!(access, Access::Authenticated | Access::JobOwner);
    for (status, description) in access.responses().into_iter().chain(may_change.then_some(read_only)) {
        responses.insert(
            status.to_string(),
            json!({ "description": description, "content": content(&[("application/problem+json", of::<Problem>)], types) }),
        );
    }
    // A route's own responses replace those of its access rule.
    for (status, response) in &operation.responses {
        let content = content(&response.content, types);
        responses.insert(status.to_string(), json!({ "description": response.description, "content": content }));
    }
    let mut described = json!({
        "operationId": operation.id,
        "summary": operation.summary,
        "tags": [if access == Access::Marketo { "marketo" } else { "native" }],
        "parameters": parameters(operation),
        "responses": responses,
        "security": if operation.is_open(access) { json!([]) } else { json!([{ "token": [] }, {}]) },
    });
    if !operation.body.is_empty() {
        described["requestBody"] =
            json!({ "required": operation.body_is_required, "content": content(&operation.body, types) });
    }
    described
}

fn content(kinds: &[(&'static str, Shape)], types: &mut SchemaGenerator) -> Value {
    kinds.iter().map(|(kind, shape)| ((*kind).to_owned(), json!({ "schema": shape(types) }))).collect()
}

/// Returns the parameters of the path, of the query and of the headers.
fn parameters(operation: &Operation) -> Vec<Value> {
    let in_path = operation.path.split('{').skip(1).filter_map(|rest| rest.split_once('}')).map(|(name, _)| {
        let mut types = inline();
        let schema = match name {
            "id" | "batchId" | "programId" => json!(types.subschema_for::<JobId>()),
            // Marketo's API names have no other characters.
            "apiName" => json!({ "type": "string", "pattern": "^[A-Za-z0-9_]+$" }),
            _ => json!({ "type": "string", "minLength": 1 }),
        };
        json!({ "name": name, "in": "path", "required": true, "schema": schema })
    });
    let in_head = operation.headers.iter().map(
        |(name, description)| json!({ "name": name, "in": "header", "description": description, "schema": { "type": "string" } }),
    );
    in_path.chain(operation.query.map(in_query).unwrap_or_default()).chain(in_head).collect()
}

/// Returns the fields of a type as parameters of the query.
fn in_query(fields: Shape) -> Vec<Value> {
    let schema = fields(&mut inline());
    let required = schema.get("required").and_then(Value::as_array).cloned().unwrap_or_default();
    let properties = schema.get("properties").and_then(Value::as_object).cloned().unwrap_or_default();
    properties
        .into_iter()
        .map(|(name, mut schema)| {
            let required = required.iter().any(|field| *field == *name);
            let description = schema.as_object_mut().and_then(|schema| schema.remove("description"));
            let mut parameter =
                json!({ "name": name, "in": "query", "required": required, "schema": without_null(schema) });
            if let Some(description) = description {
                parameter["description"] = description;
            }
            parameter
        })
        .collect()
}

/// Removes null from a schema: it only means that the parameter may be missing.
fn without_null(mut schema: Value) -> Value {
    let not_null = |schemas: &[Value]| schemas.iter().find(|schema| schema["type"] != "null").cloned();
    if let Some(some) = schema["anyOf"].as_array().and_then(|schemas| not_null(schemas)) {
        return some;
    }
    if let Some(kind) = schema["type"].as_array().and_then(|kinds| kinds.iter().find(|kind| **kind != "null")).cloned()
    {
        schema["type"] = kind;
    }
    if let Some(values) = schema.get_mut("enum").and_then(Value::as_array_mut) {
        values.retain(|value| !value.is_null());
    }
    for key in ["default", "anyOf", "type", "enum"] {
        if schema[key].is_null() {
            schema.as_object_mut().and_then(|schema| schema.remove(key));
        }
    }
    schema
}

/// Returns a generator for parameters: each schema is complete in itself, without references.
fn inline() -> SchemaGenerator {
    SchemaSettings::draft2020_12().for_deserialize().with(|settings| settings.inline_subschemas = true).into_generator()
}
