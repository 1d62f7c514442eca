//! Which of Marketo's calls is this path? Its table, exactly, with the name of an instance before it or not.

use percent_encoding::percent_decode_str;

use crate::job::Target;

/// The three kinds of import.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Leads,
    /// With the object's API name.
    CustomObject(String),
    /// With the program's id, which only the call that creates an import has.
    ProgramMembers(Option<i64>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum About {
    Status,
    Failures,
    Warnings,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Call {
    Create(Place),
    /// About the import with this id, as it was written.
    Import(Place, String, About),
    Unknown,
}

impl Place {
    pub(super) fn is_of(&self, target: &Target) -> bool {
        match (self, target) {
            (Place::Leads, Target::Leads { .. }) | (Place::ProgramMembers(_), Target::ProgramMembers { .. }) => true,
            (Place::CustomObject(name), Target::CustomObject { name: of }) => name == of,
            _ => false,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Leads,
    CustomObject,
    ProgramMembers,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    Create(Kind),
    Import(Kind, About),
}

/// Marketo's table, below `/bulk/v1/`.
pub(super) const CALLS: [(&str, What); 12] = [
    ("leads.json", What::Create(Kind::Leads)),
    ("leads/batch/{batchId}.json", What::Import(Kind::Leads, About::Status)),
    ("leads/batch/{batchId}/failures.json", What::Import(Kind::Leads, About::Failures)),
    ("leads/batch/{batchId}/warnings.json", What::Import(Kind::Leads, About::Warnings)),
    ("customobjects/{apiName}/import.json", What::Create(Kind::CustomObject)),
    ("customobjects/{apiName}/import/{batchId}/status.json", What::Import(Kind::CustomObject, About::Status)),
    ("customobjects/{apiName}/import/{batchId}/failures.json", What::Import(Kind::CustomObject, About::Failures)),
    ("customobjects/{apiName}/import/{batchId}/warnings.json", What::Import(Kind::CustomObject, About::Warnings)),
    ("program/{programId}/members/import.json", What::Create(Kind::ProgramMembers)),
    ("program/members/import/{batchId}/status.json", What::Import(Kind::ProgramMembers, About::Status)),
    ("program/members/import/{batchId}/failures.json", What::Import(Kind::ProgramMembers, About::Failures)),
    ("program/members/import/{batchId}/warnings.json", What::Import(Kind::ProgramMembers, About::Warnings)),
];

/// The instance that a path names, if it does, and the call.
pub(super) fn read(path: &str) -> (Option<String>, Call) {
    let parts: Option<Vec<_>> =
        path.split('/').skip(1).map(|part| percent_decode_str(part).decode_utf8().ok()).collect();
    let Some(parts) = parts else { return (None, Call::Unknown) };
    let parts: Vec<&str> = parts.iter().map(AsRef::as_ref).collect();
    match parts.as_slice() {
        ["instances", name, rest @ ..] => (Some((*name).to_owned()), call(rest)),
        rest => (None, call(rest)),
    }
}

fn call(parts: &[&str]) -> Call {
    let ["bulk", "v1", rest @ ..] = parts else { return Call::Unknown };
    let fits = CALLS.iter().find_map(|(template, what)| Some((*what, values(template, rest)?)));
    let Some((what, values)) = fits else { return Call::Unknown };
    match (what, values.as_slice()) {
        (What::Create(Kind::Leads), []) => Call::Create(Place::Leads),
        (What::Create(Kind::CustomObject), [name]) => Call::Create(Place::CustomObject((*name).to_owned())),
        (What::Create(Kind::ProgramMembers), [id]) => match id.parse() {
            Ok(id @ 1..) => Call::Create(Place::ProgramMembers(Some(id))),
            _ => Call::Unknown,
        },
        (What::Import(Kind::Leads, about), [id]) => Call::Import(Place::Leads, (*id).to_owned(), about),
        (What::Import(Kind::CustomObject, about), [name, id]) => {
            Call::Import(Place::CustomObject((*name).to_owned()), (*id).to_owned(), about)
        }
        (What::Import(Kind::ProgramMembers, about), [id]) => {
            Call::Import(Place::ProgramMembers(None), (*id).to_owned(), about)
        }
        _ => Call::Unknown,
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
        let car = || Place::CustomObject("car_c".into());
        let about = |place, about| Call::Import(place, "7".into(), about);
        for (path, expected) in [
            ("leads.json", Call::Create(Place::Leads)),
            ("leads/batch/7.json", about(Place::Leads, About::Status)),
            ("leads/batch/7/failures.json", about(Place::Leads, About::Failures)),
            ("leads/batch/7/warnings.json", about(Place::Leads, About::Warnings)),
            ("customobjects/car_c/import.json", Call::Create(car())),
            ("customobjects/car%5Fc/import/7/status.json", about(car(), About::Status)),
            ("customobjects/car_c/import/7/failures.json", about(car(), About::Failures)),
            ("customobjects/car_c/import/7/warnings.json", about(car(), About::Warnings)),
            ("program/1044/members/import.json", Call::Create(Place::ProgramMembers(Some(1044)))),
            ("program/members/import/7/status.json", about(Place::ProgramMembers(None), About::Status)),
            ("program/members/import/7/failures.json", about(Place::ProgramMembers(None), About::Failures)),
            ("program/members/import/7/warnings.json", about(Place::ProgramMembers(None), About::Warnings)),
        ] {
            assert_eq!(read(&format!("/bulk/v1/{path}")), (None, expected.clone()), "{path}");
            assert_eq!(read(&format!("/instances/eu/bulk/v1/{path}")), (Some("eu".into()), expected), "{path}");
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
            assert_eq!(read(path).1, Call::Unknown, "{path}");
        }
    }
}
