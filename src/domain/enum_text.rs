//! Names of enums: the error of a text that names no value, and how a value is found by its name.

/// A text that names no value of an enum. The message lists the valid names.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown {what} \"{value}\": it is one of {choices}")]
pub struct ParseEnumError {
    /// What the enum is, such as `format`.
    pub what: &'static str,
    /// The invalid text.
    pub value: String,
    /// The valid names, separated by commas.
    pub choices: String,
}

/// Finds the value with this name among `all`.
///
/// # Errors
/// [`ParseEnumError`] where no value has the name.
pub(crate) fn parse_enum<T>(what: &'static str, text: &str, all: &[T]) -> Result<T, ParseEnumError>
where
    T: Copy + Into<&'static str>,
{
    let name = |value: T| -> &'static str { value.into() };
    all.iter().copied().find(|&value| name(value) == text).ok_or_else(|| ParseEnumError {
        what,
        value: text.to_owned(),
        choices: all.iter().map(|&value| name(value)).collect::<Vec<_>>().join(", "),
    })
}
