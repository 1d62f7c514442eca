//! Hints: the variable ends of the messages of validation errors.

use crate::domain::Format;

/// How much of a file the scan has read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScanExtent {
    /// The whole file.
    WholeFile,
    /// A part of it: there may be more of what was found.
    Stopped,
}

/// Explanation of a backslash before a quote.
pub(super) const BACKSLASH: &str = "a backslash does not escape a quote, so write the quote twice";

/// Hint for a header that holds a CR without LF.
pub(super) const LONE_CR: &str = ": its lines end with CR alone, so save it with LF or CRLF";

/// Hint for a last column without a name.
pub(super) const LAST_COLUMN: &str = ": is there a delimiter too many at the end of line 1?";

pub(super) fn sep_hint(format: Option<Format>) -> String {
    format.map(|format| format!(", and say that the format is {format}")).unwrap_or_default()
}

pub(super) fn empty_rows(line: u64, rows: u64, extent: ScanExtent) -> String {
    let least = if extent == ScanExtent::Stopped { "at least " } else { "" };
    if rows == 1 && extent == ScanExtent::WholeFile {
        format!("1 row has no value in any column, on line {line}: take it out")
    } else {
        let (have, them) = if rows == 1 { ("row has", "it") } else { ("rows have", "them") };
        format!("{least}{rows} {have} no value in any column, the first on line {line}: take {them} out")
    }
}

pub(super) fn similar_hint(similar: &Option<(usize, String)>) -> String {
    similar.as_ref().map(|(column, name)| format!(": is column {column}, {name:?}, meant?")).unwrap_or_default()
}

pub(super) fn quote_hint(open_quote: Option<u64>) -> String {
    open_quote.map(|line| format!(": does the quote opened on line {line} lack its end?")).unwrap_or_default()
}

/// Returns the hint at an open quote, or else `otherwise`.
pub(super) fn header_hint(open_quote: Option<u64>, otherwise: Option<&str>) -> String {
    if open_quote.is_some() { quote_hint(open_quote) } else { otherwise.unwrap_or_default().to_owned() }
}
