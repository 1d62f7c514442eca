//! When may the next call leave? The window of calls, the calls at once, and what 606 and 615 add to them.
//!
//! A call counts in the window from the moment it is let go until one window after its *end*. Marketo sees it
//! somewhere between, so however long calls are on the way, no span of one window can see more of them than the limit.
//! Times are [`Instant`]s: a wall clock that is set must not open the gate. What a daemon that was killed had under way is
//! still at Marketo, for all that can be known, until the time that a call may take is over.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

/// How long a 615 holds everything, before fewer calls at once go on.
const AT_ONCE_PAUSE: Duration = Duration::from_secs(1);

/// The arithmetic of the gate, without waiting.
#[derive(Debug)]
pub struct SlidingWindow {
    calls: usize,
    window: Duration,
    at_once: usize,
    in_progress: usize,
    /// Until when each call may be under way that an earlier process began and did not see end.
    unseen: Vec<Instant>,
    /// When each call ended that may still count, oldest first.
    ended: VecDeque<Instant>,
    /// Nothing leaves before this.
    blocked_until: Option<Instant>,
    /// After a 615: so many at once, until then.
    fewer: Option<(usize, Instant)>,
}

/// What [`Window::look`] found.
#[derive(Debug, PartialEq, Eq)]
pub enum Decision {
    Go,
    /// Not before this.
    At(Instant),
    /// When a call under way ends.
    Later,
}

impl SlidingWindow {
    /// At most `calls` in any `window` and `at_once` at once. `ended` is when earlier calls ended that may still count,
    /// `unseen` until when others may be under way.
    pub fn new(
        calls: u32,
        window: Duration,
        at_once: u32,
        ended: impl IntoIterator<Item = Instant>,
        unseen: impl IntoIterator<Item = Instant>,
    ) -> SlidingWindow {
        let mut ended: Vec<Instant> = ended.into_iter().collect();
        ended.sort_unstable();
        SlidingWindow {
            unseen: unseen.into_iter().collect(),
            calls: calls as usize,
            window,
            at_once: at_once as usize,
            in_progress: 0,
            ended: ended.into(),
            blocked_until: None,
            fewer: None,
        }
    }

    /// Other limits from `now` on. Calls that ended so long ago that only a longer window counts them are forgotten
    /// already, so nothing leaves until none of them can count.
    pub fn set_limits(&mut self, calls: u32, window: Duration, at_once: u32, now: Instant) {
        if window > self.window {
            self.blocked_until = self.blocked_until.max(Some(now + (window - self.window)));
        }
        self.calls = calls as usize;
        self.window = window;
        self.at_once = at_once as usize;
    }

    /// Whether a call may leave.
    pub fn decide(&mut self, now: Instant) -> Decision {
        for over in self.unseen.extract_if(.., |until| *until <= now) {
            let place = self.ended.partition_point(|&ended| ended <= over);
            self.ended.insert(place, over);
        }
        while self.ended.front().is_some_and(|&ended| ended + self.window <= now) {
            self.ended.pop_front();
        }
        self.blocked_until = self.blocked_until.filter(|&until| until > now);
        self.fewer = self.fewer.filter(|&(_, until)| until > now);
        if let Some(until) = self.blocked_until {
            return Decision::At(until);
        }
        let at_once = self.fewer.map_or(self.at_once, |(fewer, _)| fewer.min(self.at_once));
        let first_unseen = self.unseen.iter().min();
        if self.in_progress() >= at_once {
            return first_unseen.map_or(Decision::Later, |&until| Decision::At(until));
        }
        if self.in_progress() + self.ended.len() < self.calls {
            return Decision::Go;
        }
        let first = self.ended.front().or(first_unseen);
        first.map_or(Decision::Later, |&oldest| Decision::At(oldest + self.window))
    }

    fn in_progress(&self) -> usize {
        self.in_progress + self.unseen.len()
    }

    /// A call leaves: [`Window::look`] said that it may.
    pub fn begin(&mut self) {
        self.in_progress += 1;
    }

    /// A call is over.
    pub fn end(&mut self, now: Instant) {
        self.in_progress -= 1;
        self.ended.push_back(now);
    }

