//! Body of `POST /v1/check`: what the checks of a file have found, and how it would be split.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::delimited::{FileLayout, FilePart, Warning};
use crate::domain::Format;

/// Response of `POST /v1/check`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FileCheck {
    /// The file's name.
    pub filename: String,
    /// Its format.
    pub format: Format,
    /// Whether the file would be accepted.
    pub ok: bool,
    /// Rows and uploads; none where the file would be refused.
    pub layout: Option<FileCheckLayout>,
    /// Findings that do not prevent the import.
    pub warnings: Vec<Warning>,
    /// The code of the fault for which the file would be refused.
    pub fault: Option<String>,
    /// The fault in one sentence.
    pub detail: Option<String>,
}

/// What a file has, and the uploads that it would be sent in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FileCheckLayout {
    /// Size of the file in bytes.
    pub bytes: u64,
    /// The file begins with a byte-order mark.
    pub bom: bool,
    /// The names of the header.
    pub columns: Vec<String>,
    /// The number of rows, without the header.
    pub rows: u64,
    /// The uploads, in order.
    pub parts: Vec<FileCheckPart>,
}

/// The rows of one upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FileCheckPart {
    /// The number of rows.
    pub rows: u64,
    /// Number of the first row, counted from 1 without the header.
    pub first_row: u64,
    /// Line of the first row, counted from 1.
    pub first_line: u64,
    /// Size of the rows in bytes.
    pub bytes: u64,
}

impl From<FileLayout> for FileCheckLayout {
    fn from(layout: FileLayout) -> FileCheckLayout {
        let FileLayout { bytes, bom, columns, rows, parts, .. } = layout;
        let part = |FilePart { from, to, rows, first_row, first_line }| FileCheckPart {
            rows,
            first_row,
            first_line,
            bytes: to - from,
        };
        FileCheckLayout { bytes, bom, columns, rows, parts: parts.into_iter().map(part).collect() }
    }
}
