//! Watch: when this process last heard of each import, by a clock that nobody sets.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::domain::BatchKey;

#[derive(Debug, Default)]
pub(super) struct ImportWatch(Mutex<HashMap<BatchKey, Instant>>);

impl ImportWatch {
    /// Marketo said now how the import stands. Returns what passed since it last did; none where another process heard that.
    pub fn record_answer(&self, key: BatchKey) -> Option<Duration> {
        let now = Instant::now();
        self.times().insert(key, now).map(|before| now.saturating_duration_since(before))
    }

    /// The import has ended.
    pub fn forget(&self, key: BatchKey) {
        self.times().remove(&key);
    }

    fn times(&self) -> MutexGuard<'_, HashMap<BatchKey, Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::JobId;

    #[test]
    fn only_what_was_heard_before_is_timed() {
        let (watch, key) = (ImportWatch::default(), BatchKey { job: JobId(1), part: 1 });
        assert_eq!(watch.record_answer(key), None);
        assert!(watch.record_answer(key).is_some());
        watch.forget(key);
        assert_eq!(watch.record_answer(key), None);
    }
}
