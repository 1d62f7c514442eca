//! Untrusted text (file names, Marketo's messages, rows of a file): escaping, masking and clipping before it is shown,
//! logged or stored.
//!
//! Such text can hold line ends, which forge log lines, and escape sequences, which control the reader's terminal. It
//! can be of any length, and it can hold e-mail addresses.

use std::borrow::Cow;
use std::fmt::Write;

/// The longest file name, in bytes: the limit of Linux, and of the database.
pub const MAX_NAME_BYTES: usize = 255;

/// The longest message of Marketo's that is stored, in bytes. Its own messages have less than 300.
pub const MAX_REMARK_BYTES: usize = 2_000;

/// The longest id of Marketo's that is stored, in bytes. A `requestId` has about 20.
pub const MAX_ID_BYTES: usize = 200;

/// Returns whether a character affects the display instead of being shown: control characters (C0, DEL and C1), line
/// and paragraph separators, and characters that reorder text (<https://www.unicode.org/reports/tr9/>).
pub fn is_unsafe(letter: char) -> bool {
    letter.is_control()
        || matches!(letter, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{206f}')
}

/// Returns `text` as one line: each unsafe character ([`is_unsafe`]) becomes a Rust escape, such as `\n` or `\u{1b}`.
pub fn escape(text: &str) -> Cow<'_, str> {
    escape_all(text, is_unsafe)
}

/// Escapes as [`escape`] does, but keeps line ends and tabs, for text of several lines.
pub fn escape_lines(text: &str) -> Cow<'_, str> {
    escape_all(text, |letter| is_unsafe(letter) && !matches!(letter, '\n' | '\t'))
}

fn escape_all(text: &str, is_escaped: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(&is_escaped) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for letter in text.chars() {
        match is_escaped(letter) {
            true => escaped.extend(letter.escape_default()),
            false => escaped.push(letter),
        }
    }
    Cow::Owned(escaped)
}

/// Returns an equal JSON document in which unsafe characters ([`is_unsafe`]) are `\u` escapes. JSON itself requires
/// that only for C0.
pub fn escape_json(document: &str) -> Cow<'_, str> {
    let is_escaped = |letter: char| is_unsafe(letter) && letter >= '\u{7f}';
    if !document.contains(is_escaped) {
        return Cow::Borrowed(document);
    }
    let mut escaped = String::with_capacity(document.len() + 16);
    for letter in document.chars() {
        match is_escaped(letter) {
            // All of them are in the basic plane, so four digits do. Writing to a String cannot fail.
            true => drop(write!(escaped, "\\u{:04x}", u32::from(letter))),
            false => escaped.push(letter),
        }
    }
    Cow::Owned(escaped)
}

/// Replaces an e-mail address.
const MASK: &str = "***@***";

/// The longest quoted local part that is looked for, in bytes. RFC 5321 allows 64; percent-encoding triples them.
const MAX_QUOTED_BYTES: usize = 256;

/// Returns `text` with each e-mail address replaced by `***@***`.
///
/// Three forms are found: plain (`john@example.com`), with a quoted local part (`"john doe"@example.com`, RFC 5322),
/// and percent-encoded as in a URL (`john%40example.com`).
pub fn mask_addresses(text: &str) -> Cow<'_, str> {
    let mut masked = String::new();
    let mut copied = 0;
    for at in memchr::memchr2_iter(b'@', b'%', text.as_bytes()) {
        if at < copied {
            continue;
        }
        let (before, rest) = (&text[copied..at], &text[at..]);
        let (local, sign) = if rest.starts_with('@') {
            (plain_local_part(before), 1)
        } else if rest.starts_with("%40") {
            (encoded_local_part(before), 3)
        } else {
            continue;
        };
        let after = &text[at + sign..];
        let domain = &after[..after.find(|letter| !is_of_domain(letter)).unwrap_or(after.len())];
        let domain = domain.trim_end_matches(['.', '-']);
        // "5%40.5" is no address.
        let is_domain = domain.contains('.') && (sign == 1 || !domain.starts_with('.'));
        if local == 0 || !is_domain {
            continue;
        }
        masked += &text[copied..at - local];
        masked += MASK;
        copied = at + sign + domain.len();
    }
    if copied == 0 {
        return Cow::Borrowed(text);
    }
    masked += &text[copied..];
    Cow::Owned(masked)
}

