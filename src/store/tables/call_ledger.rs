//! Call ledger: records each call to Marketo before it is sent, so that after a restart all calls within the limits'
//! windows are known.
//!
//! The age of a call is measured by the machine's uptime. The time of day is not used, since it may be set in between.
//! Calls of another boot are treated as if they had been made when the daemon started.

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;
use sqlx::Row;

use crate::clock::{ClockReading, Uptime, from_ms};
use crate::store::engine::transaction::{ReadTx, StoreTx};
use crate::store::error::StoreError;
use crate::store::events::MetricEvent;
use crate::store::tables::instance_lists::list_parameter;
use crate::store::tables::row_mapping::{duration_value, size_column};

/// The quota's day at a moment, as far as it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuotaDay {
    /// When the day began, according to the clock.
    pub by_clock: Timestamp,
    /// Whether the clock is steady. If not, the day is the newest one that has a call.
    pub is_clock_steady: bool,
}

/// The quota of an instance.
#[derive(Clone, Copy, Debug)]
pub(crate) struct InstanceQuota<'a> {
    /// The name of the instance.
    pub instance: &'a str,
    /// The instances with the same Marketo subscription, this one included.
    pub sharing: &'a [String],
    /// The quota's day.
    pub day: QuotaDay,
}

/// Whether a call may be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallAdmission {
    /// It may; its number for [`crate::store::Store::end_call`].
    Call(i64),
    /// The day that began at `day` has had all its calls.
    DayUsedUp {
        /// When that day began.
        day: Timestamp,
    },
}

/// A call that is about to be sent.
#[derive(Clone, Debug)]
pub struct NewCall {
    /// The name of the instance.
    pub instance: String,
    /// The instances with the same Marketo subscription, this one included: they share the day's calls.
    pub sharing: Vec<String>,
    /// How long a call counts after its end.
    pub window: Duration,
    /// The longest time that this call may take.
    pub may_take: Duration,
    /// The quota's day.
    pub day: QuotaDay,
    /// How many calls a day may have; none without a limit.
    pub daily: Option<u64>,
    /// The time of day.
    pub at: Timestamp,
    /// The uptime at the same moment.
    pub up: Uptime,
}

/// Calls of earlier processes that may still count.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EarlierCalls {
    /// How long ago each ended.
    pub ended_ago: Vec<Duration>,
    /// For each call without a recorded end, how long it may still take.
    pub may_last: Vec<Duration>,
}

