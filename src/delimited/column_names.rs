//! Column names: checks them against Marketo's API names, and decides which may be shown in a message.
//!
//! Marketo's API names of fields begin with a letter and hold letters, digits and `_`, for people, custom objects and
//! program members alike (Adobe, "Field Management": the API name of a field).

use std::fmt;

/// Names that only a header holds: Marketo's own fields, as people write them, in small letters and without blanks.
const WELL_KNOWN: [&str; 22] = [
    "email",
    "emailaddress",
    "firstname",
    "lastname",
    "fullname",
    "phone",
    "phonenumber",
    "mobilephone",
    "company",
    "companyname",
    "jobtitle",
    "postalcode",
    "leadid",
    "leadsource",
    "leadscore",
    "unsubscribed",
    "dateofbirth",
    "twitterid",
    "facebookid",
    "linkedinid",
    "sfdcleadid",
    "sfdccontactid",
];

/// The reason for which a name cannot be an API name of Marketo's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameError {
    /// `|`, which some programs put between columns.
    Pipe,
    /// A blank within the name.
    Blank,
    /// A character that does not show, or a line end.
    Invisible(char),
    /// `“` and its like, where `"` may be meant.
    CurlyQuote(char),
    /// The first character is a digit.
    Digit,
    /// Any other character that no name has, or that begins none.
    Other(char),
}

/// A column in a message. Its name is left out if it may be a value, because the file lacks its header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnName {
    /// Counted from 1.
    pub column: usize,
    /// The name, unless it may be a value.
    pub name: Option<String>,
}

impl fmt::Display for ColumnName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "column {} of the header, {name:?},", self.column),
            None => write!(f, "column {} of the header", self.column),
        }
    }
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            NameError::Pipe => write!(
                f,
                "has a \"|\" in its name: where that separates the columns, save the file with commas, tabs or semicolons"
            ),
            NameError::Blank => {
                write!(f, "has a blank in its name: write the field's API name, which has letters, digits and _")
            }
            NameError::Invisible(letter) => {
                write!(f, "has a character in its name that does not show (U+{:04X}): take it out", u32::from(letter))
            }
            NameError::CurlyQuote(letter) => write!(
                f,
                "has a curly quote (U+{:04X}) in its name: only straight quotes (\") quote a field",
                u32::from(letter)
            ),
            NameError::Digit => {
                write!(f, "begins with a digit, as no API name of a field does: does the file lack its header?")
            }
            NameError::Other(letter) => write!(
                f,
                "has {letter:?} (U+{:04X}) in its name: an API name begins with a letter and has letters, digits and _",
                u32::from(letter)
            ),
        }
    }
}

/// Returns why `name` is no API name; `None` if it is one.
pub(super) fn check_name(name: &str) -> Option<NameError> {
    let first = name.chars().next()?;
    let is_inner = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    // An invisible character is the hardest to find, so it is reported before others.
    if let Some(letter) = name.chars().find(|&letter| is_invisible(letter)) {
        return Some(NameError::Invisible(letter));
    }
    let bad = name.chars().find(|&letter| !is_inner(letter));
    match bad {
        Some('|') => Some(NameError::Pipe),
        Some(' ') => Some(NameError::Blank),
        Some(letter) if is_curly_quote(letter) => Some(NameError::CurlyQuote(letter)),
        Some(_) | None if first.is_ascii_digit() => Some(NameError::Digit),
        Some(letter) => Some(NameError::Other(letter)),
        None if !first.is_ascii_alphabetic() => Some(NameError::Other(first)),
        None => None,
    }
}

/// Returns whether the names of a header may be shown in messages: they are certainly names, and not values of a first
/// row in a file without a header.
pub(super) fn may_be_displayed(names: &[String]) -> bool {
    names.iter().all(|name| check_name(name).is_none()) || names.iter().any(|name| is_well_known(name))
}

/// Returns the column of `index` for a message.
pub(super) fn displayed(names: &[String], index: usize) -> ColumnName {
    let name = may_be_displayed(names).then(|| clip(&names[index]));
    ColumnName { column: index + 1, name }
}

/// Returns a name shortened to fit in a sentence.
pub(super) fn clip(name: &str) -> String {
    match name.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", &name[..end]),
        None => name.to_owned(),
    }
}

