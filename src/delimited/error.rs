//! Validation errors: each reason for which a file is refused, with its message.

use crate::delimited::column_names::{ColumnName, NameError};
use crate::delimited::encoding::Encoding;
use crate::delimited::file_kind::FileKind;
use crate::delimited::hints::{
    BACKSLASH, LAST_COLUMN, LONE_CR, ScanExtent, empty_rows, header_hint, quote_hint, sep_hint, similar_hint,
};
use crate::delimited::ragged_row::{RaggedRow, ragged};
use crate::domain::{Format, SubmissionChannel};

/// The first thing in a file, in the file's order, that keeps it from being imported.
///
/// Its message is for the person who made the file. Lines and columns count from 1, byte offsets from 0.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, strum::IntoStaticStr)]
#[strum(serialize_all = "kebab-case")]
pub enum ValidationError {
    /// The file has no content.
    #[error("the file is empty")]
    Empty,
    /// There is no row after the header.
    #[error("the file has a header and no rows{}", .lone_cr.then_some(LONE_CR).unwrap_or_default())]
    HeaderOnly {
        /// The header holds a CR without LF, as all of a file does whose lines end so.
        lone_cr: bool,
    },
    /// The first bytes are those of another kind of file.
    #[error("{0}")]
    OtherKind(FileKind),
    /// A byte sequence is not UTF-8.
    #[error("byte offset {offset} on line {line} is not UTF-8: {encoding}")]
    NotUtf8 {
        /// The offset of the first invalid byte, from 0.
        offset: u64,
        /// The line of the file, counted from 1.
        line: u64,
        /// The encoding that the bytes probably have.
        encoding: Encoding,
    },
    /// A NUL byte.
    #[error("byte offset {offset} on line {line} is NUL, which no text holds: take it out")]
    #[strum(serialize = "nul-byte")]
    Nul {
        /// The offset of the byte, from 0.
        offset: u64,
        /// The line of the file, counted from 1.
        line: u64,
    },
    /// The first line is blank.
    #[error("line 1 is blank, but the header with the field names has to stand there")]
    BlankHeader,
    /// Two byte-order marks at the start.
    #[error("the file begins with two byte-order marks: save it with one or none")]
    SecondMark,
    /// The first line is Excel's `sep=` hint.
    #[error("line 1 is Excel's hint at the delimiter (\"sep=\") and no header: take the line out{}", sep_hint(*.format))]
    SepLine {
        /// The format that the hint names, where the file was read as another.
        format: Option<Format>,
    },
    /// The first line has an e-mail address, so it is a row.
    #[error(
        "column {column} of line 1 holds an \"@\", as no field name does: the header with the field names is missing"
    )]
    NoHeader {
        /// The column, counted from 1.
        column: usize,
    },
    /// The header has the reason column of a failure or warning file.
    #[error(
        "column {column} of the header is {name:?}, so this is a report of Marketo: send its corrected rows with \
         \"marqueue retry ID --with FILE\", or take the column out"
    )]
    ReasonColumn {
        /// The column, counted from 1.
        column: usize,
        /// The column's name, as Marketo writes it.
        name: &'static str,
    },
    /// A column's name cannot be an API name.
    #[error("{column} {fault}")]
    BadName {
        /// The column.
        column: ColumnName,
        /// The reason.
        fault: NameError,
    },
    /// A row equals the header.
    #[error("line {line} is the header once more: were two files put one behind the other? Take the line out")]
    HeaderAgain {
        /// The line of the file, counted from 1.
        line: u64,
    },
    /// A row begins with a byte-order mark.
    #[error(
        "line {line} begins with a byte-order mark: were two files put one behind the other? Take it out, and a second header"
    )]
    MarkInside {
        /// The line of the file, counted from 1.
        line: u64,
    },
    /// Rows without a value in any column.
    #[error("{}", empty_rows(*.line, *.rows, *.extent))]
    EmptyRows {
        /// The line of the first.
        line: u64,
        /// The number of such rows.
        rows: u64,
        /// Whether there may be more.
        extent: ScanExtent,
    },
    /// A field without quotes ends with a CR that belongs to no line end.
    #[error("line {line} has a CR (carriage return) at the end of a field without quotes: take it out")]
    CrInField {
        /// The line of the file, counted from 1.
        line: u64,
    },
    /// A backslash before a quote within a quoted field.
    #[error("line {line} has a backslash before a quote in a quoted field: {BACKSLASH}")]
    BackslashQuote {
        /// The line of the file, counted from 1.
        line: u64,
    },
    /// A blank line before the last row.
    #[error("line {line} is blank: Marketo would count it as a row that failed, so take it out")]
    BlankLine {
        /// The line of the file, counted from 1.
        line: u64,
    },
    /// A column without a name.
    #[error("column {column} of the header has no name{}", .last.then_some(LAST_COLUMN).unwrap_or_default())]
    UnnamedColumn {
        /// The column, counted from 1.
        column: usize,
        /// It is the last column.
        last: bool,
    },
    /// A column's name begins or ends with a blank.
    #[error("{column} has space around its name: take the space away")]
    SpacedColumn {
        /// The column.
        column: ColumnName,
    },
    /// Two columns of the same name.
    #[error("{second} has the name of column {first} too: take one out")]
    DoubledColumn {
        /// The first of them, counted from 1.
        first: usize,
        /// The second of them.
        second: ColumnName,
    },
    /// The header has several columns only in another format.
    #[error("the header has one column as {format}, and several as {other}: say that the format is {other}")]
    WrongDelimiter {
        /// The format with which the file was read.
        format: Format,
        /// The format that gives several columns.
        other: Format,
    },
    /// The header lacks a required column.
    #[error("the header has no column {column:?}, {need}{}", similar_hint(.similar))]
    MissingColumn {
        /// The name of the missing column.
        column: String,
        /// The reason for which it is required, as the end of the sentence.
        need: &'static str,
        /// A column, by number and name, that may be meant.
        similar: Option<(usize, String)>,
    },
    /// Rows with another number of fields than the header.
    #[error("{}", ragged(*.columns, .rows, *.extent))]
    #[strum(serialize = "ragged-rows")]
    Ragged {
        /// Of the header.
        columns: u64,
        /// The first few, in order.
        rows: Vec<RaggedRow>,
        /// Whether there may be more: the scan may have stopped at the last of `rows`.
        extent: ScanExtent,
    },
    /// The header is larger than the limit.
    #[error("the header does not end within {limit} bytes{}", header_hint(*.open_quote, .lone_cr.then_some(LONE_CR)))]
    HeaderTooLarge {
        /// The limit, in bytes.
        limit: u64,
        /// The header holds a CR without LF.
        lone_cr: bool,
        /// The line of a quote that is still open at the limit.
        open_quote: Option<u64>,
    },
    /// A record does not fit into one upload.
    #[error("the record on line {line} is over the {limit} bytes that one upload has for rows{}", quote_hint(*.open_quote))]
    RecordTooLarge {
        /// The first line of the record, counted from 1.
        line: u64,
        /// The limit, in bytes.
        limit: u64,
        /// The line of the quote in which the record was when it grew too large.
        open_quote: Option<u64>,
    },
    /// The file ends within a quoted field.
    #[error("the quote opened on line {line} has no end{}", .backslash.then(|| format!(": {BACKSLASH}")).unwrap_or_default())]
    UnclosedQuote {
        /// The line of the opening quote, counted from 1.
        line: u64,
        /// The record holds a backslash before a quote.
        backslash: bool,
    },
}

