//! Marketo's endpoints: the table of the twelve paths, and the parser of paths.

use percent_encoding::percent_decode_str;

use crate::domain::{ReportKind, Target};

/// Target of an import as its path gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ImportTarget {
    /// Leads.
    Leads,
    /// A custom object, by its API name.
    CustomObject(String),
    /// Program members. Only the path that creates an import has the program's id.
    ProgramMembers(Option<i64>),
}

/// What is read of an import.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ImportQuery {
    /// Its status and counts.
    Status,
    /// The file of its failed rows, or of its rows with warnings.
    Report(ReportKind),
}

/// Endpoint of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Endpoint {
    /// Creates an import.
    Create(ImportTarget),
    /// Reads the import with this id, as the path has it.
    Import(ImportTarget, String, ImportQuery),
    /// None of Marketo's twelve.
    Unknown,
}

impl ImportTarget {
    /// Returns whether a job's target is this one.
    pub(super) fn matches(&self, target: &Target) -> bool {
        match (self, target) {
            (ImportTarget::Leads, Target::Leads { .. })
            | (ImportTarget::ProgramMembers(_), Target::ProgramMembers { .. }) => true,
            (ImportTarget::CustomObject(name), Target::CustomObject { name: other }) => name == other,
            _ => false,
        }
    }
}

/// Kind of an import's target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TargetKind {
    Leads,
    CustomObject,
    ProgramMembers,
}

/// What an endpoint of the table does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Create(TargetKind),
    Import(TargetKind, ImportQuery),
}

/// Marketo's endpoints below `/bulk/v1/`.
pub(super) const ENDPOINTS: [(&str, Action); 12] = [
    ("leads.json", Action::Create(TargetKind::Leads)),
    ("leads/batch/{batchId}.json", Action::Import(TargetKind::Leads, ImportQuery::Status)),
    (
        "leads/batch/{batchId}/failures.json",
        Action::Import(TargetKind::Leads, ImportQuery::Report(ReportKind::Failures)),
    ),
    (
        "leads/batch/{batchId}/warnings.json",
        Action::Import(TargetKind::Leads, ImportQuery::Report(ReportKind::Warnings)),
    ),
    ("customobjects/{apiName}/import.json", Action::Create(TargetKind::CustomObject)),
    (
        "customobjects/{apiName}/import/{batchId}/status.json",
        Action::Import(TargetKind::CustomObject, ImportQuery::Status),
    ),
    (
        "customobjects/{apiName}/import/{batchId}/failures.json",
        Action::Import(TargetKind::CustomObject, ImportQuery::Report(ReportKind::Failures)),
    ),
    (
        "customobjects/{apiName}/import/{batchId}/warnings.json",
        Action::Import(TargetKind::CustomObject, ImportQuery::Report(ReportKind::Warnings)),
    ),
    ("program/{programId}/members/import.json", Action::Create(TargetKind::ProgramMembers)),
    ("program/members/import/{batchId}/status.json", Action::Import(TargetKind::ProgramMembers, ImportQuery::Status)),
    (
        "program/members/import/{batchId}/failures.json",
        Action::Import(TargetKind::ProgramMembers, ImportQuery::Report(ReportKind::Failures)),
    ),
    (
        "program/members/import/{batchId}/warnings.json",
        Action::Import(TargetKind::ProgramMembers, ImportQuery::Report(ReportKind::Warnings)),
    ),
];

/// A path by what it names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CallPath {
    /// None where the path names no instance.
    pub instance: Option<String>,
    pub endpoint: Endpoint,
}

impl CallPath {
    /// Parses a path.
    pub(super) fn parse(path: &str) -> CallPath {
        let parts: Option<Vec<_>> =
            path.split('/').skip(1).map(|part| percent_decode_str(part).decode_utf8().ok()).collect();
        let Some(parts) = parts else { return CallPath { instance: None, endpoint: Endpoint::Unknown } };
        let parts: Vec<&str> = parts.iter().map(AsRef::as_ref).collect();
        match parts.as_slice() {
            ["instances", name, rest @ ..] => CallPath { instance: Some((*name).to_owned()), endpoint: endpoint(rest) },
            rest => CallPath { instance: None, endpoint: endpoint(rest) },
        }
    }
}