/// Returns the length of the local part at the end of `before`, in bytes; 0 if there is none.
fn plain_local_part(before: &str) -> usize {
    match before.len() - before.trim_end_matches(is_of_local_part).len() {
        // A field of a CSV file doubles its quotes.
        0 if before.ends_with("\"\"") => quoted_local_part(before, "\"\""),
        0 => quoted_local_part(before, "\""),
        length => length,
    }
}

/// Like [`plain_local_part`], before a percent-encoded `@`.
fn encoded_local_part(before: &str) -> usize {
    if before.ends_with("%22") {
        return quoted_local_part(before, "%22");
    }
    let run = &before[before.trim_end_matches(is_of_local_part).len()..];
    // An encoded delimiter, such as the `=` of `email%3Djohn`, stands before the address and not in it.
    let is_delimiter = |at: usize| {
        let byte = run.get(at + 1..at + 3).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        byte.is_some_and(|byte| byte.is_ascii() && !is_of_local_part(char::from(byte)))
    };
    let delimiter = run.rmatch_indices('%').map(|(at, _)| at).find(|&at| is_delimiter(at));
    run.len() - delimiter.map_or(0, |at| at + 3)
}

/// Returns the length of the quoted string at the end of `before`, quotes included; 0 if there is none that holds a
/// letter or a digit.
fn quoted_local_part(before: &str, quote: &str) -> usize {
    let Some(content) = before.strip_suffix(quote) else { return 0 };
    let content = &content[content.floor_char_boundary(content.len().saturating_sub(MAX_QUOTED_BYTES))..];
    // `\"` within the quotes is data.
    let opening = content.rmatch_indices(quote).map(|(at, _)| at).find(|&at| !content[..at].ends_with('\\'));
    let Some(opening) = opening else { return 0 };
    // A quote directly behind a word closes an earlier string: `"a","@example.com"` holds no address.
    let is_word =
        content[opening..].contains(char::is_alphanumeric) && !content[..opening].ends_with(char::is_alphanumeric);
    if is_word && !content[opening..].contains('\n') { content.len() - opening + quote.len() } else { 0 }
}

/// Further characters of a local part, such as `/` and `=`, are left out: they delimit an address more often.
fn is_of_local_part(letter: char) -> bool {
    letter.is_alphanumeric() || "._%+-~!#$&*^".contains(letter)
}

fn is_of_domain(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '.' || letter == '-'
}

/// Masks as [`mask_addresses`] does, within the texts of a JSON document. The document stays valid JSON.
pub fn mask_addresses_in_json(document: &str) -> Cow<'_, str> {
    // `@` itself, as `%40` or as `\u0040`.
    if !document.contains('@') && !document.contains("40") {
        return Cow::Borrowed(document);
    }
    if serde_json::from_str::<serde::de::IgnoredAny>(document).is_err() {
        return mask_between_escapes(document);
    }
    let mut masked = String::with_capacity(document.len());
    let mut rest = document;
    while let Some(at) = rest.find('"') {
        let end = at + literal_bytes(&rest[at..]);
        let literal = &rest[at..end];
        masked += &rest[..at];
        // Decoded first, since `\"` within it may open a quoted local part.
        match serde_json::from_str::<String>(literal) {
            Ok(text) if matches!(mask_addresses(&text), Cow::Owned(_)) => {
                masked += &serde_json::Value::from(mask_addresses(&text)).to_string();
            }
            _ => masked += literal,
        }
        rest = &rest[end..];
    }
    masked += rest;
    Cow::Owned(masked)
}

/// Returns the length of the string literal at the start of a valid JSON text, quotes included.
fn literal_bytes(json: &str) -> usize {
    let mut at = 1;
    while let Some(found) = memchr::memchr2(b'"', b'\\', &json.as_bytes()[at..]) {
        at += found;
        if json.as_bytes()[at] == b'"' {
            return at + 1;
        }
        at += 2;
    }
    json.len()
}

/// Masks what stands between the escapes of a broken JSON document: its `\n` is not the letter `n` of a local part.
fn mask_between_escapes(document: &str) -> Cow<'_, str> {
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

