//! Row outcomes of an uploaded file: Marketo's header checks, its usual failures, and the cells by which a test sets
//! the outcome.

use std::time::Duration;

use csv::{ByteRecord, QuoteStyle, ReaderBuilder, Terminator, WriterBuilder};

use crate::byte_order_mark::BYTE_ORDER_MARK;
use crate::domain::Format;
use crate::simulator::error::ApiRefusal;
use crate::simulator::report_shape::{ReportLineEnd, ReportOrder, ReportQuotes};
use crate::simulator::settings::Settings;

/// A file as it was taken in: how its rows will end, and the two reports.
#[derive(Debug, Default)]
pub(super) struct RowCounts {
    pub total: u64,
    pub failed: u64,
    pub warned: u64,
    /// Empty where no row failed (or none was warned of).
    pub failures: Vec<u8>,
    pub warnings: Vec<u8>,
    /// From a cell `!lasts:5s`, or without end from a cell `!stuck`.
    pub duration: Option<Duration>,
    /// From a cell `!batch-failed:reason`.
    pub batch_failed: Option<String>,
}

impl RowCounts {
    /// Those that are imported, the ones with a warning included.
    pub fn processed(&self) -> u64 {
        self.total - self.failed
    }
}

enum RowOutcome {
    Fine,
    Warned(String),
    Failed(String),
}

/// Reads a file whose people are found by the column `lookup`; custom objects have none that the simulator knows of.
///
/// # Errors
/// 1003 for an empty file; 1006 for a header without `lookup` or with a byte-order mark. A file of only a
/// header is taken (not documented) and imports no rows.
pub(super) fn read(
    bytes: &[u8],
    format: Format,
    lookup: Option<&str>,
    settings: &Settings,
) -> Result<RowCounts, ApiRefusal> {
    let has_byte_order_mark = bytes.starts_with(BYTE_ORDER_MARK);
    let mut reader =
        ReaderBuilder::new().delimiter(format.delimiter()).flexible(true).has_headers(false).from_reader(bytes);
    let mut records = reader.byte_records();
    let header = match records.next() {
        Some(Ok(header)) if !bytes.trim_ascii().is_empty() => header,
        _ => return Err(ApiRefusal::new(1003, "Empty File")),
    };
    if has_byte_order_mark {
        return Err(unknown_header(&cell(&header, 0)));
    }
    // No field has the name of a column that Marketo adds to its reports.
    for reason in ["Import Failure Reason", "Import Warning Reason"] {
        if header.iter().any(|field| field == reason.as_bytes()) {
            return Err(unknown_header(reason));
        }
    }
    let column = |name: &str| header.iter().position(|field| field.trim_ascii() == name.as_bytes());
    let lookup = match lookup {
        Some(name) => Some((name, column(name).ok_or_else(|| unknown_header(name))?)),
        None => None,
    };
    let evaluator = RowEvaluator {
        has_padded_name: header.iter().any(|field| field.trim_ascii().len() != field.len()),
        fields: header.len(),
        email: lookup.and(column("email")),
        lookup,
    };

    let (mut rows, mut failures, mut warnings) = (RowCounts::default(), Vec::new(), Vec::new());
    for record in records.map_while(Result::ok) {
        rows.total += 1;
        for field in record.iter() {
            if let Some(text) = control_value(field, "!lasts:") {
                rows.duration = parse_duration(&text).or(rows.duration);
            } else if field == b"!stuck" {
                rows.duration = Some(Duration::MAX);
            } else if let Some(reason) = control_value(field, "!batch-failed:") {
                rows.batch_failed = Some(reason);
            }
        }
        match evaluator.row_outcome(&record) {
            RowOutcome::Fine => {}
            RowOutcome::Warned(reason) => warnings.push(ReportedRow { record, reason }),
            RowOutcome::Failed(reason) => failures.push(ReportedRow { record, reason }),
        }
    }
    (rows.failed, rows.warned) = (failures.len() as u64, warnings.len() as u64);
    let writer = ReportWriter { header: &header, format, settings };
    rows.failures = writer.write(&failures, "Import Failure Reason");
    rows.warnings = writer.write(&warnings, "Import Warning Reason");
    Ok(rows)
}

