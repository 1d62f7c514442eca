//! Places: how many connections are served at once, and which one is closed when one more comes.
//!
//! There are `api.max_connections` places, for all listeners together. A connection beyond them waits, unread, until one
//! is free: it then needs to do nothing, where one that is turned away would have to come again. For one that waits
//! another is closed, in this order:
//!
//! 1. the one that has been idle for longest since its last answer;
//! 2. the oldest that has not sent its first request, if it has had [`FIRST_REQUEST`] for that;
//! 3. the one whose client sends or reads slowest, if more than three quarters of the places are held by slow clients
//!    and by answers that wait.
//!
//! Answers that wait for something other than their client (`/v1/events`, `?wait=`) may take half of the places. So a
//! quarter of them is always left for requests that are short.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::http_server::stall_timer::TransferSpeed;

/// How long a new connection keeps its place without having sent a request. Its client may be on a busy machine, or far
/// away with a TLS handshake to do.
const FIRST_REQUEST_TIME: Duration = Duration::from_secs(1);

/// A client for which the daemon has waited for so long during one request counts as slow.
const SLOW_AFTER: Duration = Duration::from_secs(2);

/// While a connection waits for a place, slow clients are looked for so often.
const CHECK_INTERVAL: Duration = Duration::from_millis(250);

/// The places of all listeners.
pub(super) struct ConnectionLimiter {
    max: usize,
    free: Arc<Semaphore>,
    max_waiting: usize,
    waiting: Arc<Semaphore>,
    served: Mutex<PermitTable>,
    /// A connection has become idle.
    fell_quiet: Notify,
}

/// The connections that have a place.
#[derive(Default)]
struct PermitTable {
    turn: u64,
    /// Without a request since the last answer: the longest idle first.
    idle: BTreeMap<u64, CancellationToken>,
    /// Without a request so far, by when they came.
    new: BTreeMap<u64, (Instant, CancellationToken)>,
    /// With a request under way.
    busy: HashMap<u64, (Arc<TransferSpeed>, CancellationToken)>,
}

impl ConnectionLimiter {
    pub(super) fn new(max: usize) -> ConnectionLimiter {
        let max_waiting = max / 2;
        ConnectionLimiter {
            max,
            free: Arc::new(Semaphore::new(max)),
            max_waiting,
            waiting: Arc::new(Semaphore::new(max_waiting)),
            served: Mutex::default(),
            fell_quiet: Notify::new(),
        }
    }

    /// Takes a place, if one is free.
    pub(super) fn try_take(self: &Arc<ConnectionLimiter>) -> Option<ConnectionPermit> {
        Some(self.given(self.free.clone().try_acquire_owned().ok()?))
    }

    /// Takes a place when one is free, and makes room for it until then.
    pub(super) async fn take(self: &Arc<ConnectionLimiter>) -> ConnectionPermit {
        let mut permit = std::pin::pin!(self.free.clone().acquire_owned());
        loop {
            let fell_quiet = self.fell_quiet.notified();
            self.close_one();
            tokio::select! {
                biased;
                permit = &mut permit => return self.given(permit.expect("nobody closes this semaphore")),
                () = fell_quiet => {}
                () = sleep_until(Instant::now() + CHECK_INTERVAL) => {}
            }
        }
    }

    fn given(self: &Arc<ConnectionLimiter>, permit: OwnedSemaphorePermit) -> ConnectionPermit {
        let leave = CancellationToken::new();
        let mut served = self.served();
        let turn = served.next_turn();
        served.new.insert(turn, (Instant::now(), leave.clone()));
        drop(served);
        self.fell_quiet.notify_waiters();
        ConnectionPermit {
            places: self.clone(),
            standing: Mutex::new((PermitState::Quiet, turn)),
            speed: Mutex::default(),
            waiting: Mutex::default(),
            leave,
            _permit: permit,
        }
    }

