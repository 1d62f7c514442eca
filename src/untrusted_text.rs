//! Text from outside (file names, Marketo's words, rows of a file): made fit to be shown, logged and kept.
//!
//! Such text can hold line ends, which forge lines of a log, and escape sequences, which steer the terminal of whoever
//! reads it. It can be of any length, and it can hold an e-mail address.

use std::borrow::Cow;
use std::fmt::Write;

/// The longest name of a file, in bytes: what Linux takes, and what the database keeps.
pub const MAX_NAME_BYTES: usize = 255;

/// The longest remark of Marketo's that is kept, in bytes. Its own messages have less than 300.
pub const MAX_REMARK_BYTES: usize = 2_000;

/// The longest id of Marketo's that is kept, in bytes. A `requestId` has about 20.
pub const MAX_ID_BYTES: usize = 200;

/// Whether a character acts on what shows it instead of being shown: control characters (C0, DEL and C1), the
/// separators of lines and paragraphs, and what reorders text (<https://www.unicode.org/reports/tr9/>).
pub fn is_unsafe(letter: char) -> bool {
    letter.is_control()
        || matches!(letter, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{206f}')
}

/// `text` as one line: each character that [`is_unsafe`] is shown as Rust writes it, such as `\n` or `\u{1b}`.
pub fn escape(text: &str) -> Cow<'_, str> {
    escape_all(text, is_unsafe)
}

/// Like [`escape`], for text of several lines: line ends and tabs stay.
pub fn escape_lines(text: &str) -> Cow<'_, str> {
    escape_all(text, |letter| is_unsafe(letter) && !matches!(letter, '\n' | '\t'))
}

fn escape_all(text: &str, acts: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(&acts) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for letter in text.chars() {
        match acts(letter) {
            true => escaped.extend(letter.escape_default()),
            false => escaped.push(letter),
        }
    }
    Cow::Owned(escaped)
}

/// A JSON document with what [`is_unsafe`] in its texts as `\u` escapes, so that it says the same. JSON itself leaves
/// all but C0 as it is.
pub fn escape_json(document: &str) -> Cow<'_, str> {
    let acts = |letter: char| is_unsafe(letter) && letter >= '\u{7f}';
    if !document.contains(acts) {
        return Cow::Borrowed(document);
    }
    let mut escaped = String::with_capacity(document.len() + 16);
    for letter in document.chars() {
        match acts(letter) {
            // All of them are of the basic plane. Writing to text does not fail.
            true => drop(write!(escaped, "\\u{:04x}", u32::from(letter))),
            false => escaped.push(letter),
        }
    }
    Cow::Owned(escaped)
}

/// What stands for an e-mail address.
const MASK: &str = "***@***";

/// `text` with each e-mail address replaced by `***@***`.
pub fn mask_addresses(text: &str) -> Cow<'_, str> {
    let mut masked = String::new();
    let mut copied = 0;
    for at in memchr::memchr_iter(b'@', text.as_bytes()) {
        if at < copied {
            continue;
        }
        let before = &text[copied..at];
        let local = before.len() - before.trim_end_matches(is_of_local_part).len();
        let after = &text[at + 1..];
        let domain = &after[..after.find(|letter| !is_of_domain(letter)).unwrap_or(after.len())];
        let domain = domain.trim_end_matches(['.', '-']);
        if local == 0 || !domain.contains('.') {
            continue;
        }
        masked += &text[copied..at - local];
        masked += MASK;
        copied = at + 1 + domain.len();
    }
    if copied == 0 {
        return Cow::Borrowed(text);
    }
    masked += &text[copied..];
    Cow::Owned(masked)
}

/// What a local part has besides, such as `/` and `=`, stands between an address and what is before it more often.
fn is_of_local_part(letter: char) -> bool {
    letter.is_alphanumeric() || "._%+-~!#$&*^".contains(letter)
}

fn is_of_domain(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '.' || letter == '-'
}

/// [`mask_addresses`] within the texts of a JSON document, whose own escapes are no part of an address.
pub fn mask_addresses_in_json(document: &str) -> Cow<'_, str> {
    if !document.contains('@') {
        return Cow::Borrowed(document);
    }
    let mut masked = String::with_capacity(document.len());
    let mut rest = document;
    while let Some(at) = rest.find('\\') {
        let escape = if rest[at + 1..].starts_with('u') { 6 } else { 2 };
        let end = rest.ceil_char_boundary(at + escape);
        masked += &mask_addresses(&rest[..at]);
        masked += &rest[at..end];
        rest = &rest[end..];
    }
    masked += &mask_addresses(rest);
    Cow::Owned(masked)
}

