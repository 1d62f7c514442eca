//! Table `history`: writes the entries of a job, decides which of those that repeat are written, and reads them.

use std::time::Duration;

use jiff::Timestamp;
use sqlx::sqlite::SqliteRow;
use sqlx::{FromRow, Row};

use crate::clock::{after, from_ms};
use crate::domain::{BatchKey, BatchState, JobId, JobState};
use crate::store::engine::transaction::{ReadTx, StoreTx};
use crate::store::error::StoreError;
use crate::store::models::HistoryEntry;

/// Entries of one event and batch that are written without a limit of their rate. An import is polled for up to 14
/// days, and failures that alternate would hide the other entries.
const MAX_ENTRIES: i64 = 50;

/// Beyond [`MAX_ENTRIES`], one entry in this time.
const MIN_INTERVAL: Duration = Duration::from_secs(3600);

/// An entry to be added to the history of a job.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NewHistoryEntry<'a> {
    /// The job.
    pub job: JobId,
    /// The batch; none for an event of the job as a whole.
    pub part: Option<u32>,
    /// When it happened.
    pub at: Timestamp,
    /// The event's name.
    pub event: &'a str,
    /// The state after it, the batch's or the job's.
    pub state: &'a str,
    /// Marketo's message, a reason or an id.
    pub message: Option<&'a str>,
    /// The `requestId` of Marketo's response.
    pub request_id: Option<&'a str>,
}

impl<'a> NewHistoryEntry<'a> {
    /// Creates the entry of an event of a job, without a message.
    pub(crate) fn of_job(job: JobId, at: Timestamp, event: &'a str, state: JobState) -> NewHistoryEntry<'a> {
        NewHistoryEntry { job, part: None, at, event, state: state.as_str(), message: None, request_id: None }
    }

    /// Creates the entry of an event of a batch, without a message.
    pub(crate) fn of_batch(key: BatchKey, at: Timestamp, event: &'a str, state: BatchState) -> NewHistoryEntry<'a> {
        let (job, part) = (key.job, Some(key.part));
        NewHistoryEntry { job, part, at, event, state: state.as_str(), message: None, request_id: None }
    }
}

impl StoreTx<'_> {
    /// Adds an entry to a job's history.
    pub(crate) async fn insert_history(&mut self, entry: NewHistoryEntry<'_>) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO history (job_id, part, at, event, state, message, request_id) VALUES (?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(entry.job.0)
        .bind(entry.part)
        .bind(entry.at.as_millisecond())
        .bind(entry.event)
        .bind(entry.state)
        .bind(entry.message)
        .bind(entry.request_id)
        .execute(&mut *self.conn)
        .await?;
        Ok(())
    }
}

impl ReadTx<'_> {
    /// Returns the history of a job, oldest entry first.
    pub(crate) async fn history(&mut self, id: JobId) -> Result<Vec<HistoryEntry>, StoreError> {
        let entries: Vec<HistoryEntry> = sqlx::query_as(
            "SELECT at, part, event, state, message, request_id FROM history WHERE job_id = ? ORDER BY id",
        )
        .bind(id.0)
        .fetch_all(&mut *self.conn)
        .await?;
        if entries.is_empty() {
            // Every job has an entry, so the id is unknown or the job is still being received.
            self.job(id).await?;
        }
        Ok(entries)
    }

    /// Returns whether an entry of `event` with `message` differs from the last one of the batch, and is not too
    /// frequent.
    pub(crate) async fn is_new_entry(
        &mut self,
        key: BatchKey,
        event: &str,
        message: &str,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let last =
            sqlx::query("SELECT event, message FROM history WHERE job_id = ? AND part = ? ORDER BY id DESC LIMIT 1")
                .bind(key.job.0)
                .bind(key.part)
                .fetch_optional(&mut *self.conn)
                .await?;
        if let Some(last) = last
            && last.try_get::<&str, _>("event")? == event
            && last.try_get::<Option<&str>, _>("message")? == Some(message)
        {
            return Ok(false);
        }
        let earlier = sqlx::query(
            "SELECT count(*) AS entries, max(at) AS latest FROM history WHERE job_id = ? AND part = ? AND event = ?",
        )
        .bind(key.job.0)
        .bind(key.part)
        .bind(event)
        .fetch_one(&mut *self.conn)
        .await?;
        let (entries, latest): (i64, Option<i64>) = (earlier.try_get("entries")?, earlier.try_get("latest")?);
        // An entry of the future is one from before the clock was set back, and suppresses nothing.
        let recent = latest.map(from_ms).is_some_and(|at| at <= now && now < after(at, MIN_INTERVAL));
        Ok(entries < MAX_ENTRIES || !recent)
    }
}

impl FromRow<'_, SqliteRow> for HistoryEntry {
    fn from_row(row: &SqliteRow) -> Result<HistoryEntry, sqlx::Error> {
        Ok(HistoryEntry {
            at: from_ms(row.try_get("at")?),
            part: row.try_get("part")?,
            event: row.try_get("event")?,
            state: row.try_get("state")?,
            message: row.try_get("message")?,
            request_id: row.try_get("request_id")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::batch::QueryFailureKind;
    use crate::domain::{Event, RemoteStatus};
    use crate::store::batch_changes::{ImportKey, QueryFailure};
    use crate::store::test_util::{add, leads, store};

    #[tokio::test]
    async fn repeated_entries_are_one_line() {
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
            let failure = QueryFailure {
                reason: reason.into(),
                kind: QueryFailureKind::Unanswered,
                not_before: from_ms(at),
                request_id: None,
            };
            let import = ImportKey { batch: key, marketo_batch_id: "9".into() };
            store.record_query_failure(import, failure, from_ms(at)).await.unwrap().is_news
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
