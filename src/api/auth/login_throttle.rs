//! Login throttle: delays the responses to failed logins, with bounded memory, connections and work.
//!
//! A correct secret is never delayed: behind a proxy all clients have one address, and one client's wrong secret would
//! lock out the others. So every login is checked at once, and only the response to a failed one waits, twice as long
//! each time. Failed logins of one address and client id wait one after the other, so sending many at once or closing
//! the connection gains nothing. The delays are kept in a table of fixed size that is indexed by a keyed hash, so an
//! attacker can't choose which pairs share an entry. At most [`MAX_WAITING`] responses wait at once, because each holds
//! a connection. A failed login beyond them is refused at once, at the cost of any other request.
//!
//! An attacker recognises a wrong secret by the missing response, so the delays do not protect a short secret:
//! `client_secret` has to be long and random.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Semaphore;

use crate::backoff;
use crate::log_throttle::LogThrottle;

/// Entries of the table.
const BUCKETS: usize = 1024;

/// Delay of the first failed login, and the longest delay between two.
const MIN_DELAY: Duration = Duration::from_millis(100);
const MAX_DELAY: Duration = Duration::from_secs(5);

/// After this time without a failed login an entry starts again at [`MIN_DELAY`].
const BUCKET_LIFETIME: Duration = Duration::from_secs(600);

/// A response that would wait longer than this is refused at once instead.
const MAX_WAIT: Duration = Duration::from_secs(15);

/// Responses that wait at once, for all addresses together.
pub const MAX_WAITING: usize = 16;

/// Delays of failed logins, by address and client id.
pub struct LoginThrottle {
    hasher: RandomState,
    entries: Mutex<Box<[Bucket]>>,
    waiting: Semaphore,
    refused: Mutex<LogThrottle>,
}

#[derive(Clone, Copy, Default)]
struct Bucket {
    wrong: u32,
    /// When the last response is sent, or was sent.
    answered_at: Option<Instant>,
}

/// Too many failed logins wait for their responses already.
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
    /// Waits until a failed login may be answered. `peer` is none for the Unix socket.
    ///
    /// # Errors
    /// [`ThrottledError`], at once, where [`MAX_WAITING`] responses wait or this one would wait too long.
    pub async fn delay(&self, peer: Option<IpAddr>, client_id: &str) -> Result<(), ThrottledError> {
        let _permit = self.waiting.try_acquire().map_err(|_| ThrottledError)?;
        let answered_at = self.next_reply_at(self.bucket(peer, client_id), Instant::now()).ok_or(ThrottledError)?;
        tokio::time::sleep_until(answered_at.into()).await;
        Ok(())
    }

    /// Returns whether a login that was refused at once is to be logged now, with the number of suppressed log lines
    /// since the last one.
    pub fn may_log_refusal(&self) -> Option<u64> {
        self.refused.lock().allow()
    }

    /// Returns when a failed login of this entry is answered; none where that is later than [`MAX_WAIT`].
    fn next_reply_at(&self, entry: usize, now: Instant) -> Option<Instant> {
        let mut entries = self.entries.lock();
        let entry = &mut entries[entry];
        let recent = entry.answered_at.filter(|&last| now < last + BUCKET_LIFETIME);
        let wrong = if recent.is_some() { entry.wrong } else { 0 };
        let pause = backoff::doubled(MIN_DELAY, wrong, MAX_DELAY);
        let answered_at = recent.map_or(now, |last| last.max(now)) + pause;
        if answered_at > now + MAX_WAIT {
            return None;
        }
        *entry = Bucket { wrong: wrong.saturating_add(1), answered_at: Some(answered_at) };
        Some(answered_at)
    }

    fn bucket(&self, peer: Option<IpAddr>, client_id: &str) -> usize {
        // A host with one IPv6 address usually has a whole /64 network.
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
    fn each_failed_login_doubles_the_delay_up_to_a_limit() {
        let throttle = LoginThrottle::default();
        let mut now = Instant::now();
        for pause in [100, 200, 400, 800, 1600, 3200, 5000, 5000].map(|pause| MS * pause) {
            assert_eq!(throttle.next_reply_at(7, now), Some(now + pause));
            now += pause;
        }
        assert_eq!(throttle.next_reply_at(8, now), Some(now + MIN_DELAY), "another entry is not affected");
    }

    #[test]
    fn concurrent_failed_logins_wait_one_after_the_other() {
        let throttle = LoginThrottle::default();
        let now = Instant::now();
        for wait in [100, 300, 700, 1_500, 3_100, 6_300, 11_300].map(|wait| MS * wait) {
            assert_eq!(throttle.next_reply_at(7, now), Some(now + wait));
        }
        assert_eq!(throttle.next_reply_at(7, now), None, "it would be 16.3 s");
        assert_eq!(throttle.next_reply_at(7, now), None);
        let later = now + MS * 11_300;
        assert_eq!(throttle.next_reply_at(7, later), Some(later + MAX_DELAY), "refusals do not lengthen the delay");
    }

    #[test]
    fn an_entry_is_reset_after_its_lifetime() {
        let throttle = LoginThrottle::default();
        let now = Instant::now();
        for n in 0..8 {
            assert!(throttle.next_reply_at(3, now + MAX_DELAY * 3 * n).is_some());
        }
        let later = now + MAX_DELAY * 24 + BUCKET_LIFETIME;
        assert_eq!(throttle.next_reply_at(3, later), Some(later + MIN_DELAY));
    }

    #[tokio::test]
    async fn at_most_max_waiting_responses_wait_at_once() {
        let throttle = LoginThrottle::default();
        let ids: Vec<String> = (0..=MAX_WAITING).map(|n| format!("guess-{n}")).collect();
        let waits = ids.iter().map(|id| throttle.delay(None, id));
        let answers = futures_util::future::join_all(waits).await;
        assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), MAX_WAITING);
        assert_eq!(throttle.delay(None, "later").await, Ok(()), "permits are free again");
    }

    #[test]
    fn an_ipv6_network_is_one_peer() {
        let throttle = LoginThrottle::default();
        let entry = |address: &str, id| throttle.bucket(Some(address.parse().unwrap()), id);
        assert_eq!(entry("2001:db8::1", "crm"), entry("2001:db8::ffff:2", "crm"));
        assert_eq!(entry("::ffff:10.0.0.1", "crm"), entry("10.0.0.1", "crm"));
    }
}