impl StoreTx<'_> {
    /// Records a call before it is sent, unless the day's calls are used up.
    pub(crate) async fn begin_call(&mut self, call: NewCall) -> Result<CallAdmission, StoreError> {
        sqlx::query(
            "DELETE FROM api_call WHERE instance = ? AND boot = ? AND coalesce(ended_up, began_up + may_take) < ?",
        )
        .bind(&call.instance)
        .bind(&call.up.boot)
        .bind(call.up.ms.saturating_sub(duration_value(call.window)))
        .execute(&mut *self.conn)
        .await?;
        let day = self.quota_day(&call.sharing, call.day).await?;
        if let Some(daily) = call.daily {
            let mut today = 0;
            for name in &call.sharing {
                today += self.calls_of_day(name, day).await?;
            }
            if today >= daily {
                return Ok(CallAdmission::DayUsedUp { day });
            }
        }
        self.count_call(&call, day).await?;
        self.note_call(&ClockReading { wall: call.at, up: call.up.clone() }).await?;
        let begun =
            sqlx::query("INSERT INTO api_call (instance, started_at, boot, began_up, may_take) VALUES (?, ?, ?, ?, ?)")
                .bind(&call.instance)
                .bind(call.at.as_millisecond())
                .bind(&call.up.boot)
                .bind(call.up.ms)
                .bind(duration_value(call.may_take))
                .execute(&mut *self.conn)
                .await?;
        self.count(MetricEvent::Call { instance: call.instance });
        Ok(CallAdmission::Call(begun.last_insert_rowid()))
    }

    /// Records the end of a call.
    pub(crate) async fn end_call(&mut self, call: i64, now: Timestamp, up: Uptime) -> Result<(), StoreError> {
        sqlx::query("UPDATE api_call SET ended_at = ?, ended_up = ? WHERE id = ?")
            .bind(now.as_millisecond())
            .bind(up.ms)
            .bind(call)
            .execute(&mut *self.conn)
            .await?;
        Ok(())
    }

    /// Dates the calls of another boot to now, and deletes the counts of days before `day`, except for the newest day.
    pub(crate) async fn adopt_calls(&mut self, day: Timestamp, up: Uptime) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE api_call SET boot = ?1, began_up = ?2, ended_up = iif(ended_at IS NULL, NULL, ?2)
             WHERE boot IS NOT ?1 OR began_up > ?2 OR ended_up > ?2",
        )
        .bind(&up.boot)
        .bind(up.ms)
        .execute(&mut *self.conn)
        .await?;
        sqlx::query(
            "DELETE FROM api_call_day
             WHERE day < ? AND day < (SELECT max(n.day) FROM api_call_day n WHERE n.instance = api_call_day.instance)",
        )
        .bind(day.as_millisecond())
        .execute(&mut *self.conn)
        .await?;
        Ok(())
    }

    /// Counts one more call for `day`, which differs from the clock's day where the clock is not steady.
    async fn count_call(&mut self, call: &NewCall, day: Timestamp) -> Result<(), StoreError> {
        let calls = self.calls_of_day(&call.instance, day).await?.cast_signed() + 1;
        sqlx::query("DELETE FROM api_call_day WHERE instance = ? AND day > ?")
            .bind(&call.instance)
            .bind(day.as_millisecond())
            .execute(&mut *self.conn)
            .await?;
        let done = sqlx::query(
            "INSERT INTO api_call_day (instance, day, calls, doubtful) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (instance, day) DO UPDATE SET calls = ?3, doubtful = doubtful + ?4",
        )
        .bind(&call.instance)
        .bind(day.as_millisecond())
        .bind(calls)
        .bind(i64::from(call.day.by_clock != day))
        .execute(&mut *self.conn)
        .await?;
        debug_assert_eq!(done.rows_affected(), 1);
        // The count of the new day includes them from now on.
        sqlx::query("UPDATE api_call_day SET doubtful = 0 WHERE instance = ? AND day < ? AND doubtful > 0")
            .bind(&call.instance)
            .bind(day.as_millisecond())
            .execute(&mut *self.conn)
            .await?;
        Ok(())
    }
}

