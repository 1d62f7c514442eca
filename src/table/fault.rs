//! Why is a file refused at the door?

use std::fmt::Write as _;

use crate::job::Format;

/// The first thing in a file, in the file's order, that keeps it from being imported.
///
/// Its text is for the person who made the file. Lines and columns count from 1, byte offsets from 0.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    #[error("the file is empty")]
    Empty,
    #[error("the file has a header and no rows{}", lone_cr_hint(*.lone_cr))]
    HeaderOnly {
        /// The header holds a CR without LF, as all of a file does whose lines end so.
        lone_cr: bool,
    },
    #[error("byte offset {offset} on line {line} is not UTF-8: {}", utf8_hint(*.utf16))]
    NotUtf8 { offset: u64, line: u64, utf16: bool },
    #[error("byte offset {offset} on line {line} is NUL, which no text holds: if the file is UTF-16, save it as UTF-8")]
    Nul { offset: u64, line: u64 },
    #[error("line 1 is blank, but the header with the field names has to stand there")]
    BlankHeader,
    #[error("line {line} is blank: Marketo would count it as a row that failed, so take it out")]
    BlankLine { line: u64 },
    #[error("column {column} of the header has no name{}", last_hint(*.last))]
    UnnamedColumn {
        column: usize,
        /// It is the last column.
        last: bool,
    },
    #[error("column {column} of the header is {name:?}, with space around the name: take the space away")]
    SpacedColumn { column: usize, name: String },
    #[error("columns {first} and {second} of the header are both {name:?}: take one out")]
    DoubledColumn { first: usize, second: usize, name: String },
    #[error("the header has one column as {format}, and several as {other}: say that the format is {other}")]
    WrongDelimiter { format: Format, other: Format },
    #[error("the header has no column {column:?}, {need}{}", similar_hint(.similar))]
    MissingColumn {
        column: String,
        need: &'static str,
        /// A column, by number and name, that may be meant.
        similar: Option<(usize, String)>,
    },
    #[error("{}", ragged(*.columns, .rows, *.stopped))]
    Ragged {
        /// Of the header.
        columns: u64,
        /// The first few, in order.
        rows: Vec<RaggedRow>,
        /// There may be more: the reading stopped at the last of `rows`.
        stopped: bool,
    },
    #[error("the header does not end within {limit} bytes{}", header_hint(*.lone_cr, *.open_quote))]
    HeaderTooLarge { limit: u64, lone_cr: bool, open_quote: Option<u64> },
    #[error("the record on line {line} is over the {limit} bytes that one upload has for rows{}", quote_hint(*.open_quote))]
    RecordTooLarge {
        line: u64,
        limit: u64,
        /// The line of the quote in which the record was when it grew too large.
        open_quote: Option<u64>,
    },
    #[error("the quote opened on line {line} has no end")]
    UnclosedQuote { line: u64 },
}

/// A row that has another number of fields than the header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RaggedRow {
    pub line: u64,
    /// Beyond `line` where quotes hold line ends.
    pub last_line: u64,
    pub fields: u64,
}

impl Fault {
    /// A word for programs, which stays when the text changes.
    pub fn code(&self) -> &'static str {
        match self {
            Fault::Empty => "empty",
            Fault::HeaderOnly { .. } => "header-only",
            Fault::NotUtf8 { .. } => "not-utf8",
            Fault::Nul { .. } => "nul-byte",
            Fault::BlankHeader => "blank-header",
            Fault::BlankLine { .. } => "blank-line",
            Fault::UnnamedColumn { .. } => "unnamed-column",
            Fault::SpacedColumn { .. } => "spaced-column",
            Fault::DoubledColumn { .. } => "doubled-column",
            Fault::WrongDelimiter { .. } => "wrong-delimiter",
            Fault::MissingColumn { .. } => "missing-column",
            Fault::Ragged { .. } => "ragged-rows",
            Fault::HeaderTooLarge { .. } => "header-too-large",
            Fault::RecordTooLarge { .. } => "record-too-large",
            Fault::UnclosedQuote { .. } => "unclosed-quote",
        }
    }
}

fn lone_cr_hint(lone_cr: bool) -> &'static str {
    if lone_cr { ": its lines end with CR alone, so save it with LF or CRLF" } else { "" }
}

fn utf8_hint(utf16: bool) -> &'static str {
    if utf16 { "the file begins as UTF-16 does, so save it as UTF-8" } else { "save the file as UTF-8" }
}

fn last_hint(last: bool) -> &'static str {
    if last { ": is there a delimiter too many at the end of line 1?" } else { "" }
}

fn similar_hint(similar: &Option<(usize, String)>) -> String {
    similar.as_ref().map(|(column, name)| format!(": is column {column}, {name:?}, meant?")).unwrap_or_default()
}

fn quote_hint(open_quote: Option<u64>) -> String {
    open_quote.map(|line| format!(": does the quote opened on line {line} lack its end?")).unwrap_or_default()
}

fn header_hint(lone_cr: bool, open_quote: Option<u64>) -> String {
    if open_quote.is_some() { quote_hint(open_quote) } else { lone_cr_hint(lone_cr).to_owned() }
}

fn ragged(columns: u64, rows: &[RaggedRow], stopped: bool) -> String {
    let mut text = format!("the header has {columns} {}, but", if columns == 1 { "field" } else { "fields" });
    for (index, row) in rows.iter().enumerate() {
        let and = match index {
            0 => "",
            _ if index + 1 == rows.len() => " and",
            _ => ",",
        };
        // Writing to a String can't fail.
        let _ = match row.last_line {
            last if last == row.line => write!(text, "{and} line {} has {}", row.line, row.fields),
            last => write!(text, "{and} the row from line {} to {last} has {}", row.line, row.fields),
        };
    }
    if rows.first().is_some_and(|row| row.last_line > row.line) {
        text += ": does a quote lack its end?";
    } else if stopped {
        text += ", and the check stopped there";
    }
    text
}
