//! Who opens everything, starts it, drains it, and reports to systemd?

pub mod logging;
