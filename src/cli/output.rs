//! How does text leave? Standard output whose reader may have left, and notes on standard error.

use std::io::{self, ErrorKind, Write};

use serde::Serialize;

use crate::untrusted_text::{escape_json, escape_lines};

/// Writes lines to standard output; what could steer a terminal is escaped. A reader that has left (`marqueue list | head -1`) has what it wanted: no error.
pub fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    unless_nobody_reads(out.write_all(escape_lines(text).as_bytes()).and_then(|()| out.flush())).map(drop)
}

/// Writes one JSON document to standard output.
pub fn print_json<T: Serialize + ?Sized>(value: &T) -> io::Result<()> {
    let mut text = serde_json::to_string_pretty(value)?;
    text.push('\n');
    print(&escape_json(&text))
}

/// Says something to the person; what could steer a terminal is escaped. Where standard error is closed there is nobody to tell.
pub fn note(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{}", escape_lines(text));
}

/// Whether somebody still reads.
pub fn unless_nobody_reads(written: io::Result<()>) -> io::Result<bool> {
    match written {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error),
    }
}
