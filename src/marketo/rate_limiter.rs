//! Rate limiter: counts calls in Marketo's sliding window and the concurrent calls, and applies the errors 606 and 615.
//!
//! A call counts in the window from its start until one window after its *end*. Marketo receives it at some time in
//! between, so that however long calls take, Marketo counts at most the limit in any window. Times are [`Instant`]s,
//! because setting the wall clock must not admit calls. A call that was under way when a daemon was killed may still be
//! under way at Marketo until the timeout of the call is over.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;

use crate::config;

/// How long no call is admitted after error 615, before fewer concurrent calls continue.
const AT_ONCE_PAUSE: Duration = Duration::from_secs(1);

/// Limits of calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallLimits {
    /// The most calls in any `window`.
    pub calls: u32,
    /// The length of the sliding window.
    pub window: Duration,
    /// The most calls at a time.
    pub max_concurrent: u32,
}

impl From<&config::Limits> for CallLimits {
    fn from(limits: &config::Limits) -> CallLimits {
        CallLimits { calls: limits.calls, window: limits.window, max_concurrent: limits.concurrent_calls }
    }
}

/// The state of the rate limiter, without waiting. Pure: the caller passes the time.
#[derive(Debug)]
pub struct SlidingWindow {
    calls: usize,
    window: Duration,
    max_concurrent: usize,
    in_progress: usize,
    /// Until when each call of an earlier process may be under way whose end is unknown.
    unfinished: Vec<Instant>,
    /// The ends of the calls that may still count, oldest first.
    ended: VecDeque<Instant>,
    /// No call is admitted before this.
    blocked_until: Option<Instant>,
    /// After error 615: the reduced number of concurrent calls, and until when it applies.
    reduced: Option<(usize, Instant)>,
}

/// The result of [`SlidingWindow::decide`].
#[derive(Debug, PartialEq, Eq)]
pub enum Decision {
    /// A call may start.
    Go,
    /// A call may start at this time at the earliest.
    At(Instant),
    /// A call may start when one under way ends.
    Later,
}

impl SlidingWindow {
    /// Builds a window with these limits. `ended` are the ends of earlier calls that may still count, `unfinished` the
    /// times until when others may be under way.
    pub fn new(
        limits: CallLimits,
        ended: impl IntoIterator<Item = Instant>,
        unfinished: impl IntoIterator<Item = Instant>,
    ) -> SlidingWindow {
        let mut ended: Vec<Instant> = ended.into_iter().collect();
        ended.sort_unstable();
        SlidingWindow {
            unfinished: unfinished.into_iter().collect(),
            calls: limits.calls as usize,
            window: limits.window,
            max_concurrent: limits.max_concurrent as usize,
            in_progress: 0,
            ended: ended.into(),
            blocked_until: None,
            reduced: None,
        }
    }

    /// Changes the limits. Where the window becomes longer, calls that only the longer one would count were dropped
    /// already, so no call is admitted until none of them can count.
    pub fn set_limits(&mut self, limits: CallLimits, now: Instant) {
        let CallLimits { calls, window, max_concurrent } = limits;
        if window > self.window {
            self.blocked_until = self.blocked_until.max(Some(now + (window - self.window)));
        }
        self.calls = calls as usize;
        self.window = window;
        self.max_concurrent = max_concurrent as usize;
    }

    /// Returns whether a call may start at `now`.
    pub fn decide(&mut self, now: Instant) -> Decision {
        for over in self.unfinished.extract_if(.., |until| *until <= now) {
            let index = self.ended.partition_point(|&ended| ended <= over);
            self.ended.insert(index, over);
        }
        while self.ended.front().is_some_and(|&ended| ended + self.window <= now) {
            self.ended.pop_front();
        }
        self.blocked_until = self.blocked_until.filter(|&until| until > now);
        self.reduced = self.reduced.filter(|&(_, until)| until > now);
        if let Some(until) = self.blocked_until {
            return Decision::At(until);
        }
        let max_concurrent = self.reduced.map_or(self.max_concurrent, |(reduced, _)| reduced.min(self.max_concurrent));
        let first_unfinished = self.unfinished.iter().min();
        if self.in_progress() >= max_concurrent {
            return first_unfinished.map_or(Decision::Later, |&until| Decision::At(until));
        }
        if self.in_progress() + self.ended.len() < self.calls {
            return Decision::Go;
        }
        let first = self.ended.front().or(first_unfinished);
        first.map_or(Decision::Later, |&oldest| Decision::At(oldest + self.window))
    }

    fn in_progress(&self) -> usize {
        self.in_progress + self.unfinished.len()
    }

    /// Counts a call that starts. The caller checks [`SlidingWindow::decide`] before.
    pub fn begin(&mut self) {
        self.in_progress += 1;
    }

