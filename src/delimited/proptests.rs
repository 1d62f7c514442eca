//! Property tests: splitting, halving, joining and stripping lose no byte, for any table, dialect, limit and chunking.
//!
//! The `csv` crate is the oracle: it shares no code with the lexer.

use csv::{ByteRecord, ReaderBuilder, Terminator};
use proptest::prelude::*;

use crate::delimited::*;
use crate::domain::Format;

fn parse(format: Format, bytes: &[u8]) -> Vec<ByteRecord> {
    ReaderBuilder::new()
        .delimiter(format.delimiter())
        .terminator(Terminator::Any(b'\n'))
        .flexible(true)
        .has_headers(false)
        .from_reader(bytes)
        .into_byte_records()
        .map(|record| record.expect("bytes in memory are always read"))
        .collect()
}

fn scan(rules: ScanRules, bytes: &[u8], size: usize) -> Result<FileLayout, ValidationError> {
    let mut scanner = Scanner::new(rules);
    bytes.chunks(size).try_for_each(|chunk| scanner.push(chunk))?;
    scanner.finish()
}

fn range(bytes: &[u8], from: u64, to: u64) -> &[u8] {
    &bytes[from as usize..to as usize]
}

/// Checks the invariants of every layout.
fn assert_cut(format: Format, bytes: &[u8], layout: &FileLayout, limit: u64) {
    let header = range(bytes, layout.header.start, layout.header.end);
    let rows_end = layout.parts.last().expect("a layout has rows").to;
    let mut at = layout.header.end;
    let mut next_row = 1;
    let mut records = parse(format, header);
    let header_records = records.clone();
    for part in &layout.parts {
        assert_eq!((part.from, part.first_row), (at, next_row), "no gap");
        assert!(header.len() as u64 + part.to - part.from <= limit, "within the limit");
        let lines = bytes[..part.from as usize].iter().filter(|&&byte| byte == b'\n').count() as u64;
        assert_eq!(part.first_line, lines + 1);
        let upload = [header, range(bytes, part.from, part.to)].concat();
        let parsed = parse(format, &upload);
        assert!(parsed.starts_with(&header_records), "the same header");
        records.extend_from_slice(&parsed[header_records.len()..]);
        at = part.to;
        next_row += part.rows;
    }
    assert_eq!(records, parse(format, &bytes[layout.header.start as usize..rows_end as usize]), "the same records");
    assert_eq!(next_row, layout.rows + 1);
    assert!(bytes[rows_end as usize..].iter().all(|byte| b"\r\n".contains(byte)), "blank lines alone are left out");
    assert_eq!(layout.bytes, bytes.len() as u64);
}

fn assert_cut_again(format: Format, bytes: &[u8], layout: &FileLayout, size: usize) {
    for part in &layout.parts {
        let mut halver = Bisector::new(format, *part);
        range(bytes, part.from, part.to).chunks(size).for_each(|chunk| halver.push(chunk));
        let Ok(parts) = halver.finish() else {
            assert_eq!(part.rows, 1);
            continue;
        };
        assert_eq!((parts[0].from, parts[parts.len() - 1].to), (part.from, part.to));
        assert!(parts.windows(2).all(|pair| pair[0].to == pair[1].from));
        assert!(parts.iter().all(|new| new.rows > 0 && new.to > new.from));
        let rows = part.first_row..part.first_row + part.rows;
        let again = |new: &FilePart| new.first_row..new.first_row + new.rows;
        assert_eq!(parts.iter().flat_map(again).collect::<Vec<_>>(), rows.collect::<Vec<_>>());
        // Behind a header, for the oracle would take a byte-order mark off the first value.
        let records =
            |part: &FilePart| parse(format, &[b"h\n", range(bytes, part.from, part.to)].concat()).split_off(1);
        assert_eq!(parts.iter().flat_map(records).collect::<Vec<_>>(), records(part));
    }
}

fn joined(parts: &[Vec<u8>], size: usize) -> (Vec<u8>, u64) {
    let (mut joiner, mut out) = (Joiner::new(), Vec::new());
    for (number, part) in (1..).zip(parts) {
        joiner.begin(number);
        for chunk in part.chunks(size) {
            let mut piece = Vec::new();
            joiner.push(chunk, &mut piece).expect("one header");
            out.append(&mut piece);
        }
        joiner.end(&mut out).expect("one header");
    }
    (out, joiner.rows())
}