    /// 606: nothing leaves until a whole window has passed.
    pub fn window_is_full(&mut self, now: Instant) {
        self.blocked_until = self.blocked_until.max(Some(now + self.window));
    }

    /// 615: a short wait, then half as many at once, until a window has passed without another.
    pub fn too_many_at_once(&mut self, now: Instant) {
        let half = (self.in_progress() / 2).max(1);
        self.fewer = Some((half, now + self.window.max(AT_ONCE_PAUSE)));
        self.blocked_until = self.blocked_until.max(Some(now + AT_ONCE_PAUSE));
    }
}

/// The calls of earlier processes that still count.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EarlierCallTimes {
    /// How long ago each ended.
    pub ended_ago: Vec<Duration>,
    /// How long each may still be under way whose end was not seen.
    pub may_last: Vec<Duration>,
}

/// The gate that every call to one instance passes, tokens' apart. Clones are the same gate.
#[derive(Clone, Debug)]
pub struct RateLimiter {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    window: Mutex<SlidingWindow>,
    changed: Notify,
    /// Who waits first goes first.
    turn: tokio::sync::Mutex<()>,
}

impl RateLimiter {
    /// A gate for at most `calls` in any `window` and `at_once` at once. The `earlier` calls count too.
    pub fn new(calls: u32, window: Duration, at_once: u32, earlier: EarlierCallTimes) -> RateLimiter {
        let now = Instant::now();
        // An age from before the machine's first moment can't be told, so it counts in full.
        let ended = earlier.ended_ago.into_iter().map(|age| now.checked_sub(age).unwrap_or(now));
        let unseen = earlier.may_last.into_iter().map(|left| now + left);
        RateLimiter {
            shared: Arc::new(Shared {
                window: Mutex::new(SlidingWindow::new(calls, window, at_once, ended, unseen)),
                changed: Notify::new(),
                turn: tokio::sync::Mutex::new(()),
            }),
        }
    }

    /// Waits until one more call may leave. The call is over when the permit is dropped.
    pub async fn acquire(&self) -> CallPermit {
        let _turn = self.shared.turn.lock().await;
        loop {
            let changed = self.shared.changed.notified();
            let look = self.lock().decide(Instant::now());
            match look {
                Decision::Go => {
                    self.lock().begin();
                    return CallPermit { gate: self.clone() };
                }
                Decision::At(when) => {
                    let _ = tokio::time::timeout_at(when.into(), changed).await;
                }
                Decision::Later => changed.await,
            }
        }
    }

    /// See [`Window::change`].
    pub fn set_limits(&self, calls: u32, window: Duration, at_once: u32) {
        self.lock().set_limits(calls, window, at_once, Instant::now());
        self.shared.changed.notify_one();
    }

    /// See [`Window::window_is_full`].
    pub fn window_is_full(&self) {
        self.lock().window_is_full(Instant::now());
    }

    /// See [`Window::too_many_at_once`].
    pub fn too_many_at_once(&self) {
        self.lock().too_many_at_once(Instant::now());
    }

    /// How long no call may leave, by what is known now; none if one may, or as soon as one under way has ended.
    pub fn closed_for(&self) -> Option<Duration> {
        let now = Instant::now();
        match self.lock().decide(now) {
            Decision::At(when) => Some(when.saturating_duration_since(now)),
            Decision::Go | Decision::Later => None,
        }
    }

    /// Calls that count in the window now, and how many are let through in one.
    pub fn used(&self) -> (u32, u32) {
        let mut window = self.lock();
        window.decide(Instant::now());
        let used = window.in_progress() + window.ended.len();
        (u32::try_from(used).unwrap_or(u32::MAX), u32::try_from(window.calls).unwrap_or(u32::MAX))
    }

