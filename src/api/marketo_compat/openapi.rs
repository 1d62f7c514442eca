//! OpenAPI operations of the Marketo-compatible API: one for each endpoint of
//! [`crate::api::marketo_compat::endpoints`], with and without an instance in the path.

use axum::http::Method;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use crate::api::marketo_compat::endpoints::{Action, ENDPOINTS, ImportQuery, TargetKind};
use crate::api::openapi::route::{Operation, of};
use crate::domain::{Format, ReportKind};
use crate::marketo::types::{Envelope, Import, TokenBody, TokenErrorBody};

/// Parameters of a login.
#[derive(JsonSchema)]
#[allow(dead_code, reason = "it is only described")]
struct Login {
    #[schemars(extend("enum" = ["client_credentials"]))]
    grant_type: String,
    client_id: String,
    client_secret: String,
}

/// Parameters of an upload of leads, in its query or its form.
#[derive(JsonSchema)]
#[allow(dead_code, reason = "it is only described")]
#[schemars(rename_all = "camelCase")]
struct LeadParameters {
    /// Default `csv`.
    format: Option<Format>,
    /// The field that finds an existing person; default `email`.
    lookup_field: Option<String>,
    /// A static list that they join.
    #[schemars(range(min = 1))]
    list_id: Option<i64>,
    partition_name: Option<String>,
}

#[derive(JsonSchema)]
#[allow(dead_code, reason = "it is only described")]
struct CustomObjectParameters {
    /// Default `csv`.
    format: Option<Format>,
}

#[derive(JsonSchema)]
#[allow(dead_code, reason = "it is only described")]
#[schemars(rename_all = "camelCase")]
struct MemberParameters {
    /// Default `csv`.
    format: Option<Format>,
    /// New status of the members in the program. It may be in the form instead.
    program_member_status: Option<String>,
}

const JSON: &str = "application/json";

/// Returns the operations of the token endpoint below a path.
pub(super) fn logins(below: &str) -> Vec<Operation> {
    let login = |id: &str, method| {
        let login = Operation::new(operation_id(id, below), "Issues a token, as Marketo's identity service does")
            .json::<TokenBody>(200, "The token, and for how long it is valid")
            .json::<TokenErrorBody>(400, "A parameter is missing")
            .json::<TokenErrorBody>(401, "The credentials are wrong")
            .json::<TokenErrorBody>(429, "The credentials are wrong, and too many failed logins wait already")
            .json::<TokenErrorBody>(503, "No token can be issued now");
        Operation { method, path: format!("{below}/identity/oauth/token"), ..login }
    };
    vec![
        login("tokenByGet", Method::GET).query::<Login>(),
        login("token", Method::POST)
            .body("application/x-www-form-urlencoded", of::<Login>)
            .json::<TokenErrorBody>(413, "The form is too long"),
    ]
}

/// Returns the operations of Marketo's twelve endpoints below a path.
pub(super) fn imports(below: &str) -> Vec<Operation> {
    ENDPOINTS.iter().map(|&(template, action)| import(below, template, action)).collect()
}

fn import(below: &str, template: &str, action: Action) -> Operation {
    let (kind, action_name, summary, method) = match action {
        Action::Create(kind) => (kind, "import", "Submits a file; batchId is the job's id", Method::POST),
        Action::Import(kind, ImportQuery::Status) => (kind, "status", "The status of an import", Method::GET),
        Action::Import(kind, ImportQuery::Report(ReportKind::Failures)) => {
            (kind, "failures", "The failed rows, with Marketo's reasons", Method::GET)
        }
        Action::Import(kind, ImportQuery::Report(ReportKind::Warnings)) => {
            (kind, "warnings", "The rows with warnings, with Marketo's reasons", Method::GET)
        }
    };
    let name = match kind {
        TargetKind::Leads => "Leads",
        TargetKind::CustomObject => "CustomObjects",
        TargetKind::ProgramMembers => "ProgramMembers",
    };
    let operation = Operation::new(operation_id(&format!("{action_name}{name}"), below), summary);
    let operation = match action {
        Action::Create(kind) => {
            let create = match kind {
                TargetKind::Leads => operation.query::<LeadParameters>(),
                TargetKind::CustomObject => operation.query::<CustomObjectParameters>(),
                TargetKind::ProgramMembers => operation.query::<MemberParameters>(),
            };
            create
                .body("multipart/form-data", form)
                .json::<Envelope<Import>>(200, "The import's id, or why the upload was refused")
                .json::<Envelope<Import>>(413, "The file is larger than api.max_file_bytes")
        }
        Action::Import(_, ImportQuery::Status) => {
            operation.json::<Envelope<Import>>(200, "The import, or why there is none")
        }
        Action::Import(..) => operation
            .text(200, "The files of all batches, joined", "text/csv")
            .response(200, "The file, or an envelope with the reason why there is none", JSON, of::<Envelope<Import>>)
            .empty(404, "There is no such file, or not yet"),
    };
    Operation { method, path: format!("{below}/bulk/v1/{template}"), ..operation }
}

/// Returns the operation's id, which differs with an instance in the path.
fn operation_id(id: &str, below: &str) -> String {
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
    use crate::api::marketo_compat::form_fields::PARAMETERS;

    #[test]
    fn the_description_lists_the_parameters_that_are_read() {
        let schemas = [
            schemars::schema_for!(LeadParameters),
            schemars::schema_for!(CustomObjectParameters),
            schemars::schema_for!(MemberParameters),
        ];
        let fields = schemas.iter().filter_map(|schema| schema.get("properties")?.as_object());
        let described: BTreeSet<&str> = fields.flat_map(|fields| fields.keys()).map(String::as_str).collect();
        assert_eq!(described, BTreeSet::from(PARAMETERS));
    }
}
