//! Failed rows: removes added columns from failure files, so that their rows can be sent again.

use std::ops::Range;

use crate::delimited::column_remover::{ColumnRemover, KeptColumns};
use crate::delimited::failed_row_error::FailedRowError;
use crate::delimited::header;
use crate::delimited::header::{HeaderReader, MAX_HEADER_BYTES};
use crate::delimited::lexer::Lexer;
use crate::domain::Format;

/// Removes columns that Marketo or marqueue added to rows: the reason column at the end, the column `Line` at the
/// beginning. Every other byte stays as it is.
///
/// Adobe does not document the delimiter of the failure file of an import that was not `csv`. So it is found from the
/// header: it is the one with which the columns are the expected ones.
#[derive(Debug)]
pub struct FailedRowExtractor {
    expected: ExpectedColumns,
    header: HeaderReader,
    /// Until the header has been read.
    lexer: Lexer,
    rows: Option<ColumnRemover>,
}

/// How the format of a corrected file is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CorrectedFormat {
    /// The sender says it.
    Given(Format),
    /// It is the one with which the header has most of the columns that were sent; `default` where no other has more.
    Detected {
        /// The format of the job.
        default: Format,
    },
}

/// The columns that a file of failed rows may have.
#[derive(Clone, Debug)]
enum ExpectedColumns {
    /// Any, and the reason column.
    AnyAndReason,
    /// Any. The reason column and `Line` are removed where they were not sent.
    Corrected { sent: Vec<String>, format: CorrectedFormat },
}

/// The result of stripping a failure file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FailedRows {
    /// The format of the failure file and of the output.
    pub format: Format,
    /// The number of rows.
    pub rows: u64,
}

/// The column that marqueue adds to a report: the line of the row in the submitted file.
pub(super) const LINE_COLUMN: &str = "Line";

impl FailedRowExtractor {
    /// Removes the reason column of a failure or warning file, whatever its other columns are.
    pub fn of_report() -> Self {
        FailedRowExtractor::new(ExpectedColumns::AnyAndReason)
    }

    /// Reads a failure file that was corrected by hand. `sent` are the columns of the file that was imported, as
    /// [`columns`](crate::delimited::header::columns) reads them. A first column `Line` and a last column of reasons
    /// are removed, unless the columns that were `sent` have them.
    pub fn of_corrected_file(sent: Vec<String>, format: CorrectedFormat) -> Self {
        FailedRowExtractor::new(ExpectedColumns::Corrected { sent, format })
    }

    fn new(expected: ExpectedColumns) -> Self {
        // Names hold neither quotes nor line ends, so any format finds the header's end.
        let lexer = Lexer::new(Format::Csv, 1);
        FailedRowExtractor { expected, header: HeaderReader::default(), lexer, rows: None }
    }

    /// Returns the format of the file, once its header has been read.
    pub fn format(&self) -> Option<Format> {
        self.rows.as_ref().map(ColumnRemover::format)
    }

    /// Reads bytes of the file and appends the resulting bytes to `out`.
    ///
    /// # Errors
    /// [`FailedRowError`]; `out` must then be discarded.
    pub fn push(&mut self, mut bytes: &[u8], out: &mut Vec<u8>) -> Result<(), FailedRowError> {
        if self.rows.is_none() {
            let end = self.header.push(&mut self.lexer, bytes);
            if self.header.bytes().len() as u64 > MAX_HEADER_BYTES {
                return Err(FailedRowError::HeaderTooLarge);
            }
            let Some(n) = end else { return Ok(()) };
            bytes = &bytes[n..];
            self.begin_rows(out)?;
        }
        match &mut self.rows {
            Some(rows) => rows.push(bytes, out),
            None => Ok(()),
        }
    }

    /// Ends the file.
    ///
    /// # Errors
    /// As for [`FailedRowExtractor::push`].
    pub fn finish(mut self, out: &mut Vec<u8>) -> Result<FailedRows, FailedRowError> {
        if self.rows.is_none() && !self.header.is_empty() {
            self.begin_rows(out)?;
        }
        match self.rows {
            Some(rows) => {
                let format = rows.format();
                Ok(FailedRows { format, rows: rows.finish(out)? })
            }
            None => Err(FailedRowError::NoRows),
        }
    }