fn endpoint(parts: &[&str]) -> Endpoint {
    let ["bulk", "v1", rest @ ..] = parts else { return Endpoint::Unknown };
    let found = ENDPOINTS.iter().find_map(|(template, action)| Some((*action, match_template(template, rest)?)));
    let Some((action, values)) = found else { return Endpoint::Unknown };
    match (action, values.as_slice()) {
        (Action::Create(TargetKind::Leads), []) => Endpoint::Create(ImportTarget::Leads),
        (Action::Create(TargetKind::CustomObject), [name]) => {
            Endpoint::Create(ImportTarget::CustomObject((*name).to_owned()))
        }
        (Action::Create(TargetKind::ProgramMembers), [id]) => match id.parse() {
            Ok(id @ 1..) => Endpoint::Create(ImportTarget::ProgramMembers(Some(id))),
            _ => Endpoint::Unknown,
        },
        (Action::Import(TargetKind::Leads, query), [id]) => {
            Endpoint::Import(ImportTarget::Leads, (*id).to_owned(), query)
        }
        (Action::Import(TargetKind::CustomObject, query), [name, id]) => {
            Endpoint::Import(ImportTarget::CustomObject((*name).to_owned()), (*id).to_owned(), query)
        }
        (Action::Import(TargetKind::ProgramMembers, query), [id]) => {
            Endpoint::Import(ImportTarget::ProgramMembers(None), (*id).to_owned(), query)
        }
        _ => Endpoint::Unknown,
    }
}

/// Returns the path's values of the template's placeholders, if the path matches the template.
fn match_template<'a>(template: &str, parts: &[&'a str]) -> Option<Vec<&'a str>> {
    let mut values = Vec::new();
    let mut parts = parts.iter();
    for wanted in template.split('/') {
        let part = parts.next()?;
        match wanted.strip_prefix('{').and_then(|name| name.split_once('}')) {
            Some((_, ending)) => values.push(part.strip_suffix(ending)?),
            None if wanted == *part => {}
            None => return None,
        }
    }
    parts.next().is_none().then_some(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_of_the_twelve_paths_is_parsed_for_any_instance() {
        let car = || ImportTarget::CustomObject("car_c".into());
        let about = |target, query| Endpoint::Import(target, "7".into(), query);
        for (path, expected) in [
            ("leads.json", Endpoint::Create(ImportTarget::Leads)),
            ("leads/batch/7.json", about(ImportTarget::Leads, ImportQuery::Status)),
            ("leads/batch/7/failures.json", about(ImportTarget::Leads, ImportQuery::Report(ReportKind::Failures))),
            ("leads/batch/7/warnings.json", about(ImportTarget::Leads, ImportQuery::Report(ReportKind::Warnings))),
            ("customobjects/car_c/import.json", Endpoint::Create(car())),
            ("customobjects/car%5Fc/import/7/status.json", about(car(), ImportQuery::Status)),
            ("customobjects/car_c/import/7/failures.json", about(car(), ImportQuery::Report(ReportKind::Failures))),
            ("customobjects/car_c/import/7/warnings.json", about(car(), ImportQuery::Report(ReportKind::Warnings))),
            ("program/1044/members/import.json", Endpoint::Create(ImportTarget::ProgramMembers(Some(1044)))),
            ("program/members/import/7/status.json", about(ImportTarget::ProgramMembers(None), ImportQuery::Status)),
            (
                "program/members/import/7/failures.json",
                about(ImportTarget::ProgramMembers(None), ImportQuery::Report(ReportKind::Failures)),
            ),
            (
                "program/members/import/7/warnings.json",
                about(ImportTarget::ProgramMembers(None), ImportQuery::Report(ReportKind::Warnings)),
            ),
        ] {
            let call = CallPath { instance: None, endpoint: expected };
            assert_eq!(CallPath::parse(&format!("/bulk/v1/{path}")), call, "{path}");
            let of_instance = CallPath { instance: Some("eu".into()), ..call };
            assert_eq!(CallPath::parse(&format!("/instances/eu/bulk/v1/{path}")), of_instance, "{path}");
        }
    }

    #[test]
    fn similar_paths_are_unknown() {
        for path in [
            "/",
            "/rest/bulk/v1/leads.json",
            "/rest/v1/leads.json",
            "/bulk/v1/leads",
            "/bulk/v2/leads.json",
            "/bulk/v1/leads.json/",
            "/bulk/v1/leads/batch/7",
            "/bulk/v1/leads/batch/7/status.json",
            "/bulk/v1/leads/batch/7/rows.json",
            "/bulk/v1/leads/export/create.json",
            "/bulk/v1/program/1044/members/import/7/status.json",
            "/bulk/v1/program/x/members/import.json",
            "/bulk/v1/program/0/members/import.json",
            "/bulk/v1/program/-1/members/import.json",
            "/bulk/v1/program/99999999999999999999/members/import.json",
            "/bulk/v1/customobjects/%ff/import.json",
        ] {
            assert_eq!(CallPath::parse(path).endpoint, Endpoint::Unknown, "{path}");
        }
    }
}
