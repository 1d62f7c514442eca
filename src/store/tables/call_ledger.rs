//! Call ledger: each call to Marketo is written down before it leaves, so that a restart forgets none that still counts.
//!
//! How long ago a call was is told by the machine's uptime and not by the time of day, which may have been set meanwhile.
//! Calls of another boot count from the start on as if they had been a moment before.

use std::time::Duration;

use jiff::Timestamp;
use sqlx::Row;

use crate::clock::Uptime;
use crate::store::error::StoreError;
use crate::store::events::MetricEvent;
use crate::store::{ChangeEvent, Store};

/// A call that is about to leave.
#[derive(Clone, Debug)]
pub struct NewCall {
    pub instance: String,
    /// The instances that lead to the same Marketo, this one included: the day's calls are theirs together.
    pub sharing: Vec<String>,
    /// How long calls count after their end.
    pub window: Duration,
    /// How long this one may take at most.
    pub may_take: Duration,
    /// When the quota's day began.
    pub day: Timestamp,
    /// How many calls a day may have; none without a limit.
    pub daily: Option<u64>,
    pub at: Timestamp,
    pub up: Uptime,
}

/// The calls of earlier processes that may still count.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EarlierCalls {
    /// How long ago each ended.
    pub ended_ago: Vec<Duration>,
    /// How long each may still be under way of which no end was written down.
    pub may_last: Vec<Duration>,
}

impl Store {
    /// Writes down that a call is about to leave, before it does. Returns its number for [`Store::call_ended`], or none if
    /// the day has had all its calls.
    pub async fn begin_call(&self, call: NewCall) -> Result<Option<i64>, StoreError> {
        self.shared
            .writer
            .write(move |w| {
                Box::pin(async move {
                    sqlx::query(
                        "DELETE FROM call WHERE instance = ? AND boot = ? AND coalesce(ended_up, began_up + may_take) < ?",
                    )
                    .bind(&call.instance)
                    .bind(&call.up.boot)
                    .bind(call.up.ms.saturating_sub(ms(call.window)))
                    .execute(&mut *w.conn)
                    .await?;
                    if let Some(daily) = call.daily {
                        let mut today = 0;
                        for name in &call.sharing {
                            let calls: Option<i64> =
                                sqlx::query_scalar("SELECT calls FROM call_day WHERE instance = ? AND day = ?")
                                    .bind(name)
                                    .bind(call.day.as_millisecond())
                                    .fetch_optional(&mut *w.conn)
                                    .await?;
                            today += calls.unwrap_or(0).cast_unsigned();
                        }
                        if today >= daily {
                            return Ok(None);
                        }
                    }
                    sqlx::query(
                        "INSERT INTO call_day (instance, day, calls) VALUES (?, ?, 1)
                         ON CONFLICT (instance, day) DO UPDATE SET calls = calls + 1",
                    )
                    .bind(&call.instance)
                    .bind(call.day.as_millisecond())
                    .execute(&mut *w.conn)
                    .await?;
                    let begun = sqlx::query(
                        "INSERT INTO call (instance, started_at, boot, began_up, may_take) VALUES (?, ?, ?, ?, ?)",
                    )
                    .bind(&call.instance)
                    .bind(call.at.as_millisecond())
                    .bind(&call.up.boot)
                    .bind(call.up.ms)
                    .bind(ms(call.may_take))
                    .execute(&mut *w.conn)
                    .await?;
                    w.changes.push(ChangeEvent::Metric(MetricEvent::Call { instance: call.instance }));
                    Ok(Some(begun.last_insert_rowid()))
                })
            })
            .await
    }

    /// Writes down that a call is over. One for which this never happens counts as under way for as long as it may take.
    pub async fn end_call(&self, call: i64, now: Timestamp, up: Uptime) -> Result<(), StoreError> {
        self.shared
            .writer
            .write(move |w| {
                Box::pin(async move {
                    sqlx::query("UPDATE call SET ended_at = ?, ended_up = ? WHERE id = ?")
                        .bind(now.as_millisecond())
                        .bind(up.ms)
                        .bind(call)
                        .execute(&mut *w.conn)
                        .await?;
                    Ok(())
                })
            })
            .await
    }

    /// At a start: how long ago the calls of another boot were can't be told, so they are taken to have been made now.
    /// Also drops the counts of days before `day`.
    pub async fn adopt_calls(&self, day: Timestamp, up: Uptime) -> Result<(), StoreError> {
        self.shared
            .writer
            .write(move |w| {
                Box::pin(async move {
                    sqlx::query(
                        "UPDATE call SET boot = ?1, began_up = ?2, ended_up = iif(ended_at IS NULL, NULL, ?2)
                         WHERE boot IS NOT ?1 OR began_up > ?2 OR ended_up > ?2",
                    )
                    .bind(&up.boot)
                    .bind(up.ms)
                    .execute(&mut *w.conn)
                    .await?;
                    sqlx::query("DELETE FROM call_day WHERE day < ?")
                        .bind(day.as_millisecond())
                        .execute(&mut *w.conn)
                        .await?;
                    Ok(())
                })
            })
            .await
    }

