//! Configuration: reads a TOML file and the environment over it, and validates every value.
//!
//! Everything is validated before anything is opened, so a mistake stops the start with one sentence instead of causing
//! a failure hours later. The `config` crate reads the file and lays the environment over it. That crate is lenient, so
//! two modules check what it lets pass: [`merge`] checks the keys of each source before one can replace the other, and
//! [`strict_de`] keeps a value's type, where the crate's own deserializer accepts `socket_mode = 660` and `max_attempts
//! = true`.

mod env;
mod error;
mod instance;
mod listeners;
mod load;
mod merge;
mod parse;
mod raw;
mod secret_file;
mod sections;
mod shared;
mod strict_de;
mod validate;

pub use crate::secret::Secret;
pub use error::{ConfigError, Warning};
pub use instance::{Instance, Limits, Polling, UnknownOutcome, is_loopback};
pub use listeners::{Api, ApiClient, ClientAccess, Connections, HostName, Page, TlsFiles};
pub use secret_file::read_secret_file;
pub use sections::{Config, DropFolder, Log, LogFormat, LogLevel, NotificationChannel, Notify, Retention, Store};
pub use shared::{share_limits, sharing};
