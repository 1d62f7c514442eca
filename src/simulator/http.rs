//! HTTP handler: answers one request from the model, with the injected faults.
//!
//! Paths are matched by [`Route`] and not by axum's router, because a router does not have Marketo's order of checks:
//! the path's form, the token, the limits, and only then the method. A call that is to get no answer ends in
//! [`ConnectionDropped`], on which hyper closes the connection.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::Response;
use serde_json::json;

use crate::simulator::admission::Admission;
use crate::simulator::call_log::Call;
use crate::simulator::control;
use crate::simulator::create_request::{CreateRequest, text};
use crate::simulator::error::ApiRefusal;
use crate::simulator::faults::{FaultEffect, InjectedRefusal};
use crate::simulator::request_body::{ReceivedBody, parse_form, parse_pairs};
use crate::simulator::response::SimulatorResponse;
use crate::simulator::route::Route;
use crate::simulator::shared_model::SharedModel;

/// The connection is to be closed without an answer.
#[derive(Debug, thiserror::Error)]
#[error("the call gets no answer")]
pub(super) struct ConnectionDropped;

/// The parameter in which older clients send their token.
const LEGACY_TOKEN: &str = "access_token";

fn header_token(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    Some(value.strip_prefix("Bearer ")?.trim().to_owned())
}

/// A call while it is under way. Dropping it records the call's end, also where the client has closed the connection.
struct RequestContext<'a> {
    shared: &'a SharedModel,
    call: Call,
    refusal: Option<ApiRefusal>,
}

impl<'a> RequestContext<'a> {
    fn begin(shared: &'a SharedModel, call: Call, token: Option<&str>) -> RequestContext<'a> {
        let refusal = shared.with_model(|marketo, now| marketo.begin_call(now, call, token)).err();
        RequestContext { shared, call, refusal }
    }
}

impl Drop for RequestContext<'_> {
    fn drop(&mut self) {
        let admission = if self.refusal.is_none() { Admission::Admitted } else { Admission::Refused };
        self.shared.with_model(|marketo, _| marketo.end_call(self.call, admission));
    }
}

/// Answers one request.
///
/// # Errors
/// [`ConnectionDropped`] where a fault closes the connection.
pub(super) async fn serve(shared: &SharedModel, request: Request) -> Result<Response, ConnectionDropped> {
    let (head, body) = request.into_parts();
    let route = Route::parse(head.uri.path());
    if matches!(route, Route::CallLog | Route::Faults | Route::OtherImports) {
        let body = read_body(body, shared).await?;
        return Ok(control::serve(shared, &route, &head.method, &body.kept).response());
    }
    let effect = shared.faults().next_effect(route.call());
    if effect == Some(FaultEffect::LoseRequest) {
        shared.with_model(|marketo, _| marketo.record_lost_request());
        return Err(ConnectionDropped);
    }

    let mut token = header_token(&head.headers);
    if token.is_none() && shared.is_lenient() {
        token = parse_pairs(head.uri.query().unwrap_or_default().as_bytes()).remove(LEGACY_TOKEN);
    }
    // A token in the form comes with the body, so the call can't be admitted before that is read.
    let token_in_form = token.is_none() && shared.is_lenient() && matches!(route, Route::Create(_));
    let (context, body) = if token_in_form {
        let body = read_body(body, shared).await?;
        let parts = parse_form(&head.headers, &body.kept).unwrap_or_default();
        (RequestContext::begin(shared, route.call(), text(&parts, LEGACY_TOKEN)), body)
    } else {
        let context = RequestContext::begin(shared, route.call(), token.as_deref());
        // Read to its end even where it is refused: a client that is cut off while it sends never sees the answer.
        (context, read_body(body, shared).await?)
    };
    let injected = effect.as_ref().and_then(FaultEffect::refusal);
    let refusal = match &injected {
        Some(InjectedRefusal { refusal, is_executed: false }) => Some(refusal.clone()),
        _ if route == Route::Malformed => Some(ApiRefusal::Http(404)),
        _ => context.refusal.clone().or_else(|| check_route(&route, &head)),
    };
    let answer_lost = effect.as_ref().is_some_and(FaultEffect::hides_outcome);
    let mut outcome = execute(shared, &route, ReceivedCall { head, body, refusal, answer_lost });
    if let Some(InjectedRefusal { refusal, is_executed: true }) = injected {
        outcome = Err(refusal);
    }
    if let Err(refusal) = &outcome {
        shared.with_model(|marketo, _| marketo.record_error(refusal));
    }
    let answer = outcome.unwrap_or_else(|refusal| SimulatorResponse::refusal(&refusal));
    match effect {
        Some(FaultEffect::LoseAnswer) => return Err(ConnectionDropped),
        Some(FaultEffect::Garble(how)) => return Ok(answer.corrupted(how)),
        Some(FaultEffect::Edit(changes)) => return Ok(answer.edited(&changes).response()),
        Some(FaultEffect::DelayMs(time)) => tokio::time::sleep(Duration::from_millis(time)).await,
        _ => {}
    }
    Ok(answer.response())
}

