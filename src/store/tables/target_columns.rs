//! Columns of table `job` that store a target.

use crate::domain::Target;

/// A target as the columns of its job.
#[derive(Default)]
pub(crate) struct TargetColumns<'a> {
    pub(crate) lookup_field: Option<&'a str>,
    pub(crate) list_id: Option<i64>,
    pub(crate) partition: Option<&'a str>,
    pub(crate) object: Option<&'a str>,
    pub(crate) program: Option<i64>,
    pub(crate) status: Option<&'a str>,
}

impl TargetColumns<'_> {
    /// Returns the columns of a target.
    pub(crate) fn from_target(target: &Target) -> TargetColumns<'_> {
        match target {
            Target::Leads { lookup_field, list_id, partition } => TargetColumns {
                lookup_field: lookup_field.as_deref(),
                list_id: *list_id,
                partition: partition.as_deref(),
                ..TargetColumns::default()
            },
            Target::CustomObject { name } => TargetColumns { object: Some(name), ..TargetColumns::default() },
            Target::ProgramMembers { program_id, status } => {
                TargetColumns { program: Some(*program_id), status: Some(status), ..TargetColumns::default() }
            }
        }
    }
}
