//! Control of the simulator by scripts: its own paths, and the help text on them and on the cells that control an
//! import.

use axum::http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::json;

use crate::simulator::faults::Fault;
use crate::simulator::response::SimulatorResponse;
use crate::simulator::route::Route;
use crate::simulator::shared_model::SharedModel;

/// Explains the control cells and paths; part of the help of the `simulate` command.
pub const HELP: &str = "\
Cells of an uploaded file control its import:
  !fail:REASON          the row fails with this reason
  !warn:REASON          the row is imported with this warning
  !lasts:5s             the import takes exactly so long (ms, s, m, h), whatever --speed says
  !stuck                the import never ends, and keeps its processing slot
  !batch-failed:REASON  the whole import ends as Failed with this message
Rows of leads and program members without a value in the lookup field fail, and an e-mail address without an @ is a
warning. A space around a name in the header fails every row.

Paths of the simulator itself, which do not count as calls:
  GET  /simulator/ledger   its call log: highest numbers, every create call, every import
  POST /simulator/foreign  {\"imports\": 9}: other integrations' imports in the queue
  POST /simulator/faults   {\"call\": \"create\", \"nth\": 1, \"times\": 1, \"effect\": EFFECT}
CALL is token, create, status, failures, warnings or other. EFFECT is \"lose-request\", \"lose-answer\",
{\"error\": {\"code\": \"1016\", \"message\": \"…\"}}, {\"http\": {\"status\": 502}} (both take \"executed\": true),
{\"garble\": \"empty\"} (or \"cut\", \"torn\"), {\"delay-ms\": 500} or {\"edit\": {\"status\": \"Paused\",
\"numOfRowsFailed\": null}}, which replaces members of the import in the response; null removes one.";

/// Body of `POST /simulator/foreign`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OtherImports {
    imports: usize,
}

/// Answers a request for one of the simulator's own paths. They count as no call.
pub(super) fn serve(shared: &SharedModel, route: &Route, method: &Method, body: &[u8]) -> SimulatorResponse {
    let result = match (route, method) {
        (Route::CallLog, &Method::GET) => {
            return SimulatorResponse::json(StatusCode::OK, &shared.with_model(|marketo, now| marketo.call_log(now)));
        }
        (Route::Faults, &Method::POST) => {
            serde_json::from_slice::<Fault>(body).map(|fault| shared.faults().push(fault))
        }
        (Route::OtherImports, &Method::POST) => serde_json::from_slice::<OtherImports>(body)
            .map(|other| shared.with_model(|marketo, now| marketo.set_other_imports(now, other.imports))),
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
