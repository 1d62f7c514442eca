//! Output of the commands: text and JSON on standard output, notes on standard error.

use std::io::{self, ErrorKind, Write};

use serde::Serialize;

use crate::untrusted_text::{escape_json, escape_lines};

/// Writes lines to standard output, with control characters escaped. A closed pipe (`marqueue list | head -1`) is no
/// error: the reader has what it wanted.
///
/// # Errors
/// Any other error of the write.
pub fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    check_pipe(out.write_all(escape_lines(text).as_bytes()).and_then(|()| out.flush())).map(drop)
}

/// Writes one JSON document to standard output.
///
/// # Errors
/// As [`print()`].
pub fn print_json<T: Serialize + ?Sized>(value: &T) -> io::Result<()> {
    let mut text = serde_json::to_string_pretty(value)?;
    text.push('\n');
    print(&escape_json(&text))
}

/// Writes a line to standard error, with control characters escaped. An error of the write is ignored: standard error
/// is the only channel that could report it.
pub fn note(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{}", escape_lines(text));
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