/// Returns a message of Marketo's as it is stored and passed on: without e-mail addresses, and clipped to
/// [`MAX_REMARK_BYTES`] with a note.
pub fn remark(text: &str) -> String {
    // Clipped after masking: in the other order a clipped address could remain at the end.
    clip(&mask_addresses(text), MAX_REMARK_BYTES).into_owned()
}

/// Returns `text`, or as much of its beginning as fits into `max_bytes` bytes together with a note if it is longer.
///
/// A clipped text is left as it is by a second call: it may be stored, read and clipped again. Only where the note
/// alone is longer than `max_bytes` does the result exceed it.
pub fn clip(text: &str, max_bytes: usize) -> Cow<'_, str> {
    if text.len() <= max_bytes {
        return Cow::Borrowed(text);
    }
    let note = format!("… (clipped: it had {} bytes)", text.len());
    let kept = &text[..text.floor_char_boundary(max_bytes.saturating_sub(note.len()))];
    Cow::Owned(format!("{kept}{note}"))
}

/// Returns the file name made of `stem` and `ending`. The stem is shortened if the name would exceed
/// [`MAX_NAME_BYTES`].
pub fn file_name(stem: &str, ending: &str) -> String {
    let room = MAX_NAME_BYTES.saturating_sub(ending.len());
    format!("{}{ending}", &stem[..stem.floor_char_boundary(room)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terminal_control_characters_are_escaped() {
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
    fn escaped_json_has_the_same_value() {
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
    fn addresses_with_a_quoted_local_part_are_masked() {
        for (text, masked) in [
            (r#"Lead "john doe"@example.com is bad"#, "Lead ***@*** is bad"),
            (r#""john \"x\" doe"@example.com"#, "***@***"),
            (r#"1,"""john doe""@example.com",x"#, r#"1,"***@***",x"#),
            (r#""a","john doe"@example.com"#, r#""a",***@***"#),
            (r#""a","@example.com" ""@example.com"#, r#""a","@example.com" ""@example.com"#),
            (r#"says "hello", then @example.com"#, r#"says "hello", then @example.com"#),
        ] {
            assert_eq!(mask_addresses(text), masked);
        }
    }

    #[test]
    fn percent_encoded_addresses_are_masked() {
        for (text, masked) in [
            ("GET /x?email=john%40example.com&y=1", "GET /x?email=***@***&y=1"),
            ("email%3Djohn%2Bx%40mail.example.com%26y", "email%3D***@***%26y"),
            ("%22john%20doe%22%40example.com", "***@***"),
            ("100%40 and 5%40.5 and a%40localhost", "100%40 and 5%40.5 and a%40localhost"),
            ("a@example.com,b%40example.org", "***@***,***@***"),
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
            ("\"john doe\"@example.com\n", "***@***\n"),
            ("john%40example.com\n", "***@***\n"),
            ("@example.com", "@example.com"),
        ] {
            let document = serde_json::json!({ "a": text }).to_string();
            let read: serde_json::Value = serde_json::from_str(&mask_addresses_in_json(&document)).unwrap();
            assert_eq!(read["a"], masked);
        }
    }

    #[test]
    fn long_text_is_clipped_between_characters_and_says_so() {
        assert_eq!(clip("größe", 7), "größe");
        assert_eq!(clip("größe", 3), "… (clipped: it had 7 bytes)");
        let long = "größe ".repeat(10);
        assert_eq!(clip(&long, 33), "gr… (clipped: it had 80 bytes)");
        let kept = remark(&"a@example.com ".repeat(100_000));
        assert!(kept.len() <= MAX_REMARK_BYTES && kept.ends_with("(clipped: it had 800000 bytes)"), "{kept}");
    }

    #[test]
    fn clipped_text_is_not_clipped_again() {
        for length in 190..260 {
            let once = clip(&"ü".repeat(length), MAX_ID_BYTES).into_owned();
            assert_eq!(clip(&once, MAX_ID_BYTES), once);
            let remark_once = remark(&"x".repeat(10 * length));
            assert_eq!(remark(&remark_once), remark_once);
        }
    }

    #[test]
    fn long_file_name_is_shortened_between_characters() {
        assert_eq!(file_name("leads", "-failed-rows.csv"), "leads-failed-rows.csv");
        let name = file_name(&"ü".repeat(200), "-failed-rows.csv");
        assert_eq!((name.len(), name.ends_with("ü-failed-rows.csv")), (254, true));
    }
}