async fn read_body(body: Body, shared: &SharedModel) -> Result<ReceivedBody, ConnectionDropped> {
    ReceivedBody::read(body, shared.max_body()).await.map_err(|_| ConnectionDropped)
}

/// Returns what is wrong with a call before its body is read.
fn check_route(route: &Route, head: &Parts) -> Option<ApiRefusal> {
    let method = match route {
        Route::Token => return None,
        Route::Create(_) => Method::POST,
        Route::Status(..) | Route::Report(..) => Method::GET,
        _ => return Some(ApiRefusal::new(610, "Requested resource not found")),
    };
    if head.method != method {
        return Some(ApiRefusal::new(605, format!("Request method '{}' not supported", head.method)));
    }
    let announced = head.headers.contains_key(header::CONTENT_LENGTH);
    (method == Method::POST && !announced).then_some(ApiRefusal::Http(411))
}

/// A call whose body has arrived.
struct ReceivedCall {
    head: Parts,
    body: ReceivedBody,
    /// Refusal of the limits, of the route or of a fault.
    refusal: Option<ApiRefusal>,
    /// Whether a fault hides the outcome from the client.
    answer_lost: bool,
}

fn execute(shared: &SharedModel, route: &Route, call: ReceivedCall) -> Result<SimulatorResponse, ApiRefusal> {
    let ReceivedCall { head, body, refusal, answer_lost } = call;
    let mut query = parse_pairs(head.uri.query().unwrap_or_default().as_bytes());
    if let Route::Create(kind) = route {
        let request = CreateRequest {
            kind: kind.clone(),
            path: head.uri.path().to_owned(),
            query,
            body_bytes: body.length,
            form: parse_form(&head.headers, &body.kept).map_err(|fault| fault.to_string()),
            refusal,
            answer_lost,
        };
        return shared.with_model(|marketo, now| marketo.create(now, request)).map(SimulatorResponse::import);
    }
    if let Route::Status(_, id) | Route::Report(_, id, _) = route {
        shared.with_model(|marketo, now| marketo.record_query(now, id));
    }
    if let Some(refusal) = refusal {
        return Err(refusal);
    }
    match route {
        Route::Token => {
            if head.method == Method::POST {
                query.extend(parse_pairs(&body.kept));
            }
            issue_token(shared, &head.method, &query)
        }
        Route::Status(kind, id) => {
            shared.with_model(|marketo, now| marketo.status(now, kind, id)).map(SimulatorResponse::import)
        }
        Route::Report(kind, id, report) => {
            shared.with_model(|marketo, now| marketo.report(now, kind, id, *report)).map(SimulatorResponse::file)
        }
        _ => Err(ApiRefusal::Http(404)),
    }
}

fn issue_token(
    shared: &SharedModel,
    method: &Method,
    parameters: &BTreeMap<String, String>,
) -> Result<SimulatorResponse, ApiRefusal> {
    if method != Method::GET && method != Method::POST {
        return Err(ApiRefusal::Http(405));
    }
    let value = |name: &str| parameters.get(name).map(String::as_str).unwrap_or_default();
    if value("grant_type") != "client_credentials" {
        shared.with_model(|marketo, _| marketo.record_error(&ApiRefusal::Http(400)));
        let body = json!({"error": "unsupported_grant_type", "error_description": "Unsupported grant type"});
        return Ok(SimulatorResponse::json(StatusCode::BAD_REQUEST, &body));
    }
    Ok(shared.with_model(|marketo, now| match marketo.issue_token(now, value("client_id"), value("client_secret")) {
        Ok(token) => SimulatorResponse::json(StatusCode::OK, &token),
        Err(error) => {
            marketo.record_error(&ApiRefusal::Http(401));
            SimulatorResponse::json(StatusCode::UNAUTHORIZED, &error)
        }
    }))
}