    /// The calls of an instance that may still count, after [`Store::take_over_calls`].
    pub async fn earlier_calls(&self, instance: &str, up: &Uptime) -> Result<EarlierCalls, StoreError> {
        let rows =
            sqlx::query("SELECT began_up, ended_up, may_take FROM call WHERE instance = ? AND boot = ? ORDER BY id")
                .bind(instance)
                .bind(&up.boot)
                .fetch_all(self.readers())
                .await?;
        let span = |ms: i64| Duration::from_millis(ms.max(0).cast_unsigned());
        let mut calls = EarlierCalls::default();
        for row in &rows {
            let over: i64 = row.try_get::<i64, _>("began_up")?.saturating_add(row.try_get("may_take")?);
            match row.try_get::<Option<i64>, _>("ended_up")? {
                Some(ended) => calls.ended_ago.push(span(up.ms - ended)),
                None if over > up.ms => calls.may_last.push(span(over - up.ms)),
                None => calls.ended_ago.push(span(up.ms - over)),
            }
        }
        Ok(calls)
    }

    /// How many calls an instance has made since `day` began.
    pub async fn calls_today(&self, instance: &str, day: Timestamp) -> Result<u64, StoreError> {
        let today: Option<i64> = sqlx::query_scalar("SELECT calls FROM call_day WHERE instance = ? AND day = ?")
            .bind(instance)
            .bind(day.as_millisecond())
            .fetch_optional(self.readers())
            .await?;
        Ok(today.unwrap_or(0).cast_unsigned())
    }
}

fn ms(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::from_ms;
    use crate::store::test_util::store;

    fn up(ms: i64) -> Uptime {
        Uptime { boot: "one".into(), ms }
    }

    fn call(instance: &str, at: i64) -> NewCall {
        NewCall {
            instance: instance.into(),
            sharing: vec![instance.into()],
            window: Duration::from_millis(100),
            may_take: Duration::from_millis(50),
            day: from_ms(0),
            daily: None,
            // The time of day is another matter than the uptime.
            at: from_ms(1_000_000 - at),
            up: up(at),
        }
    }

    fn earlier(ended_ago: &[u64], may_last: &[u64]) -> EarlierCalls {
        let spans = |ms: &[u64]| ms.iter().copied().map(Duration::from_millis).collect();
        EarlierCalls { ended_ago: spans(ended_ago), may_last: spans(may_last) }
    }

    #[tokio::test]
    async fn a_call_under_way_at_a_kill_counts_for_as_long_as_it_may_take() {
        let store = store().await;
        let first = store.begin_call(call("default", 10)).await.unwrap().unwrap();
        store.end_call(first, from_ms(5), up(20)).await.unwrap();
        store.begin_call(call("default", 30)).await.unwrap();
        store.begin_call(call("other", 30)).await.unwrap();
        store.adopt_calls(from_ms(0), up(60)).await.unwrap();
        assert_eq!(store.earlier_calls("default", &up(60)).await.unwrap(), earlier(&[40], &[20]));
        assert_eq!(store.earlier_calls("default", &up(90)).await.unwrap(), earlier(&[70, 10], &[]));
        assert_eq!(store.calls_today("default", from_ms(0)).await.unwrap(), 2);
        assert_eq!(store.calls_today("default", from_ms(1)).await.unwrap(), 0);
        // A new call lets go of those that no longer count.
        store.begin_call(call("default", 150)).await.unwrap();
        assert_eq!(store.earlier_calls("default", &up(150)).await.unwrap(), earlier(&[70], &[50]));
    }

    #[tokio::test]
    async fn calls_of_another_boot_count_in_full_from_the_start() {
        let store = store().await;
        let first = store.begin_call(call("default", 10)).await.unwrap().unwrap();
        store.end_call(first, from_ms(5), up(20)).await.unwrap();
        store.begin_call(call("default", 30)).await.unwrap();
        let other = |ms| Uptime { boot: "two".into(), ms };
        store.adopt_calls(from_ms(0), other(7)).await.unwrap();
        assert_eq!(store.earlier_calls("default", &other(7)).await.unwrap(), earlier(&[0], &[50]));
        // A container's uptime may begin anew within one boot of the machine.
        store.adopt_calls(from_ms(0), other(3)).await.unwrap();
        assert_eq!(store.earlier_calls("default", &other(3)).await.unwrap(), earlier(&[0], &[50]));
        store.adopt_calls(from_ms(0), other(13)).await.unwrap();
        assert_eq!(store.earlier_calls("default", &other(13)).await.unwrap(), earlier(&[10], &[40]));
    }

    #[tokio::test]
    async fn a_day_has_no_more_calls_than_it_may_over_all_that_share_it() {
        let store = store().await;
        let begin = async |name: &str, day| {
            let sharing = vec!["default".to_owned(), "eu".to_owned()];
            let call = NewCall { day: from_ms(day), daily: Some(3), sharing, ..call(name, 5) };
            store.begin_call(call).await.unwrap().is_some()
        };
        assert_eq!([begin("default", 0).await, begin("eu", 0).await, begin("default", 0).await], [true; 3]);
        assert_eq!([begin("default", 0).await, begin("eu", 0).await, begin("eu", 9).await], [false, false, true]);
        assert_eq!(store.calls_today("default", from_ms(0)).await.unwrap(), 2);
    }
}