    /// Counts a call that has ended.
    pub fn end(&mut self, now: Instant) {
        self.in_progress -= 1;
        self.ended.push_back(now);
    }

    /// Applies error 606: no call is admitted for one window.
    pub fn window_is_full(&mut self, now: Instant) {
        self.blocked_until = self.blocked_until.max(Some(now + self.window));
    }

    /// Applies error 615: a short wait, then half as many concurrent calls until a window has passed without another
    /// 615.
    pub fn too_many_at_once(&mut self, now: Instant) {
        let half = (self.in_progress() / 2).max(1);
        self.reduced = Some((half, now + self.window.max(AT_ONCE_PAUSE)));
        self.blocked_until = self.blocked_until.max(Some(now + AT_ONCE_PAUSE));
    }
}

/// The calls of earlier processes that still count.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EarlierCallTimes {
    /// The time since the end of each call.
    pub ended_ago: Vec<Duration>,
    /// How long each call may still be under way whose end is unknown.
    pub may_last: Vec<Duration>,
}

/// The rate limiter of one endpoint, which every call except the token's passes. Clones share one state.
#[derive(Clone, Debug)]
pub struct RateLimiter {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    window: Mutex<SlidingWindow>,
    changed: Notify,
    /// Admits waiting calls in order.
    turn: tokio::sync::Mutex<()>,
}

impl RateLimiter {
    /// Builds a limiter with these limits. The `earlier` calls count too.
    pub fn new(limits: CallLimits, earlier: EarlierCallTimes) -> RateLimiter {
        let now = Instant::now();
        // An `Instant` before the machine's start cannot be represented. Such a call counts as ended now.
        let ended = earlier.ended_ago.into_iter().map(|age| now.checked_sub(age).unwrap_or(now));
        let unfinished = earlier.may_last.into_iter().map(|left| now + left);
        RateLimiter {
            shared: Arc::new(Shared {
                window: Mutex::new(SlidingWindow::new(limits, ended, unfinished)),
                changed: Notify::new(),
                turn: tokio::sync::Mutex::new(()),
            }),
        }
    }

    /// Waits until a call may start. The call ends when the permit is dropped.
    pub async fn acquire(&self) -> CallPermit {
        let _turn = self.shared.turn.lock().await;
        loop {
            let changed = self.shared.changed.notified();
            let decision = self.window().decide(Instant::now());
            match decision {
                Decision::Go => {
                    self.window().begin();
                    return CallPermit { limiter: self.clone() };
                }
                Decision::At(when) => {
                    let _ = tokio::time::timeout_at(when.into(), changed).await;
                }
                Decision::Later => changed.await,
            }
        }
    }

    /// Changes the limits; see [`SlidingWindow::set_limits`].
    pub fn set_limits(&self, limits: CallLimits) {
        self.window().set_limits(limits, Instant::now());
        self.shared.changed.notify_one();
    }

    /// Applies error 606; see [`SlidingWindow::window_is_full`].
    pub fn window_is_full(&self) {
        self.window().window_is_full(Instant::now());
    }

    /// Applies error 615; see [`SlidingWindow::too_many_at_once`].
    pub fn too_many_at_once(&self) {
        self.window().too_many_at_once(Instant::now());
    }

    /// Returns how long no call is admitted; none if one is admitted now, or as soon as one under way ends.
    pub fn closed_for(&self) -> Option<Duration> {
        let now = Instant::now();
        match self.window().decide(now) {
            Decision::At(when) => Some(when.saturating_duration_since(now)),
            Decision::Go | Decision::Later => None,
        }
    }

    /// Returns the number of calls that count in the window now.
    pub fn used(&self) -> u32 {
        let mut window = self.window();
        window.decide(Instant::now());
        let used = window.in_progress() + window.ended.len();
        u32::try_from(used).unwrap_or(u32::MAX)
    }

    fn window(&self) -> MutexGuard<'_, SlidingWindow> {
        self.shared.window.lock()
    }
}

/// A call that is under way until this is dropped.
#[derive(Debug)]
pub struct CallPermit {
    limiter: RateLimiter,
}