fn unknown_header(name: &str) -> ApiRefusal {
    ApiRefusal::new(1006, format!("Header field '{name}' not found"))
}

/// What the header says about every row.
struct RowEvaluator<'a> {
    has_padded_name: bool,
    fields: usize,
    email: Option<usize>,
    lookup: Option<(&'a str, usize)>,
}

impl RowEvaluator<'_> {
    fn row_outcome(&self, row: &ByteRecord) -> RowOutcome {
        if self.has_padded_name {
            return RowOutcome::Failed("missing.dedupe.fields".into());
        }
        if let Some(reason) = row.iter().find_map(|field| control_value(field, "!fail:")) {
            return RowOutcome::Failed(reason);
        }
        if row.len() != self.fields {
            return RowOutcome::Failed(format!("Row has {} fields where the header has {}", row.len(), self.fields));
        }
        if let Some((name, column)) = self.lookup
            && cell(row, column).trim().is_empty()
        {
            return RowOutcome::Failed(format!("Value for lookup field '{name}' not found"));
        }
        if let Some(reason) = row.iter().find_map(|field| control_value(field, "!warn:")) {
            return RowOutcome::Warned(reason);
        }
        match self.email.map(|column| cell(row, column)) {
            Some(email) if !email.is_empty() && !email.contains('@') => {
                RowOutcome::Warned("Invalid email address".into())
            }
            _ => RowOutcome::Fine,
        }
    }
}

fn cell(record: &ByteRecord, column: usize) -> String {
    String::from_utf8_lossy(record.get(column).unwrap_or_default()).into_owned()
}

/// What follows `word` in a cell that begins with it.
fn control_value(field: &[u8], word: &str) -> Option<String> {
    field.strip_prefix(word.as_bytes()).map(|rest| String::from_utf8_lossy(rest).into_owned())
}

/// `250ms`, `5s`, `2m`, `1h`.
fn parse_duration(text: &str) -> Option<Duration> {
    let digits = text.find(|letter: char| !letter.is_ascii_digit())?;
    let number: u32 = text[..digits].parse().ok()?;
    let unit = match &text[digits..] {
        "ms" => Duration::from_millis(1),
        "s" => Duration::from_secs(1),
        "m" => Duration::from_secs(60),
        "h" => Duration::from_secs(3600),
        _ => return None,
    };
    Some(unit.saturating_mul(number))
}

/// A row of a report.
struct ReportedRow {
    record: ByteRecord,
    reason: String,
}

/// Writer of the reports of one file.
struct ReportWriter<'a> {
    header: &'a ByteRecord,
    format: Format,
    settings: &'a Settings,
}

