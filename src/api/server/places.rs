//! How many clients are served at once, and who has to leave when one more comes?
//!
//! There are `api.max_connections` places, for all listeners together. Who finds none waits, unread, until one is free: a
//! client that waits needs to do nothing, where one that is turned away would have to come again. So that those who sit
//! and say nothing keep nobody out, the connection that has been quiet for longest is closed for the one that waits.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

/// The places of all listeners.
pub(super) struct Places {
    free: Arc<Semaphore>,
    quiet: Mutex<Quiet>,
    /// Somebody has become quiet.
    fell_quiet: Notify,
}

/// Who asks for nothing at the moment: the longest quiet first.
#[derive(Default)]
struct Quiet {
    turn: u64,
    by_turn: BTreeMap<u64, CancellationToken>,
}

impl Places {
    pub(super) fn new(most: usize) -> Places {
        Places { free: Arc::new(Semaphore::new(most)), quiet: Mutex::default(), fell_quiet: Notify::new() }
    }

    /// Takes a place, if one is free.
    pub(super) fn try_take(self: &Arc<Places>) -> Option<Place> {
        Some(self.given(self.free.clone().try_acquire_owned().ok()?))
    }

    /// Takes a place when one is free, and makes room for it until then.
    pub(super) async fn take(self: &Arc<Places>) -> Place {
        let mut permit = std::pin::pin!(self.free.clone().acquire_owned());
        loop {
            let fell_quiet = self.fell_quiet.notified();
            self.make_room();
            tokio::select! {
                biased;
                permit = &mut permit => return self.given(permit.expect("nobody closes this semaphore")),
                () = fell_quiet => {}
            }
        }
    }

    fn given(self: &Arc<Places>, permit: OwnedSemaphorePermit) -> Place {
        let place = Place {
            places: self.clone(),
            standing: Mutex::new(Standing::Busy),
            leave: CancellationToken::new(),
            _permit: permit,
        };
        place.fall_quiet();
        place
    }

    /// Asks the one that has been quiet for longest to leave.
    pub(super) fn make_room(&self) {
        if let Some((_, leave)) = self.quiet().by_turn.pop_first() {
            leave.cancel();
        }
    }

    fn quiet(&self) -> MutexGuard<'_, Quiet> {
        self.quiet.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One client's place, until it is dropped.
pub(super) struct Place {
    places: Arc<Places>,
    standing: Mutex<Standing>,
    leave: CancellationToken,
    _permit: OwnedSemaphorePermit,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// No whole request has come since the last answer; the turn in which it became so.
    Quiet(u64),
    /// A request is being answered.
    Busy,
    /// The answer is complete, and some of it may not have left.
    Leaving,
}

impl Place {
    /// Cancelled when somebody else needs the place.
    pub(super) fn leave(&self) -> &CancellationToken {
        &self.leave
    }

    pub(super) fn is_quiet(&self) -> bool {
        matches!(*self.standing(), Standing::Quiet(_))
    }

    /// A request has come.
    pub(super) fn begin(&self) {
        let before = std::mem::replace(&mut *self.standing(), Standing::Busy);
        if let Standing::Quiet(turn) = before {
            self.places.quiet().by_turn.remove(&turn);
        }
    }

    /// Its answer is complete.
    pub(super) fn end(&self) {
        *self.standing() = Standing::Leaving;
    }

    /// All that was written has left.
    pub(super) fn flushed(&self) {
        if *self.standing() == Standing::Leaving {
            self.fall_quiet();
        }
    }

    fn fall_quiet(&self) {
        let mut quiet = self.places.quiet();
        quiet.turn += 1;
        let turn = quiet.turn;
        quiet.by_turn.insert(turn, self.leave.clone());
        drop(quiet);
        *self.standing() = Standing::Quiet(turn);
        self.places.fell_quiet.notify_waiters();
    }

    fn standing(&self) -> MutexGuard<'_, Standing> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // Whoever is no longer here is not asked to leave.
        self.begin();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn the_longest_quiet_leaves_for_the_next_who_comes() {
        let places = Arc::new(Places::new(2));
        let first = places.try_take().unwrap();
        let second = places.try_take().unwrap();
        assert!(!first.leave().is_cancelled() && !second.leave().is_cancelled(), "nobody waits yet");
        assert!(places.try_take().is_none());
        // An answer later the first is the one that was heard of last.
        first.begin();
        first.end();
        first.flushed();
        let mut third = std::pin::pin!(places.take());
        assert!(third.as_mut().now_or_never().is_none());
        assert!(second.leave().is_cancelled() && !first.leave().is_cancelled());
        drop(second);
        third.await;
    }

    #[tokio::test]
    async fn who_is_being_answered_stays_and_the_first_to_be_done_makes_room() {
        let places = Arc::new(Places::new(2));
        let (one, other) = (places.try_take().unwrap(), places.try_take().unwrap());
        one.begin();
        other.begin();
        let mut third = std::pin::pin!(places.take());
        assert!(third.as_mut().now_or_never().is_none());
        assert!(!one.leave().is_cancelled() && !other.leave().is_cancelled());
        other.end();
        assert!(third.as_mut().now_or_never().is_none());
        assert!(!other.leave().is_cancelled(), "some of its answer may not have left");
        other.flushed();
        assert!(third.as_mut().now_or_never().is_none());
        assert!(other.leave().is_cancelled() && !one.leave().is_cancelled());
        drop(other);
        third.await;
    }
}
