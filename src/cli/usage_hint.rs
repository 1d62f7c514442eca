//! Hint behind a usage error: the command line that was probably meant.

use std::path::Path;

use clap::error::{ContextKind, ContextValue};

use crate::domain::Format;

/// Returns a hint for `marqueue add FILE` or `marqueue add FOLDER`, which lacks the target. `arguments` are those
/// behind the program's name.
pub fn usage_hint(error: &clap::Error, arguments: &[String]) -> Option<String> {
    let Some(ContextValue::String(word)) = error.get(ContextKind::InvalidSubcommand) else { return None };
    let position = arguments.iter().position(|argument| argument == word)?;
    let is_add = arguments[..position].iter().any(|argument| argument == "add");
    let names_files = Format::from_filename(word).is_some() || Path::new(word).exists();
    if !is_add || !names_files {
        return None;
    }
    let meant = [&arguments[..position], &["leads".to_owned()], &arguments[position..]].concat();
    Some(format!(
        "did you mean \"marqueue {}\"? The target stands before the files: leads, custom-object NAME or program-members \
         PROGRAM_ID",
        meant.join(" ")
    ))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::Cli;

    fn hint(line: &str) -> Option<String> {
        let arguments: Vec<String> = line.split(' ').map(str::to_owned).collect();
        let error = Cli::try_parse_from(["marqueue".to_owned()].iter().chain(&arguments)).unwrap_err();
        usage_hint(&error, &arguments)
    }

    #[test]
    fn add_without_a_target_suggests_a_command() {
        let text = hint("add people.csv --wait").unwrap();
        assert!(text.starts_with("did you mean \"marqueue add leads people.csv --wait\"? The target"), "{text}");
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().display().to_string();
        assert!(hint(&format!("add {folder}")).unwrap().contains(&format!("add leads {folder}\"")));
        assert!(hint("--json add --priority 3 in/people.tsv").unwrap().contains("--priority 3 leads in/people.tsv\""));
    }

    #[test]
    fn other_errors_get_no_hint() {
        for line in ["add lead", "ad people.csv", "add leads", "list --people.csv"] {
            assert_eq!(hint(line), None, "{line}");
        }
    }
}