/// A table of values that hold everything that needs quotes.
#[derive(Clone, Debug)]
struct Table {
    format: Format,
    header: Vec<String>,
    rows: Vec<Vec<(String, bool)>>,
    line_end: &'static str,
    last_end: bool,
}

impl Table {
    fn line(&self, fields: impl IntoIterator<Item = String>) -> String {
        fields.into_iter().collect::<Vec<_>>().join(&char::from(self.format.delimiter()).to_string())
    }

    fn write(&self, extra: Option<(&str, &str)>) -> String {
        let header = self.header.iter().cloned().chain(extra.map(|(name, _)| name.to_owned()));
        let mut text = self.line(header) + self.line_end;
        for row in &self.rows {
            let fields = row.iter().map(|(value, quoted)| self.field(value, *quoted));
            text += &self.line(fields.chain(extra.map(|(_, value)| self.field(value, true))));
            text += self.line_end;
        }
        if !self.last_end {
            text.truncate(text.len() - self.line_end.len());
        }
        text
    }

    fn field(&self, value: &str, quoted: bool) -> String {
        let special = |letter| ['"', '\r', '\n', char::from(self.format.delimiter())].contains(&letter);
        if quoted || value.is_empty() || value.contains(special) {
            format!("\"{}\"", value.replace('"', "\"\""))
        } else {
            value.to_owned()
        }
    }
}