impl ReadTx<'_> {
    /// Returns the calls of an instance that may still count.
    pub(crate) async fn earlier_calls(&mut self, instance: &str, up: &Uptime) -> Result<EarlierCalls, StoreError> {
        let rows = sqlx::query(
            "SELECT began_up, ended_up, may_take FROM api_call WHERE instance = ? AND boot = ? ORDER BY id",
        )
        .bind(instance)
        .bind(&up.boot)
        .fetch_all(&mut *self.conn)
        .await?;
        let span = |ms: i64| Duration::from_millis(ms.max(0).cast_unsigned());
        let mut calls = EarlierCalls::default();
        for row in &rows {
            let latest_end: i64 = row.try_get::<i64, _>("began_up")?.saturating_add(row.try_get("may_take")?);
            match row.try_get::<Option<i64>, _>("ended_up")? {
                Some(ended) => calls.ended_ago.push(span(up.ms - ended)),
                None if latest_end > up.ms => calls.may_last.push(span(latest_end - up.ms)),
                None => calls.ended_ago.push(span(up.ms - latest_end)),
            }
        }
        Ok(calls)
    }

    /// Returns how many calls of each of these instances count for its quota's day.
    pub(crate) async fn calls_today(
        &mut self,
        quotas: &[InstanceQuota<'_>],
    ) -> Result<HashMap<String, u64>, StoreError> {
        let mut days = Vec::with_capacity(quotas.len());
        for quota in quotas {
            days.push((quota.instance, self.quota_day(quota.sharing, quota.day).await?));
        }
        self.calls_of_days(&days).await
    }

    /// Returns the day for which calls count. A clock that was set must not begin a new day and a new count, so the
    /// newest day continues while the clock is not steady.
    async fn quota_day(&mut self, sharing: &[String], day: QuotaDay) -> Result<Timestamp, StoreError> {
        if day.is_clock_steady {
            return Ok(day.by_clock);
        }
        let mut newest = None;
        for name in sharing {
            let day: Option<i64> = sqlx::query_scalar("SELECT max(day) FROM api_call_day WHERE instance = ?")
                .bind(name)
                .fetch_one(&mut *self.conn)
                .await?;
            newest = newest.max(day);
        }
        Ok(newest.map_or(day.by_clock, from_ms))
    }

    /// Returns the calls of an instance that count for a day. Calls of later days count too, since the clock was set
    /// back after them, and so do doubtful calls of earlier days.
    async fn calls_of_day(&mut self, instance: &str, day: Timestamp) -> Result<u64, StoreError> {
        Ok(self.calls_of_days(&[(instance, day)]).await?.remove(instance).unwrap_or_default())
    }

    /// Returns the same for several instances, each with its day.
    async fn calls_of_days(&mut self, days: &[(&str, Timestamp)]) -> Result<HashMap<String, u64>, StoreError> {
        let days = list_parameter(days.iter().map(|(name, day)| json!({"name": name, "day": day.as_millisecond()})));
        let rows = sqlx::query(
            "SELECT i.name, (SELECT coalesce(sum(c.calls) FILTER (WHERE c.day >= i.day),
                                             sum(c.doubtful) FILTER (WHERE c.day < i.day), 0)
                             FROM api_call_day c WHERE c.instance = i.name) AS calls
             FROM (SELECT value ->> 'name' AS name, value ->> 'day' AS day FROM json_each(?)) i",
        )
        .bind(days)
        .fetch_all(&mut *self.conn)
        .await?;
        rows.iter().map(|row| Ok((row.try_get("name")?, size_column(row, "calls")?))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::handle::Store;
    use crate::store::test_util::{StatusAt, status, store};

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
        status(store, StatusAt { day, ..StatusAt::of("default") }).await.calls_today
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
            // The time of day is independent of the uptime.
            at: from_ms(1_000_000 - at),
            up: up(at),
        }
    }

    fn earlier(ended_ago: &[u64], may_last: &[u64]) -> EarlierCalls {
        let spans = |ms: &[u64]| ms.iter().copied().map(Duration::from_millis).collect();
        EarlierCalls { ended_ago: spans(ended_ago), may_last: spans(may_last) }
    }

    #[tokio::test]
    async fn a_call_cut_off_by_a_kill_counts_until_its_timeout() {
        let store = store().await;
        let first = begin(&store, call("default", 10)).await;
        store.end_call(first, from_ms(5), up(20)).await.unwrap();
        begin(&store, call("default", 30)).await;
        begin(&store, call("other", 30)).await;
        store.adopt_calls(from_ms(0), up(60)).await.unwrap();
        assert_eq!(store.earlier_calls("default", &up(60)).await.unwrap(), earlier(&[40], &[20]));
        assert_eq!(store.earlier_calls("default", &up(90)).await.unwrap(), earlier(&[70, 10], &[]));
        assert_eq!((today(&store, steady(0)).await, today(&store, steady(1)).await), (2, 0));
        // A new call deletes those that no longer count.
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
        // The uptime of a container may restart within one boot of the machine.
        store.adopt_calls(from_ms(0), other(3)).await.unwrap();
        assert_eq!(store.earlier_calls("default", &other(3)).await.unwrap(), earlier(&[0], &[50]));
        store.adopt_calls(from_ms(0), other(13)).await.unwrap();
        assert_eq!(store.earlier_calls("default", &other(13)).await.unwrap(), earlier(&[10], &[40]));
    }

    #[tokio::test]
    async fn the_daily_limit_is_shared_by_instances_of_one_url() {
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
    async fn quota_day_continues_until_the_clock_is_steady() {
        let store = store().await;
        let begin = async |day| {
            let sharing = vec!["default".to_owned(), "eu".to_owned()];
            store.begin_call(NewCall { day, daily: Some(4), sharing, ..call("default", 5) }).await.unwrap()
        };
        assert!(matches!(begin(steady(10)).await, CallAdmission::Call(_)));
        // The clock jumps forward, and a restart deletes old days.
        store.adopt_calls(from_ms(18), up(6)).await.unwrap();
        for calls in [2, 3, 4] {
            assert!(matches!(begin(doubted(18)).await, CallAdmission::Call(_)));
            assert_eq!(today(&store, doubted(18)).await, calls);
        }
        assert_eq!(begin(doubted(18)).await, CallAdmission::DayUsedUp { day: from_ms(10) });
        // The clock was right. Three calls may have been made on the new day.
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
        assert_eq!(today(&store, doubted(10)).await, 3, "the newest day continues");
        assert_eq!(today(&store, steady(10)).await, 4);
        begin(&store, NewCall { day: steady(10), ..call("default", 5) }).await;
        assert_eq!((today(&store, steady(10)).await, today(&store, steady(18)).await), (5, 0));
    }
}
