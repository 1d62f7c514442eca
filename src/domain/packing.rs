//! Packing: what decides whether the rows of several jobs may go to Marketo in one import.

use sha2::{Digest, Sha256};

use crate::domain::format::Format;
use crate::domain::target::Target;

/// What the jobs of one import have in common: the hash of the target with all its options, the format, the header and
/// the client that submitted the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImportShape(pub [u8; 32]);

/// What an [`ImportShape`] is the hash of.
#[derive(Clone, Copy, Debug)]
pub struct ShapeFields<'a> {
    /// The target of the job.
    pub target: &'a Target,
    /// The format of the file.
    pub format: Format,
    /// The bytes of the header with its line end and without a byte-order mark.
    pub header: &'a [u8],
    /// The API client that submitted the file; none for a file of another source.
    pub client: Option<&'a str>,
}

/// How a job shares an import with others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packing {
    /// Jobs of one instance with equal shapes may share an import.
    pub shape: ImportShape,
    /// How many bytes of the header's line end, counted from its end, are added behind the last row where other rows
    /// follow; 0 where that row has its own line end.
    pub added_line_end: u8,
}

impl ImportShape {
    /// Returns the shape of a job with these fields.
    pub fn new(fields: &ShapeFields<'_>) -> ImportShape {
        let ShapeFields { target, format, header, client } = *fields;
        let mut hash = FieldHash::default();
        hash.push(Some(target.kind().as_bytes()));
        // Every option of a target is named, so that a new one is not forgotten here.
        match target {
            Target::Leads { lookup_field, list_id, partition } => {
                hash.push(lookup_field.as_deref().map(str::as_bytes));
                hash.push(list_id.map(i64::to_be_bytes).as_ref().map(<[u8; 8]>::as_slice));
                hash.push(partition.as_deref().map(str::as_bytes));
            }
            Target::CustomObject { name } => hash.push(Some(name.as_bytes())),
            Target::ProgramMembers { program_id, status } => {
                hash.push(Some(&program_id.to_be_bytes()));
                hash.push(Some(status.as_bytes()));
            }
        }
        hash.push(Some(format.as_str().as_bytes()));
        hash.push(Some(header));
        hash.push(client.map(str::as_bytes));
        ImportShape(hash.0.finalize().into())
    }
}

/// A hash of fields. Each is preceded by whether it is there and by its length, so that no two lists of fields are the
/// same bytes.
#[derive(Default)]
struct FieldHash(Sha256);

impl FieldHash {
    fn push(&mut self, field: Option<&[u8]>) {
        self.0.update([u8::from(field.is_some())]);
        if let Some(field) = field {
            self.0.update((field.len() as u64).to_be_bytes());
            self.0.update(field);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn leads(lookup_field: Option<&str>, list_id: Option<i64>, partition: Option<&str>) -> Target {
        let text = |value: Option<&str>| value.map(str::to_owned);
        Target::Leads { lookup_field: text(lookup_field), list_id, partition: text(partition) }
    }

    fn members(program_id: i64, status: &str) -> Target {
        Target::ProgramMembers { program_id, status: status.into() }
    }

    #[test]
    fn each_field_changes_the_shape() {
        let target = leads(None, None, None);
        let fields = ShapeFields { target: &target, format: Format::Csv, header: b"email\n", client: None };
        let shapes = [
            fields,
            ShapeFields { target: &leads(Some("id"), None, None), ..fields },
            ShapeFields { target: &leads(Some(""), None, None), ..fields },
            ShapeFields { target: &leads(None, Some(7), None), ..fields },
            ShapeFields { target: &leads(None, Some(8), None), ..fields },
            ShapeFields { target: &leads(None, None, Some("id")), ..fields },
            ShapeFields { target: &Target::CustomObject { name: "car_c".into() }, ..fields },
            ShapeFields { target: &Target::CustomObject { name: "boat_c".into() }, ..fields },
            ShapeFields { target: &members(7, "Member"), ..fields },
            ShapeFields { target: &members(8, "Member"), ..fields },
            ShapeFields { target: &members(7, "On List"), ..fields },
            ShapeFields { format: Format::Tsv, ..fields },
            ShapeFields { header: b"email\r\n", ..fields },
            ShapeFields { header: b"Email\n", ..fields },
            ShapeFields { client: Some("crm"), ..fields },
            ShapeFields { client: Some(""), ..fields },
            ShapeFields { client: Some("erp"), ..fields },
        ]
        .map(|fields| ImportShape::new(&fields));
        assert_eq!(shapes.iter().collect::<BTreeSet<_>>().len(), shapes.len());
        assert_eq!(ImportShape::new(&fields), shapes[0]);
    }

    #[test]
    fn bytes_cannot_move_between_fields() {
        let shape = |target: &Target, header: &[u8], client: Option<&str>| {
            ImportShape::new(&ShapeFields { target, format: Format::Csv, header, client })
        };
        assert_ne!(
            shape(&leads(Some("ab"), None, Some("c")), b"h", None),
            shape(&leads(Some("a"), None, Some("bc")), b"h", None)
        );
        let leads = leads(None, None, None);
        assert_ne!(shape(&leads, b"ab", Some("c")), shape(&leads, b"a", Some("bc")));
    }
}