fn table() -> impl Strategy<Value = Table> {
    let value =
        prop::collection::vec(prop::sample::select(vec!['a', 'é', '😀', ' ', ',', ';', '\t', '"', '\n', '\r']), 0..6)
            .prop_map(String::from_iter);
    (1..5_usize).prop_flat_map(move |columns| {
        let row = prop::collection::vec((value.clone(), any::<bool>()), columns);
        (
            prop::sample::select(Format::ALL.as_slice()),
            prop::collection::vec(row, 1..12),
            prop::sample::select(["\n", "\r\n"].as_slice()),
            any::<bool>(),
        )
            .prop_map(move |(format, rows, line_end, last_end)| Table {
                format,
                header: (0..columns).map(|column| format!("field{column}")).collect(),
                rows,
                line_end,
                last_end,
            })
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn parts_of_any_table_join_to_the_same_table(
        table in table(), mark in any::<bool>(), blanks in 0..3_usize, spare in 0..80_u64, size in 1..50_usize,
    ) {
        let format = table.format;
        let mut text = if mark { "\u{feff}".to_owned() } else { String::new() };
        text += &table.write(None);
        if table.last_end {
            text += &table.line_end.repeat(blanks);
        }
        let header_bytes = (table.line(table.header.clone()) + table.line_end).len() as u64;
        let limit = header_bytes + spare;
        let rules = ScanRules { format, max_part_bytes: limit.max(header_bytes + 3), first_part_rows: None, check: true, required: Vec::new(), lookup: None };
        let limit = rules.max_part_bytes;
        let has_no_value = |row: &&Vec<(String, bool)>| row.iter().all(|(value, _)| value.trim().is_empty());
        let without_values = table.rows.iter().filter(has_no_value).count() as u64;
        match scan(rules, text.as_bytes(), size) {
            Ok(layout) => {
                prop_assert!(table.header.len() == 1 || without_values == 0);
                prop_assert_eq!(layout.rows, table.rows.len() as u64);
                prop_assert_eq!(layout.bom, mark);
                prop_assert_eq!(&layout.columns, &table.header);
                assert_cut(format, text.as_bytes(), &layout, limit);
                assert_cut_again(format, text.as_bytes(), &layout, size);
            }
            Err(fault) => {
                let row_bytes = |row: &Vec<(String, bool)>| {
                    table.line(row.iter().map(|(value, quoted)| table.field(value, *quoted))).len() as u64
                };
                let largest = table.rows.iter().map(row_bytes).max().unwrap_or(0) + table.line_end.len() as u64;
                match fault {
                    ValidationError::EmptyRows { rows, .. } => {
                        prop_assert_eq!(table.header.len() > 1, true);
                        prop_assert!(rows <= without_values, "{}", rows);
                        prop_assert!(rows == without_values || header_bytes + largest > limit, "{}", rows);
                    }
                    ValidationError::RecordTooLarge { .. } => prop_assert!(header_bytes + largest > limit, "{}", fault),
                    fault => prop_assert!(false, "{}", fault),
                }
            }
        }
    }

    #[test]
    fn unchecked_bytes_are_cut_between_records(
        bytes in prop::collection::vec(prop::sample::select(b"a\xe9\xef\xbb\xbf,;\t\"\"\n\n\r".as_slice()), 0..80),
        format in prop::sample::select(Format::ALL.as_slice()),
        limit in 0..60_u64,
        size in 1..20_usize,
    ) {
        let rules = |check| ScanRules { format, max_part_bytes: limit, first_part_rows: None, check, required: Vec::new(), lookup: None };
        let layout = scan(rules(false), &bytes, size);
        if let Ok(layout) = &layout {
            assert_cut(format, &bytes, layout, limit);
            assert_cut_again(format, &bytes, layout, size);
        }
        prop_assert_eq!(&layout, &scan(rules(false), &bytes, 1000), "chunking changes nothing");
    }

    #[test]
    fn the_first_fault_does_not_depend_on_the_chunks(
        text in prop::collection::vec(prop::sample::select(vec!['a', 'é', ',', ',', ';', '"', '\\', '\n', '\n', '\r', '\u{feff}', '“']), 0..60),
        end in prop::sample::select(vec![&b""[..], b"\0", b"\xe9", b"\xe2\x82", b"\xe9a\n", b"h,e\n"]),
        limit in 5..60_u64,
        size in 1..20_usize,
    ) {
        let text = "h,e\n".to_owned() + &String::from_iter(text);
        let rules = ScanRules { format: Format::Csv, max_part_bytes: limit, first_part_rows: None, check: true, required: Vec::new(), lookup: Some("h".to_owned()) };
        let bytes = [text.as_bytes(), end].concat();
        prop_assert_eq!(scan(rules.clone(), &bytes, size), scan(rules, &bytes, 1000));
    }

    #[test]
    fn parts_with_headers_join_to_the_original_file(table in table(), room in 30..60_u64, size in 1..20_usize) {
        let text = table.write(Some(("Import Failure Reason", "no, \"it\" is not\n")));
        let bytes = text.as_bytes();
        let rules = ScanRules { format: table.format, max_part_bytes: 80 + room, first_part_rows: None, check: false, required: Vec::new(), lookup: None };
        let Ok(layout) = scan(rules, bytes, size) else { return Ok(()) };
        let header = range(bytes, layout.header.start, layout.header.end);
        let part = |part: &FilePart| [header, range(bytes, part.from, part.to)].concat();
        let mut parts: Vec<_> = layout.parts.iter().map(part).collect();
        prop_assert_eq!(joined(&parts, size), (bytes.to_vec(), layout.rows));
        // As they may come: without the last line end, or without rows.
        for part in &mut parts {
            part.truncate(part.len() - if part.ends_with(table.line_end.as_bytes()) { table.line_end.len() } else { 0 });
        }
        parts.insert(0, header.to_vec());
        parts.push(Vec::new());
        let whole = bytes.strip_suffix(table.line_end.as_bytes()).unwrap_or(bytes);
        prop_assert_eq!(joined(&parts, size), (whole.to_vec(), layout.rows));
    }

    #[test]
    fn removing_the_reasons_restores_the_sent_file(table in table(), size in 1..20_usize) {
        let file = table.write(Some(("Import Failure Reason", "no, \"it\" is not\n")));
        let mut strip = FailedRowExtractor::of_report();
        let mut out = Vec::new();
        for chunk in file.as_bytes().chunks(size) {
            let mut piece = Vec::new();
            strip.push(chunk, &mut piece).expect("the columns are the same");
            out.append(&mut piece);
        }
        let stripped = strip.finish(&mut out).expect("every row has its reason");
        prop_assert_eq!(stripped, FailedRows { format: table.format, rows: table.rows.len() as u64 });
        prop_assert_eq!(String::from_utf8(out).expect("text"), table.write(None));
    }
}
