//! Exponential backoff: the wait after repeated failures.

use std::time::Duration;

/// Returns `min` doubled `doublings` times, at most `max`.
pub fn doubled(min: Duration, doublings: u32, max: Duration) -> Duration {
    min.saturating_mul(2_u32.saturating_pow(doublings)).min(max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_doubles_up_to_its_maximum() {
        let (min, max) = (Duration::from_secs(1), Duration::from_secs(300));
        let seconds = [0, 1, 2, 8, 9, u32::MAX].map(|doublings| doubled(min, doublings, max).as_secs());
        assert_eq!(seconds, [1, 2, 4, 256, 300, 300]);
    }
}
