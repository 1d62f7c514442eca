//! Connection limit: how many connections are served at once, and which one is closed for a new one.
//!
//! There are `api.max_connections` permits. A connection beyond them waits in the listen backlog until a permit is
//! free, instead of receiving 503, so its client need not retry. For a waiting connection another one is closed, in
//! this order:
//!
//! 1. the one that has been idle longest since its last response;
//! 2. the oldest one without a first request, if it has had [`FIRST_REQUEST_TIME`] for that;
//! 3. the one whose client sends or reads slowest, if more than three quarters of the permits are held by slow clients
//!    and by waiting responses.
//!
//! Responses that wait for something other than their client (`/v1/events`, `?wait=`) may hold half of the permits. So
//! a quarter of them is always left for short requests.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::http_server::stall_timer::TransferSpeed;

/// How long a new connection keeps its permit without a request. Its client may be on a busy machine, or far away with
/// a TLS handshake to do.
const FIRST_REQUEST_TIME: Duration = Duration::from_secs(1);

/// A client for which the daemon has waited this long during one request counts as slow.
const SLOW_AFTER: Duration = Duration::from_secs(2);

/// How often slow clients are searched while a connection waits for a permit.
const CHECK_INTERVAL: Duration = Duration::from_millis(250);

/// Permits of the connections of one or more listeners.
pub(super) struct ConnectionLimiter {
    max: usize,
    free: Arc<Semaphore>,
    max_waiting: usize,
    waiting: Arc<Semaphore>,
    permits: Mutex<PermitTable>,
    /// Notified when a connection becomes idle, or new.
    became_idle: Notify,
}

/// The connections that hold a permit. Each is listed once, under a sequence number that grows with every change.
#[derive(Default)]
struct PermitTable {
    last_sequence: u64,
    /// Without a request since the last response: the longest idle first.
    idle: BTreeMap<u64, CancellationToken>,
    /// Without a first request, the oldest first.
    new: BTreeMap<u64, (Instant, CancellationToken)>,
    /// With a request under way.
    busy: HashMap<u64, (Arc<TransferSpeed>, CancellationToken)>,
}

impl ConnectionLimiter {
    /// Makes a limit of `max` connections.
    pub(super) fn new(max: usize) -> ConnectionLimiter {
        let max_waiting = max / 2;
        ConnectionLimiter {
            max,
            free: Arc::new(Semaphore::new(max)),
            max_waiting,
            waiting: Arc::new(Semaphore::new(max_waiting)),
            permits: Mutex::default(),
            became_idle: Notify::new(),
        }
    }

    /// Acquires a permit, if one is free.
    pub(super) fn try_acquire(self: &Arc<ConnectionLimiter>) -> Option<ConnectionPermit> {
        Some(self.register(self.free.clone().try_acquire_owned().ok()?))
    }

    /// Acquires a permit as soon as one is free, and closes other connections for it until then.
    pub(super) async fn acquire(self: &Arc<ConnectionLimiter>) -> ConnectionPermit {
        let mut permit = std::pin::pin!(self.free.clone().acquire_owned());
        loop {
            let became_idle = self.became_idle.notified();
            self.close_one();
            tokio::select! {
                biased;
                permit = &mut permit => return self.register(permit.expect("the semaphore is never closed")),
                () = became_idle => {}
                () = sleep_until(Instant::now() + CHECK_INTERVAL) => {}
            }
        }
    }

    fn register(self: &Arc<ConnectionLimiter>, permit: OwnedSemaphorePermit) -> ConnectionPermit {
        let close = CancellationToken::new();
        let mut permits = self.permits.lock();
        let sequence = permits.next_sequence();
        permits.new.insert(sequence, (Instant::now(), close.clone()));
        drop(permits);
        self.became_idle.notify_waiters();
        ConnectionPermit {
            limiter: self.clone(),
            state: Mutex::new((PermitState::Idle, sequence)),
            speed: Mutex::default(),
            waiting: Mutex::default(),
            close,
            _permit: permit,
        }
    }

