//! Ragged rows: rows with another number of fields than the header, and their message.

use std::fmt::Write as _;

use crate::delimited::hints::{BACKSLASH, ScanExtent};

/// A row that has another number of fields than the header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RaggedRow {
    /// The first line of the row, counted from 1.
    pub line: u64,
    /// Beyond `line` where quotes hold line ends.
    pub last_line: u64,
    /// The number of its fields.
    pub fields: u64,
    /// What in the row may be the cause.
    pub sign: Option<RaggedSign>,
}

/// What in a row may have given it another number of fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RaggedSign {
    /// It has only empty fields beyond those of the header.
    TrailingDelimiter,
    /// It ends with the header: a file was put behind one that lacked its last line end.
    HeaderBehind,
    /// It has a backslash before a quote in a quoted field.
    BackslashQuote,
    /// U+201C or its like.
    CurlyQuote(char),
}

/// Returns the message about rows that have another number of fields than the header.
pub(super) fn ragged(columns: u64, rows: &[RaggedRow], extent: ScanExtent) -> String {
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
    if let Some((line, sign)) = rows.iter().find_map(|row| row.sign.map(|sign| (row.line, sign))) {
        // Writing to a String can't fail.
        let _ = match sign {
            RaggedSign::TrailingDelimiter => write!(text, ": is there a delimiter too many at the end of line {line}?"),
            RaggedSign::HeaderBehind => {
                write!(text, ": was a second file put behind line {line}, which then lacked its line end?")
            }
            RaggedSign::BackslashQuote => write!(text, ": {BACKSLASH}"),
            RaggedSign::CurlyQuote(letter) => write!(
                text,
                ": are the curly quotes (U+{:04X}) on line {line} meant as quotes? Only straight ones (\") are",
                u32::from(letter)
            ),
        };
    } else if rows.first().is_some_and(|row| row.last_line > row.line) {
        text += ": does a quote lack its end?";
    } else if extent == ScanExtent::Stopped {
        text += ", and the check stopped there";
    }
    text
}
