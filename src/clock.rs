//! Clock: the only code that reads the machine's time; all other code takes it as an argument.
//!
//! Wall-clock times are whole milliseconds, as in the database. Durations that must not depend on a clock that can be
//! set (the window of calls, a token's lifetime) are measured with [`std::time::Instant`] where they are used.

mod monitor;
mod start_time;
mod time_source;
mod timestamps;
mod uptime;

pub use monitor::{ClockReading, ClockRecord, Observation, PATIENCE};
pub use start_time::StartTime;
pub use time_source::Clock;
pub use timestamps::{TimestampSchema, after, from_ms};
pub use uptime::Uptime;
