//! Failed queries about an import: counts them and writes the history.

use jiff::Timestamp;

use crate::domain::{BatchKey, BatchState};
use crate::store::batch_changes::{QueryFailure, RecordedQueryFailure};
use crate::store::engine::transaction::StoreTx;
use crate::store::error::StoreError;
use crate::store::events::{ChangeEvent, InstanceChange, MetricEvent};
use crate::store::tables::history::NewHistoryEntry;

/// The history event of a failed query.
const QUERY_FAILED: &str = "query-failed";

impl StoreTx<'_> {
    /// Records a failed query. A reason that the last history entry has already gets no new entry.
    pub(crate) async fn record_query_failure(
        &mut self,
        key: BatchKey,
        failure: QueryFailure,
        now: Timestamp,
    ) -> Result<RecordedQueryFailure, StoreError> {
        let QueryFailure { reason, kind, not_before, request_id } = failure;
        let before = self.batch_progress(key).await?;
        let queried = [BatchState::Queued, BatchState::Importing, BatchState::Collecting];
        if !queried.contains(&before.state) {
            return Err(StoreError::NoBatch(key));
        }
        let mut batch = before.after_query_failure(kind, not_before, now);
        // Of an import that has ended, Marketo's last message is kept.
        if batch.state != BatchState::Collecting {
            batch.message = Some(reason.text.clone());
        }
        self.save_progress(key, &batch).await?;
        let is_news = self.is_new_entry(key, QUERY_FAILED, &reason.text, now).await?;
        if is_news {
            let entry = NewHistoryEntry::of_batch(key, now, QUERY_FAILED, batch.shown_state());
            let (message, request_id) = (Some(reason.text.as_str()), request_id.as_deref());
            self.insert_history(NewHistoryEntry { message, request_id, ..entry }).await?;
        }
        self.publish(ChangeEvent::Batch(key));
        let instance = self.instance_of(key.job).await?;
        self.wake(&instance, InstanceChange::Batch(key));
        self.count(MetricEvent::query_failed(instance, &reason));
        Ok(RecordedQueryFailure { failures: batch.query_failures, is_news })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock::from_ms;
    use crate::domain::batch::{QueryFailureKind, QueryFailures};
    use crate::domain::{Counts, Event, RemoteStatus};
    use crate::store::batch_changes::ImportKey;
    use crate::store::test_util::{accepted, add, ended, leads, store};

    #[tokio::test]
    async fn failed_queries_are_counted_until_one_succeeds() {
        let store = store().await;
        let key = BatchKey { job: add(&store, leads(), 1).await, part: 1 };
        store.record_event(key, Event::UploadBegan, None, from_ms(1)).await.unwrap();
        store.record_event(key, accepted("9"), None, from_ms(2)).await.unwrap();
        let import = || ImportKey { batch: key, marketo_batch_id: "9".into() };
        let failure = |reason: &str, kind, not_before| QueryFailure {
            reason: reason.into(),
            kind,
            not_before: from_ms(not_before),
            request_id: None,
        };
        let (rejected, unanswered) = (QueryFailureKind::Rejected, QueryFailureKind::Unanswered);
        for (kind, all, refusals) in [(unanswered, 1, 0), (rejected, 2, 1), (unanswered, 3, 1)] {
            let failures = store.record_query_failure(import(), failure("w", kind, 50), from_ms(3)).await.unwrap();
            assert_eq!(failures.failures, QueryFailures { all, refusals });
        }
        let (_, batch) = store.batch(key).await.unwrap();
        assert_eq!(batch.query_failures, QueryFailures { all: 3, refusals: 1 });
        assert_eq!((batch.state, batch.not_before, batch.attempts), (BatchState::Queued, Some(from_ms(50)), 1));
        let polled = Event::Polled { status: RemoteStatus::Queued, counts: Counts::default(), waited: Duration::ZERO };
        store.record_event(key, polled, None, from_ms(60)).await.unwrap();
        let recorded = store.record_query_failure(import(), failure("502", unanswered, 70), from_ms(61)).await.unwrap();
        assert_eq!(recorded.failures.all, 1);
        // The time of the last status query is not changed by a query of the reports.
        store.record_event(key, ended(1, 1), None, from_ms(80)).await.unwrap();
        store.record_query_failure(import(), failure("404", rejected, 95), from_ms(90)).await.unwrap();
        assert_eq!(store.batch(key).await.unwrap().1.polled_at, Some(from_ms(80)));
    }
}
