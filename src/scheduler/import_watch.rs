//! Import watch: when this process last received the status of each import, on the monotonic clock.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::domain::BatchKey;

/// The time of the last status response of each import.
#[derive(Debug, Default)]
pub(super) struct ImportWatch(Mutex<HashMap<BatchKey, Instant>>);

impl ImportWatch {
    /// Records that a status response arrived now. Returns the time since the one before, if this process received it.
    pub fn record_answer(&self, key: BatchKey) -> Option<Duration> {
        let now = Instant::now();
        self.0.lock().insert(key, now).map(|before| now.saturating_duration_since(before))
    }

    /// Removes an import that has ended.
    pub fn remove(&self, key: BatchKey) {
        self.0.lock().remove(&key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::JobId;

    #[test]
    fn first_response_has_no_time_before_it() {
        let (watch, key) = (ImportWatch::default(), BatchKey { job: JobId(1), part: 1 });
        assert_eq!(watch.record_answer(key), None);
        assert!(watch.record_answer(key).is_some());
        watch.remove(key);
        assert_eq!(watch.record_answer(key), None);
    }
}