impl ReportWriter<'_> {
    /// Returns the rows with the columns that were sent and a last column `reason_column`; empty where there is no row.
    fn write(&self, rows: &[ReportedRow], reason_column: &str) -> Vec<u8> {
        if rows.is_empty() {
            return Vec::new();
        }
        let shape = &self.settings.report_shape;
        let is_empty = |column: usize| rows.iter().all(|row| cell(&row.record, column).is_empty());
        let is_left_out = |column: usize| {
            shape.left_out.contains(&cell(self.header, column)) || self.settings.drop_empty_columns && is_empty(column)
        };
        let mut kept: Vec<usize> = (0..self.header.len()).filter(|&column| !is_left_out(column)).collect();
        let mut listed: Vec<_> = rows.iter().map(|row| (&row.record, row.reason.as_str())).collect();
        if shape.order == ReportOrder::Reversed {
            kept.reverse();
            listed.reverse();
        }
        let format = if self.settings.reports_in_csv { Format::Csv } else { self.format };
        let mut writer = WriterBuilder::new()
            .delimiter(format.delimiter())
            .quote_style(if shape.quotes == ReportQuotes::Everywhere {
                QuoteStyle::Always
            } else {
                QuoteStyle::Necessary
            })
            .double_quote(shape.quotes != ReportQuotes::Backslashes)
            .terminator(match shape.line_end {
                ReportLineEnd::Lf => Terminator::Any(b'\n'),
                ReportLineEnd::CrLf => Terminator::CRLF,
                ReportLineEnd::Cr => Terminator::Any(b'\r'),
            })
            .flexible(true)
            .from_writer(Vec::new());
        for (record, last) in std::iter::once((self.header, reason_column)).chain(listed) {
            let fields = kept.iter().map(|&column| record.get(column).unwrap_or_default());
            // Writing to a vector does not fail.
            writer.write_record(fields.chain([last.as_bytes()])).ok();
        }
        let mut report = writer.into_inner().unwrap_or_default();
        report.extend_from_slice(&shape.appended);
        report
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulator::report_shape::ReportShape;

    fn leads(file: &str) -> Result<RowCounts, ApiRefusal> {
        read(file.as_bytes(), Format::Csv, Some("email"), &Settings::default())
    }

    fn text(report: &[u8]) -> &str {
        std::str::from_utf8(report).unwrap()
    }

    #[test]
    fn an_empty_file_is_1003_and_a_lone_header_is_accepted() {
        for file in ["", "\n", " \r\n"] {
            assert_eq!(leads(file).unwrap_err().name(), "1003", "{file:?}");
        }
        assert_eq!(leads("email,name\n").unwrap().total, 0);
    }

    #[test]
    fn a_header_without_the_lookup_field_is_1006() {
        let refusal = leads("Email,name\na@b.c,A\n").unwrap_err();
        assert_eq!((refusal.name(), refusal.message()), ("1006".into(), "Header field 'email' not found".into()));
        let with_mark = leads("\u{feff}email,name\na@b.c,A\n").unwrap_err();
        assert_eq!(with_mark.message(), "Header field 'email' not found");
        let object = read("\u{feff}vin\n1\n".as_bytes(), Format::Csv, None, &Settings::default()).unwrap_err();
        assert_eq!(object.message(), "Header field 'vin' not found");
    }

    #[test]
    fn the_reason_column_of_a_report_is_an_unknown_field() {
        for reason in ["Import Failure Reason", "Import Warning Reason"] {
            let refusal = leads(&format!("email,{reason}\na@b.c,no\n")).unwrap_err();
            let message = format!("Header field '{reason}' not found");
            assert_eq!((refusal.name(), refusal.message()), ("1006".into(), message));
        }
    }

    #[test]
    fn a_space_around_a_header_name_fails_every_row() {
        let rows = leads("email, name\na@b.c,A\nd@e.f,D\n").unwrap();
        assert_eq!((rows.total, rows.failed, rows.processed()), (2, 2, 0));
        assert!(text(&rows.failures).ends_with("d@e.f,D,missing.dedupe.fields\n"));
    }

    #[test]
    fn marked_cells_fail_a_row_or_warn_of_it() {
        let rows = leads("email,name\na@b.c,A\nd@e.f,!fail:No such thing\ng@h.i,\"!warn:Odd, but fine\"\n").unwrap();
        assert_eq!((rows.total, rows.failed, rows.warned, rows.processed()), (3, 1, 1, 2));
        assert_eq!(text(&rows.failures), "email,name,Import Failure Reason\nd@e.f,!fail:No such thing,No such thing\n");
        assert_eq!(
            text(&rows.warnings),
            "email,name,Import Warning Reason\ng@h.i,\"!warn:Odd, but fine\",\"Odd, but fine\"\n"
        );
    }

    #[test]
    fn an_empty_lookup_value_fails_its_row() {
        let rows = leads("email,name\n,A\na@b.c,B\n").unwrap();
        assert_eq!(text(&rows.failures), "name,Import Failure Reason\nA,Value for lookup field 'email' not found\n");
        let settings = Settings { drop_empty_columns: false, ..Settings::default() };
        let rows = read(b"email,name\n,A\n", Format::Csv, Some("email"), &settings).unwrap();
        assert!(text(&rows.failures).starts_with("email,name,"));
    }

    #[test]
    fn an_address_without_an_at_sign_is_a_warning_for_people_only() {
        let rows = leads("email\nnobody\n").unwrap();
        assert_eq!((rows.processed(), rows.warned), (1, 1));
        assert_eq!(text(&rows.warnings), "email,Import Warning Reason\nnobody,Invalid email address\n");
        let objects = read(b"email\nnobody\n", Format::Csv, None, &Settings::default()).unwrap();
        assert_eq!(objects.warned, 0);
    }

    #[test]
    fn a_row_with_another_number_of_fields_fails() {
        assert_eq!(leads("email,name\na@b.c\na@b.c,A,B\na@b.c,A\n").unwrap().failed, 2);
    }

    #[test]
    fn quoted_fields_may_hold_delimiters_quotes_and_line_ends() {
        let rows =
            read(b"email;note\r\na@b.c;\"x;\"\"y\"\"\r\nz\"\r\n", Format::Ssv, Some("email"), &Settings::default());
        assert_eq!(rows.map(|rows| (rows.total, rows.failed)), Ok((1, 0)));
    }

    #[test]
    fn reports_have_the_delimiter_of_the_file_or_commas() {
        let file = b"email\tname\na@b.c\t!fail:x\n";
        let rows = read(file, Format::Tsv, Some("email"), &Settings::default()).unwrap();
        assert_eq!(text(&rows.failures), "email\tname\tImport Failure Reason\na@b.c\t!fail:x\tx\n");
        let settings = Settings { reports_in_csv: true, ..Settings::default() };
        let rows = read(file, Format::Tsv, Some("email"), &settings).unwrap();
        assert_eq!(text(&rows.failures), "email,name,Import Failure Reason\na@b.c,!fail:x,x\n");
    }

    #[test]
    fn reports_have_the_shape_of_the_settings() {
        let shape = ReportShape {
            order: ReportOrder::Reversed,
            left_out: vec!["name".into()],
            quotes: ReportQuotes::Everywhere,
            line_end: ReportLineEnd::CrLf,
            appended: b"rest".to_vec(),
        };
        let settings = Settings { report_shape: shape, ..Settings::default() };
        let file = b"email,name,note\na@b.c,!fail:x,1\nd@e.f,!fail:y,2\n";
        let rows = read(file, Format::Csv, Some("email"), &settings).unwrap();
        assert_eq!(
            text(&rows.failures),
            "\"note\",\"email\",\"Import Failure Reason\"\r\n\"2\",\"d@e.f\",\"y\"\r\n\
             \"1\",\"a@b.c\",\"x\"\r\nrest"
        );
        assert_eq!(text(&rows.warnings), "");
        let shape =
            ReportShape { quotes: ReportQuotes::Backslashes, line_end: ReportLineEnd::Cr, ..ReportShape::default() };
        let settings = Settings { report_shape: shape, ..Settings::default() };
        let rows = read(b"email,name\na@b.c,\"!fail:\"\"x\"\"\"\n", Format::Csv, Some("email"), &settings).unwrap();
        assert!(text(&rows.failures).starts_with("email,name,Import Failure Reason\ra@b.c,\"!fail:\\\"x\\\"\","));
    }

    #[test]
    fn cells_can_set_how_long_the_import_lasts_and_make_it_fail() {
        let rows = leads("email,a,b\na@b.c,!lasts:250ms,!batch-failed:Broken\n").unwrap();
        assert_eq!((rows.duration, rows.batch_failed.as_deref()), (Some(Duration::from_millis(250)), Some("Broken")));
        for (text, expected) in [("5s", Some(5)), ("2m", Some(120)), ("1h", Some(3600)), ("5", None), ("s", None)] {
            assert_eq!(parse_duration(text), expected.map(Duration::from_secs), "{text}");
        }
    }
}
