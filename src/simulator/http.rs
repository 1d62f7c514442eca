//! HTTP handler: answers one request from the model, with the injected faults.
//!
//! Paths are matched by [`Route`] and not by axum's router, because a router does not have Marketo's order of checks:
//! the path's form, the token, the limits, and only then the method. A call that is to get no answer ends in
//! [`ConnectionDropped`], on which hyper closes the connection.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::Request;
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use parking_lot::{Mutex, MutexGuard};
use serde::Deserialize;
use serde_json::json;

use crate::form::{FormError, FormEvent, FormReader, PartHead};
use crate::simulator::call_log::Call;
use crate::simulator::error::ApiRefusal;
use crate::simulator::faults::{Fault, FaultEffect, Faults};
use crate::simulator::model::{MarketoModel, Part, Upload, text};
use crate::simulator::response::SimulatorResponse;
use crate::simulator::route::Route;

/// The connection is to be closed without an answer.
#[derive(Debug, thiserror::Error)]
#[error("the call gets no answer")]
pub(super) struct ConnectionDropped;

/// What every connection shares.
pub(super) struct Shared {
    started: Instant,
    max_body: u64,
    lenient: bool,
    marketo: Mutex<MarketoModel>,
    faults: Mutex<Faults>,
}

impl Shared {
    pub fn new(marketo: MarketoModel) -> Shared {
        Shared {
            started: Instant::now(),
            max_body: marketo.settings().max_body,
            lenient: marketo.settings().lenient,
            marketo: Mutex::new(marketo),
            faults: Mutex::default(),
        }
    }

    /// Asks the rules at this time, which is taken under their lock so that it never goes back.
    pub fn with<T>(&self, ask: impl FnOnce(&mut MarketoModel, Duration) -> T) -> T {
        let mut marketo = self.marketo.lock();
        ask(&mut marketo, self.started.elapsed())
    }

    pub fn faults(&self) -> MutexGuard<'_, Faults> {
        self.faults.lock()
    }
}

/// The parameter in which older clients send their token.
const LEGACY_TOKEN: &str = "access_token";

fn header_token(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    Some(value.strip_prefix("Bearer ")?.trim().to_owned())
}

/// A call while it is under way.
struct RequestContext<'a> {
    shared: &'a Shared,
    call: Call,
    refusal: Option<ApiRefusal>,
}

impl<'a> RequestContext<'a> {
    fn begin(shared: &'a Shared, call: Call, token: Option<&str>) -> RequestContext<'a> {
        let refusal = shared.with(|marketo, now| marketo.enter(now, call, token)).err();
        RequestContext { shared, call, refusal }
    }
}

impl Drop for RequestContext<'_> {
    fn drop(&mut self) {
        self.shared.with(|marketo, _| marketo.leave(self.call, self.refusal.is_none()));
    }
}

