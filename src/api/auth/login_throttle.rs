//! Guesses: delays the answers to wrong logins, with bounded memory, connections and work.
//!
//! A right secret is never delayed: behind a proxy all clients have one address, and one client's wrong secret would keep
//! out the others. So every login is judged at once, and only the answer to a wrong one waits, twice as long each time.
//! Wrong logins of one address and client id wait one after the other, so it gains nothing to send many at once or to
//! hang up. The waits are kept in a table of fixed size, found by a keyed hash, so two pairs share an entry by chance
//! alone. Only so many answers wait at once, because each holds a connection; a wrong login beyond them is refused at
//! once, and costs what any request costs.
//!
//! A guesser can tell a wrong secret from the missing answer, so the delays do not protect a short secret: `client_secret`
//! has to be long and random.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;

use crate::log_throttle::LogThrottle;

const BUCKETS: usize = 1024;

/// The wait of the first wrong login, and the longest between two.
const MIN_DELAY: Duration = Duration::from_millis(100);
const MAX_DELAY: Duration = Duration::from_secs(5);

/// After so long without another wrong login an entry starts anew.
const BUCKET_LIFETIME: Duration = Duration::from_secs(600);

/// An answer that would wait longer than this is a refusal instead, at once.
const MAX_WAIT: Duration = Duration::from_secs(15);

/// How many answers wait at once, for all addresses together.
pub const MAX_WAITING: usize = 16;

pub struct LoginThrottle {
    hasher: RandomState,
    entries: Mutex<Box<[Bucket]>>,
    waiting: Semaphore,
    refused: Mutex<LogThrottle>,
}

#[derive(Clone, Copy, Default)]
struct Bucket {
    wrong: u32,
    /// When the last answer leaves, or left.
    answered_at: Option<Instant>,
}

/// Too many wrong logins wait for their answers already.
#[derive(Debug, PartialEq, Eq)]
pub struct ThrottledError;

impl Default for LoginThrottle {
    fn default() -> Self {
        LoginThrottle {
            hasher: RandomState::new(),
            entries: Mutex::new(vec![Bucket::default(); BUCKETS].into()),
            waiting: Semaphore::new(MAX_WAITING),
            refused: Mutex::default(),
        }
    }
}

impl LoginThrottle {
    /// Waits until a wrong login may be answered. `peer` is none for the socket.
    ///
    /// # Errors
    /// [`Crowded`], at once.
    pub async fn delay(&self, peer: Option<IpAddr>, client_id: &str) -> Result<(), ThrottledError> {
        let _waits = self.waiting.try_acquire().map_err(|_| ThrottledError)?;
        let answered_at = self.next_reply_at(self.bucket(peer, client_id), Instant::now()).ok_or(ThrottledError)?;
        tokio::time::sleep_until(answered_at.into()).await;
        Ok(())
    }

    /// Whether a login that was refused at once is to be logged now, and how many were left out since the last.
    pub fn may_log_refusal(&self) -> Option<u64> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).allow()
    }

    /// When a wrong login of this entry is answered; none where that is too late.
    fn next_reply_at(&self, entry: usize, now: Instant) -> Option<Instant> {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = &mut entries[entry];
        let recent = entry.answered_at.filter(|&last| now < last + BUCKET_LIFETIME);
        let wrong = if recent.is_some() { entry.wrong } else { 0 };
        let pause = MIN_DELAY.saturating_mul(2_u32.saturating_pow(wrong)).min(MAX_DELAY);
        let answered_at = recent.map_or(now, |last| last.max(now)) + pause;
        if answered_at > now + MAX_WAIT {
            return None;
        }
        *entry = Bucket { wrong: wrong.saturating_add(1), answered_at: Some(answered_at) };
        Some(answered_at)
    }

    fn bucket(&self, peer: Option<IpAddr>, client_id: &str) -> usize {
        // Whoever has one IPv6 address has a network of them.
        let network = peer.map(|peer| match peer.to_canonical() {
            IpAddr::V4(address) => u128::from(address.to_bits()),
            IpAddr::V6(address) => address.to_bits() >> 64,
        });
        (self.hasher.hash_one((network, client_id)) % BUCKETS as u64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn each_wrong_login_waits_twice_as_long_up_to_a_limit() {
        let guesses = LoginThrottle::default();
        let mut now = Instant::now();
        for pause in [100, 200, 400, 800, 1600, 3200, 5000, 5000].map(|pause| MS * pause) {
            assert_eq!(guesses.next_reply_at(7, now), Some(now + pause));
            now += pause;
        }
        assert_eq!(guesses.next_reply_at(8, now), Some(now + MIN_DELAY), "another entry is not concerned");
    }

    #[test]
    fn wrong_logins_at_once_wait_one_behind_the_other() {
        let guesses = LoginThrottle::default();
        let now = Instant::now();
        for wait in [100, 300, 700, 1_500, 3_100, 6_300, 11_300].map(|wait| MS * wait) {
            assert_eq!(guesses.next_reply_at(7, now), Some(now + wait));
        }
        assert_eq!(guesses.next_reply_at(7, now), None, "it would be 16.3 s");
        assert_eq!(guesses.next_reply_at(7, now), None);
        let later = now + MS * 11_300;
        assert_eq!(guesses.next_reply_at(7, later), Some(later + MAX_DELAY), "refusals add nothing to the waits");
    }

    #[test]
    fn wrong_logins_are_forgotten_after_a_while() {
        let guesses = LoginThrottle::default();
        let now = Instant::now();
        for n in 0..8 {
            assert!(guesses.next_reply_at(3, now + MAX_DELAY * 3 * n).is_some());
        }
        let later = now + MAX_DELAY * 24 + BUCKET_LIFETIME;
        assert_eq!(guesses.next_reply_at(3, later), Some(later + MIN_DELAY));
    }

    #[tokio::test]
    async fn only_so_many_answers_wait_at_once() {
        let guesses = LoginThrottle::default();
        let ids: Vec<String> = (0..=MAX_WAITING).map(|n| format!("guess-{n}")).collect();
        let waits = ids.iter().map(|id| guesses.delay(None, id));
        let answers = futures_util::future::join_all(waits).await;
        assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), MAX_WAITING);
        assert_eq!(guesses.delay(None, "later").await, Ok(()), "places are free again");
    }

    #[test]
    fn a_network_of_version_six_is_one_peer() {
        let guesses = LoginThrottle::default();
        let entry = |address: &str, id| guesses.bucket(Some(address.parse().unwrap()), id);
        assert_eq!(entry("2001:db8::1", "crm"), entry("2001:db8::ffff:2", "crm"));
        assert_eq!(entry("::ffff:10.0.0.1", "crm"), entry("10.0.0.1", "crm"));
    }
}