/// Why leads need the column `email`. Another lookup field can be given.
pub(super) const DEFAULT_LOOKUP_NEED: &str = "which is the lookup field unless another one is given";

impl ValidationError {
    /// Returns the message. Where an option would correct the fault, it names the option as `channel` has it.
    pub fn message(&self, channel: SubmissionChannel) -> String {
        let option = match self {
            ValidationError::WrongDelimiter { other, .. } | ValidationError::SepLine { format: Some(other) } => {
                channel.set_option("format", other.as_str())
            }
            ValidationError::MissingColumn { need, .. } if *need == DEFAULT_LOOKUP_NEED => {
                channel.set_option("lookup_field", "FIELD")
            }
            _ => return self.to_string(),
        };
        format!("{self} ({option})")
    }

    /// Returns the machine-readable code, which stays the same when the message changes.
    pub fn code(&self) -> &'static str {
        match self {
            ValidationError::OtherKind(kind) => kind.code(),
            other => other.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delimited::required_columns;
    use crate::domain::Target;

    #[test]
    fn a_message_names_the_option_of_the_channel() {
        let wrong = ValidationError::WrongDelimiter { format: Format::Csv, other: Format::Ssv };
        let general = "the header has one column as csv, and several as ssv: say that the format is ssv";
        for (channel, option) in [
            (SubmissionChannel::CommandLine, "--format ssv"),
            (SubmissionChannel::HttpApi, "format=ssv"),
            (SubmissionChannel::DropFolder, "format = \"ssv\" in job.toml"),
        ] {
            assert_eq!(wrong.message(channel), format!("{general} ({option})"));
        }
        let command_line = |error: &ValidationError| error.message(SubmissionChannel::CommandLine);
        assert!(command_line(&ValidationError::SepLine { format: Some(Format::Tsv) }).ends_with(" (--format tsv)"));
        assert_eq!(command_line(&ValidationError::Empty), "the file is empty");
        let leads = Target::Leads { lookup_field: None, list_id: None, partition: None };
        let required = required_columns(&leads).remove(0);
        let missing = ValidationError::MissingColumn { column: required.column, need: required.need, similar: None };
        assert!(command_line(&missing).ends_with(" (--lookup-field FIELD)"), "{missing}");
    }
}
