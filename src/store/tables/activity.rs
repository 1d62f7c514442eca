//! Table `activity`: counts of ended jobs, rows, uploads and calls in spans of time. Triggers of migration 0022 write it.

use std::time::Duration;

use jiff::Timestamp;
use sqlx::sqlite::SqliteRow;
use sqlx::{FromRow, Row};

use crate::store::engine::transaction::{ReadTx, StoreTx};
use crate::store::error::StoreError;
use crate::store::tables::row_mapping::{duration_value, size_column};

/// Length of a span: the shortest step of a query.
pub const ACTIVITY_SPAN: Duration = Duration::from_secs(300);

/// How long the counts are kept.
pub const ACTIVITY_KEPT: Duration = Duration::from_secs(32 * 24 * 3600);

/// Whose activity is counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ActivityScope {
    /// The instances; none: all.
    pub instances: Option<Vec<String>>,
    /// The client whose jobs are counted; none: all jobs. Calls belong to no client and are counted of all instances.
    pub client: Option<String>,
}

/// A question for the activity of some time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActivityQuery {
    /// Start of the first step; a multiple of [`ACTIVITY_SPAN`] since 1970.
    pub from: Timestamp,
    /// End of the last step.
    pub to: Timestamp,
    /// Length of a step; a multiple of [`ACTIVITY_SPAN`].
    pub step: Duration,
    /// Whose activity.
    pub scope: ActivityScope,
}

/// What happened in a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Activity {
    /// Jobs that ended as complete, with failed rows or without.
    pub jobs_complete: u64,
    /// Jobs that failed.
    pub jobs_failed: u64,
    /// Jobs that were cancelled.
    pub jobs_cancelled: u64,
    /// Rows that were imported without a warning.
    pub rows_imported: u64,
    /// Rows that were imported with a warning.
    pub rows_warned: u64,
    /// Rows that Marketo did not import.
    pub rows_failed: u64,
    /// Uploads that Marketo accepted.
    pub uploads: u64,
    /// Calls to Marketo.
    pub calls: u64,
}

/// A step with activity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ActivityStep {
    /// Number of the step, counted from 0.
    pub index: usize,
    /// What happened.
    pub activity: Activity,
}

impl FromRow<'_, SqliteRow> for ActivityStep {
    fn from_row(row: &SqliteRow) -> Result<ActivityStep, sqlx::Error> {
        let count = |column| size_column(row, column);
        let activity = Activity {
            jobs_complete: count("jobs_complete")?,
            jobs_failed: count("jobs_failed")?,
            jobs_cancelled: count("jobs_cancelled")?,
            rows_imported: count("rows_imported")?,
            rows_warned: count("rows_warned")?,
            rows_failed: count("rows_failed")?,
            uploads: count("uploads")?,
            calls: count("calls")?,
        };
        let index = usize::try_from(row.try_get::<i64, _>("step")?).unwrap_or(usize::MAX);
        Ok(ActivityStep { index, activity })
    }
}

impl ReadTx<'_> {
    /// Returns the steps in which something happened, in their order.
    pub(crate) async fn activity(&mut self, query: &ActivityQuery) -> Result<Vec<ActivityStep>, StoreError> {
        let instances = query.scope.instances.as_ref().map(serde_json::to_string).transpose();
        let instances = instances.unwrap_or_default();
        let steps = sqlx::query_as(
            "SELECT (began_at - ?1) / ?2 AS step,
                    sum(iif(?4 IS NULL OR client = ?4, jobs_complete, 0)) AS jobs_complete,
                    sum(iif(?4 IS NULL OR client = ?4, jobs_failed, 0)) AS jobs_failed,
                    sum(iif(?4 IS NULL OR client = ?4, jobs_cancelled, 0)) AS jobs_cancelled,
                    sum(iif(?4 IS NULL OR client = ?4, rows_imported, 0)) AS rows_imported,
                    sum(iif(?4 IS NULL OR client = ?4, rows_warned, 0)) AS rows_warned,
                    sum(iif(?4 IS NULL OR client = ?4, rows_failed, 0)) AS rows_failed,
                    sum(iif(?4 IS NULL OR client = ?4, uploads, 0)) AS uploads,
                    sum(calls) AS calls
             FROM activity
             WHERE began_at >= ?1 AND began_at < ?3
               AND (?5 IS NULL OR instance IN (SELECT value FROM json_each(?5)))
             GROUP BY step ORDER BY step",
        )
        .bind(query.from.as_millisecond())
        .bind(duration_value(query.step).max(1))
        .bind(query.to.as_millisecond())
        .bind(query.scope.client.as_deref())
        .bind(instances)
        .fetch_all(&mut *self.conn)
        .await?;
        Ok(steps)
    }
}

