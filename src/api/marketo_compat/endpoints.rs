//! Which of Marketo's calls is this path? Its table, exactly, with the name of an instance before it or not.

use percent_encoding::percent_decode_str;

use crate::domain::Target;

/// The three kinds of import.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ImportTarget {
    Leads,
    /// With the object's API name.
    CustomObject(String),
    /// With the program's id, which only the call that creates an import has.
    ProgramMembers(Option<i64>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ImportQuery {
    Status,
    Failures,
    Warnings,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Endpoint {
    Create(ImportTarget),
    /// About the import with this id, as it was written.
    Import(ImportTarget, String, ImportQuery),
    Unknown,
}

impl ImportTarget {
    pub(super) fn is_of(&self, target: &Target) -> bool {
        match (self, target) {
            (ImportTarget::Leads, Target::Leads { .. })
            | (ImportTarget::ProgramMembers(_), Target::ProgramMembers { .. }) => true,
            (ImportTarget::CustomObject(name), Target::CustomObject { name: of }) => name == of,
            _ => false,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TargetKind {
    Leads,
    CustomObject,
    ProgramMembers,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Create(TargetKind),
    Import(TargetKind, ImportQuery),
}

/// Marketo's table, below `/bulk/v1/`.
pub(super) const CALLS: [(&str, Action); 12] = [
    ("leads.json", Action::Create(TargetKind::Leads)),
    ("leads/batch/{batchId}.json", Action::Import(TargetKind::Leads, ImportQuery::Status)),
    ("leads/batch/{batchId}/failures.json", Action::Import(TargetKind::Leads, ImportQuery::Failures)),
    ("leads/batch/{batchId}/warnings.json", Action::Import(TargetKind::Leads, ImportQuery::Warnings)),
    ("customobjects/{apiName}/import.json", Action::Create(TargetKind::CustomObject)),
    (
        "customobjects/{apiName}/import/{batchId}/status.json",
        Action::Import(TargetKind::CustomObject, ImportQuery::Status),
    ),
    (
        "customobjects/{apiName}/import/{batchId}/failures.json",
        Action::Import(TargetKind::CustomObject, ImportQuery::Failures),
    ),
    (
        "customobjects/{apiName}/import/{batchId}/warnings.json",
        Action::Import(TargetKind::CustomObject, ImportQuery::Warnings),
    ),
    ("program/{programId}/members/import.json", Action::Create(TargetKind::ProgramMembers)),
    ("program/members/import/{batchId}/status.json", Action::Import(TargetKind::ProgramMembers, ImportQuery::Status)),
    (
        "program/members/import/{batchId}/failures.json",
        Action::Import(TargetKind::ProgramMembers, ImportQuery::Failures),
    ),
    (
        "program/members/import/{batchId}/warnings.json",
        Action::Import(TargetKind::ProgramMembers, ImportQuery::Warnings),
    ),
];

/// The instance that a path names, if it does, and the call.
pub(super) fn parse(path: &str) -> (Option<String>, Endpoint) {
    let parts: Option<Vec<_>> =
        path.split('/').skip(1).map(|part| percent_decode_str(part).decode_utf8().ok()).collect();
    let Some(parts) = parts else { return (None, Endpoint::Unknown) };
    let parts: Vec<&str> = parts.iter().map(AsRef::as_ref).collect();
    match parts.as_slice() {
        ["instances", name, rest @ ..] => (Some((*name).to_owned()), call(rest)),
        rest => (None, call(rest)),
    }
}

fn call(parts: &[&str]) -> Endpoint {
    let ["bulk", "v1", rest @ ..] = parts else { return Endpoint::Unknown };
    let fits = CALLS.iter().find_map(|(template, what)| Some((*what, values(template, rest)?)));
    let Some((what, values)) = fits else { return Endpoint::Unknown };
    match (what, values.as_slice()) {
        (Action::Create(TargetKind::Leads), []) => Endpoint::Create(ImportTarget::Leads),
        (Action::Create(TargetKind::CustomObject), [name]) => {
            Endpoint::Create(ImportTarget::CustomObject((*name).to_owned()))
        }
        (Action::Create(TargetKind::ProgramMembers), [id]) => match id.parse() {
            Ok(id @ 1..) => Endpoint::Create(ImportTarget::ProgramMembers(Some(id))),
            _ => Endpoint::Unknown,
        },
        (Action::Import(TargetKind::Leads, about), [id]) => {
            Endpoint::Import(ImportTarget::Leads, (*id).to_owned(), about)
        }
        (Action::Import(TargetKind::CustomObject, about), [name, id]) => {
            Endpoint::Import(ImportTarget::CustomObject((*name).to_owned()), (*id).to_owned(), about)
        }
        (Action::Import(TargetKind::ProgramMembers, about), [id]) => {
            Endpoint::Import(ImportTarget::ProgramMembers(None), (*id).to_owned(), about)
        }
        _ => Endpoint::Unknown,
    }
}

/// What stands where the template has braces, if the parts of a path fit it.
fn values<'a>(template: &str, parts: &[&'a str]) -> Option<Vec<&'a str>> {
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
    fn each_of_the_twelve_paths_is_its_call_for_any_instance() {
        let car = || ImportTarget::CustomObject("car_c".into());
        let about = |place, about| Endpoint::Import(place, "7".into(), about);
        for (path, expected) in [
            ("leads.json", Endpoint::Create(ImportTarget::Leads)),
            ("leads/batch/7.json", about(ImportTarget::Leads, ImportQuery::Status)),
            ("leads/batch/7/failures.json", about(ImportTarget::Leads, ImportQuery::Failures)),
            ("leads/batch/7/warnings.json", about(ImportTarget::Leads, ImportQuery::Warnings)),
            ("customobjects/car_c/import.json", Endpoint::Create(car())),
            ("customobjects/car%5Fc/import/7/status.json", about(car(), ImportQuery::Status)),
            ("customobjects/car_c/import/7/failures.json", about(car(), ImportQuery::Failures)),
            ("customobjects/car_c/import/7/warnings.json", about(car(), ImportQuery::Warnings)),
            ("program/1044/members/import.json", Endpoint::Create(ImportTarget::ProgramMembers(Some(1044)))),
            ("program/members/import/7/status.json", about(ImportTarget::ProgramMembers(None), ImportQuery::Status)),
            (
                "program/members/import/7/failures.json",
                about(ImportTarget::ProgramMembers(None), ImportQuery::Failures),
            ),
            (
                "program/members/import/7/warnings.json",
                about(ImportTarget::ProgramMembers(None), ImportQuery::Warnings),
            ),
        ] {
            assert_eq!(parse(&format!("/bulk/v1/{path}")), (None, expected.clone()), "{path}");
            assert_eq!(parse(&format!("/instances/eu/bulk/v1/{path}")), (Some("eu".into()), expected), "{path}");
        }
    }

    #[test]
    fn a_path_that_is_nearly_one_is_none() {
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
            assert_eq!(parse(path).1, Endpoint::Unknown, "{path}");
        }
    }
}
