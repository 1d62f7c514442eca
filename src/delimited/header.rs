//! Header: reads the column names of a file and checks them against Marketo's rules.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use memchr::memchr;

use crate::byte_order_mark::{BYTE_ORDER_MARK, without_mark};
use crate::delimited::column_names;
use crate::delimited::column_names::{NameError, clip, displayed};
use crate::delimited::error::{DEFAULT_LOOKUP_NEED, ValidationError};
use crate::delimited::lexer::{LexEvent, Lexer};
use crate::delimited::warning::Warning;
use crate::domain::{Format, Target};

/// The largest header, in bytes. The header is held in memory, so it has a limit of its own; Marketo's longest names
/// and most columns stay far below.
pub const MAX_HEADER_BYTES: u64 = 1024 * 1024;

/// A column that the header must have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequiredColumn {
    /// The API name of the column.
    pub column: String,
    /// Completes the sentence "the header has no column …".
    pub need: &'static str,
}

/// Returns the columns that a file for `target` must have in the native ways in.
///
/// `email` is Marketo's default lookup field for leads: without it, and without another lookup field, every row fails.
pub fn required_columns(target: &Target) -> Vec<RequiredColumn> {
    match target {
        Target::Leads { lookup_field: None, .. } => {
            vec![RequiredColumn { column: "email".to_owned(), need: DEFAULT_LOOKUP_NEED }]
        }
        _ => columns_required_at_upload(target),
    }
}

/// Returns the columns without which Marketo refuses an upload to `target` at once.
///
/// Leads without a lookup field may lack `email`: Adobe's pages do not say that such an upload is refused.
pub fn columns_required_at_upload(target: &Target) -> Vec<RequiredColumn> {
    match target {
        Target::Leads { lookup_field: Some(field), .. } => {
            vec![RequiredColumn { column: field.clone(), need: "which is the lookup field" }]
        }
        Target::ProgramMembers { .. } => {
            vec![RequiredColumn { column: "email".to_owned(), need: "which program members need" }]
        }
        Target::Leads { .. } | Target::CustomObject { .. } => Vec::new(),
    }
}

/// Returns the column by which Marketo finds or creates a record. A row without a value there fails.
///
/// Without a target it is that of leads and program members. The dedupe fields of a custom object are not known.
pub fn lookup_column(target: Option<&Target>) -> Option<String> {
    match target {
        Some(Target::Leads { lookup_field: Some(field), .. }) => Some(field.clone()),
        Some(Target::CustomObject { .. }) => None,
        Some(Target::Leads { .. } | Target::ProgramMembers { .. }) | None => Some("email".to_owned()),
    }
}

/// Returns the names in a header, without quotes, byte-order mark and line end. Bytes that are not UTF-8 are replaced.
pub fn columns(header: &[u8], format: Format) -> Vec<String> {
    let header = line_content(header);
    let mut lexer = Lexer::new(format, 1);
    let mut names = Vec::new();
    let mut name = Vec::new();
    for &byte in header {
        match lexer.step(byte) {
            LexEvent::Data => name.push(byte),
            LexEvent::Quote => {}
            LexEvent::Delimiter => names.push(std::mem::take(&mut name)),
            LexEvent::End(_) => break,
        }
    }
    names.push(name);
    names.into_iter().map(|name| String::from_utf8_lossy(&name).into_owned()).collect()
}

/// Returns a header without byte-order mark and line end.
pub(super) fn line_content(header: &[u8]) -> &[u8] {
    let header = without_mark(header);
    match header.strip_suffix(b"\n") {
        Some(line) => line.strip_suffix(b"\r").unwrap_or(line),
        None => header,
    }
}

/// Returns the byte-order mark at the start of a header, or nothing.
pub(super) fn byte_order_mark(header: &[u8]) -> &[u8] {
    if header.starts_with(BYTE_ORDER_MARK) { BYTE_ORDER_MARK } else { &[] }
}

/// Marketo's name of the last column of a failure or warning file.
pub(super) fn is_reason(name: &str) -> bool {
    REASONS.contains(&name)
}

const REASONS: [&str; 2] = ["Import Failure Reason", "Import Warning Reason"];

