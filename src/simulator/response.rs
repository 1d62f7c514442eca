//! HTTP responses: Marketo's JSON envelopes, files and bare statuses, corrupted where a fault says so.

use std::io;

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use bytes::Bytes;
use futures_util::stream::{self, StreamExt};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::marketo::types::{Envelope, Import};
use crate::simulator::error::ApiRefusal;
use crate::simulator::faults::Corruption;

const JSON: &str = "application/json;charset=UTF-8";

/// A response before it is sent.
#[derive(Debug)]
pub(super) struct SimulatorResponse {
    status: StatusCode,
    content_type: &'static str,
    body: Bytes,
}

impl SimulatorResponse {
    /// Makes a response with a JSON body.
    pub fn json(status: StatusCode, body: &impl Serialize) -> SimulatorResponse {
        match serde_json::to_vec(body) {
            Ok(text) => SimulatorResponse { status, content_type: JSON, body: text.into() },
            Err(error) => SimulatorResponse::text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
        }
    }

    /// Makes a response with plain text.
    pub fn text(status: StatusCode, body: String) -> SimulatorResponse {
        SimulatorResponse { status, content_type: "text/plain;charset=UTF-8", body: body.into() }
    }

    /// Makes the response to a create call or a status call.
    pub fn import(import: Import) -> SimulatorResponse {
        let envelope = Envelope {
            request_id: Some(request_id()),
            success: true,
            result: vec![import],
            errors: Vec::new(),
            warnings: Vec::new(),
        };
        SimulatorResponse::json(StatusCode::OK, &envelope)
    }

    /// Makes a response with a report.
    pub fn file(body: Bytes) -> SimulatorResponse {
        SimulatorResponse { status: StatusCode::OK, content_type: "text/csv;charset=UTF-8", body }
    }

    /// Makes the response to a refused call.
    pub fn refusal(refusal: &ApiRefusal) -> SimulatorResponse {
        match refusal {
            // Not the `Envelope` of the client's types: a fault's code may be a number, which that never has.
            ApiRefusal::Error { code, message } => {
                let error = match code {
                    Some(code) => json!({"code": code, "message": message}),
                    None => json!({"message": message}),
                };
                let body = json!({"requestId": request_id(), "success": false, "errors": [error]});
                SimulatorResponse::json(StatusCode::OK, &body)
            }
            ApiRefusal::Http(status) => {
                let status = StatusCode::from_u16(*status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
                let body = format!("<html><body><h1>{status}</h1></body></html>\n");
                SimulatorResponse { status, content_type: "text/html", body: body.into() }
            }
        }
    }

    /// Returns the response as it is sent.
    pub fn response(self) -> Response {
        let body = Body::from(self.body.clone());
        self.with_body(body)
    }

    /// Replaces members of the first entry of `result`; null removes one. A response without such an entry is not
    /// changed.
    pub fn edited(mut self, changes: &Map<String, Value>) -> SimulatorResponse {
        let body = serde_json::from_slice(&self.body).map(|mut body: Value| {
            if let Some(Value::Object(import)) = body.pointer_mut("/result/0") {
                for (name, value) in changes {
                    match value {
                        Value::Null => drop(import.remove(name)),
                        value => drop(import.insert(name.clone(), value.clone())),
                    }
                }
            }
            body.to_string()
        });
        if let Ok(body) = body {
            self.body = body.into();
        }
        self
    }

    /// Returns the response with a corrupted body.
    pub fn corrupted(mut self, how: Corruption) -> Response {
        let half = self.body.slice(..self.body.len() / 2);
        match how {
            Corruption::Empty => self.body = Bytes::new(),
            Corruption::Cut => self.body = half,
            Corruption::Torn => {
                let torn = async {
                    // hyper drops what it has not flushed when a body fails, and it flushes when a body waits.
                    tokio::task::yield_now().await;
                    Err(io::Error::other("torn off"))
                };
                let body = Body::from_stream(stream::iter([Ok(half)]).chain(stream::once(torn)));
                return self.with_body(body);
            }
        }
        self.response()
    }

    /// Returns a response with `body`, and the Content-Length of the undamaged one.
    fn with_body(self, body: Body) -> Response {
        let mut response = Response::new(body);
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(self.content_type));
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(self.body.len()));
        response
    }
}

/// Two hex numbers, as Marketo's are.
fn request_id() -> String {
    format!("{:x}#{:x}", rand::random::<u16>(), rand::random::<u64>() >> 20)
}
