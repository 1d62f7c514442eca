//! Memory release: gives memory back to the system that the allocator keeps after a peak.
//!
//! glibc returns freed memory only from the end of each of its heaps. After many files at once some small allocation stays
//! near that end, and tens of megabytes below it would stay resident for days.

use std::fs;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

/// How often the resident memory is read.
const INTERVAL: Duration = Duration::from_secs(1);

/// By how much the resident memory has to grow before any is given back.
const MIN_GROWTH_KIB: u64 = 8 * 1024;

/// So many readings after a release comes another one. Threads for blocking work keep their memory until they end, ten
/// seconds after their last work.
const READINGS_TO_SECOND_RELEASE: u32 = 12;

/// With a larger change since the last reading the daemon still allocates, and would need the memory again.
const MAX_CHANGE_KIB: u64 = 512;

/// Reads the resident memory, and releases what is free once it has grown and no longer changes. Ends with `stop`.
pub(super) async fn release_after_peaks(stop: CancellationToken) {
    let Some(mut watch) = resident_kib().map(MemoryWatch::new) else { return };
    let watching = async {
        loop {
            tokio::time::sleep(INTERVAL).await;
            let Some(resident) = resident_kib() else { continue };
            if watch.is_due(resident) {
                // It locks each heap in turn, for a millisecond or more.
                let released = tokio::task::spawn_blocking(release_free_memory).await;
                let after = resident_kib().unwrap_or(resident);
                watch.reset_to(after);
                tracing::debug!(before_kib = resident, after_kib = after, ?released, "free memory released");
            }
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = watching => {}
    }
}

/// Resident memory in KiB.
struct MemoryWatch {
    /// The least since the last release.
    least: u64,
    /// The last reading.
    last: u64,
    /// How many readings are left to the second release.
    second_release_in: Option<u32>,
}

impl MemoryWatch {
    fn new(resident: u64) -> MemoryWatch {
        MemoryWatch { least: resident, last: resident, second_release_in: None }
    }

    /// Takes a reading. Returns whether memory is to be released.
    fn is_due(&mut self, resident: u64) -> bool {
        let is_stable = resident.abs_diff(self.last) <= MAX_CHANGE_KIB;
        self.last = resident;
        self.least = self.least.min(resident);
        if is_stable && resident >= self.least + MIN_GROWTH_KIB {
            self.second_release_in = Some(READINGS_TO_SECOND_RELEASE);
            return true;
        }
        self.second_release_in = self.second_release_in.and_then(|readings| readings.checked_sub(1));
        self.second_release_in == Some(0)
    }

    /// Begins again with what is resident after a release.
    fn reset_to(&mut self, resident: u64) {
        (self.least, self.last) = (resident, resident);
    }
}

/// Returns the resident memory of this process; none where the kernel does not say.
fn resident_kib() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

/// Lets glibc return the free pages of all its heaps. Returns whether there were any.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[expect(unsafe_code, reason = "no library has a safe function for it")]
fn release_free_memory() -> bool {
    // SAFETY: it takes a number of bytes to keep, and locks each heap while it works on it.
    unsafe { libc::malloc_trim(0) == 1 }
}

/// Other allocators return free memory by themselves.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn release_free_memory() -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_released_once_it_has_grown_and_is_stable() {
        let mut watch = MemoryWatch::new(20_000);
        let readings = [20_100, 40_000, 70_000, 70_400];
        assert_eq!(readings.map(|reading| watch.is_due(reading)), [false, false, false, true]);
        watch.reset_to(24_000);
        assert_eq!([30_000, 30_000].map(|reading| watch.is_due(reading)), [false, false]);
        // What is in use is not asked for again and again.
        assert_eq!([40_000, 40_000].map(|reading| watch.is_due(reading)), [false, true]);
        watch.reset_to(40_000);
        assert_eq!([40_000, 41_000, 41_000].map(|reading| watch.is_due(reading)), [false, false, false]);
        // Less than before is the new least.
        assert_eq!([20_000, 29_000, 29_000].map(|reading| watch.is_due(reading)), [false, false, true]);
    }

    #[test]
    fn a_second_release_follows_once() {
        let mut watch = MemoryWatch::new(20_000);
        assert_eq!([40_000, 40_000].map(|reading| watch.is_due(reading)), [false, true]);
        watch.reset_to(28_000);
        let due: Vec<_> = (1..40).filter(|_| watch.is_due(28_000)).collect();
        assert_eq!(due, [12]);
    }

    #[test]
    fn resident_memory_is_read() {
        assert!(resident_kib().unwrap() > 1_000);
    }
}
