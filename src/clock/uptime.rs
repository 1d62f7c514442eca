//! Uptime: how long the machine has been running, read from Linux.

use std::fs;
use std::sync::LazyLock;

use rustix::time::{ClockId, clock_gettime};

/// How long the machine has been running. Two uptimes can be compared where they are of the same boot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uptime {
    /// The id of the boot that it counts from.
    pub boot: String,
    /// Milliseconds, suspended time included.
    pub ms: i64,
}

impl Uptime {
    /// Reads the uptime from Linux. Where the id of the boot cannot be read, this process has one of its own.
    pub(super) fn of_the_machine() -> Uptime {
        // It is the same as long as the process runs, and each call to Marketo needs it.
        static BOOT: LazyLock<String> = LazyLock::new(|| {
            fs::read_to_string("/proc/sys/kernel/random/boot_id")
                .map_or_else(|_| format!("process-{:032x}", rand::random::<u128>()), |boot| boot.trim().to_owned())
        });
        let since_boot = clock_gettime(ClockId::Boottime);
        Uptime { boot: BOOT.clone(), ms: since_boot.tv_sec * 1000 + since_boot.tv_nsec / 1_000_000 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uptime_is_the_one_that_the_kernel_reports() {
        let kernel = || {
            let text = fs::read_to_string("/proc/uptime").unwrap();
            (text.split(' ').next().unwrap().parse::<f64>().unwrap() * 1000.0) as i64
        };
        let (before, uptime, after) = (kernel(), Uptime::of_the_machine(), kernel());
        // The kernel reports hundredths of a second.
        assert!((before..=after + 10).contains(&uptime.ms), "{before} {uptime:?} {after}");
        assert_eq!(uptime.boot, fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap().trim());
        assert_eq!(uptime.boot, Uptime::of_the_machine().boot);
    }
}
