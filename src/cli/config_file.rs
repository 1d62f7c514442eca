//! Configuration file of `serve` and `doctor`: the one that is named, or that of the package.

use std::fmt;
use std::path::{Path, PathBuf};

use clap::Args;

use crate::config::{Config, ConfigError};

/// Where packages install the configuration.
const INSTALLED: &str = "/etc/marqueue/marqueue.toml";

/// The option of commands that read the configuration.
#[derive(Args, Clone, Debug)]
pub struct ConfigOption {
    /// The configuration file, in TOML [default: /etc/marqueue/marqueue.toml if it exists, else only the environment]
    #[arg(long, short, value_name = "FILE", env = "MARQUEUE_CONFIG", hide_env_values = true)]
    config: Option<PathBuf>,
}

/// The file from which the configuration is read, beneath the environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigFile(Option<PathBuf>);

impl ConfigOption {
    /// Returns the file that is named, or the installed one if it exists.
    pub fn file(self) -> ConfigFile {
        ConfigFile::choose(self.config, Path::new(INSTALLED))
    }
}

impl ConfigFile {
    fn choose(named: Option<PathBuf>, installed: &Path) -> ConfigFile {
        // One that may not be looked at is chosen too: its error is better than a start without it.
        ConfigFile(named.or_else(|| installed.try_exists().unwrap_or(true).then(|| installed.to_owned())))
    }

    /// Reads the configuration.
    ///
    /// # Errors
    /// [`ConfigError`]
    pub fn load(&self) -> Result<Config, ConfigError> {
        Config::load(self.0.as_deref())
    }
}

impl fmt::Display for ConfigFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(path) => path.display().fmt(f),
            None => f.write_str("the environment"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_named_file_precedes_the_installed_one() {
        let folder = tempfile::tempdir().unwrap();
        let installed = folder.path().join("marqueue.toml");
        let named = PathBuf::from("other.toml");
        assert_eq!(ConfigFile::choose(None, &installed).to_string(), "the environment");
        std::fs::write(&installed, "").unwrap();
        assert_eq!(ConfigFile::choose(None, &installed), ConfigFile(Some(installed.clone())));
        assert_eq!(ConfigFile::choose(Some(named.clone()), &installed), ConfigFile(Some(named)));
    }
}
