//! The daemon: opens its parts, starts them, stops them in order, and reports to systemd.

mod connections;
mod controlling_terminal;
pub mod logging;
mod memory_release;
mod reload;
mod running;
mod serve;
mod start;
mod systemd;

pub use connections::connections;
pub use running::Daemon;
pub use serve::serve;
pub use start::StartMode;