    /// Reads the header, which is treated like any row.
    fn begin_rows(&mut self, out: &mut Vec<u8>) -> Result<(), FailedRowError> {
        let header = std::mem::take(&mut self.header);
        let header = header.bytes();
        let mut rows = self.expected.remover(header)?;
        // The byte-order mark is not part of the first name.
        rows.push_header(&header[header::byte_order_mark(header).len()..], out)?;
        self.rows = Some(rows);
        Ok(())
    }
}

impl ExpectedColumns {
    /// Finds the format of the file and the columns to remove, from its header.
    fn remover(&self, header: &[u8]) -> Result<ColumnRemover, FailedRowError> {
        match self {
            ExpectedColumns::AnyAndReason => {
                let read = |format| (format, header::columns(header, format));
                let is_report = |(_, names): &(Format, Vec<String>)| names.last().is_some_and(|n| header::is_reason(n));
                let (format, names) =
                    Format::ALL.into_iter().map(read).find(is_report).ok_or(FailedRowError::NoReason)?;
                Ok(ColumnRemover::new(format, KeptColumns { kept: 0..names.len() - 1, columns: names.len() }))
            }
            ExpectedColumns::Corrected { sent, format } => {
                let (first, others) = match *format {
                    CorrectedFormat::Given(format) => (format, &[][..]),
                    CorrectedFormat::Detected { default } => (default, &Format::ALL[..]),
                };
                let mut best = CorrectedHeader::read(header, first, sent);
                for &format in others {
                    let other = CorrectedHeader::read(header, format, sent);
                    if other.sent_columns > best.sent_columns {
                        best = other;
                    }
                }
                let CorrectedHeader { format, kept, columns, .. } = best;
                Ok(ColumnRemover::new(format, KeptColumns { kept, columns }).with_blank_lines())
            }
        }
    }
}

/// The header of a corrected file, read in one format.
struct CorrectedHeader {
    format: Format,
    /// The columns that are kept, counted from 0.
    kept: Range<usize>,
    columns: usize,
    /// How many of those that are kept were sent.
    sent_columns: usize,
}

