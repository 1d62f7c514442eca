//! Layout of a file: the rules of a scan and what it finds.

use std::ops::Range;

use serde::Serialize;

use crate::delimited::header::RequiredColumn;
use crate::delimited::split::FilePart;
use crate::delimited::warning::Warning;
use crate::domain::Format;

/// The rules by which a file is scanned.
#[derive(Clone, Debug)]
pub struct ScanRules {
    /// The format that determines the delimiter.
    pub format: Format,
    /// The most bytes that header and rows of one part may have together: an upload's size without its framing.
    pub max_part_bytes: u64,
    /// The rows of the first part, at most; none for no limit but that of bytes.
    pub first_part_rows: Option<u64>,
    /// Without it the file is sent as it is, byte-order mark included. A file without rows, and a record that no upload
    /// takes, are refused all the same.
    pub check: bool,
    /// The columns that the header must have.
    pub required: Vec<RequiredColumn>,
    /// The column by which Marketo finds a record. The file may lack it; a row without a value there is warned of.
    pub lookup: Option<String>,
}

/// Where the header and the parts of a file are. Upload n is the bytes of `header`, then those of `parts[n]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FileLayout {
    /// Of the whole file.
    pub bytes: u64,
    /// The file begins with a byte-order mark.
    pub bom: bool,
    /// The range of the header, line end included; the byte-order mark too, but only in a file that was not checked.
    pub header: Range<u64>,
    /// The bytes of `header`.
    #[serde(skip)]
    pub header_bytes: Vec<u8>,
    /// The last byte of the file.
    #[serde(skip)]
    pub last_byte: u8,
    /// The names of the header.
    pub columns: Vec<String>,
    /// The number of rows, without the header.
    pub rows: u64,
    /// In order and without gaps. Blank lines at the end of the file belong to none.
    pub parts: Vec<FilePart>,
    /// What does not keep the file from being imported; none in a file that was not checked.
    #[serde(skip)]
    pub warnings: Vec<Warning>,
}