pub(super) async fn serve(shared: &Shared, request: Request) -> Result<Response, ConnectionDropped> {
    let (head, body) = request.into_parts();
    let route = Route::of(head.uri.path());
    if matches!(route, Route::Ledger | Route::Faults | Route::Foreign) {
        let body = ReceivedUpload::read(body, shared.max_body).await?;
        return Ok(tool(shared, &route, &head.method, &body.kept).response());
    }
    let effect = shared.faults().strike(route.call());
    if effect == Some(FaultEffect::LoseRequest) {
        shared.with(|marketo, _| marketo.note_lost_request());
        return Err(ConnectionDropped);
    }

    let mut token = header_token(&head.headers);
    if token.is_none() && shared.lenient {
        token = pairs(head.uri.query().unwrap_or_default().as_bytes()).remove(LEGACY_TOKEN);
    }
    // A token in the form comes with the body, so the call can't be let in before that is read.
    let token_in_form = token.is_none() && shared.lenient && matches!(route, Route::Create(_));
    let (visit, body) = if token_in_form {
        let body = ReceivedUpload::read(body, shared.max_body).await?;
        let parts = form(&head.headers, &body.kept).unwrap_or_default();
        (RequestContext::begin(shared, route.call(), text(&parts, LEGACY_TOKEN)), body)
    } else {
        let visit = RequestContext::begin(shared, route.call(), token.as_deref());
        // Read to its end even where it is refused: a client that is cut off while it sends never sees the answer.
        (visit, ReceivedUpload::read(body, shared.max_body).await?)
    };
    let fault = effect.as_ref().and_then(FaultEffect::refusal);
    let turned_away = match &fault {
        Some((refusal, false)) => Some(refusal.clone()),
        _ if route == Route::Malformed => Some(ApiRefusal::Http(404)),
        _ => visit.refusal.clone().or_else(|| objection(&route, &head)),
    };
    let hidden = effect.as_ref().is_some_and(FaultEffect::hides_outcome);
    let mut outcome = carry_out(shared, &route, &head, body, turned_away, hidden).await;
    if let Some((refusal, true)) = fault {
        outcome = Err(refusal);
    }
    if let Err(refusal) = &outcome {
        shared.with(|marketo, _| marketo.note_error(refusal));
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

/// What is wrong with a call before its body is looked at.
fn objection(route: &Route, head: &Parts) -> Option<ApiRefusal> {
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

async fn carry_out(
    shared: &Shared,
    route: &Route,
    head: &Parts,
    body: ReceivedUpload,
    turned_away: Option<ApiRefusal>,
    answer_lost: bool,
) -> Result<SimulatorResponse, ApiRefusal> {
    let mut query = pairs(head.uri.query().unwrap_or_default().as_bytes());
    if let Route::Create(place) = route {
        let upload = Upload {
            place: place.clone(),
            path: head.uri.path().to_owned(),
            query,
            body_bytes: body.length,
            form: form(&head.headers, &body.kept).map_err(|fault| fault.to_string()),
            turned_away,
            answer_lost,
        };
        return shared.with(|marketo, now| marketo.create(now, upload)).map(SimulatorResponse::import);
    }
    if let Route::Status(_, id) | Route::Report(_, id, _) = route {
        shared.with(|marketo, now| marketo.note_asked(now, id));
    }
    if let Some(refusal) = turned_away {
        return Err(refusal);
    }
    match route {
        Route::Token => {
            if head.method == Method::POST {
                query.extend(pairs(&body.kept));
            }
            token(shared, &head.method, &query)
        }
        Route::Status(place, id) => {
            shared.with(|marketo, now| marketo.status(now, place, id)).map(SimulatorResponse::import)
        }
        Route::Report(place, id, report) => {
            shared.with(|marketo, now| marketo.report(now, place, id, *report)).map(SimulatorResponse::file)
        }
        _ => Err(ApiRefusal::Http(404)),
    }
}

fn token(shared: &Shared, method: &Method, given: &BTreeMap<String, String>) -> Result<SimulatorResponse, ApiRefusal> {
    if method != Method::GET && method != Method::POST {
        return Err(ApiRefusal::Http(405));
    }
    let value = |name: &str| given.get(name).map(String::as_str).unwrap_or_default();
    if value("grant_type") != "client_credentials" {
        shared.with(|marketo, _| marketo.note_error(&ApiRefusal::Http(400)));
        let body = json!({"error": "unsupported_grant_type", "error_description": "Unsupported grant type"});
        return Ok(SimulatorResponse::json(StatusCode::BAD_REQUEST, &body));
    }
    Ok(shared.with(|marketo, now| match marketo.issue_token(now, value("client_id"), value("client_secret")) {
        Ok(token) => SimulatorResponse::json(StatusCode::OK, &token),
        Err(error) => {
            marketo.note_error(&ApiRefusal::Http(401));
            SimulatorResponse::json(StatusCode::UNAUTHORIZED, &error)
        }
    }))
}

/// The simulator's own paths, for scripts beside a simulator in a process of its own. They count nowhere.
fn tool(shared: &Shared, route: &Route, method: &Method, body: &[u8]) -> SimulatorResponse {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct OtherIntegration {
        imports: usize,
    }
    let result = match (route, method) {
        (Route::Ledger, &Method::GET) => {
            return SimulatorResponse::json(StatusCode::OK, &shared.with(|marketo, now| marketo.ledger(now)));
        }
        (Route::Faults, &Method::POST) => {
            serde_json::from_slice::<Fault>(body).map(|fault| shared.faults().push(fault))
        }
        (Route::Foreign, &Method::POST) => serde_json::from_slice::<OtherIntegration>(body)
            .map(|foreign| shared.with(|marketo, now| marketo.set_foreign_imports(now, foreign.imports))),
        _ => {
            return SimulatorResponse::text(
                StatusCode::METHOD_NOT_ALLOWED,
                "GET the ledger; POST the others.\n".into(),
            );
        }
    };
    match result {
        Ok(()) => SimulatorResponse::json(StatusCode::OK, &json!({"ok": true})),
        Err(error) => SimulatorResponse::text(StatusCode::BAD_REQUEST, format!("The body can't be read: {error}\n")),
    }
}

/// A body as it was sent: whole, or only its length where it is too long to keep.
struct ReceivedUpload {
    kept: Bytes,
    length: u64,
}

impl ReceivedUpload {
    async fn read(body: Body, limit: u64) -> Result<ReceivedUpload, ConnectionDropped> {
        let (mut kept, mut length) = (Vec::new(), 0);
        let mut stream = body.into_data_stream();
        while let Some(chunk) = stream.next().await {
            let chunk = chunk.map_err(|_| ConnectionDropped)?;
            length += chunk.len() as u64;
            if length <= limit {
                kept.extend_from_slice(&chunk);
            } else {
                kept = Vec::new();
            }
        }
        Ok(ReceivedUpload { kept: kept.into(), length })
    }
}

fn pairs(text: &[u8]) -> BTreeMap<String, String> {
    url::form_urlencoded::parse(text).into_owned().collect()
}

/// The parts of a form that has come as a whole.
fn form(headers: &HeaderMap, body: &[u8]) -> Result<Vec<Part>, FormError> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let mut reader = FormReader::new(kind)?;
    reader.push(body);
    reader.finish();
    let (mut parts, mut content) = (Vec::new(), BytesMut::new());
    while let Some(event) = reader.next_event()? {
        match event {
            FormEvent::Head(PartHead { name, filename, content_type }) => {
                parts.push(Part { name, filename, content_type, bytes: Bytes::new() });
            }
            FormEvent::Content(bytes) => content.extend_from_slice(&bytes),
            FormEvent::PartEnd => {
                if let Some(part) = parts.last_mut() {
                    part.bytes = content.split().freeze();
                }
            }
            FormEvent::End => break,
        }
    }
    Ok(parts)
}
