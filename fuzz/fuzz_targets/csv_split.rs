//! The splitter keeps every byte and every record of any input.
//!
//! `cargo +nightly fuzz run csv_split fuzz/corpus/csv_split fuzz/seeds/csv_split -- -max_total_time=60`
//!
//! The first four bytes of an input say how: format and whether to check, limit (two bytes), size of the pushes. The
//! rest is the file.
#![no_main]

use csv::{ByteRecord, ReaderBuilder, Terminator};
use libfuzzer_sys::fuzz_target;
use marqueue::domain::Format;
use marqueue::delimited::{ValidationError, Bisector, Joiner, FileLayout, FilePart, ScanRules, Scanner, FailedRowExtractor};

fuzz_target!(|input: &[u8]| {
    let [how, low, high, size, file @ ..] = input else { return };
    let format = Format::ALL[usize::from(how % 3)];
    let limit = u64::from(u16::from_le_bytes([*low, *high]));
    let size = usize::from(*size).max(1);
    let rules = ScanRules { format, max_part_bytes: limit, first_part_rows: None, check: how & 0x80 != 0, required: Vec::new(), lookup: Some("email".to_owned()) };

    // Failure files come from Marketo and are untrusted too.
    let mut strip = FailedRowExtractor::of_report();
    let mut out = Vec::new();
    if file.chunks(size).try_for_each(|chunk| strip.push(chunk, &mut out)).is_ok() {
        let _ = strip.finish(&mut out);
    }

    let scanned = scan(rules.clone(), file, size);
    assert_eq!(scan(rules, file, file.len().max(1)), scanned, "chunking changes nothing");
    let Ok(layout) = scanned else { return };
    let header = &file[layout.header.start as usize..layout.header.end as usize];
    let bytes = |part: &FilePart| &file[part.from as usize..part.to as usize];
    let uploads: Vec<Vec<u8>> = layout.parts.iter().map(|part| [header, bytes(part)].concat()).collect();

    let mut rows = header.to_vec();
    let mut records = parse(format, header);
    let header_records = records.clone();
    for (part, upload) in layout.parts.iter().zip(&uploads) {
        assert!(upload.len() as u64 <= limit, "within the limit");
        rows.extend_from_slice(bytes(part));
        let parsed = parse(format, upload);
        assert!(parsed.starts_with(&header_records), "the same header");
        records.extend_from_slice(&parsed[header_records.len()..]);
    }
    assert!(file[layout.header.start as usize..].starts_with(&rows), "no gap");
    let left = &file[layout.header.start as usize + rows.len()..];
    assert!(left.iter().all(|byte| b"\r\n".contains(byte)), "blank lines alone are left out");
    assert_eq!(records, parse(format, &rows), "the same records");
    assert_eq!(layout.rows, layout.parts.iter().map(|part| part.rows).sum::<u64>());

    for part in &layout.parts {
        let mut halver = Bisector::new(format, *part);
        bytes(part).chunks(size).for_each(|chunk| halver.push(chunk));
        match halver.finish() {
            Err(_) => assert_eq!(part.rows, 1),
            Ok(parts) => {
                assert_eq!(parts.iter().map(bytes).collect::<Vec<_>>().concat(), bytes(part));
                assert_eq!(parts.iter().map(|new| new.rows).sum::<u64>(), part.rows);
                assert!(parts.iter().all(|new| new.rows > 0));
            }
        }
    }

    if format == Format::Csv {
        let (mut joiner, mut joined) = (Joiner::new(), Vec::new());
        for (number, upload) in (1..).zip(&uploads) {
            joiner.begin(number);
            upload.chunks(size).for_each(|chunk| joiner.push(chunk, &mut joined).expect("one header"));
            joiner.end(&mut joined).expect("one header");
        }
        assert_eq!(joined, rows);
    }
});

fn scan(rules: ScanRules, file: &[u8], size: usize) -> Result<FileLayout, ValidationError> {
    let mut scanner = Scanner::new(rules);
    file.chunks(size).try_for_each(|chunk| scanner.push(chunk))?;
    scanner.finish()
}

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