    /// Asks one connection to close, if there is one that may be closed.
    pub(super) fn close_one(&self) {
        let (now, mut permits) = (Instant::now(), self.permits.lock());
        if let Some((_, close)) = permits.idle.pop_first() {
            return close.cancel();
        }
        if let Some(oldest) = permits.new.first_entry()
            && now.saturating_duration_since(oldest.get().0) >= FIRST_REQUEST_TIME
        {
            let (_, close) = oldest.remove();
            return close.cancel();
        }
        let slow: Vec<(u64, f64)> = permits
            .busy
            .iter()
            .filter_map(|(&sequence, (speed, close))| {
                let speed = speed.speed_after(SLOW_AFTER, now).filter(|_| !close.is_cancelled())?;
                Some((sequence, speed))
            })
            .collect();
        let waiting = self.max_waiting - self.waiting.available_permits();
        if slow.len() + waiting <= (self.max - self.max.div_ceil(4)).max(1) {
            return;
        }
        if let Some((sequence, _)) = slow.into_iter().min_by(|one, other| one.1.total_cmp(&other.1))
            && let Some((speed, close)) = permits.busy.remove(&sequence)
        {
            speed.close();
            close.cancel();
        }
    }
}

impl PermitTable {
    fn next_sequence(&mut self) -> u64 {
        self.last_sequence += 1;
        self.last_sequence
    }

    fn remove(&mut self, sequence: u64) {
        self.idle.remove(&sequence);
        self.new.remove(&sequence);
        self.busy.remove(&sequence);
    }
}

/// Permit of one connection, until it is dropped.
pub(crate) struct ConnectionPermit {
    limiter: Arc<ConnectionLimiter>,
    /// State, and the sequence number under which the permit is listed.
    state: Mutex<(PermitState, u64)>,
    /// Speed of the request under way.
    speed: Mutex<Arc<TransferSpeed>>,
    /// Set while the response under way is a waiting one.
    waiting: Mutex<Option<OwnedSemaphorePermit>>,
    close: CancellationToken,
    _permit: OwnedSemaphorePermit,
}

/// State of a connection.
#[derive(Clone, Copy, PartialEq, Eq)]
enum PermitState {
    /// No complete request head has arrived since the last response, or at all.
    Idle,
    /// A request is being answered.
    Busy,
    /// The response is complete, and some of it may not be sent yet.
    Flushing,
}

impl ConnectionPermit {
    /// Returns a token that is cancelled when another connection needs the permit.
    pub(super) fn closed(&self) -> &CancellationToken {
        &self.close
    }

    /// Returns whether no request is under way.
    pub(super) fn is_idle(&self) -> bool {
        self.state.lock().0 == PermitState::Idle
    }

    /// Returns the speed of the client of the request under way.
    pub(super) fn speed(&self) -> Arc<TransferSpeed> {
        self.speed.lock().clone()
    }

    /// Returns whether the response under way may wait for an event. At most half of the permits may.
    pub(crate) fn may_wait(&self) -> bool {
        let mut waiting = self.waiting.lock();
        if waiting.is_none() {
            *waiting = self.limiter.waiting.clone().try_acquire_owned().ok();
        }
        waiting.is_some()
    }

    /// Records that a request has arrived.
    pub(super) fn begin_request(&self) {
        let speed = Arc::new(TransferSpeed::default());
        *self.speed.lock() = speed.clone();
        self.relist(PermitState::Busy, |permits, sequence| {
            permits.busy.insert(sequence, (speed, self.close.clone()));
        });
    }

    /// Records that the response is complete.
    pub(super) fn end_request(&self) {
        *self.waiting.lock() = None;
        self.state.lock().0 = PermitState::Flushing;
    }

    /// Records that everything written so far is sent. Returns whether that completed a response, so that the next
    /// bytes are another request.
    pub(super) fn record_flush(&self) -> bool {
        let ends_response = self.state.lock().0 == PermitState::Flushing;
        if ends_response {
            self.relist(PermitState::Idle, |permits, sequence| {
                permits.idle.insert(sequence, self.close.clone());
            });
            self.limiter.became_idle.notify_waiters();
        }
        ends_response
    }