impl CorrectedHeader {
    fn read(header: &[u8], format: Format, sent: &[String]) -> CorrectedHeader {
        let names = header::columns(header, format);
        let was_added = |name: &String, is_added: fn(&str) -> bool| is_added(name) && !sent.contains(name);
        let from = usize::from(names.first().is_some_and(|name| was_added(name, |name| name == LINE_COLUMN)));
        let has_reason = names.len() > from && names.last().is_some_and(|name| was_added(name, header::is_reason));
        let kept = from..names.len() - usize::from(has_reason);
        let sent_columns = names[kept.clone()].iter().filter(|name| sent.contains(name)).count();
        CorrectedHeader { format, kept, columns: names.len(), sent_columns }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(sent: &[&str]) -> Vec<String> {
        sent.iter().map(|&name| name.to_owned()).collect()
    }

    fn extract(
        mut extractor: FailedRowExtractor,
        text: &str,
        size: usize,
    ) -> Result<(String, FailedRows), FailedRowError> {
        let mut out = Vec::new();
        for chunk in text.as_bytes().chunks(size) {
            let mut piece = Vec::new();
            extractor.push(chunk, &mut piece)?;
            out.append(&mut piece);
        }
        let rows = extractor.finish(&mut out)?;
        Ok((String::from_utf8(out).unwrap(), rows))
    }

    fn strip(text: &str, size: usize) -> Result<(String, FailedRows), FailedRowError> {
        extract(FailedRowExtractor::of_report(), text, size)
    }

    #[test]
    fn reasons_are_removed_whatever_the_columns_are() {
        for (text, kept) in [
            ("b,Import Failure Reason\n2,no\n", "b\n2\n"),
            ("b\ta\tImport Warning Reason\r\n2\t\"x\r\ny\"\tno\r\n", "b\ta\r\n2\t\"x\r\ny\"\r\n"),
        ] {
            for size in [1, 2, 3, 100] {
                assert_eq!(extract(FailedRowExtractor::of_report(), text, size).unwrap().0, kept);
            }
        }
        let error = extract(FailedRowExtractor::of_report(), "a,b\n1,2\n", 3).unwrap_err();
        assert_eq!(error, FailedRowError::NoReason);
    }

    #[test]
    fn added_columns_of_a_corrected_file_are_removed() {
        let corrected = |sent: &[&str], text: &str, size| {
            extract(
                FailedRowExtractor::of_corrected_file(names(sent), CorrectedFormat::Detected { default: Format::Csv }),
                text,
                size,
            )
        };
        for (sent, text, kept, format) in [
            (vec!["a", "b"], "Line,a,b,Import Failure Reason\n7,1,2,no\n", "a,b\n1,2\n", Format::Csv),
            (vec!["a", "b"], "\u{feff}a,b,Import Failure Reason\r\n1,2,no\r\n", "a,b\r\n1,2\r\n", Format::Csv),
            // As a spreadsheet of another country writes it.
            (vec!["a", "b"], "Line;a;b;Import Failure Reason\n7;1;2;no", "a;b\n1;2", Format::Ssv),
            (vec!["a", "b"], "b\ta\n2\t1\n", "b\ta\n2\t1\n", Format::Tsv),
            // The job's own header has them.
            (vec!["Line", "a"], "Line,a,Import Failure Reason\n7,1,no\n", "Line,a\n7,1\n", Format::Csv),
            (
                vec!["a", "Import Failure Reason"],
                "Line,a,Import Failure Reason\n7,1,old\n",
                "a,Import Failure Reason\n1,old\n",
                Format::Csv,
            ),
            (vec!["a", "b", "c"], "a;c;d\n1;3;4\n", "a;c;d\n1;3;4\n", Format::Ssv),
            // Columns may be added and removed; blank lines stay, so that the lines of errors are right.
            (vec!["a", "b"], "Line,a,c\r\n7,1,3\r\n\r\n8,,\r\n", "a,c\r\n1,3\r\n\r\n,\r\n", Format::Csv),
            (vec!["a"], "Line,a\r\n7,\r\n", "a\r\n\"\"\r\n", Format::Csv),
        ] {
            for size in [1, 2, 3, 100] {
                let (text, rows) = corrected(&sent, text, size).unwrap();
                assert_eq!((&text[..], rows.format), (kept, format), "by {size}");
            }
        }
        let ragged = corrected(&["a", "b"], "Line,a,b,Import Failure Reason\n7,1,no\n", 5).unwrap_err();
        assert_eq!(ragged.to_string(), "the row on line 2 has 3 fields where the header has 4");
        // A file without added columns is checked like any other afterwards.
        assert_eq!(corrected(&["a", "b"], "a,b\n1\n", 5).unwrap().0, "a,b\n1\n");
    }

    #[test]
    fn reasons_are_removed_and_every_other_byte_stays() {
        for (text, kept, format, rows) in [
            ("a,b,Import Failure Reason\n1,2,no\n", "a,b\n1,2\n", Format::Csv, 1),
            (
                "\u{feff}a,b,Import Warning Reason\r\n\"1,\"\"\n\", 2,\"x,\ny\"\r\n\r\n3,4,",
                "a,b\r\n\"1,\"\"\n\", 2\r\n3,4",
                Format::Csv,
                2,
            ),
            ("a\tb\tImport Failure Reason\n1\t2,\tno\n", "a\tb\n1\t2,\n", Format::Tsv, 1),
            ("\"a;b\";Import Failure Reason\n1;no\n", "\"a;b\"\n1\n", Format::Ssv, 1),
            ("a,Import Failure Reason\n\r,no\n\r\n\rx,no", "a\n\r\n\rx", Format::Csv, 2),
            ("a,Import Failure Reason\n,no\n", "a\n\"\"\n", Format::Csv, 1),
        ] {
            for size in [1, 2, 3, 100] {
                let expected = (kept.to_owned(), FailedRows { format, rows });
                assert_eq!(strip(text, size), Ok(expected), "by {size}");
            }
        }
    }

    #[test]
    fn a_file_without_resendable_rows_gives_the_reason() {
        for (text, message) in [
            ("", "the file has no rows"),
            ("a,b,Import Failure Reason\n\n", "the file has no rows"),
            (
                "a,b,Reason\n1,2,no\n",
                "the file's last column is neither \"Import Failure Reason\" nor \"Import Warning Reason\"",
            ),
            (
                "a,b,Import Failure Reason\n1,2,no\n1,2,no, it is not\n",
                "the row on line 3 has 4 fields where the header has 3",
            ),
            ("a,b,Import Failure Reason\n1,2,\"no\n", "the quote opened on line 2 has no end"),
        ] {
            assert_eq!(strip(text, 5).unwrap_err().to_string(), message, "{text:?}");
        }
    }
}
