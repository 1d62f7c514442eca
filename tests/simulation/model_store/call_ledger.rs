//! Call ledger: which calls still count in the window and for the day. The statements of `store::tables::call_ledger`.

use std::time::Duration;

use jiff::Timestamp;
use marqueue::clock::after;
use marqueue::marketo::EarlierCallTimes;
use marqueue::store::QuotaDay;

use super::ModelStore;

impl ModelStore {
    /// `store::call_ledger::calls_of_day`.
    fn calls_of_day(&self, day: Timestamp) -> u64 {
        match self.days.range(day..).map(|(_, calls)| calls.0).sum() {
            0 => self.days.values().map(|calls| calls.1).sum(),
            calls => calls,
        }
    }

    /// `store::call_ledger::call_began`: the call's number, or the day that has had its calls.
    pub fn call_began(&mut self, asked: QuotaDay, daily: u64, now: Timestamp) -> Result<usize, Timestamp> {
        let newest = self.days.last_key_value().map(|(&day, _)| day);
        let day = newest.filter(|_| !asked.is_clock_steady).unwrap_or(asked.by_clock);
        let calls = self.calls_of_day(day);
        if daily > 0 && calls >= daily {
            return Err(day);
        }
        self.days.retain(|&other, _| other <= day);
        let counted = self.days.entry(day).or_default();
        *counted = (calls + 1, counted.1 + u64::from(asked.by_clock != day));
        self.days.range_mut(..day).for_each(|(_, calls)| calls.1 = 0);
        self.calls.push((now, None));
        Ok(self.calls.len() - 1)
    }

    /// `store::call_ledger::call_ended`.
    pub fn call_ended(&mut self, call: usize, now: Timestamp) {
        self.calls[call].1 = Some(now);
    }

    /// `store::call_ledger::earlier_calls`: how long ago calls ended that may still count, and how long those may last
    /// of which no end was seen.
    pub fn earlier_calls(&mut self, window: Duration, may_take: Duration, now: Timestamp) -> EarlierCallTimes {
        let over = |&(began, ended): &(Timestamp, Option<Timestamp>)| ended.unwrap_or(after(began, may_take));
        self.calls.retain(|call| after(over(call), window) >= now);
        let span = |from: Timestamp, to: Timestamp| Duration::try_from(to.duration_since(from)).unwrap_or_default();
        let (may_last, ended): (Vec<_>, Vec<_>) =
            self.calls.iter().partition(|call| call.1.is_none() && over(call) > now);
        EarlierCallTimes {
            ended_ago: ended.into_iter().map(|call| span(over(&call), now)).collect(),
            may_last: may_last.into_iter().map(|call| span(now, over(&call))).collect(),
        }
    }
}