    /// Asks one connection to close, if there is one that may be.
    pub(super) fn close_one(&self) {
        let (now, mut served) = (Instant::now(), self.served());
        if let Some((_, leave)) = served.idle.pop_first() {
            return leave.cancel();
        }
        if let Some(oldest) = served.new.first_entry()
            && now.saturating_duration_since(oldest.get().0) >= FIRST_REQUEST_TIME
        {
            let (_, leave) = oldest.remove();
            return leave.cancel();
        }
        let slow: Vec<(u64, f64)> = served
            .busy
            .iter()
            .filter_map(|(&turn, (speed, leave))| {
                let speed = speed.once_waited(SLOW_AFTER, now).filter(|_| !leave.is_cancelled())?;
                Some((turn, speed))
            })
            .collect();
        let waiting = self.max_waiting - self.waiting.available_permits();
        if slow.len() + waiting <= (self.max - self.max.div_ceil(4)).max(1) {
            return;
        }
        if let Some((turn, _)) = slow.into_iter().min_by(|one, other| one.1.total_cmp(&other.1))
            && let Some((speed, leave)) = served.busy.remove(&turn)
        {
            speed.close();
            leave.cancel();
        }
    }

    fn served(&self) -> MutexGuard<'_, PermitTable> {
        locked(&self.served)
    }
}

impl PermitTable {
    fn next_turn(&mut self) -> u64 {
        self.turn += 1;
        self.turn
    }

    fn remove(&mut self, turn: u64) {
        self.idle.remove(&turn);
        self.new.remove(&turn);
        self.busy.remove(&turn);
    }
}

/// One connection's place, until it is dropped.
pub(crate) struct ConnectionPermit {
    places: Arc<ConnectionLimiter>,
    /// With the turn under which it is listed.
    standing: Mutex<(PermitState, u64)>,
    /// Of the request under way.
    speed: Mutex<Arc<TransferSpeed>>,
    /// Where the answer under way is one that waits.
    waiting: Mutex<Option<OwnedSemaphorePermit>>,
    leave: CancellationToken,
    _permit: OwnedSemaphorePermit,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum PermitState {
    /// No whole request has come since the last answer, or at all.
    Quiet,
    /// A request is being answered.
    Busy,
    /// The answer is complete, and some of it may not have left.
    Leaving,
}

impl ConnectionPermit {
    /// Cancelled when somebody else needs the place.
    pub(super) fn closed(&self) -> &CancellationToken {
        &self.leave
    }

    pub(super) fn is_idle(&self) -> bool {
        locked(&self.standing).0 == PermitState::Quiet
    }

    /// How fast the client of the request under way is.
    pub(super) fn speed(&self) -> Arc<TransferSpeed> {
        locked(&self.speed).clone()
    }

    /// Whether the answer under way may last for as long as the daemon likes. A quarter of the places at least is never
    /// given to such answers.
    pub(crate) fn may_wait(&self) -> bool {
        let mut waiting = locked(&self.waiting);
        if waiting.is_none() {
            *waiting = self.places.waiting.clone().try_acquire_owned().ok();
        }
        waiting.is_some()
    }

    /// A request has come.
    pub(super) fn begin_request(&self) {
        let speed = Arc::new(TransferSpeed::default());
        *locked(&self.speed) = speed.clone();
        self.list(PermitState::Busy, |served, turn| drop(served.busy.insert(turn, (speed, self.leave.clone()))));
    }

    /// Its answer is complete.
    pub(super) fn end_request(&self) {
        *locked(&self.waiting) = None;
        locked(&self.standing).0 = PermitState::Leaving;
    }

    /// All that was written has left. Whether an answer ended with it, so that another request may come.
    pub(super) fn flushed(&self) -> bool {
        let was_leaving = locked(&self.standing).0 == PermitState::Leaving;
        if was_leaving {
            self.list(PermitState::Quiet, |served, turn| drop(served.idle.insert(turn, self.leave.clone())));
            self.places.fell_quiet.notify_waiters();
        }
        was_leaving
    }

