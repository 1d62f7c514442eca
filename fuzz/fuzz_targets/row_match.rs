//! Any report is matched with any upload without a panic, and no row is matched to one with other values.
//!
//! `cargo +nightly fuzz run row_match fuzz/corpus/row_match fuzz/seeds/row_match -- -max_total_time=60`
//!
//! The first two bytes of an input say how: format, size of the pushes. The upload follows, header first, then a NUL
//! and the report.
#![no_main]

use std::collections::BTreeSet;

use csv::{ByteRecord, ReaderBuilder, Terminator};
use libfuzzer_sys::fuzz_target;
use marqueue::delimited::{ReportMatcher, ReportReader, RowMatch, columns};
use marqueue::domain::Format;

fuzz_target!(|input: &[u8]| {
    let [how, size, files @ ..] = input else { return };
    let format = Format::ALL[usize::from(how % 3)];
    let Some(end) = files.iter().position(|&byte| byte == 0) else { return };
    let (upload, report) = (&files[..end], &files[end + 1..]);
    // The daemon finds the header's end as the splitter does; here it is the first line end.
    let header_end = upload.iter().position(|&byte| byte == b'\n').map_or(upload.len(), |at| at + 1);
    let (header, rows) = upload.split_at(header_end);
    let names = columns(header, format);

    let found = matched(&names, format, (rows, report), usize::from(*size).max(1));
    assert_eq!(matched(&names, format, (rows, report), usize::MAX), found, "chunking changes nothing");
    assert_eq!(RowMatch::decode(&found.encode()).as_ref(), Ok(&found));
    let used: BTreeSet<u32> = found.sent_rows().into_iter().collect();
    assert_eq!(used.len(), found.rows.iter().flatten().count(), "each row is used once");
    assert!(found.ambiguous.iter().all(|row| !used.contains(row)));
    assert!(found.unplaced <= found.unmatched());
    let _ = RowMatch::decode(report);

    // The oracle keeps the CR of a CRLF and skips blank lines, so it judges files without either.
    let has_blank_line = |file: &[u8]| file.starts_with(b"\n") || file.windows(2).any(|two| two == b"\n\n");
    let lines_differ = |file: &[u8]| file.contains(&b'\r') || has_blank_line(file);
    if lines_differ(rows) || lines_differ(report) {
        return;
    }
    let sent = parse(format, rows);
    let mut reader = ReportReader::new(format);
    let mut number = 0;
    let check = |row: marqueue::delimited::ReportRow<'_>, number: &mut usize| {
        let matched = found.rows[*number];
        *number += 1;
        let Some(matched) = matched else { return };
        let values = &sent[matched.row as usize];
        for (at, name) in row.columns().iter().enumerate() {
            let once = |names: &[String]| names.iter().filter(|other| *other == name).count() == 1;
            if once(&names) && once(row.columns()) {
                let column = names.iter().position(|other| other == name).expect("it is there once");
                assert_eq!(values.get(column).unwrap_or_default(), row.value(at).unwrap_or_default());
            }
        }
    };
    reader.push(report, |row| check(row, &mut number));
    reader.finish(|row| check(row, &mut number));
    assert_eq!(number, found.rows.len());
});

fn matched(names: &[String], format: Format, (rows, report): (&[u8], &[u8]), size: usize) -> RowMatch {
    let mut matcher = ReportMatcher::new(names.to_vec(), format);
    report.chunks(size).for_each(|chunk| matcher.push(chunk));
    let mut matcher = matcher.finish();
    rows.chunks(size).for_each(|chunk| matcher.push(chunk));
    matcher.finish(&[])
}

fn parse(format: Format, bytes: &[u8]) -> Vec<ByteRecord> {
    // Behind a header, for the oracle would take a byte-order mark off the first value.
    ReaderBuilder::new()
        .delimiter(format.delimiter())
        .terminator(Terminator::Any(b'\n'))
        .flexible(true)
        .from_reader([b"h\n", bytes].concat().as_slice())
        .into_byte_records()
        .map(|record| record.expect("bytes in memory are always read"))
        .collect()
}
