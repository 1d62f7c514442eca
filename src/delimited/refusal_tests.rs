//! Tests of validation: files that are refused, files that get a warning, and files that must pass, however their bytes
//! arrive.

use crate::delimited::*;
use crate::domain::{Format, Target};

/// Values of rows in the files below. None may stand in a message.
const VALUES: [&str; 9] = ["ana@", "Ana", "bob@", "Bob", "Lopez", "Acme", "boss", "555", "VIN1"];

fn scan(format: Format, target: Option<&Target>, bytes: &[u8], size: usize) -> Result<FileLayout, ValidationError> {
    let required = target.map(required_columns).unwrap_or_default();
    let rules = ScanRules {
        format,
        max_part_bytes: 1_000_000,
        first_part_rows: None,
        check: true,
        required,
        lookup: lookup_column(target),
    };
    let mut scanner = Scanner::new(rules);
    bytes.chunks(size).try_for_each(|chunk| scanner.push(chunk))?;
    scanner.finish()
}

/// What came of a CSV file; the same however its bytes arrive.
fn csv(target: Option<&Target>, bytes: &[u8]) -> Result<FileLayout, ValidationError> {
    let whole = scan(Format::Csv, target, bytes, bytes.len().max(1));
    for size in [1, 3, 7, 600] {
        assert_eq!(scan(Format::Csv, target, bytes, size), whole, "by {size}");
    }
    whole
}

fn assert_refused(code: &str, bytes: &[u8], words: &[&str]) {
    let text = String::from_utf8_lossy(bytes);
    let fault = csv(None, bytes).expect_err(&text);
    let message = fault.to_string();
    assert_eq!(fault.code(), code, "{message}");
    for word in words {
        assert!(message.contains(word), "{word}: {message}");
    }
    for value in VALUES {
        assert!(!message.contains(value), "{message}");
    }
    // The same far into a file, where the blocks of reading end anywhere.
    let of_rows = ["mark-inside", "header-again", "ragged-rows", "cr-in-field", "empty-rows", "backslash-quote"];
    if of_rows.contains(&code) {
        let header_end = bytes.iter().position(|&byte| byte == b'\n').map_or(0, |at| at + 1);
        let columns = columns(&bytes[..header_end], Format::Csv);
        let row = format!("cy@example.com{}\n", ",x".repeat(columns.len() - 1));
        let filler = row.repeat(40_000 / row.len());
        let long = [&bytes[..header_end], filler.as_bytes(), &bytes[header_end..]].concat();
        assert_eq!(csv(None, &long).expect_err(&text).code(), code);
    }
}