    /// Moves the permit to another list, under the next sequence number.
    fn relist(&self, state: PermitState, insert: impl FnOnce(&mut PermitTable, u64)) {
        let (mut current, mut permits) = (self.state.lock(), self.limiter.permits.lock());
        permits.remove(current.1);
        *current = (state, permits.next_sequence());
        insert(&mut permits, current.1);
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        // A closed connection is not asked to close.
        let sequence = self.state.lock().1;
        self.limiter.permits.lock().remove(sequence);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;
    use crate::http_server::stall_timer::{ClientWait, Direction};

    fn serve_request(permit: &ConnectionPermit) {
        permit.begin_request();
        permit.end_request();
        permit.record_flush();
    }

    #[tokio::test]
    async fn the_longest_idle_connection_is_closed_for_a_new_one() {
        let limiter = Arc::new(ConnectionLimiter::new(2));
        let first = limiter.try_acquire().unwrap();
        let second = limiter.try_acquire().unwrap();
        serve_request(&second);
        assert!(!first.closed().is_cancelled() && !second.closed().is_cancelled(), "no connection waits yet");
        assert!(limiter.try_acquire().is_none());
        // After another response the first is the one that was active last.
        serve_request(&first);
        let mut third = std::pin::pin!(limiter.acquire());
        assert!(third.as_mut().now_or_never().is_none());
        assert!(second.closed().is_cancelled() && !first.closed().is_cancelled());
        drop(second);
        third.await;
    }

    #[tokio::test]
    async fn busy_connections_stay_open_until_one_has_flushed() {
        let limiter = Arc::new(ConnectionLimiter::new(2));
        let (one, other) = (limiter.try_acquire().unwrap(), limiter.try_acquire().unwrap());
        one.begin_request();
        other.begin_request();
        let mut third = std::pin::pin!(limiter.acquire());
        assert!(third.as_mut().now_or_never().is_none());
        assert!(!one.closed().is_cancelled() && !other.closed().is_cancelled());
        other.end_request();
        assert!(third.as_mut().now_or_never().is_none());
        assert!(!other.closed().is_cancelled(), "some of its response may not be sent yet");
        other.record_flush();
        assert!(third.as_mut().now_or_never().is_none());
        assert!(other.closed().is_cancelled() && !one.closed().is_cancelled());
        drop(other);
        third.await;
    }

    #[tokio::test]
    async fn a_new_connection_has_time_for_its_first_request() {
        let limiter = Arc::new(ConnectionLimiter::new(2));
        let (new, idle) = (limiter.try_acquire().unwrap(), limiter.try_acquire().unwrap());
        let accepted_at = Instant::now();
        serve_request(&idle);
        let mut next = std::pin::pin!(limiter.acquire());
        assert!(next.as_mut().now_or_never().is_none());
        assert!(
            idle.closed().is_cancelled() && !new.closed().is_cancelled(),
            "the new connection is older, and is not closed before the idle one"
        );
        drop(idle);
        let next = next.await;
        next.begin_request();
        // Only the new connection could be closed, and it still has time.
        let mut last = std::pin::pin!(limiter.acquire());
        tokio::select! {
            _ = &mut last => panic!("there is no permit"),
            () = new.closed().cancelled() => {}
        }
        assert!(accepted_at.elapsed() >= FIRST_REQUEST_TIME, "{:?}", accepted_at.elapsed());
    }

    #[tokio::test]
    async fn at_most_half_of_the_permits_are_for_waiting_responses() {
        for (max, waiting) in [(1, 0), (2, 1), (3, 1), (4, 2), (125, 62)] {
            let limiter = Arc::new(ConnectionLimiter::new(max));
            let taken: Vec<ConnectionPermit> = (0..max).map(|_| limiter.try_acquire().unwrap()).collect();
            let may: Vec<bool> = taken.iter().map(ConnectionPermit::may_wait).collect();
            assert_eq!(may.iter().filter(|may| **may).count(), waiting, "of {max}");
            let Some(permit) = taken.iter().find(|permit| permit.may_wait()) else { continue };
            assert!(permit.may_wait(), "the same response needs no second permit");
            permit.end_request();
            assert!(taken.last().unwrap().may_wait(), "it is free when the response has ended");
        }
    }

    /// A connection whose client counts as slow, after it transferred so many bytes.
    fn slow(limiter: &Arc<ConnectionLimiter>, bytes: usize) -> ConnectionPermit {
        let permit = limiter.try_acquire().unwrap();
        permit.begin_request();
        let mut wait = ClientWait::new(Direction::In, Duration::from_secs(60));
        wait.record_transfer(bytes, &permit.speed());
        permit.speed().wait_since(Instant::now().checked_sub(SLOW_AFTER * 2).unwrap());
        permit
    }

    #[tokio::test]
    async fn the_slowest_client_is_closed_beyond_three_quarters() {
        let limiter = Arc::new(ConnectionLimiter::new(4));
        let all = [300, 100, 200, 400].map(|bytes| slow(&limiter, bytes));
        let closed = || all.each_ref().map(|permit| permit.closed().is_cancelled());
        let mut next = std::pin::pin!(limiter.acquire());
        assert!(next.as_mut().now_or_never().is_none());
        assert_eq!(closed(), [false, true, false, false]);
        assert!(all[1].speed().is_closed() && !all[0].speed().is_closed());
        limiter.close_one();
        assert_eq!(closed(), [false, true, false, false], "three quarters may be slow");
        // Waiting responses count as slow clients do.
        assert!(all[0].may_wait());
        limiter.close_one();
        assert_eq!(closed(), [false, true, true, false]);
    }
}