/// Returns `text` without the names of a header, if these may be values: for a file without a header, Marketo's message
/// about an unknown field quotes the first row.
///
/// A value is replaced only where no letter or digit is next to it, so that no longer word is cut.
pub fn without_values(text: &str, names: &[String]) -> String {
    if may_be_displayed(names) {
        return text.to_owned();
    }
    let mut values: Vec<&str> = names.iter().map(|name| name.trim()).filter(|name| !name.is_empty()).collect();
    // Longer values first, because a value may be the beginning of a longer one.
    values.sort_by_key(|value| std::cmp::Reverse(value.len()));
    values.into_iter().fold(text.to_owned(), |text, value| without_value(&text, value))
}

fn without_value(text: &str, value: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(value) {
        let (before, found) = rest.split_at(at);
        let after = &found[value.len()..];
        let begins_word =
            !before.ends_with(char::is_alphanumeric) && (at > 0 || !kept.ends_with(char::is_alphanumeric));
        let is_whole = begins_word && !after.starts_with(char::is_alphanumeric);
        kept += before;
        kept += if is_whole { WITHHELD } else { value };
        rest = after;
    }
    kept + rest
}

/// Replaces a value in a message.
const WITHHELD: &str = "…";

fn is_well_known(name: &str) -> bool {
    let letters: String = name.chars().filter(|letter| letter.is_alphanumeric()).flat_map(char::to_lowercase).collect();
    // An e-mail address that begins or ends with such a word is not a name.
    !name.contains('@') && WELL_KNOWN.contains(&letters.as_str())
}

pub(super) fn is_curly_quote(letter: char) -> bool {
    matches!(letter, '\u{2018}'..='\u{201f}' | '\u{ab}' | '\u{bb}')
}

/// Control characters, blanks other than the usual one, and characters without a shape of their own (Unicode's
/// `Default_Ignorable_Code_Point`, most of which are of the category Cf).
fn is_invisible(letter: char) -> bool {
    letter.is_control()
        || letter.is_whitespace() && letter != ' '
        || matches!(
            letter,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
                | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{2800}' | '\u{3164}'
                | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e0fff}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn api_names_have_no_fault() {
        for name in ["email", "Sales_Price__c", "mktoName", "x", "a1", "myPMCF__c", "vin_c"] {
            assert_eq!(check_name(name), None, "{name}");
        }
    }

    #[test]
    fn other_names_have_the_most_helpful_fault() {
        for (name, expected) in [
            ("email|name", NameError::Pipe),
            ("First Name", NameError::Blank),
            ("email\u{200b}", NameError::Invisible('\u{200b}')),
            ("first\u{a0}name", NameError::Invisible('\u{a0}')),
            ("name\r", NameError::Invisible('\r')),
            ("a b\u{feff}", NameError::Invisible('\u{feff}')),
            ("“email”", NameError::CurlyQuote('“')),
            ("2019-01-02", NameError::Digit),
            ("1", NameError::Digit),
            ("_id", NameError::Other('_')),
            ("e-mail", NameError::Other('-')),
            ("prénom", NameError::Other('é')),
        ] {
            assert_eq!(check_name(name), Some(expected), "{name:?}");
        }
    }

    #[test]
    fn values_of_a_first_row_are_withheld_from_messages() {
        let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        let row = names(&["Ana", "Ana Maria", "212-555", "a"]);
        for (text, kept) in [
            ("1006: Header field 'Ana Maria' not found", "1006: Header field '…' not found"),
            ("Field Ana, then 212-555: not found, Anaconda", "Field …, then …: not found, Anaconda"),
            ("AnaAna Ana", "AnaAna …"),
        ] {
            assert_eq!(without_values(text, &row), kept);
        }
        let header = names(&["email", "myFeild__c"]);
        let text = "1006: Header field 'myFeild__c' not found";
        assert_eq!(without_values(text, &header), text);
    }

    #[test]
    fn names_are_shown_only_if_they_cannot_be_values() {
        let shown = |names: &[&str]| may_be_displayed(&names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>());
        assert!(shown(&["vin", "color"]));
        assert!(shown(&["Email Address", "First Name"]));
        assert!(!shown(&["ana@example.com", "Ana"]));
        assert!(!shown(&["Ana Maria", "Lopez"]));
        assert!(!shown(&["email@", "Ana"]));
        assert!(!shown(&["email", "Ana", "ana@example.com"].map(|name| if name == "email" { "212" } else { name })));
    }
}
