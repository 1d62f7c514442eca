//! How are guesses at a secret slowed, without a memory that grows with them?
//!
//! A wrong login closes its place for a while, twice as long each time, and the next one there is not judged before that.
//! So it makes no difference how many come at once, nor whether they wait for their answers. Places are few: which one
//! a pair of peer and client id has is a hash that nobody outside can foresee, so two pairs share one by chance alone; and
//! ids that there are have places of their own, so that guesses at made-up ones never close them.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

const PLACES: usize = 1024;

/// After the first wrong login, and at most.
const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(5);

/// After this without another wrong login a place is as it was.
const FORGOTTEN: Duration = Duration::from_secs(600);

/// How long one login waits for its turn.
const TURN: Duration = Duration::from_secs(15);

pub struct Guesses {
    hasher: RandomState,
    places: Mutex<Box<[Place]>>,
}

#[derive(Clone, Copy, Default)]
struct Place {
    wrong: u32,
    closed_until: Option<Instant>,
}

/// Too many wrong logins before this one: it was not judged.
#[derive(Debug, PartialEq, Eq)]
pub struct Crowded;

impl Default for Guesses {
    fn default() -> Self {
        Guesses { hasher: RandomState::new(), places: Mutex::new(vec![Place::default(); 2 * PLACES].into()) }
    }
}

impl Guesses {
    /// What `judge` says, when it is this login's turn. `peer` is none for the socket.
    ///
    /// # Errors
    /// [`Crowded`] if it was not for too long.
    pub async fn judge<T>(
        &self,
        peer: Option<IpAddr>,
        client_id: &str,
        known: bool,
        judge: impl Fn() -> Option<T>,
    ) -> Result<Option<T>, Crowded> {
        let place = self.place(peer, client_id) + if known { PLACES } else { 0 };
        let deadline = Instant::now() + TURN;
        loop {
            let now = Instant::now();
            match self.try_judge(place, now, &judge) {
                Ok(judged) => return Ok(judged),
                Err(open) if open <= deadline => tokio::time::sleep(open - now).await,
                Err(_) => return Err(Crowded),
            }
        }
    }

    /// Judges if the place is open; else says when it is.
    fn try_judge<T>(&self, place: usize, now: Instant, judge: impl Fn() -> Option<T>) -> Result<Option<T>, Instant> {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        let place = &mut places[place];
        if let Some(until) = place.closed_until.filter(|&until| now < until) {
            return Err(until);
        }
        let judged = judge();
        *place = match judged {
            Some(_) => Place::default(),
            None => {
                let recent = place.closed_until.is_some_and(|until| now < until + FORGOTTEN);
                let wrong = if recent { place.wrong } else { 0 };
                let pause = FIRST.saturating_mul(2_u32.saturating_pow(wrong)).min(LONGEST);
                Place { wrong: wrong.saturating_add(1), closed_until: Some(now + pause) }
            }
        };
        Ok(judged)
    }

    fn place(&self, peer: Option<IpAddr>, client_id: &str) -> usize {
        // Whoever has one IPv6 address has a network of them.
        let network = peer.map(|peer| match peer.to_canonical() {
            IpAddr::V4(address) => u128::from(address.to_bits()),
            IpAddr::V6(address) => address.to_bits() >> 64,
        });
        (self.hasher.hash_one((network, client_id)) % PLACES as u64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn wrong() -> Option<()> {
        None
    }

    #[test]
    fn each_wrong_login_closes_the_place_for_twice_as_long_up_to_a_limit() {
        let guesses = Guesses::default();
        let mut now = Instant::now();
        for pause in [100, 200, 400, 800, 1600, 3200, 5000, 5000].map(|pause| MS * pause) {
            assert_eq!(guesses.try_judge(7, now, wrong), Ok(None));
            assert_eq!(guesses.try_judge(7, now, wrong), Err(now + pause));
            assert_eq!(guesses.try_judge(7, now + pause - MS, || Some(())), Err(now + pause), "not even a right one");
            now += pause;
        }
        assert_eq!(guesses.try_judge(7, now, || Some(())), Ok(Some(())));
        assert_eq!(guesses.try_judge(7, now, || Some(())), Ok(Some(())), "right ones wait for nothing");
        assert_eq!(guesses.try_judge(7, now, wrong), Ok(None));
        assert_eq!(guesses.try_judge(7, now, wrong), Err(now + FIRST), "and forget what was before");
    }

    #[test]
    fn another_place_is_open_meanwhile() {
        let guesses = Guesses::default();
        let now = Instant::now();
        assert_eq!(guesses.try_judge(1, now, wrong), Ok(None));
        assert_eq!(guesses.try_judge(2, now, || Some(())), Ok(Some(())));
    }

    #[test]
    fn wrong_logins_are_forgotten_after_a_while() {
        let guesses = Guesses::default();
        let now = Instant::now();
        for n in 0..8 {
            assert_eq!(guesses.try_judge(3, now + LONGEST * n, wrong), Ok(None));
        }
        let later = now + LONGEST * 8 + FORGOTTEN;
        assert_eq!(guesses.try_judge(3, later, wrong), Ok(None));
        assert_eq!(guesses.try_judge(3, later, wrong), Err(later + FIRST));
    }

    #[tokio::test]
    async fn guesses_at_made_up_ids_never_close_the_place_of_one_that_there_is() {
        let guesses = Guesses::default();
        let peer = Some(IpAddr::from([127, 0, 0, 1]));
        let closed = guesses.place(peer, "crm");
        for place in 0..PLACES {
            assert_eq!(guesses.try_judge(place, Instant::now(), wrong), Ok(None));
        }
        assert!(guesses.try_judge(closed, Instant::now(), wrong).is_err());
        let now = Instant::now();
        assert_eq!(guesses.judge(peer, "crm", true, || Some(())).await, Ok(Some(())));
        assert!(now.elapsed() < FIRST / 2, "it was not made to wait");
    }

    #[tokio::test]
    async fn of_many_at_once_only_as_many_are_judged_as_there_is_time_for() {
        let guesses = Guesses::default();
        let judged = std::sync::atomic::AtomicU32::new(0);
        let began = Instant::now();
        let guess = || {
            judged.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            wrong()
        };
        let guesses = (0..4).map(|_| guesses.judge(None, "crm", true, guess));
        for answer in futures_util::future::join_all(guesses).await {
            assert_eq!(answer, Ok(None));
        }
        // The second waits for 100 ms, the third for 200 more, the fourth for 400 more.
        assert!(began.elapsed() >= MS * 700, "{:?}", began.elapsed());
        assert_eq!(judged.into_inner(), 4);
    }

    #[test]
    fn a_network_of_version_six_is_one_peer() {
        let guesses = Guesses::default();
        let place = |address: &str, id| guesses.place(Some(address.parse().unwrap()), id);
        assert_eq!(place("2001:db8::1", "crm"), place("2001:db8::ffff:2", "crm"));
        assert_eq!(place("::ffff:10.0.0.1", "crm"), place("10.0.0.1", "crm"));
    }
}
