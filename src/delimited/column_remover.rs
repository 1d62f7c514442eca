//! Column remover: removes columns at the beginning and at the end of the records of delimited text.

use std::ops::Range;

use crate::delimited::failed_row_error::FailedRowError;
use crate::delimited::lexer::{LexEvent, Lexer, Record};
use crate::domain::Format;

/// The columns of a file that are kept.
#[derive(Clone, Debug)]
pub(super) struct KeptColumns {
    /// Those that are kept, counted from 0.
    pub kept: Range<usize>,
    /// The number of columns of the header.
    pub columns: usize,
}

/// Removes columns at the beginning and at the end of each record. Every other byte stays.
#[derive(Debug)]
pub(super) struct ColumnRemover {
    format: Format,
    lexer: Lexer,
    columns: KeptColumns,
    keeps_blank_lines: bool,
    /// Records so far.
    rows: u64,
    /// The field of this record that is being read, counted from 0.
    field: usize,
    /// A byte of this record was written.
    wrote: bool,
    /// A CR waits for the next byte: before an LF it belongs to the line end. It is of a field that is kept or not.
    held_cr: Option<bool>,
}

impl ColumnRemover {
    /// Makes a remover that keeps these columns, and drops blank lines.
    pub fn new(format: Format, columns: KeptColumns) -> Self {
        ColumnRemover {
            format,
            lexer: Lexer::new(format, 1),
            columns,
            keeps_blank_lines: false,
            rows: 0,
            field: 0,
            wrote: false,
            held_cr: None,
        }
    }

    /// Keeps blank lines, so that the lines of the result are those of the file.
    pub fn with_blank_lines(self) -> Self {
        ColumnRemover { keeps_blank_lines: true, ..self }
    }

    /// Returns the format of the file and of the result.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Reads the header, which is treated like any row and not counted as one.
    pub fn push_header(&mut self, header: &[u8], out: &mut Vec<u8>) -> Result<(), FailedRowError> {
        self.push(header, out)?;
        self.rows = 0;
        Ok(())
    }

    /// Reads bytes and appends those that are kept to `out`.
    pub fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), FailedRowError> {
        for &byte in bytes {
            let event = self.lexer.step(byte);
            if let LexEvent::End(record) = event {
                let line_end: &[u8] = if self.held_cr.is_some() { b"\r\n" } else { b"\n" };
                self.held_cr = None;
                if !record.blank {
                    self.end_record(&record, line_end, out)?;
                } else if self.keeps_blank_lines {
                    out.extend_from_slice(line_end);
                }
                continue;
            }
            self.write_held_cr(out);
            let mut is_kept = self.columns.kept.contains(&self.field);
            if event == LexEvent::Delimiter {
                self.field += 1;
                is_kept &= self.columns.kept.contains(&self.field);
            }
            if byte == b'\r' {
                self.held_cr = Some(is_kept);
            } else if is_kept {
                self.write(byte, out);
            }
        }
        Ok(())
    }

    /// Ends the file, and returns the number of rows.
    pub fn finish(mut self, out: &mut Vec<u8>) -> Result<u64, FailedRowError> {
        if let Some(line) = self.lexer.open_quote() {
            return Err(FailedRowError::UnclosedQuote { line });
        }
        if let Some(record) = self.lexer.unended() {
            self.write_held_cr(out);
            self.end_record(&record, b"", out)?;
        }
        if self.rows == 0 { Err(FailedRowError::NoRows) } else { Ok(self.rows) }
    }

    /// Ends a record. A row whose fields are ambiguous is refused instead of guessed, because it would be imported.
    fn end_record(&mut self, record: &Record, line_end: &[u8], out: &mut Vec<u8>) -> Result<(), FailedRowError> {
        let columns = self.columns.columns as u64;
        if record.fields != columns && self.columns.kept != (0..self.columns.columns) {
            return Err(FailedRowError::Ragged { line: record.line, fields: record.fields, columns });
        }
        if !self.wrote {
            // One empty field: without quotes it would be a blank line.
            out.extend_from_slice(b"\"\"");
        }
        out.extend_from_slice(line_end);
        self.rows += 1;
        self.field = 0;
        self.wrote = false;
        Ok(())
    }

    fn write_held_cr(&mut self, out: &mut Vec<u8>) {
        if self.held_cr.take() == Some(true) {
            self.write(b'\r', out);
        }
    }

    fn write(&mut self, byte: u8, out: &mut Vec<u8>) {
        out.push(byte);
        self.wrote = true;
    }
}
