//! Target of an import: where the rows of a file go on Marketo.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where a file's rows go on Marketo.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Target {
    /// People (leads).
    Leads {
        /// The field by which an existing person is found; Marketo uses `email` where none is given.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        lookup_field: Option<String>,
        /// A static list that the people join. Marketo imports into one list one file at a time (1019).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        list_id: Option<i64>,
        /// The lead partition.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        partition: Option<String>,
    },
    /// Records of a custom object.
    CustomObject {
        /// The object's API name, such as `car_c`.
        name: String,
    },
    /// Members of a program.
    ProgramMembers {
        /// The program's id.
        program_id: i64,
        /// The status in the program that the members get.
        status: String,
    },
}

impl Target {
    /// Returns the name of the kind of target on the command line and in the API.
    pub fn kind(&self) -> &'static str {
        match self {
            Target::Leads { .. } => "leads",
            Target::CustomObject { .. } => "custom-object",
            Target::ProgramMembers { .. } => "program-members",
        }
    }

    /// Returns the static list that is busy while this import runs.
    pub fn list_id(&self) -> Option<i64> {
        match self {
            Target::Leads { list_id, .. } => *list_id,
            _ => None,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Leads { list_id: Some(list), .. } => write!(f, "leads (list {list})"),
            Target::Leads { .. } => f.write_str("leads"),
            Target::CustomObject { name } => write!(f, "custom-object {name}"),
            Target::ProgramMembers { program_id, status } => write!(f, "program-members {program_id} ({status})"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_written_with_its_type_beside_its_fields() {
        let target = Target::ProgramMembers { program_id: 1044, status: "Member".into() };
        let json = serde_json::to_value(&target).unwrap();
        assert_eq!(json, serde_json::json!({"type": "program-members", "program_id": 1044, "status": "Member"}));
        assert_eq!(serde_json::from_value::<Target>(json).unwrap(), target);
        let leads = Target::Leads { lookup_field: None, list_id: Some(7), partition: None };
        assert_eq!(serde_json::to_value(&leads).unwrap(), serde_json::json!({"type": "leads", "list_id": 7}));
    }
}