#[test]
fn a_file_that_would_fail_is_refused_with_its_cause() {
    for (code, bytes, words) in [
        // Put one behind another.
        ("mark-inside", "email,a\nana@x.y,Ana\n\u{feff}email,a\nbob@x.y,Bob\n", &["line 3", "byte-order mark"][..]),
        ("mark-inside", "\u{feff}email,a\nana@x.y,Ana\n\u{feff}\"email\",b\n", &["line 3"]),
        ("mark-inside", "email\nana@x.y\u{feff}email\nbob@x.y\n", &["line 2"]),
        ("header-again", "email,a\nana@x.y,Ana\nemail,a\nbob@x.y,Bob\n", &["line 3", "header once more"]),
        ("header-again", "email,a\r\nana@x.y,Ana\r\n\"email\",\"a\"\r\n", &["line 3"]),
        ("header-again", "\"email\",a\nana@x.y,Ana\nemail,a", &["line 3"]),
        ("header-again", "email\nana@x.y\nemail\n", &["line 3"]),
        ("ragged-rows", "email,a\nana@x.y,Anaemail,a\nbob@x.y,Bob\n", &["line 2", "second file"]),
        ("second-mark", "\u{feff}\u{feff}email,a\nana@x.y,Ana\n", &["two byte-order marks"]),
        ("second-mark", "\u{feff}\u{feff}\"email\",a\nana@x.y,Ana\n", &["two byte-order marks"]),
        // A CR.
        ("cr-in-field", "email,a,b\nana@x.y,Ana\r,x\n", &["line 2", "CR"]),
        ("cr-in-field", "email,a\nana@x.y,Ana\nbob@x.y,Bob\r\r\n", &["line 3"]),
        ("cr-in-field", "email,a\nana@x.y,\"Ana\"\r\r\n", &["line 2"]),
        ("cr-in-field", "email,a\nana@x.y,Ana\r", &["line 2"]),
        ("bad-name", "email,a\r\r\nana@x.y,Ana\r\r\n", &["column 2", "U+000D"]),
        // Rows without a value.
        ("empty-rows", "email,a,b\nana@x.y,Ana,x\n,,\n,,\n,,\n", &["3 rows", "line 3"]),
        ("empty-rows", "email,a\nana@x.y,Ana\n\"\",\"\"\n", &["1 row", "line 3"]),
        ("empty-rows", "email,a\n , \nana@x.y,Ana\n", &["1 row", "line 2"]),
        ("empty-rows", "email,a,b\nana@x.y,Ana,x\n,\n,,,\n", &["2 rows", "line 3"]),
        ("empty-rows", "email,a\n,\nana@x.y\n,\n", &["2 rows", "line 2"]),
        ("ragged-rows", "email,a\nana@x.y\n,\n", &["line 2"]),
        // The header.
        ("bad-name", "email\u{200b},a\nana@x.y,Ana\n", &["column 1", "U+200B"]),
        ("bad-name", "email,first\u{a0}name\nana@x.y,Ana\n", &["column 2", "U+00A0"]),
        ("bad-name", "email,\"first\nname\"\nana@x.y,Ana\n", &["column 2", "U+000A"]),
        ("bad-name", "email,First Name\nana@x.y,Ana\n", &["\"First Name\"", "blank", "API name"]),
        ("bad-name", "email|firstName\nana@x.y|Ana\n", &["column 1", "\"|\""]),
        ("bad-name", "email,“firstName”\nana@x.y,Ana\n", &["column 2", "U+201C"]),
        ("bad-name", "Ana Lopez,Acme\nBob B,Acme\n", &["column 1", "blank"]),
        ("bad-name", "VIN1,2019,Acme Motors\nVIN2,2020,B\n", &["column 2", "digit", "lack its header"]),
        ("no-header", "ana@example.com,Ana,A\nbob@example.com,Bob,B\n", &["column 1 of line 1", "header"]),
        ("no-header", "Ana,\"ana@example.com\"\nBob,bob@example.com\n", &["column 2 of line 1"]),
        ("no-header", "ana@example.com\nbob@example.com\n", &["column 1"]),
        ("spaced-column", "Ana, Lopez Acme\nBob,B\n", &["column 2"]),
        (
            "reason-column",
            "email,a,Import Failure Reason\nana@x.y,Ana,Invalid\n",
            &["column 3", "\"Import Failure Reason\"", "retry ID --with"],
        ),
        ("reason-column", "email,a,\"import warning reason\"\nana@x.y,Ana,x\n", &["Import Warning Reason", "--with"]),
        // Delimiters.
        ("unnamed-column", "email,a,\nana@x.y,Ana,\n", &["column 3", "delimiter too many at the end of line 1"]),
        ("ragged-rows", "email,a\nana@x.y,Ana,\nbob@x.y,Bob,\n", &["delimiter too many at the end of line 2"]),
        ("ragged-rows", "email,a\nana@x.y,Ana,\"\",\n", &["delimiter too many at the end of line 2"]),
        ("ragged-rows", "email,a,b,c\nana@x.y,Ana,1,x\nbob@x.y,Bob\ncy@x.y,Cy,3\n", &["line 3 has 2", "line 4 has 3"]),
        ("sep-line", "sep=;\r\nemail;a\r\nana@x.y;Ana\r\n", &["line 1", "Excel's hint", "format is ssv"]),
        ("sep-line", "sep=,\nemail,a\nana@x.y,Ana\n", &["line 1", "Excel's hint", "take the line out"]),
        ("sep-line", "\u{feff}\"SEP=|\"\nemail|a\nana@x.y|Ana\n", &["line 1"]),
        // Quotes.
        (
            "backslash-quote",
            "email,a\nana@x.y,\"the \\\"big\\\" boss\"\nbob@x.y,Bob\n",
            &["line 2", "backslash", "twice"],
        ),
        ("backslash-quote", "email,a\nana@x.y,\"the \\\" boss\"\n", &["line 2"]),
        ("ragged-rows", "email,a\nana@x.y,\"a \\\", b\"\n", &["line 2", "backslash"]),
        ("unclosed-quote", "email,a\nana@x.y,Ana\nbob@x.y,\"big \\\"\"\ncy@x.y,C\n", &["line 3", "backslash"]),
        ("ragged-rows", "email,company\nana@x.y,“Acme, Inc.”\n", &["line 2", "U+201C", "straight"]),
    ] {
        assert_refused(code, bytes.as_bytes(), words);
    }
}

#[test]
fn other_kinds_of_files_are_refused_by_their_kind() {
    let utf16 = |text: &str| text.encode_utf16().flat_map(u16::to_be_bytes).collect::<Vec<u8>>();
    let mut gzip = b"\x1f\x8b\x08\x08\0\0\0\0\x02\xffpeople.csv\0".to_vec();
    gzip.extend((0..=255).cycle().take(2_000));
    for (code, bytes, words) in [
        ("not-delimited-text", &gzip[..], &["gzip archive", "unpack"][..]),
        ("not-utf8", b"email,a\nana@x.y,\x93Acme\x94,O\x92Hara\n", &["line 2", "probably in Windows-1252"]),
        ("not-utf8", b"email,a\nana@x.y,Acm\xe9\n", &["line 2", "probably", "Latin-1"]),
        ("not-utf8", b"email,a\nana@x.y,\xc8\xe2\xe0\xed\n", &["line 2", "may be", "Windows-1251"]),
        ("not-utf8", b"email,a\nana@x.y,Acm\xe2\x82", &["line 2", "cut off"]),
        ("not-utf8", &utf16("\u{feff}email,a\nana@x.y,Ana\n"), &["UTF-16 (big-endian)"]),
        ("not-utf8", &utf16("email,a\nana@x.y,Ana\n"), &["looks like UTF-16 (big-endian)"]),
        ("not-delimited-text", b"%PDF-1.4\nana@x.y\n", &["PDF"]),
        ("not-delimited-text", b"PK\x03\x04\x14\0\x06\0\x08\0", &["zip archive"]),
    ] {
        assert_refused(code, bytes, words);
    }
}

