//! Uptime: how long the machine has been running, read from Linux.

use std::fs;
use std::sync::LazyLock;
use std::time::Instant;

/// How long the machine has been running. Two uptimes can be compared where they are of the same boot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uptime {
    /// The id of the boot that it counts from.
    pub boot: String,
    /// Milliseconds, suspended time included.
    pub ms: i64,
}

impl Uptime {
    /// Reads the uptime from Linux. Where that fails, it returns the process's own running time with a boot id of its
    /// own.
    pub(super) fn of_the_machine() -> Uptime {
        static PROCESS: LazyLock<(String, Instant)> =
            LazyLock::new(|| (format!("process-{:032x}", rand::random::<u128>()), Instant::now()));
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok();
        let seconds = fs::read_to_string("/proc/uptime").ok();
        let seconds = seconds.as_deref().and_then(|text| text.split(' ').next()?.parse::<f64>().ok());
        match (boot, seconds) {
            (Some(boot), Some(seconds)) => Uptime { boot: boot.trim().to_owned(), ms: (seconds * 1000.0) as i64 },
            _ => {
                let ms = i64::try_from(PROCESS.1.elapsed().as_millis()).unwrap_or(i64::MAX);
                Uptime { boot: PROCESS.0.clone(), ms }
            }
        }
    }
}