impl Drop for CallPermit {
    fn drop(&mut self) {
        self.limiter.window().end(Instant::now());
        self.limiter.shared.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(calls: usize, max_concurrent: usize) -> (SlidingWindow, Instant) {
        let window = SlidingWindow {
            calls,
            window: Duration::from_secs(20),
            max_concurrent,
            in_progress: 0,
            unfinished: Vec::new(),
            ended: VecDeque::new(),
            blocked_until: None,
            reduced: None,
        };
        (window, Instant::now())
    }

    fn secs(secs: f64) -> Duration {
        Duration::from_secs_f64(secs)
    }

    fn limits(calls: u32, window: f64, max_concurrent: u32) -> CallLimits {
        CallLimits { calls, window: secs(window), max_concurrent }
    }

    #[test]
    fn call_counts_until_one_window_after_its_end() {
        let (mut window, start) = window(1, 5);
        assert_eq!(window.decide(start), Decision::Go);
        window.in_progress += 1;
        assert_eq!(window.decide(start + secs(60.0)), Decision::Later, "Marketo may receive it only now");
        window.end(start + secs(60.0));
        assert_eq!(window.decide(start + secs(61.0)), Decision::At(start + secs(80.0)));
        assert_eq!(window.decide(start + secs(80.0)), Decision::Go);
    }

    #[test]
    fn no_window_has_more_calls_than_the_limit() {
        let (mut window, start) = window(50, 5);
        let mut begun = Vec::new();
        // 300 seconds in steps of a tenth; a call lasts between one and three steps.
        let mut ends: Vec<(u32, usize)> = Vec::new();
        for tenth in 0..3000_u32 {
            let now = start + Duration::from_millis(u64::from(tenth) * 100);
            ends.retain(|&(end, _)| {
                end > tenth || {
                    window.end(now);
                    false
                }
            });
            while window.decide(now) == Decision::Go {
                window.in_progress += 1;
                begun.push(now);
                ends.push((tenth + 1 + (begun.len() as u32 % 3), begun.len()));
            }
            assert!(window.in_progress <= 5);
        }
        for (n, &from) in begun.iter().enumerate() {
            let within = begun[n..].iter().take_while(|&&at| at < from + secs(20.0)).count();
            assert!(within <= 50, "{within} calls in one window");
        }
        assert!(begun.len() > 600, "the limiter admits what the limit allows: {}", begun.len());
    }

    #[tokio::test]
    async fn calls_before_the_start_count_too() {
        let earlier = EarlierCallTimes { ended_ago: vec![secs(1.0), secs(30.0)], may_last: Vec::new() };
        let limiter = RateLimiter::new(limits(2, 20.0, 5), earlier);
        assert_eq!(limiter.used(), 1);
        let _permit = limiter.acquire().await;
        assert_eq!(limiter.used(), 2);
        let second = limiter.acquire();
        tokio::pin!(second);
        assert!(futures_util::poll!(second.as_mut()).is_pending());
    }

    #[test]
    fn calls_of_a_killed_daemon_count_until_their_timeout() {
        let start = Instant::now();
        let at = |s: f64| start + secs(s);
        let mut window = SlidingWindow::new(limits(4, 20.0, 3), [at(0.0)], [at(50.0), at(30.0)]);
        assert_eq!(window.decide(start), Decision::Go);
        window.begin();
        assert_eq!(window.decide(start), Decision::At(at(30.0)), "three at once");
        window.end(at(5.0));
        // Two that ended and two that may be under way use up the four of the window.
        assert_eq!(window.decide(at(5.0)), Decision::At(at(20.0)));
        assert_eq!(window.decide(at(20.0)), Decision::Go);
        // The call of unknown end counts for one window from then on.
        assert_eq!(window.decide(at(31.0)), Decision::Go);
        assert_eq!((window.in_progress(), window.ended.iter().copied().collect::<Vec<_>>()), (1, vec![at(30.0)]));
    }

    #[tokio::test]
    async fn end_of_a_call_admits_the_next() {
        let limiter = RateLimiter::new(limits(100, 20.0, 1), EarlierCallTimes::default());
        let first = limiter.acquire().await;
        let second = limiter.acquire();
        tokio::pin!(second);
        assert!(futures_util::poll!(second.as_mut()).is_pending());
        drop(first);
        second.await;
    }

    #[test]
    fn error_606_blocks_a_window_and_615_halves_concurrency() {
        let limiter = RateLimiter::new(limits(100, 20.0, 4), EarlierCallTimes::default());
        limiter.window().in_progress = 4;
        assert_eq!(limiter.closed_for(), None);
        limiter.too_many_at_once();
        assert!(limiter.closed_for().is_some_and(|shut| shut <= AT_ONCE_PAUSE));
        let now = Instant::now();
        let mut window = limiter.window();
        window.in_progress = 1;
        assert!(matches!(window.decide(now), Decision::At(_)));
        assert_eq!(window.decide(now + secs(2.0)), Decision::Go);
        window.in_progress = 2;
        assert_eq!(window.decide(now + secs(2.0)), Decision::Later);
        assert_eq!(window.decide(now + secs(21.0)), Decision::Go);
        drop(window);
        limiter.window_is_full();
        let now = Instant::now();
        let mut window = limiter.window();
        assert!(matches!(window.decide(now + secs(19.0)), Decision::At(_)));
        assert_eq!(window.decide(now + secs(20.1)), Decision::Go);
    }
}
