//! Endpoints: the twelve paths of Marketo's Bulk Import API, and their query parameters.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::domain::{Format, Target};

/// Characters other than these are percent-encoded in a path segment.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'_').remove(b'-').remove(b'.').remove(b'~');

/// The call that creates an import.
pub(super) struct CreateRequest {
    pub(super) path: String,
    /// The parameters of the query.
    pub(super) parameters: Vec<(&'static str, String)>,
}

/// Returns the path and the query parameters of the call that creates an import.
pub(super) fn create_request(target: &Target, format: Format) -> CreateRequest {
    let mut parameters = vec![("format", format.as_str().to_owned())];
    let path = match target {
        Target::Leads { lookup_field, list_id, partition } => {
            let list_id = list_id.map(|id| id.to_string());
            for (name, value) in [("lookupField", lookup_field), ("listId", &list_id), ("partitionName", partition)] {
                parameters.extend(value.clone().map(|value| (name, value)));
            }
            "/bulk/v1/leads.json".to_owned()
        }
        Target::CustomObject { name } => format!("/bulk/v1/customobjects/{}/import.json", segment(name)),
        Target::ProgramMembers { program_id, status } => {
            parameters.push(("programMemberStatus", status.clone()));
            format!("/bulk/v1/program/{program_id}/members/import.json")
        }
    };
    CreateRequest { path, parameters }
}

/// Returns the path of the import `id`: of its status where `file` is empty, else of its `failures` or `warnings`.
pub(super) fn import_path(target: &Target, id: &str, file: &str) -> String {
    let id = segment(id);
    let status = if file.is_empty() { "status" } else { file };
    match target {
        Target::Leads { .. } if file.is_empty() => format!("/bulk/v1/leads/batch/{id}.json"),
        Target::Leads { .. } => format!("/bulk/v1/leads/batch/{id}/{file}.json"),
        Target::CustomObject { name } => {
            format!("/bulk/v1/customobjects/{}/import/{id}/{status}.json", segment(name))
        }
        Target::ProgramMembers { .. } => format!("/bulk/v1/program/members/import/{id}/{status}.json"),
    }
}

fn segment(text: &str) -> String {
    utf8_percent_encode(text, SEGMENT).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn targets() -> [Target; 3] {
        [
            Target::Leads { lookup_field: Some("id".into()), list_id: Some(9), partition: Some("EU West".into()) },
            Target::CustomObject { name: "car_c".into() },
            Target::ProgramMembers { program_id: 1044, status: "On List".into() },
        ]
    }

    #[test]
    fn paths_are_marketos() {
        let mut paths = Vec::new();
        for target in targets() {
            paths.push(create_request(&target, Format::Csv).path);
            paths.extend(["", "failures", "warnings"].map(|file| import_path(&target, "77", file)));
        }
        assert_eq!(
            paths,
            [
                "/bulk/v1/leads.json",
                "/bulk/v1/leads/batch/77.json",
                "/bulk/v1/leads/batch/77/failures.json",
                "/bulk/v1/leads/batch/77/warnings.json",
                "/bulk/v1/customobjects/car_c/import.json",
                "/bulk/v1/customobjects/car_c/import/77/status.json",
                "/bulk/v1/customobjects/car_c/import/77/failures.json",
                "/bulk/v1/customobjects/car_c/import/77/warnings.json",
                "/bulk/v1/program/1044/members/import.json",
                "/bulk/v1/program/members/import/77/status.json",
                "/bulk/v1/program/members/import/77/failures.json",
                "/bulk/v1/program/members/import/77/warnings.json",
            ]
        );
    }

    #[test]
    fn parameters_have_marketos_names() {
        let parameters = targets().map(|target| {
            let named = create_request(&target, Format::Ssv).parameters;
            named.into_iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&")
        });
        assert_eq!(
            parameters,
            [
                "format=ssv&lookupField=id&listId=9&partitionName=EU West",
                "format=ssv",
                "format=ssv&programMemberStatus=On List"
            ]
        );
    }

    #[test]
    fn name_stays_within_its_path_segment() {
        let target = Target::CustomObject { name: "../x?y".into() };
        assert_eq!(create_request(&target, Format::Csv).path, "/bulk/v1/customobjects/..%2Fx%3Fy/import.json");
    }
}
