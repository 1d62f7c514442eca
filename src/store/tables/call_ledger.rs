//! Call ledger: each call to Marketo is written down before it leaves, so that a restart forgets none that still counts.
//!
//! How long ago a call was is told by the machine's uptime and not by the time of day, which may have been set meanwhile.
//! Calls of another boot count from the start on as if they had been a moment before.

use std::time::Duration;

use jiff::Timestamp;
use sqlx::{Row, SqliteConnection};

use crate::clock::{ClockReading, Uptime, from_ms};
use crate::store::error::StoreError;
use crate::store::events::MetricEvent;
use crate::store::tables::clock::note_call;
use crate::store::{ChangeEvent, Store};

/// Which day of the quota a moment is in, as far as that can be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuotaDay {
    /// When the day began that the clock shows.
    pub by_clock: Timestamp,
    /// Whether the clock's word is taken. Where it is not, the day is the newest that a call was counted for.
    pub is_clock_steady: bool,
}

/// Whether a call may leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallAdmission {
    /// It may, and this is its number for [`Store::end_call`].
    Call(i64),
    /// The day that began then has had all its calls.
    DayUsedUp { day: Timestamp },
}

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
    /// The quota's day.
    pub day: QuotaDay,
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
    /// Writes down that a call is about to leave, before it does.
    ///
    /// # Errors
    /// What writing the database reports. The call must not leave then.
    pub async fn begin_call(&self, call: NewCall) -> Result<CallAdmission, StoreError> {
        self.shared
            .writer
            .write(move |w| {
                Box::pin(async move {
                    sqlx::query(
                        "DELETE FROM api_call WHERE instance = ? AND boot = ? AND coalesce(ended_up, began_up + may_take) < ?",
                    )
                    .bind(&call.instance)
                    .bind(&call.up.boot)
                    .bind(call.up.ms.saturating_sub(ms(call.window)))
                    .execute(&mut *w.conn)
                    .await?;
                    let day = quota_day(&mut *w.conn, &call.sharing, call.day).await?;
                    if let Some(daily) = call.daily {
                        let mut today = 0;
                        for name in &call.sharing {
                            today += calls_of_day(&mut *w.conn, name, day).await?;
                        }
                        if today >= daily {
                            return Ok(CallAdmission::DayUsedUp { day });
                        }
                    }
                    count_call(&mut *w.conn, &call.instance, day, call.day).await?;
                    note_call(w, &ClockReading { wall: call.at, up: call.up.clone() }).await?;
                    let begun = sqlx::query(
                        "INSERT INTO api_call (instance, started_at, boot, began_up, may_take) VALUES (?, ?, ?, ?, ?)",
                    )
                    .bind(&call.instance)
                    .bind(call.at.as_millisecond())
                    .bind(&call.up.boot)
                    .bind(call.up.ms)
                    .bind(ms(call.may_take))
                    .execute(&mut *w.conn)
                    .await?;
                    w.changes.push(ChangeEvent::Metric(MetricEvent::Call { instance: call.instance }));
                    Ok(CallAdmission::Call(begun.last_insert_rowid()))
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
                    sqlx::query("UPDATE api_call SET ended_at = ?, ended_up = ? WHERE id = ?")
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
    /// Also drops the counts of days before `day`, but for the newest: while the clock is not believed, it goes on.
    ///
    /// # Errors
    /// What writing the database reports.
    pub async fn adopt_calls(&self, day: Timestamp, up: Uptime) -> Result<(), StoreError> {
        self.shared
            .writer
            .write(move |w| {
                Box::pin(async move {
                    sqlx::query(
                        "UPDATE api_call SET boot = ?1, began_up = ?2, ended_up = iif(ended_at IS NULL, NULL, ?2)
                         WHERE boot IS NOT ?1 OR began_up > ?2 OR ended_up > ?2",
                    )
                    .bind(&up.boot)
                    .bind(up.ms)
                    .execute(&mut *w.conn)
                    .await?;
                    sqlx::query(
                        "DELETE FROM api_call_day
                         WHERE day < ? AND day < (SELECT max(n.day) FROM api_call_day n WHERE n.instance = api_call_day.instance)",
                    )
                        .bind(day.as_millisecond())
                        .execute(&mut *w.conn)
                        .await?;
                    Ok(())
                })
            })
            .await
    }

    /// The calls of an instance that may still count, after [`Store::adopt_calls`].
    pub async fn earlier_calls(&self, instance: &str, up: &Uptime) -> Result<EarlierCalls, StoreError> {
        let rows = sqlx::query(
            "SELECT began_up, ended_up, may_take FROM api_call WHERE instance = ? AND boot = ? ORDER BY id",
        )
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

    /// Returns how many calls of `instance` count for the quota's day. `sharing` are the instances of the same Marketo,
    /// this one included.
    ///
    /// # Errors
    /// What reading the database reports.
    pub async fn calls_today(&self, instance: &str, sharing: &[String], day: QuotaDay) -> Result<u64, StoreError> {
        let mut conn = self.readers().begin().await?;
        let day = quota_day(&mut conn, sharing, day).await?;
        calls_of_day(&mut conn, instance, day).await
    }
}

/// A clock that was set must not begin a new day and with it a new count. So while it is not believed, the newest day goes on.
async fn quota_day(conn: &mut SqliteConnection, sharing: &[String], day: QuotaDay) -> Result<Timestamp, StoreError> {
    if day.is_clock_steady {
        return Ok(day.by_clock);
    }
    let mut newest = None;
    for name in sharing {
        let day: Option<i64> = sqlx::query_scalar("SELECT max(day) FROM api_call_day WHERE instance = ?")
            .bind(name)
            .fetch_one(&mut *conn)
            .await?;
        newest = newest.max(day);
    }
    Ok(newest.map_or(day.by_clock, from_ms))
}

/// The calls of an instance that count for a day: those of later days too, for the clock was set back since, and those of
/// which it was not clear whether they were of the day before.
async fn calls_of_day(conn: &mut SqliteConnection, instance: &str, day: Timestamp) -> Result<u64, StoreError> {
    let calls: i64 = sqlx::query_scalar(
        "SELECT coalesce(sum(calls) FILTER (WHERE day >= ?2), sum(doubtful) FILTER (WHERE day < ?2), 0)
         FROM api_call_day WHERE instance = ?1",
    )
    .bind(instance)
    .bind(day.as_millisecond())
    .fetch_one(conn)
    .await?;
    Ok(calls.cast_unsigned())
}

/// Counts one more call for `day`, which is not that of the clock where the clock is not believed.
async fn count_call(
    conn: &mut SqliteConnection,
    instance: &str,
    day: Timestamp,
    asked: QuotaDay,
) -> Result<(), StoreError> {
    let calls = calls_of_day(conn, instance, day).await?.cast_signed() + 1;
    sqlx::query("DELETE FROM api_call_day WHERE instance = ? AND day > ?")
        .bind(instance)
        .bind(day.as_millisecond())
        .execute(&mut *conn)
        .await?;
    let done = sqlx::query(
        "INSERT INTO api_call_day (instance, day, calls, doubtful) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (instance, day) DO UPDATE SET calls = ?3, doubtful = doubtful + ?4",
    )
    .bind(instance)
    .bind(day.as_millisecond())
    .bind(calls)
    .bind(i64::from(asked.by_clock != day))
    .execute(&mut *conn)
    .await?;
    debug_assert_eq!(done.rows_affected(), 1);
    // They are in the count of the new day from here on.
    sqlx::query("UPDATE api_call_day SET doubtful = 0 WHERE instance = ? AND day < ? AND doubtful > 0")
        .bind(instance)
        .bind(day.as_millisecond())
        .execute(conn)
        .await?;
    Ok(())
}

fn ms(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::test_util::store;

    fn steady(day: i64) -> QuotaDay {
        QuotaDay { by_clock: from_ms(day), is_clock_steady: true }
    }

    fn doubted(day: i64) -> QuotaDay {
        QuotaDay { by_clock: from_ms(day), is_clock_steady: false }
    }

    async fn begin(store: &Store, call: NewCall) -> i64 {
        match store.begin_call(call).await.unwrap() {
            CallAdmission::Call(number) => number,
            CallAdmission::DayUsedUp { day } => panic!("the calls of {day} are used up"),
        }
    }

    /// The calls of `default` that count for a day.
    async fn today(store: &Store, day: QuotaDay) -> u64 {
        store.calls_today("default", &["default".to_owned(), "eu".to_owned()], day).await.unwrap()
    }

    fn up(ms: i64) -> Uptime {
        Uptime { boot: "one".into(), ms }
    }

    fn call(instance: &str, at: i64) -> NewCall {
        NewCall {
            instance: instance.into(),
            sharing: vec![instance.into()],
            window: Duration::from_millis(100),
            may_take: Duration::from_millis(50),
            day: steady(0),
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
        let first = begin(&store, call("default", 10)).await;
        store.end_call(first, from_ms(5), up(20)).await.unwrap();
        begin(&store, call("default", 30)).await;
        begin(&store, call("other", 30)).await;
        store.adopt_calls(from_ms(0), up(60)).await.unwrap();
        assert_eq!(store.earlier_calls("default", &up(60)).await.unwrap(), earlier(&[40], &[20]));
        assert_eq!(store.earlier_calls("default", &up(90)).await.unwrap(), earlier(&[70, 10], &[]));
        assert_eq!((today(&store, steady(0)).await, today(&store, steady(1)).await), (2, 0));
        // A new call lets go of those that no longer count.
        begin(&store, call("default", 150)).await;
        assert_eq!(store.earlier_calls("default", &up(150)).await.unwrap(), earlier(&[70], &[50]));
    }

    #[tokio::test]
    async fn calls_of_another_boot_count_in_full_from_the_start() {
        let store = store().await;
        let first = begin(&store, call("default", 10)).await;
        store.end_call(first, from_ms(5), up(20)).await.unwrap();
        begin(&store, call("default", 30)).await;
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
            let call = NewCall { day: steady(day), daily: Some(3), sharing, ..call(name, 5) };
            matches!(store.begin_call(call).await.unwrap(), CallAdmission::Call(_))
        };
        assert_eq!([begin("default", 0).await, begin("eu", 0).await, begin("default", 0).await], [true; 3]);
        assert_eq!([begin("default", 0).await, begin("eu", 0).await, begin("eu", 9).await], [false, false, true]);
        assert_eq!(today(&store, steady(0)).await, 2);
    }

    #[tokio::test]
    async fn day_goes_on_until_the_clock_is_believed() {
        let store = store().await;
        let begin = async |day| {
            let sharing = vec!["default".to_owned(), "eu".to_owned()];
            store.begin_call(NewCall { day, daily: Some(4), sharing, ..call("default", 5) }).await.unwrap()
        };
        assert!(matches!(begin(steady(10)).await, CallAdmission::Call(_)));
        // The clock leapt forward, and a restart asks which days may go.
        store.adopt_calls(from_ms(18), up(6)).await.unwrap();
        for calls in [2, 3, 4] {
            assert!(matches!(begin(doubted(18)).await, CallAdmission::Call(_)));
            assert_eq!(today(&store, doubted(18)).await, calls);
        }
        assert_eq!(begin(doubted(18)).await, CallAdmission::DayUsedUp { day: from_ms(10) });
        // It was right. Three calls may have been of the new day.
        assert_eq!(today(&store, steady(18)).await, 3);
        assert!(matches!(begin(steady(18)).await, CallAdmission::Call(_)));
        assert_eq!(begin(steady(18)).await, CallAdmission::DayUsedUp { day: from_ms(18) });
        assert_eq!(today(&store, steady(19)).await, 0);
    }

    #[tokio::test]
    async fn calls_of_later_days_count_once_the_clock_is_set_back() {
        let store = store().await;
        for day in [steady(10), steady(18), steady(18), doubted(10)] {
            begin(&store, NewCall { day, ..call("default", 5) }).await;
        }
        assert_eq!(today(&store, doubted(10)).await, 3, "the newest day goes on");
        assert_eq!(today(&store, steady(10)).await, 4);
        begin(&store, NewCall { day: steady(10), ..call("default", 5) }).await;
        assert_eq!((today(&store, steady(10)).await, today(&store, steady(18)).await), (5, 0));
    }
}