    fn lock(&self) -> MutexGuard<'_, SlidingWindow> {
        self.shared.window.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One call under way.
#[derive(Debug)]
pub struct CallPermit {
    gate: RateLimiter,
}

impl Drop for CallPermit {
    fn drop(&mut self) {
        self.gate.lock().end(Instant::now());
        self.gate.shared.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(calls: usize, at_once: usize) -> (SlidingWindow, Instant) {
        let window = SlidingWindow {
            calls,
            window: Duration::from_secs(20),
            at_once,
            in_progress: 0,
            unseen: Vec::new(),
            ended: VecDeque::new(),
            blocked_until: None,
            fewer: None,
        };
        (window, Instant::now())
    }

    fn secs(secs: f64) -> Duration {
        Duration::from_secs_f64(secs)
    }

    #[test]
    fn a_call_counts_until_one_window_after_its_end() {
        let (mut window, start) = window(1, 5);
        assert_eq!(window.decide(start), Decision::Go);
        window.in_progress += 1;
        assert_eq!(window.decide(start + secs(60.0)), Decision::Later, "it may reach Marketo only now");
        window.end(start + secs(60.0));
        assert_eq!(window.decide(start + secs(61.0)), Decision::At(start + secs(80.0)));
        assert_eq!(window.decide(start + secs(80.0)), Decision::Go);
    }

    #[test]
    fn however_calls_come_no_window_holds_more_than_the_limit() {
        let (mut window, start) = window(50, 5);
        let mut begun = Vec::new();
        // A thousand tenths of a second; a call lasts between one and three of them.
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
        assert!(begun.len() > 600, "the gate also lets through what it may: {}", begun.len());
    }

    #[tokio::test]
    async fn calls_of_before_the_start_count_too() {
        let earlier = EarlierCallTimes { ended_ago: vec![secs(1.0), secs(30.0)], may_last: Vec::new() };
        let gate = RateLimiter::new(2, secs(20.0), 5, earlier);
        assert_eq!(gate.used(), (1, 2));
        let _permit = gate.acquire().await;
        assert_eq!(gate.used(), (2, 2));
        let second = gate.acquire();
        tokio::pin!(second);
        assert!(futures_util::poll!(second.as_mut()).is_pending());
    }

    #[test]
    fn calls_of_a_killed_daemon_count_until_their_timeout() {
        let start = Instant::now();
        let at = |s: f64| start + secs(s);
        let mut window = SlidingWindow::new(4, secs(20.0), 3, [at(0.0)], [at(50.0), at(30.0)]);
        assert_eq!(window.decide(start), Decision::Go);
        window.begin();
        assert_eq!(window.decide(start), Decision::At(at(30.0)), "three at once");
        window.end(at(5.0));
        // Two that ended, and two that may be under way: the fourth of the window is past.
        assert_eq!(window.decide(at(5.0)), Decision::At(at(20.0)));
        assert_eq!(window.decide(at(20.0)), Decision::Go);
        // The one of which the end was not seen counts for a window from then on.
        assert_eq!(window.decide(at(31.0)), Decision::Go);
        assert_eq!((window.in_progress(), window.ended.iter().copied().collect::<Vec<_>>()), (1, vec![at(30.0)]));
    }

    #[tokio::test]
    async fn the_end_of_a_call_lets_the_next_go() {
        let gate = RateLimiter::new(100, secs(20.0), 1, EarlierCallTimes::default());
        let first = gate.acquire().await;
        let second = gate.acquire();
        tokio::pin!(second);
        assert!(futures_util::poll!(second.as_mut()).is_pending());
        drop(first);
        second.await;
    }

    #[test]
    fn a_606_blocks_a_window_and_a_615_halves_concurrency() {
        let gate = RateLimiter::new(100, secs(20.0), 4, EarlierCallTimes::default());
        gate.lock().in_progress = 4;
        assert_eq!(gate.closed_for(), None);
        gate.too_many_at_once();
        assert!(gate.closed_for().is_some_and(|shut| shut <= AT_ONCE_PAUSE));
        let now = Instant::now();
        let mut window = gate.lock();
        window.in_progress = 1;
        assert!(matches!(window.decide(now), Decision::At(_)));
        assert_eq!(window.decide(now + secs(2.0)), Decision::Go);
        window.in_progress = 2;
        assert_eq!(window.decide(now + secs(2.0)), Decision::Later);
        assert_eq!(window.decide(now + secs(21.0)), Decision::Go);
        drop(window);
        gate.window_is_full();
        let now = Instant::now();
        let mut window = gate.lock();
        assert!(matches!(window.decide(now + secs(19.0)), Decision::At(_)));
        assert_eq!(window.decide(now + secs(20.1)), Decision::Go);
    }
}
