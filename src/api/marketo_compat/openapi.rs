//! What is said of Marketo's calls? One operation for each line of the table in [`crate::api::marketo_compat::endpoints`], for each way to name the
//! instance.

use axum::http::Method;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use crate::api::marketo_compat::endpoints::{Action, CALLS, ImportQuery, TargetKind};
use crate::api::openapi::route::{Operation, of};
use crate::domain::Format;
use crate::marketo::types::{Envelope, Import, TokenBody, TokenErrorBody};

/// What a login says of itself.
#[derive(JsonSchema)]
#[allow(dead_code, reason = "it is only described")]
struct Login {
    #[schemars(extend("enum" = ["client_credentials"]))]
    grant_type: String,
    client_id: String,
    client_secret: String,
}

/// What may stand in an upload's query, or in its form.
#[derive(JsonSchema)]
#[allow(dead_code, reason = "it is only described")]
#[schemars(rename_all = "camelCase")]
struct OfLeads {
    /// `csv` unless it is said.
    format: Option<Format>,
    /// The field that finds an existing person; `email` unless it is said.
    lookup_field: Option<String>,
    /// A static list that they join.
    #[schemars(range(min = 1))]
    list_id: Option<i64>,
    partition_name: Option<String>,
}

#[derive(JsonSchema)]
#[allow(dead_code, reason = "it is only described")]
struct OfObjects {
    /// `csv` unless it is said.
    format: Option<Format>,
}

#[derive(JsonSchema)]
#[allow(dead_code, reason = "it is only described")]
#[schemars(rename_all = "camelCase")]
struct OfMembers {
    /// `csv` unless it is said.
    format: Option<Format>,
    /// The status in the program that they get. It may stand in the form instead.
    program_member_status: Option<String>,
}

const JSON: &str = "application/json";

/// The token endpoint, below this.
pub(super) fn logins(below: &str) -> Vec<Operation> {
    let login = |id: &str, method| {
        let login = Operation::new(named(id, below), "Gives a token, as Marketo's identity service does")
            .json::<TokenBody>(200, "The token, and how long it is good")
            .json::<TokenErrorBody>(400, "Something is missing")
            .json::<TokenErrorBody>(401, "The credentials are wrong")
            .json::<TokenErrorBody>(429, "The credentials are wrong, and too many wrong logins wait for their answers")
            .json::<TokenErrorBody>(503, "No token can be made now");
        Operation { method, path: format!("{below}/identity/oauth/token"), ..login }
    };
    vec![
        login("tokenByGet", Method::GET).query::<Login>(),
        login("token", Method::POST)
            .body("application/x-www-form-urlencoded", of::<Login>)
            .json::<TokenErrorBody>(413, "The form is too long"),
    ]
}

/// Marketo's twelve calls, below this.
pub(super) fn imports(below: &str) -> Vec<Operation> {
    CALLS.iter().map(|&(template, what)| import(below, template, what)).collect()
}

fn import(below: &str, template: &str, what: Action) -> Operation {
    let (kind, verb, says, method) = match what {
        Action::Create(kind) => (kind, "import", "Drops a file in; the batch's id is the job's", Method::POST),
        Action::Import(kind, ImportQuery::Status) => (kind, "status", "How an import stands", Method::GET),
        Action::Import(kind, ImportQuery::Failures) => (kind, "failures", "The rows that failed, and why", Method::GET),
        Action::Import(kind, ImportQuery::Warnings) => {
            (kind, "warnings", "The rows with warnings, and why", Method::GET)
        }
    };
    let word = match kind {
        TargetKind::Leads => "Leads",
        TargetKind::CustomObject => "CustomObjects",
        TargetKind::ProgramMembers => "ProgramMembers",
    };
    let operation = Operation::new(named(&format!("{verb}{word}"), below), says);
    let operation = match what {
        Action::Create(kind) => {
            let create = match kind {
                TargetKind::Leads => operation.query::<OfLeads>(),
                TargetKind::CustomObject => operation.query::<OfObjects>(),
                TargetKind::ProgramMembers => operation.query::<OfMembers>(),
            };
            create
                .body("multipart/form-data", form)
                .json::<Envelope<Import>>(200, "Its receipt, or why it was refused")
                .json::<Envelope<Import>>(413, "The file is larger than api.max_file_bytes")
        }
        Action::Import(_, ImportQuery::Status) => {
            operation.json::<Envelope<Import>>(200, "One import, or why there is none")
        }
        Action::Import(..) => operation
            .text(200, "All batches' files as one", "text/csv")
            .answer(200, "The file, or an envelope that says why there is none", JSON, of::<Envelope<Import>>)
            .empty(404, "There is no such file"),
    };
    Operation { method, path: format!("{below}/bulk/v1/{template}"), ..operation }
}

/// An id for each way to name the instance.
fn named(id: &str, below: &str) -> String {
    if below.is_empty() { id.to_owned() } else { format!("{id}OfInstance") }
}

fn form(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "required": ["file"],
        "properties": { "file": { "type": "string", "contentMediaType": "text/csv" } },
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::api::marketo_compat::upload::PARAMETERS;

    #[test]
    fn the_parameters_that_are_described_are_those_that_are_read() {
        let schemas =
            [schemars::schema_for!(OfLeads), schemars::schema_for!(OfObjects), schemars::schema_for!(OfMembers)];
        let fields = schemas.iter().filter_map(|schema| schema.get("properties")?.as_object());
        let described: BTreeSet<&str> = fields.flat_map(|fields| fields.keys()).map(String::as_str).collect();
        assert_eq!(described, BTreeSet::from(PARAMETERS));
    }
}