/// Gathers the first record of a file, which may begin with a byte-order mark.
#[derive(Debug, Default)]
pub(super) struct HeaderReader {
    bytes: Vec<u8>,
    /// The mark, or that there is none, is known, and the lexer has seen every byte behind it.
    begun: bool,
}

impl HeaderReader {
    /// Reads bytes up to the header's end. Returns the number of bytes read if the end is among them, otherwise `None`:
    /// then all were read.
    pub fn push(&mut self, lexer: &mut Lexer, input: &[u8]) -> Option<usize> {
        let mut taken = 0;
        while !self.begun {
            let seen = self.bytes.len();
            let &byte = input.get(taken)?;
            match BYTE_ORDER_MARK.get(seen) {
                Some(&expected) if byte == expected => {
                    self.bytes.push(byte);
                    taken += 1;
                }
                Some(_) => {
                    // Not a mark: the first bytes begin a name.
                    lexer.next_record(&BYTE_ORDER_MARK[..seen]);
                    self.begun = true;
                }
                None => self.begun = true,
            }
        }
        let rest = &input[taken..];
        let end = lexer.next_record(rest).map(|(n, _)| n);
        self.bytes.extend_from_slice(&rest[..end.unwrap_or(rest.len())]);
        end.map(|n| taken + n)
    }

    /// Returns the bytes so far, mark and line end included.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns the bytes from `start` on.
    pub fn into_bytes_from(mut self, start: u64) -> Vec<u8> {
        let start = usize::try_from(start).unwrap_or(usize::MAX).min(self.bytes.len());
        self.bytes.split_off(start)
    }

    pub fn has_mark(&self) -> bool {
        !byte_order_mark(&self.bytes).is_empty()
    }

    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty() || self.bytes == BYTE_ORDER_MARK
    }

    /// Returns whether the header holds a CR that is not part of its line end.
    pub fn has_lone_cr(&self) -> bool {
        memchr(b'\r', line_content(&self.bytes)).is_some()
    }
}

/// Refuses a header that would make Marketo refuse the file, or fail every row of it.
pub(super) fn check(
    header: &[u8],
    format: Format,
    names: &[String],
    required: &[RequiredColumn],
) -> Result<(), ValidationError> {
    if line_content(header).is_empty() {
        return Err(ValidationError::BlankHeader);
    }
    if header.strip_prefix(BYTE_ORDER_MARK).is_some_and(|rest| rest.starts_with(BYTE_ORDER_MARK)) {
        return Err(ValidationError::SecondMark);
    }
    if let Some(named) = sep_line(line_content(header)) {
        return Err(ValidationError::SepLine { format: named.filter(|&named| named != format) });
    }
    if names.len() == 1 {
        let other = Format::ALL.into_iter().find(|&other| other != format && columns(header, other).len() > 1);
        if let Some(other) = other {
            return Err(ValidationError::WrongDelimiter { format, other });
        }
    }
    if let Some((column, name)) = (1..).zip(names).find_map(|(column, name)| {
        REASONS.into_iter().find(|reason| name.trim().eq_ignore_ascii_case(reason)).map(|reason| (column, reason))
    }) {
        return Err(ValidationError::ReasonColumn { column, name });
    }
    if let Some(index) = names.iter().position(|name| name.contains('@')) {
        return Err(ValidationError::NoHeader { column: index + 1 });
    }
    let missing = missing_column(names, required);
    if let Some(ValidationError::MissingColumn { similar: Some((column, _)), .. }) = &missing
        && !matches!(column_names::check_name(&names[column - 1]), Some(NameError::Invisible(_)))
    {
        return missing.map_or(Ok(()), Err);
    }
    let mut seen = HashMap::new();
    for (index, name) in names.iter().enumerate() {
        let column = index + 1;
        if name.trim().is_empty() {
            return Err(ValidationError::UnnamedColumn { column, last: column == names.len() });
        }
        if name.trim_matches([' ', '\t']) != name {
            return Err(ValidationError::SpacedColumn { column: displayed(names, index) });
        }
        if let Some(fault) = column_names::check_name(name) {
            return Err(ValidationError::BadName { column: displayed(names, index), fault });
        }
        if let Some(first) = seen.insert(name.as_str(), column) {
            return Err(ValidationError::DoubledColumn { first, second: displayed(names, index) });
        }
    }
    missing.map_or(Ok(()), Err)
}

