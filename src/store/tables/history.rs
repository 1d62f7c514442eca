//! History entries that repeat: decides which of them are written.

use jiff::Timestamp;
use sqlx::Row;

use crate::clock::{after, from_ms};
use crate::domain::BatchKey;
use crate::store::engine::writer::StoreTx;
use crate::store::error::StoreError;

/// Entries of one event and batch that are written without a limit of their rate. An import is polled for up to 14 days,
/// and failures that alternate would hide the other entries.
const MAX_ENTRIES: i64 = 50;

/// Beyond [`MAX_ENTRIES`], one entry in this time.
const MIN_INTERVAL: std::time::Duration = std::time::Duration::from_secs(3600);

/// Returns whether an entry of `event` with `message` differs from the last one of the batch, and is not too frequent.
pub(crate) async fn is_news(
    tx: &mut StoreTx<'_>,
    key: BatchKey,
    event: &str,
    message: &str,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let last = sqlx::query("SELECT event, message FROM history WHERE job_id = ? AND part = ? ORDER BY id DESC LIMIT 1")
        .bind(key.job.0)
        .bind(key.part)
        .fetch_optional(&mut *tx.conn)
        .await?;
    if let Some(last) = last
        && last.try_get::<&str, _>("event")? == event
        && last.try_get::<Option<&str>, _>("message")? == Some(message)
    {
        return Ok(false);
    }
    let (entries, latest): (i64, Option<i64>) =
        sqlx::query_as("SELECT count(*), max(at) FROM history WHERE job_id = ? AND part = ? AND event = ?")
            .bind(key.job.0)
            .bind(key.part)
            .bind(event)
            .fetch_one(&mut *tx.conn)
            .await?;
    // An entry of the future is one from before the clock was set back, and suppresses nothing.
    let recent = latest.map(from_ms).is_some_and(|at| at <= now && now < after(at, MIN_INTERVAL));
    Ok(entries < MAX_ENTRIES || !recent)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Event, RemoteStatus};
    use crate::store::test_util::{add, leads, store};

    #[tokio::test]
    async fn what_is_said_again_and_again_is_one_line() {
        let store = store().await;
        let key = BatchKey { job: add(&store, leads(), 1).await, part: 1 };
        store.record_event(key, Event::UploadBegan, None, from_ms(1)).await.unwrap();
        let accepted = Event::Accepted { marketo_batch_id: "9".into(), status: RemoteStatus::Queued };
        store.record_event(key, accepted, None, from_ms(2)).await.unwrap();
        let lines = async || {
            let history = store.history(key.job).await.unwrap();
            history.into_iter().filter(|entry| entry.event == "query-failed").count()
        };
        let failed = async |reason: &str, at: i64| {
            store.record_query_failure(key, reason.into(), false, from_ms(at), None, from_ms(at)).await.unwrap().is_news
        };
        for (reason, news) in [("502", true), ("502", false), ("502", false), ("timeout", true), ("502", true)] {
            assert_eq!(failed(reason, 10).await, news, "{reason}");
        }
        assert_eq!(lines().await, 3);
        // Failures that alternate.
        for at in 0..200 {
            failed(if at % 2 == 0 { "a" } else { "b" }, 100 + at).await;
        }
        assert_eq!(lines().await, 50);
        assert!(failed("c", 100 + 3_600_000 + 100).await);
        assert!(!failed("d", 100 + 3_600_000 + 101).await);
        assert_eq!(store.batch(key).await.unwrap().1.message.as_deref(), Some("d"), "the batch has the last message");
    }
}
