//! Hints: the variable ends of the messages of validation errors.

use crate::domain::Format;

pub(super) const BACKSLASH: &str = "a backslash does not escape a quote, so write the quote twice";

pub(super) fn lone_cr_hint(lone_cr: bool) -> &'static str {
    if lone_cr { ": its lines end with CR alone, so save it with LF or CRLF" } else { "" }
}

pub(super) fn sep_hint(format: Option<Format>) -> String {
    format.map(|format| format!(", and say that the format is {format}")).unwrap_or_default()
}

pub(super) fn backslash_hint(backslash: bool) -> String {
    if backslash { format!(": {BACKSLASH}") } else { String::new() }
}

pub(super) fn empty_rows(line: u64, rows: u64, stopped: bool) -> String {
    let least = if stopped { "at least " } else { "" };
    if rows == 1 && !stopped {
        format!("1 row has no value in any column, on line {line}: take it out")
    } else {
        let (have, them) = if rows == 1 { ("row has", "it") } else { ("rows have", "them") };
        format!("{least}{rows} {have} no value in any column, the first on line {line}: take {them} out")
    }
}

pub(super) fn last_hint(last: bool) -> &'static str {
    if last { ": is there a delimiter too many at the end of line 1?" } else { "" }
}

pub(super) fn similar_hint(similar: &Option<(usize, String)>) -> String {
    similar.as_ref().map(|(column, name)| format!(": is column {column}, {name:?}, meant?")).unwrap_or_default()
}

pub(super) fn quote_hint(open_quote: Option<u64>) -> String {
    open_quote.map(|line| format!(": does the quote opened on line {line} lack its end?")).unwrap_or_default()
}

pub(super) fn header_hint(lone_cr: bool, open_quote: Option<u64>) -> String {
    if open_quote.is_some() { quote_hint(open_quote) } else { lone_cr_hint(lone_cr).to_owned() }
}