    /// Lists it anew, under the next turn.
    fn list(&self, standing: PermitState, insert: impl FnOnce(&mut PermitTable, u64)) {
        let (mut here, mut served) = (locked(&self.standing), self.places.served());
        served.remove(here.1);
        *here = (standing, served.next_turn());
        insert(&mut served, here.1);
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        // Whoever is no longer here is not asked to leave.
        let turn = locked(&self.standing).1;
        self.places.served().remove(turn);
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;
    use crate::http_server::stall_timer::{ClientWait, Direction};

    fn answered(place: &ConnectionPermit) {
        place.begin_request();
        place.end_request();
        place.flushed();
    }

    #[tokio::test]
    async fn the_longest_idle_leaves_for_the_next_who_comes() {
        let places = Arc::new(ConnectionLimiter::new(2));
        let first = places.try_take().unwrap();
        let second = places.try_take().unwrap();
        answered(&second);
        assert!(!first.closed().is_cancelled() && !second.closed().is_cancelled(), "nobody waits yet");
        assert!(places.try_take().is_none());
        // An answer later the first is the one that was heard of last.
        answered(&first);
        let mut third = std::pin::pin!(places.take());
        assert!(third.as_mut().now_or_never().is_none());
        assert!(second.closed().is_cancelled() && !first.closed().is_cancelled());
        drop(second);
        third.await;
    }

    #[tokio::test]
    async fn a_served_connection_stays_and_the_first_done_is_closed() {
        let places = Arc::new(ConnectionLimiter::new(2));
        let (one, other) = (places.try_take().unwrap(), places.try_take().unwrap());
        one.begin_request();
        other.begin_request();
        let mut third = std::pin::pin!(places.take());
        assert!(third.as_mut().now_or_never().is_none());
        assert!(!one.closed().is_cancelled() && !other.closed().is_cancelled());
        other.end_request();
        assert!(third.as_mut().now_or_never().is_none());
        assert!(!other.closed().is_cancelled(), "some of its answer may not have left");
        other.flushed();
        assert!(third.as_mut().now_or_never().is_none());
        assert!(other.closed().is_cancelled() && !one.closed().is_cancelled());
        drop(other);
        third.await;
    }

    #[tokio::test]
    async fn a_new_connection_has_time_for_its_first_request() {
        let places = Arc::new(ConnectionLimiter::new(2));
        let (new, idle) = (places.try_take().unwrap(), places.try_take().unwrap());
        let came = Instant::now();
        answered(&idle);
        let mut next = std::pin::pin!(places.take());
        assert!(next.as_mut().now_or_never().is_none());
        assert!(
            idle.closed().is_cancelled() && !new.closed().is_cancelled(),
            "it came first, and is not the first to go"
        );
        drop(idle);
        let next = next.await;
        next.begin_request();
        // Only it is left that could go, and its time is not over.
        let mut last = std::pin::pin!(places.take());
        tokio::select! {
            _ = &mut last => panic!("there is no place"),
            () = new.closed().cancelled() => {}
        }
        assert!(came.elapsed() >= FIRST_REQUEST_TIME, "{:?}", came.elapsed());
    }

    #[tokio::test]
    async fn half_of_the_places_at_most_are_given_to_answers_that_wait() {
        for (max, waiting) in [(1, 0), (2, 1), (3, 1), (4, 2), (125, 62)] {
            let places = Arc::new(ConnectionLimiter::new(max));
            let taken: Vec<ConnectionPermit> = (0..max).map(|_| places.try_take().unwrap()).collect();
            let may: Vec<bool> = taken.iter().map(ConnectionPermit::may_wait).collect();
            assert_eq!(may.iter().filter(|may| **may).count(), waiting, "of {max}");
            let Some(place) = taken.iter().find(|place| place.may_wait()) else { continue };
            assert!(place.may_wait(), "the same answer needs no second place");
            place.end_request();
            assert!(taken.last().unwrap().may_wait(), "it is free when the answer has ended");
        }
    }

    /// A client that has been waited for long enough to be slow, after it moved so many bytes.
    fn slow(places: &Arc<ConnectionLimiter>, bytes: usize) -> ConnectionPermit {
        let place = places.try_take().unwrap();
        place.begin_request();
        let mut waited = ClientWait::new(Direction::In, Duration::from_secs(60));
        waited.moved(bytes, &place.speed());
        place.speed().wait_since(Instant::now().checked_sub(SLOW_AFTER * 2).unwrap());
        place
    }

    #[tokio::test]
    async fn the_slowest_client_is_closed_and_a_quarter_stays_free() {
        let places = Arc::new(ConnectionLimiter::new(4));
        let all = [300, 100, 200, 400].map(|bytes| slow(&places, bytes));
        let gone = || all.each_ref().map(|place| place.closed().is_cancelled());
        let mut next = std::pin::pin!(places.take());
        assert!(next.as_mut().now_or_never().is_none());
        assert_eq!(gone(), [false, true, false, false]);
        assert!(all[1].speed().is_closed() && !all[0].speed().is_closed());
        places.close_one();
        assert_eq!(gone(), [false, true, false, false], "three quarters are theirs");
        // Answers that wait count with them.
        assert!(all[0].may_wait());
        places.close_one();
        assert_eq!(gone(), [false, true, true, false]);
    }
}
