//! Log throttle: limits how often a repeated fault is logged.

use std::time::{Duration, Instant};

/// The minimum time between two log lines of one throttle.
const LOG_INTERVAL: Duration = Duration::from_secs(30);

/// Lets the first occurrence of a fault be logged, and then one every 30 seconds. For faults that can occur a thousand
/// times a second.
#[derive(Debug, Default)]
pub struct LogThrottle {
    last_logged: Option<Instant>,
    suppressed: u64,
}

impl LogThrottle {
    /// Returns the number of occurrences that were not logged since the last log line, if this one is to be logged.
    pub fn allow(&mut self) -> Option<u64> {
        if self.last_logged.is_some_and(|logged| logged.elapsed() < LOG_INTERVAL) {
            self.suppressed += 1;
            return None;
        }
        self.last_logged = Some(Instant::now());
        Some(std::mem::take(&mut self.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeated_fault_is_logged_once_per_interval() {
        let mut throttle = LogThrottle::default();
        assert_eq!([throttle.allow(), throttle.allow(), throttle.allow()], [Some(0), None, None]);
        // As if the interval had passed.
        throttle.last_logged = None;
        assert_eq!(throttle.allow(), Some(2));
    }
}
