//! Output of the commands: text and JSON on standard output, notes on standard error.

use std::io::{self, ErrorKind, Write};

use console::AnsiCodeIterator;
use jiff::Timestamp;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use serde::Serialize;

use crate::cli::render::{Screen, time};
use crate::untrusted_text::{escape_json, escape_lines};

/// Writes lines to standard output, with control characters escaped; colours are kept on a screen that has them. A
/// closed pipe (`marqueue list | head -1`) is no error: the reader has what it wanted.
///
/// # Errors
/// Any other error of the write.
pub fn print(text: &str) -> io::Result<()> {
    write(text).map(drop)
}

/// Writes as [`print()`] does, and returns false if the other end of the pipe is closed.
///
/// # Errors
/// As [`print()`].
pub fn write(text: &str) -> io::Result<bool> {
    let text = escape_for(&Screen::stdout(), text);
    let mut out = io::stdout().lock();
    check_pipe(out.write_all(text.as_bytes()).and_then(|()| out.flush()))
}

/// Returns when the other end of standard output is closed. Never returns where that can't be seen, as for a file.
pub async fn reader_closed() {
    let closed = tokio::task::spawn_blocking(|| {
        let stdout = io::stdout();
        // No event is asked for: an error and a closed other end are reported all the same.
        let mut watched = [PollFd::new(&stdout, PollFlags::empty())];
        loop {
            match poll(&mut watched, None) {
                Err(Errno::INTR) => {}
                polled => return polled.is_ok(),
            }
        }
    });
    if !closed.await.unwrap_or(false) {
        std::future::pending::<()>().await;
    }
}

/// Writes one JSON document to standard output.
///
/// # Errors
/// As [`print()`].
pub fn print_json<T: Serialize + ?Sized>(value: &T) -> io::Result<()> {
    let mut text = with_milliseconds(&serde_json::to_string_pretty(value)?);
    text.push('\n');
    print(&escape_json(&text))
}

/// Returns a JSON document as one line.
///
/// # Errors
/// The value can't be serialized.
pub fn json_line<T: Serialize + ?Sized>(value: &T) -> io::Result<String> {
    // In an indented document a line end is never part of a value.
    let text = with_milliseconds(&serde_json::to_string_pretty(value)?);
    let mut line: String = text.lines().map(str::trim_start).collect();
    line.push('\n');
    Ok(escape_json(&line).into_owned())
}

/// Writes a line to standard error, with control characters escaped; colours are kept on a screen that has them. An
/// error of the write is ignored: standard error is the only channel that could report it.
pub fn note(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{}", escape_for(&Screen::stderr(), text));
}

/// Escapes control characters. On a screen that has colours, their sequences are kept.
fn escape_for(screen: &Screen, text: &str) -> String {
    if !screen.has_colours {
        return escape_lines(text).into_owned();
    }
    let is_colour = |code: &str| {
        let digits = code.strip_prefix("\x1b[").and_then(|code| code.strip_suffix('m'));
        digits.is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b';'))
    };
    let parts = AnsiCodeIterator::new(text);
    parts.map(|(part, is_code)| if is_code && is_colour(part) { part.into() } else { escape_lines(part) }).collect()
}

/// Gives each time in an indented JSON document three digits of milliseconds. A time is the value of a key that is
/// named as one, so that a file's name or a message is never changed.
fn with_milliseconds(document: &str) -> String {
    document
        .lines()
        .map(|line| line_with_milliseconds(line).unwrap_or_else(|| line.to_owned()))
        .collect::<Vec<_>>()
        .join("\n")
}

fn line_with_milliseconds(line: &str) -> Option<String> {
    let (key, value) = line.split_once("\": \"")?;
    let name = key.trim_start().strip_prefix('"')?;
    let is_time = matches!(name, "at" | "until" | "not_before") || name.ends_with("_at") || name.ends_with("_until");
    let (value, rest) = value.rsplit_once('"').filter(|_| is_time)?;
    let at: Timestamp = value.parse().ok()?;
    Some(format!("{key}\": \"{}\"{rest}", time::exact(at)))
}

/// Returns false if the other end of the pipe is closed.
///
/// # Errors
/// Any other error of the write.
pub fn check_pipe(written: io::Result<()>) -> io::Result<bool> {
    match written {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_colour_sequences_reach_a_colour_terminal() {
        let screen = Screen { has_colours: true, ..Screen::PLAIN };
        let text = "\x1b[32mdone\x1b[0m \x1b[2J\x1b]0;title\x07\n";
        assert_eq!(escape_for(&screen, text), "\x1b[32mdone\x1b[0m \\u{1b}[2J\\u{1b}]0;title\\u{7}\n");
        assert_eq!(escape_for(&Screen::PLAIN, "\x1b[32mdone"), "\\u{1b}[32mdone");
    }

    #[test]
    fn a_json_line_keeps_the_blanks_of_its_values() {
        let document = serde_json::json!({"at": "2026-08-01T10:00:00Z", "name": "  a\n  b", "list": [1, {}]});
        let line = json_line(&document).unwrap();
        assert!(line.ends_with("}\n") && line.lines().count() == 1, "{line}");
        let read: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!((&read["name"], &read["list"]), (&document["name"], &document["list"]));
        assert_eq!(read["at"], "2026-08-01T10:00:00.000Z");
    }

    #[test]
    fn times_of_a_document_have_milliseconds() {
        let document = serde_json::json!({
            "at": "2026-08-01T10:00:00Z",
            "filename": "2026-08-01T10:00:00Z",
            "jobs": [{"created_at": "2026-08-01T10:00:00.5Z", "ended_at": null}],
            "reason_at": "a \" text",
        });
        let text = with_milliseconds(&serde_json::to_string_pretty(&document).unwrap());
        for line in [
            r#"  "at": "2026-08-01T10:00:00.000Z","#,
            r#"  "filename": "2026-08-01T10:00:00Z","#,
            r#"      "created_at": "2026-08-01T10:00:00.500Z","#,
            r#"  "reason_at": "a \" text""#,
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in {text}");
        }
    }
}
