//! Display width of text: measuring, padding, shortening and wrapping in columns of a terminal.
//!
//! A wide letter takes two columns, and a combining mark none. Letters that are written from right to left take as many
//! columns as others.

use console::measure_text_width;

/// Stands for the part of a text that was left out. It is one column wide.
const ELLIPSIS: &str = "…";

/// Returns the number of columns that a text takes.
pub fn width(text: &str) -> usize {
    measure_text_width(text)
}

fn letter_width(letter: char) -> usize {
    width(letter.encode_utf8(&mut [0; 4]))
}

/// Returns the blanks that widen a text to `columns`.
pub fn padding(text: &str, columns: usize) -> String {
    " ".repeat(columns.saturating_sub(width(text)))
}

/// Shortens a text to `columns` in its middle: of a file's name, both its beginning and its extension distinguish it
/// from others.
pub fn shorten_middle(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let room = columns.saturating_sub(1);
    if columns == 0 {
        return String::new();
    }
    let tail_room = room / 2;
    let mut tail: Vec<char> = Vec::new();
    let mut taken = 0;
    for letter in text.chars().rev() {
        taken += letter_width(letter);
        if taken > tail_room {
            break;
        }
        tail.push(letter);
    }
    // A combining mark has lost its letter here.
    while tail.last().is_some_and(|&letter| letter_width(letter) == 0) {
        tail.pop();
    }
    let tail: String = tail.into_iter().rev().collect();
    let head = prefix(text, room - width(&tail));
    format!("{head}{ELLIPSIS}{tail}")
}

/// Shortens a text to `columns` at its end. Escape sequences of colours are kept.
pub fn shorten_end(text: &str, columns: usize) -> String {
    console::truncate_str(text, columns, if columns == 0 { "" } else { ELLIPSIS }).into_owned()
}

/// Returns as much of the text's beginning as fits into `columns`.
fn prefix(text: &str, columns: usize) -> &str {
    let mut taken = 0;
    for (at, letter) in text.char_indices() {
        taken += letter_width(letter);
        if taken > columns {
            return &text[..at];
        }
    }
    text
}

/// Wraps a text into lines of at most `columns`, at blanks where there are any.
pub fn wrap(text: &str, columns: usize) -> Vec<String> {
    let columns = columns.max(2);
    let mut lines = Vec::new();
    let mut line = String::new();
    for word in text.split(' ') {
        if !line.is_empty() && width(&line) + 1 + width(word) > columns {
            lines.push(std::mem::take(&mut line));
        } else if !line.is_empty() {
            line.push(' ');
        }
        let mut word = word;
        while width(&line) + width(word) > columns {
            let part = prefix(word, columns - width(&line));
            line += part;
            word = &word[part.len()..];
            lines.push(std::mem::take(&mut line));
        }
        line += word;
    }
    lines.push(line);
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_name_loses_its_middle() {
        for (text, columns, short) in [
            ("people.csv", 10, "people.csv"),
            ("people-2026-08-01.csv", 12, "people…1.csv"),
            ("people-2026-08-01.csv", 3, "p…v"),
            ("people-2026-08-01.csv", 1, "…"),
            ("people-2026-08-01.csv", 0, ""),
            // Wide letters: two columns each.
            ("顧客名簿二〇二六年.csv", 13, "顧客名…年.csv"),
            // From right to left.
            ("לקוחות-של-החברה.csv", 11, "לקוחו…ה.csv"),
            // A combining mark stays with its letter.
            ("nnnnnne\u{301}e\u{301}", 4, "nn…e\u{301}"),
        ] {
            let found = shorten_middle(text, columns);
            assert!(width(&found) <= columns, "{found}");
            assert_eq!(found, short, "{text} in {columns}");
        }
    }

    #[test]
    fn wrapped_lines_fit_and_lose_nothing() {
        assert_eq!(wrap("the header has 5 fields", 10), ["the header", "has 5", "fields"]);
        assert_eq!(wrap("a https://example.com/path b", 8), ["a", "https://", "example.", "com/path", "b"]);
        assert_eq!(wrap("顧客名簿", 5), ["顧客", "名簿"]);
        assert_eq!(wrap("", 5), [""]);
    }
}