impl StoreTx<'_> {
    /// Deletes the counts of spans that began before `until`.
    pub(crate) async fn delete_activity(&mut self, until: Timestamp) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM activity WHERE began_at < ?")
            .bind(until.as_millisecond())
            .execute(&mut *self.conn)
            .await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Uptime, from_ms};
    use crate::domain::{BatchKey, Counts, Event, Source};
    use crate::store::tables::call_ledger::{NewCall, QuotaDay};
    use crate::store::test_util::{accepted, add, leads, store};
    use crate::store::{NewJob, Store};

    const SPAN: i64 = 300_000;

    fn query(steps: i64, scope: ActivityScope) -> ActivityQuery {
        ActivityQuery { from: from_ms(0), to: from_ms(steps * SPAN), step: ACTIVITY_SPAN, scope }
    }

    fn of_client(id: &str) -> NewJob {
        NewJob { source: Source::Client { client_id: id.into() }, ..leads() }
    }

    /// Runs a job of one batch to its end.
    async fn run(store: &Store, new: NewJob, at: i64, counts: Counts) {
        let key = BatchKey { job: add(store, new, 1).await, part: 1 };
        let end = Event::ImportEnded { counts, message: String::new() };
        for (after, event) in
            [(0, Event::UploadBegan), (1, accepted(&format!("{at}"))), (2, end), (3, Event::Collected)]
        {
            store.record_event(key, event, None, from_ms(at + after)).await.unwrap();
        }
    }

    async fn call(store: &Store, instance: &str, at: i64) {
        let call = NewCall {
            instance: instance.into(),
            sharing: vec![instance.into()],
            window: Duration::from_secs(20),
            may_take: Duration::from_secs(60),
            day: QuotaDay { by_clock: from_ms(0), is_clock_steady: true },
            daily: None,
            at: from_ms(at),
            up: Uptime { boot: "one".into(), ms: at },
        };
        store.begin_call(call).await.unwrap();
    }

    #[tokio::test]
    async fn ended_jobs_rows_uploads_and_calls_are_counted_by_span() {
        let store = store().await;
        let counts = Counts { processed: Some(7), failed: Some(2), warned: Some(3) };
        run(&store, leads(), 10, counts).await;
        run(&store, leads(), SPAN - 1, counts).await;
        call(&store, "default", SPAN).await;
        let cancelled = add(&store, leads(), 1).await;
        store.cancel(cancelled, from_ms(SPAN + 5)).await.unwrap();
        let steps = store.activity(query(3, ActivityScope::default())).await.unwrap();
        // The second job's upload was accepted in the next span, and its import ended there.
        let ended = Activity {
            jobs_complete: 1,
            rows_imported: 4,
            rows_warned: 3,
            rows_failed: 2,
            uploads: 1,
            ..Activity::default()
        };
        let second = Activity { jobs_cancelled: 1, calls: 1, ..ended };
        let found: Vec<_> = steps.iter().map(|step| (step.index, step.activity)).collect();
        assert_eq!(found, [(0, ended), (1, second)]);
        let wide = ActivityQuery { step: ACTIVITY_SPAN * 2, ..query(2, ActivityScope::default()) };
        let found = store.activity(wide).await.unwrap();
        assert_eq!((found.len(), found[0].activity.jobs_complete, found[0].activity.rows_failed), (1, 2, 4));
        store.delete_activity(from_ms(SPAN)).await.unwrap();
        assert_eq!(store.activity(query(3, ActivityScope::default())).await.unwrap(), steps[1..]);
    }

    #[tokio::test]
    async fn a_scope_counts_its_clients_jobs_and_instances() {
        let store = store().await;
        let counts = Counts { processed: Some(1), failed: Some(0), warned: None };
        for new in [leads(), of_client("crm"), of_client("web"), NewJob { instance: "eu".into(), ..of_client("crm") }] {
            run(&store, new, 10, counts).await;
        }
        call(&store, "default", 20).await;
        call(&store, "eu", 20).await;
        let scope = |instances: Option<&[&str]>, client: Option<&str>| ActivityScope {
            instances: instances.map(|names| names.iter().map(|name| (*name).to_owned()).collect()),
            client: client.map(str::to_owned),
        };
        for (scope, jobs, calls) in [
            (scope(None, None), 4, 2),
            (scope(None, Some("crm")), 2, 2),
            (scope(Some(&["default"]), Some("crm")), 1, 1),
            (scope(Some(&["default", "eu"]), Some("web")), 1, 2),
            (scope(Some(&["eu"]), None), 1, 1),
        ] {
            let steps = store.activity(query(1, scope.clone())).await.unwrap();
            let activity = steps[0].activity;
            let found = (activity.jobs_complete, activity.rows_imported, activity.uploads, activity.calls);
            assert_eq!(found, (jobs, jobs, jobs, calls), "{scope:?}");
        }
        assert_eq!(store.activity(query(1, scope(Some(&[]), None))).await.unwrap(), []);
    }
}
