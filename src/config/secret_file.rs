//! Secrets from values or files: reads a key that is given as it is, or as the path of a file that holds it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::config::error::{KeyError, Warning};
use crate::secret::Secret;

/// Advice for a secret that every user of this machine can read.
pub(super) const SECRET_FILE_ADVICE: &str =
    "remove the permission (chmod o-r), and replace the secret if others use this machine";

/// Returns the value of `key`, which is given inline or, as `{key}_file`, by the path of a file.
///
/// A line end at the end of the file is removed, because editors and `echo` write one.
pub(super) fn from_value_or_file(
    key: &str,
    given: Option<Secret>,
    file: Option<PathBuf>,
    warnings: &mut Vec<Warning>,
) -> Result<Secret, KeyError> {
    match (given, file) {
        (Some(_), Some(_)) => Err(KeyError::new(key, format!("and {key}_file are both set: remove one"))),
        (None, None) => Err(KeyError::new(key, format!("is missing: set it or {key}_file"))),
        (Some(secret), None) if secret.expose().is_empty() => Err(KeyError::new(key, "must not be empty")),
        (Some(secret), None) => Ok(secret),
        (None, Some(path)) => {
            let file_key = format!("{key}_file");
            let secret = read_secret_file(&path).map_err(|fault| KeyError::new(&file_key, format!("names {fault}")))?;
            if key.ends_with("secret") && is_world_readable(&path) {
                let text = format!("{file_key} names {}, which every user of this machine can read", path.display());
                warnings.push(Warning::new(text, SECRET_FILE_ADVICE));
            }
            Ok(secret)
        }
    }
}

/// Reads a secret from a file, without a line end at its end.
///
/// # Errors
/// The file cannot be read or is empty; the text begins with its path.
pub fn read_secret_file(path: &Path) -> Result<Secret, String> {
    let text =
        fs::read_to_string(path).map_err(|cause| format!("{}, which cannot be read: {cause}", path.display()))?;
    match text.trim_end_matches(['\r', '\n']) {
        "" => Err(format!("{}, which is empty", path.display())),
        secret => Ok(Secret::new(secret)),
    }
}

/// Returns the client id of `table`, given inline or by a file.
pub(super) fn client_id(
    table: &str,
    given: Option<Secret>,
    file: Option<PathBuf>,
    warnings: &mut Vec<Warning>,
) -> Result<String, KeyError> {
    from_value_or_file(&format!("{table}.client_id"), given, file, warnings).map(|id| id.expose().to_owned())
}

/// Returns the client secret of `table`, given inline or by a file.
pub(super) fn client_secret(
    table: &str,
    given: Option<Secret>,
    file: Option<PathBuf>,
    warnings: &mut Vec<Warning>,
) -> Result<Secret, KeyError> {
    from_value_or_file(&format!("{table}.client_secret"), given, file, warnings)
}

/// Returns whether every user of this machine can read a file. A file whose permissions cannot be read gets no warning:
/// it was just read.
pub(super) fn is_world_readable(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o004 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_never_printed() {
        let secret = Secret::new("hunter2");
        assert_eq!(format!("{secret} {secret:?} {:#?}", Some(&secret)), "[secret] [secret] Some(\n    [secret],\n)");
        assert_eq!(secret.expose(), "hunter2");
    }

    #[test]
    fn only_the_line_end_of_a_secret_file_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        for (content, expected) in [("a b", "a b"), ("ab\n", "ab"), (" ab \r\n", " ab "), ("00123", "00123")] {
            fs::write(&path, content).unwrap();
            let secret = from_value_or_file("k.client_secret", None, Some(path.clone()), &mut Vec::new()).unwrap();
            assert_eq!(secret.expose(), expected);
        }
    }

    #[test]
    fn a_secret_file_that_is_missing_or_empty_is_named_with_its_key() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        let read = || from_value_or_file("k.client_secret", None, Some(path.clone()), &mut Vec::new()).unwrap_err();
        let shown = path.display();
        assert_eq!(
            read().to_string(),
            format!("k.client_secret_file names {shown}, which cannot be read: No such file or directory (os error 2)")
        );
        fs::write(&path, "\n").unwrap();
        assert_eq!(read().to_string(), format!("k.client_secret_file names {shown}, which is empty"));
    }

    #[test]
    fn a_secret_file_that_everyone_can_read_gives_a_warning() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        fs::write(&path, "x").unwrap();
        for (mode, expected) in [(0o600, 0), (0o640, 0), (0o644, 1)] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let mut warnings = Vec::new();
            from_value_or_file("k.client_secret", None, Some(path.clone()), &mut warnings).unwrap();
            assert_eq!(warnings.len(), expected, "{mode:o}");
        }
    }
}
