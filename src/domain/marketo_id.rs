//! An id of Marketo in JSON: written as a number where it is one, and read from a number or from text.
//!
//! Inside the program it is text, since nothing is computed with it.

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serializer};
use serde_json::Value;

/// The JSON schema of an id.
#[derive(JsonSchema)]
#[schemars(untagged, inline)]
#[allow(dead_code, reason = "it is only described")]
pub enum Shape {
    /// An id that fits into a number.
    Number(u64),
    /// Any other id.
    Text(String),
}

/// The most digits of an id; more than any of Marketo's has.
pub const MAX_LENGTH: usize = 64;

/// Returns whether `id` can be an id of Marketo: digits and nothing else. It becomes a segment of URL paths, where text
/// such as `..` would lead to another endpoint.
pub fn is_valid(id: &str) -> bool {
    (1..=MAX_LENGTH).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_digit())
}

/// Serializes an id as a number where it is one.
///
/// # Errors
/// The serializer's error.
pub fn serialize<S: Serializer>(id: &Option<String>, output: S) -> Result<S::Ok, S::Error> {
    match id.as_deref().map(|text| (text, text.parse::<u64>())) {
        Some((_, Ok(number))) => output.serialize_u64(number),
        Some((text, Err(_))) => output.serialize_str(text),
        None => output.serialize_none(),
    }
}

/// Deserializes an id from a number or from text; anything else is none.
///
/// # Errors
/// The deserializer's error.
pub fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<Option<String>, D::Error> {
    Ok(match Value::deserialize(input)? {
        Value::String(text) if !text.is_empty() => Some(text),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marketo_id_is_digits_and_nothing_else() {
        for (id, valid) in [
            ("3404", true),
            ("0", true),
            ("", false),
            ("..", false),
            ("-1", false),
            ("1.5", false),
            ("34 04", false),
            ("\u{0663}", false),
            ("12a", false),
        ] {
            assert_eq!(is_valid(id), valid, "{id}");
        }
        assert!(!is_valid(&"1".repeat(MAX_LENGTH + 1)));
    }
}
