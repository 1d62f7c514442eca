//! Test dialect: writes delimited text in any of the ways that the readers have to understand.
//!
//! The `csv` crate writes it: it shares no code with the lexer.

use csv::{QuoteStyle, Terminator, WriterBuilder};
use proptest::prelude::*;

use crate::domain::Format;

/// How a file is written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dialect {
    pub format: Format,
    pub quotes_all: bool,
    pub terminator: Terminator,
    /// Quotes in values are escaped with a backslash, which is not how Marketo writes them.
    pub backslashes: bool,
}

impl Dialect {
    pub fn write(&self, records: &[Vec<String>]) -> Vec<u8> {
        let mut writer = WriterBuilder::new()
            .delimiter(self.format.delimiter())
            .quote_style(if self.quotes_all { QuoteStyle::Always } else { QuoteStyle::Necessary })
            .terminator(self.terminator)
            .double_quote(!self.backslashes)
            .flexible(true)
            .from_writer(Vec::new());
        records.iter().for_each(|record| writer.write_record(record).unwrap());
        writer.into_inner().unwrap()
    }
}

pub(super) fn dialect(terminators: &'static [Terminator]) -> impl Strategy<Value = Dialect> {
    (
        prop::sample::select(Format::ALL.as_slice()),
        any::<bool>(),
        prop::sample::select(terminators),
        prop::bool::weighted(0.1),
    )
        .prop_map(|(format, quotes_all, terminator, backslashes)| Dialect {
            format,
            quotes_all,
            terminator,
            backslashes,
        })
}

/// The line ends of files that are sent.
pub(super) const OF_FILES: &[Terminator] = &[Terminator::Any(b'\n'), Terminator::CRLF];
/// The line ends of reports.
pub(super) const OF_REPORTS: &[Terminator] = &[Terminator::Any(b'\n'), Terminator::CRLF, Terminator::Any(b'\r')];