/// A remark of Marketo's as it is kept and passed on: of at most [`MAX_REMARK_BYTES`], which it then says, and without
/// e-mail addresses.
pub fn remark(text: &str) -> String {
    // The other way round half an address could be left at the end.
    clip(&mask_addresses(text), MAX_REMARK_BYTES).into_owned()
}

/// The beginning of `text` if it has more than `max_bytes`, with a note behind it that says so.
pub fn clip(text: &str, max_bytes: usize) -> Cow<'_, str> {
    if text.len() <= max_bytes {
        return Cow::Borrowed(text);
    }
    let kept = &text[..text.floor_char_boundary(max_bytes)];
    Cow::Owned(format!("{kept}… (clipped: it had {} bytes)", text.len()))
}

/// `stem` and `ending` as the name of a file, of which the stem is shortened where it would be too long.
pub fn file_name(stem: &str, ending: &str) -> String {
    let room = MAX_NAME_BYTES.saturating_sub(ending.len());
    format!("{}{ending}", &stem[..stem.floor_char_boundary(room)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_acts_on_a_terminal_is_shown_escaped() {
        for (text, shown) in [
            ("plain größe 名前.csv", "plain größe 名前.csv"),
            ("a\x1b[2J\nb\r\tc\x7f", r"a\u{1b}[2J\nb\r\tc\u{7f}"),
            ("c1 \u{9b}2J \u{85}", r"c1 \u{9b}2J \u{85}"),
            ("bidi \u{202e}vsc.\u{2066}\u{200f}", r"bidi \u{202e}vsc.\u{2066}\u{200f}"),
            ("lines \u{2028} \u{2029}", r"lines \u{2028} \u{2029}"),
        ] {
            assert_eq!(escape(text), shown);
        }
        assert_eq!(escape_lines("a\tb\n\x1b\r\n"), "a\tb\n\\u{1b}\\r\n");
    }

    #[test]
    fn json_says_the_same_when_it_is_escaped() {
        for text in ["\x1b\n\"\\", "\u{9b}2J\u{7f}", "\u{202e}\u{2028}", "größe"] {
            let document = serde_json::json!({ "a": text }).to_string();
            let escaped = escape_json(&document);
            assert!(!escaped.contains(is_unsafe), "{escaped}");
            assert_eq!(serde_json::from_str::<serde_json::Value>(&escaped).unwrap()["a"], text);
        }
    }

    #[test]
    fn e_mail_addresses_are_masked_and_nothing_else() {
        for (text, masked) in [
            ("Lead 'bob.o+x@mail.example.com' is bad.", "Lead '***@***' is bad."),
            ("a@example.com,b@example.org", "***@***,***@***"),
            ("email=jörg@müller.de; x", "email=***@***; x"),
            ("ends in a@example.com.", "ends in ***@***."),
            ("<a@b@c.de>", "<a@***@***>"),
            ("root@localhost @ @x.de a@", "root@localhost @ @x.de a@"),
            ("a@b.c@d.e", "***@***@d.e"),
        ] {
            assert_eq!(mask_addresses(text), masked);
        }
    }

    #[test]
    fn masking_leaves_a_json_document_whole() {
        for (text, masked) in [
            ("\nbob@example.com", "\n***@***"),
            ("\u{1}bob@example.com\\bob@example.com\"", "\u{1}***@***\\***@***\""),
            ("no address\n", "no address\n"),
        ] {
            let document = serde_json::json!({ "a": text }).to_string();
            let read: serde_json::Value = serde_json::from_str(&mask_addresses_in_json(&document)).unwrap();
            assert_eq!(read["a"], masked);
        }
    }

    #[test]
    fn long_text_is_clipped_between_characters_and_says_so() {
        assert_eq!(clip("größe", 7), "größe");
        assert_eq!(clip("größe", 3), "gr… (clipped: it had 7 bytes)");
        let kept = remark(&"a@example.com ".repeat(100_000));
        assert!(kept.len() < 2_100 && kept.ends_with("(clipped: it had 800000 bytes)"), "{kept}");
    }

    #[test]
    fn long_file_name_is_shortened_between_characters() {
        assert_eq!(file_name("leads", "-failed-rows.csv"), "leads-failed-rows.csv");
        let name = file_name(&"ü".repeat(200), "-failed-rows.csv");
        assert_eq!((name.len(), name.ends_with("ü-failed-rows.csv")), (254, true));
    }
}