#[test]
fn a_file_that_may_be_valid_gives_no_warning() {
    let members = Target::ProgramMembers { program_id: 1, status: "Member".into() };
    let car = Target::CustomObject { name: "car_c".into() };
    for (target, text) in [
        (None, "email,Sales_Price__c,x1\nana@x.y,Ana,\n"),
        (None, "\u{feff}\"email\",\"firstName\"\r\n\"ana@x.y\",\"Ana\"\r\n"),
        (None, "email\nana@x.y\nbob@x.y\n\n"),
        (None, "email,a\nana@x.y,\"Ana\r\"\nbob@x.y,\"a\r,b\r\r\n\"\n"),
        (None, "email,a\nana@x.y,one\rtwo\n"),
        (None, "email,a\r\nana@x.y,Ana\r\nbob@x.y,Bob\r"),
        (None, "email,a\nana@x.y,Ana\r\nbob@x.y,Bob\n"),
        (None, "email,a\nana@x.y,\"C:\\dir\\\"\nbob@x.y,\"C:\\dir\\\" \n"),
        (None, "email,a\nana@x.y,\"5\"\" screen\"\nbob@x.y,6\" screen\n"),
        (None, "email,a\nana@x.y,“Acme”\nbob@x.y,zero\u{200b}width and a \u{feff}mark\n"),
        (None, "email,a\nana@x.y,email\nemailer@x.y,a\n"),
        (None, "email,a\nana@x.y,Import Failure Reason\n"),
        (None, "a,b\n,1\n1,\n"),
        (Some(&members), "email,firstName,membershipDate,myPMCF__c\nana@x.y,Ana,2026-01-02,\n"),
        (Some(&car), "vin,color\nVIN1,\n,red\n"),
        (Some(&car), "name\nblue\n\nred\n"),
        (Some(&car), "note\n\"a,b\"\n"),
    ] {
        let layout = csv(target, text.as_bytes()).unwrap_or_else(|fault| panic!("{text:?}: {fault}"));
        assert_eq!(layout.warnings, [], "{text:?}");
    }
}

#[test]
fn possible_faults_give_warnings_with_line_and_count() {
    let by_id = Target::Leads { lookup_field: Some("id".into()), list_id: None, partition: None };
    for (target, text, code, words) in [
        (
            None,
            "a,b,email\n1,2,ana@x.y\n1,2,\n",
            "empty-lookup-value",
            "1 row has no value in the lookup field \"email\", on line 3",
        ),
        (
            None,
            "a,email,b\n1,,x\n\"1,2\", ,x\n3,\"\",x\n4,x@y.z,x\n",
            "empty-lookup-value",
            "3 rows have no value in the lookup field \"email\", the first on line 2",
        ),
        (None, "email,a\n,x\n", "empty-lookup-value", "1 row has no value"),
        (
            None,
            "email\nana@x.y\n\n\nbob@x.y\n",
            "empty-lookup-value",
            "2 rows have no value in the lookup field \"email\", the first on line 3",
        ),
        (
            Some(&by_id),
            "id,email\n1,\n,ana@x.y\n",
            "empty-lookup-value",
            "1 row has no value in the lookup field \"id\", on line 3",
        ),
        (
            None,
            "email,Email,a\nana@x.y,bob@x.y,Ana\n",
            "columns-differ-in-case",
            "columns 1 and 2 of the header, \"email\" and \"Email\",",
        ),
    ] {
        let layout = csv(target, text.as_bytes()).unwrap_or_else(|fault| panic!("{text:?}: {fault}"));
        let [warning] = &layout.warnings[..] else { panic!("{text:?}: {:?}", layout.warnings) };
        assert_eq!(warning.code, code);
        assert!(warning.detail.contains(words), "{}", warning.detail);
        assert!(VALUES.iter().all(|value| !warning.detail.contains(value)), "{}", warning.detail);
    }
}

#[test]
fn a_row_of_a_megabyte_is_held_within_bounds() {
    let rules = ScanRules {
        format: Format::Csv,
        max_part_bytes: 10_000_000,
        first_part_rows: None,
        check: true,
        required: Vec::new(),
        lookup: Some("email".into()),
    };
    let mut scanner = Scanner::new(rules);
    scanner.push(b"a,email\n\"").unwrap();
    for _ in 0..300 {
        scanner.push(&[b'x'; 30_000]).unwrap();
    }
    assert!(scanner.held_bytes() <= MAX_HEADER_BYTES as usize);
    scanner.push(b"\",\n1,\n").unwrap();
    let layout = scanner.finish().unwrap();
    assert_eq!(layout.rows, 2);
    assert_eq!(layout.warnings[0].line, Some(3), "rows beyond that are not checked");
}
