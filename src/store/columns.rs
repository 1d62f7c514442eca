//! How is a target written? In columns of its job's row.

use crate::job::Target;

/// A target in the job's columns.
#[derive(Default)]
pub(super) struct Columns<'a> {
    pub(super) lookup_field: Option<&'a str>,
    pub(super) list_id: Option<i64>,
    pub(super) partition: Option<&'a str>,
    pub(super) object: Option<&'a str>,
    pub(super) program: Option<i64>,
    pub(super) status: Option<&'a str>,
}

impl Columns<'_> {
    pub(super) fn of(target: &Target) -> Columns<'_> {
        match target {
            Target::Leads { lookup_field, list_id, partition } => Columns {
                lookup_field: lookup_field.as_deref(),
                list_id: *list_id,
                partition: partition.as_deref(),
                ..Columns::default()
            },
            Target::CustomObject { name } => Columns { object: Some(name), ..Columns::default() },
            Target::ProgramMembers { program_id, status } => {
                Columns { program: Some(*program_id), status: Some(status), ..Columns::default() }
            }
        }
    }
}