/// Returns the first required column that the header lacks, with a column that may be meant. That one's name may be
/// shown: it has only the letters of a name that was given with the file.
fn missing_column(names: &[String], required: &[RequiredColumn]) -> Option<ValidationError> {
    let RequiredColumn { column, need } = required.iter().find(|required| !names.contains(&required.column))?;
    let similar = names.iter().position(|name| name.trim() == name && letters(name) == letters(column));
    let similar = similar.map(|index| (index + 1, clip(&names[index])));
    Some(ValidationError::MissingColumn { column: column.clone(), need, similar })
}

/// Whether a header is the line `sep=;` that Excel reads as a hint, and which format it names. The delimiter itself may
/// have ended the line's first field.
fn sep_line(content: &[u8]) -> Option<Option<Format>> {
    let line = content.strip_prefix(b"\"").unwrap_or(content);
    let line = line.strip_suffix(b"\"").unwrap_or(line);
    let (hint, delimiter) = line.split_at_checked(4)?;
    if !hint.eq_ignore_ascii_case(b"sep=") || delimiter.len() > 1 {
        return None;
    }
    Some(Format::ALL.into_iter().find(|format| delimiter == [format.delimiter()]))
}

/// Pairs of columns whose names differ only in capital letters.
pub(super) fn case_warning(names: &[String]) -> Option<Warning> {
    let mut seen: HashMap<String, usize> = HashMap::new();
    let mut pairs = Vec::new();
    for (index, name) in names.iter().enumerate() {
        match seen.entry(name.to_ascii_lowercase()) {
            Entry::Occupied(first) => pairs.push((*first.get(), index)),
            Entry::Vacant(place) => drop(place.insert(index)),
        }
    }
    let &(first, second) = pairs.first()?;
    let column = |index: usize| (index + 1, names[index].as_str());
    Some(Warning::columns_differ_in_case(column(first), column(second), pairs.len() - 1))
}

/// Normalizes a name for comparison: `E-mail` equals `email`.
fn letters(name: &str) -> String {
    name.chars().filter(|letter| letter.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_without_quotes_mark_and_line_end() {
        assert_eq!(columns(b"\xef\xbb\xbf\"e\"\"m\",b c\r\n", Format::Csv), ["e\"m", "b c"]);
        assert_eq!(columns(b"a;\"b;c\"\n", Format::Ssv), ["a", "b;c"]);
        assert_eq!(columns(b"a\tb", Format::Tsv), ["a", "b"]);
        assert_eq!(columns(b"\n", Format::Csv), [""]);
        assert_eq!(columns(b"a,\xe9\n", Format::Csv), ["a", "\u{fffd}"]);
    }

    #[test]
    fn program_members_need_email_and_leads_their_lookup_field() {
        let names = |target| required_columns(&target).into_iter().map(|r| r.column).collect::<Vec<_>>();
        let leads = |lookup_field| Target::Leads { lookup_field, list_id: None, partition: None };
        assert_eq!(names(leads(None)), ["email"]);
        assert_eq!(names(Target::ProgramMembers { program_id: 1, status: "Member".into() }), ["email"]);
        assert_eq!(names(leads(Some("id".into()))), ["id"]);
        assert!(names(Target::CustomObject { name: "boat_c".into() }).is_empty());
    }

    #[test]
    fn a_byte_order_mark_is_found_across_chunks() {
        for (bytes, mark) in [(&b"\xef\xbb\xbf\"a\n\",b\n1"[..], true), (b"\xef\xbbx\n1", false), (b"a\n1", false)] {
            for size in 1..=bytes.len() {
                let mut reader = HeaderReader::default();
                let mut lexer = Lexer::new(Format::Csv, 1);
                let mut at = 0;
                for chunk in bytes.chunks(size) {
                    if let Some(n) = reader.push(&mut lexer, chunk) {
                        at += n;
                        break;
                    }
                    at += chunk.len();
                }
                assert_eq!((at, reader.has_mark()), (bytes.len() - 1, mark), "by {size}");
                assert_eq!(reader.bytes(), &bytes[..at]);
            }
        }
    }
}
