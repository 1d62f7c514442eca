//! Sessions of browsers: opened by a login, and known by a cookie.
//!
//! They are kept in memory only: a restart of the daemon ends them. So a session can't outlast its client or the
//! client's secret, which change by a restart. See docs/decisions/0072.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rand::TryRng;
use rand::rngs::SysRng;
use subtle::ConstantTimeEq;
use tokio_util::sync::CancellationToken;

use crate::api::auth::tokens::{Fingerprint, RandomError, RegisteredClient, keyed_hash};
use crate::secret::Secret;

/// Validity of a session.
pub(crate) const SESSION_LIFETIME: Duration = Duration::from_secs(12 * 3600);

/// The most sessions of one client. A further login ends the oldest of them.
const MAX_SESSIONS_PER_CLIENT: usize = 100;

/// What the token against cross-site requests is a keyed hash of, before the session's own hash.
const CSRF_LABEL: &[u8] = b"csrf";

/// Open sessions.
pub struct SessionTable {
    key: [u8; 32],
    /// By the keyed hash of the cookie's value, so that the time of a lookup tells nothing about other values.
    sessions: Mutex<HashMap<Fingerprint, Session>>,
}

struct Session {
    client: Arc<RegisteredClient>,
    until: Instant,
    ended: CancellationToken,
}

/// A session as the handlers of a request see it: it is in the request's extensions.
#[derive(Clone)]
pub(crate) struct BrowserSession {
    /// The client that is logged in.
    pub client: Arc<RegisteredClient>,
    /// The token that changing requests of this session need.
    pub csrf_token: Secret,
    until: Instant,
    ended: CancellationToken,
}

impl BrowserSession {
    /// Returns when the session has ended: by a logout, or by its time.
    pub async fn ended(self) {
        tokio::select! {
            () = self.ended.cancelled() => {}
            () = tokio::time::sleep_until(self.until.into()) => {}
        }
    }
}

impl SessionTable {
    /// Creates the table without any session.
    ///
    /// # Errors
    /// [`RandomError`] where no hash key can be generated.
    pub fn new() -> Result<SessionTable, RandomError> {
        let mut key = [0; 32];
        SysRng.try_fill_bytes(&mut key)?;
        Ok(SessionTable { key, sessions: Mutex::default() })
    }

    /// Opens a session of this client. Returns the value of its cookie, 64 hexadecimal digits.
    ///
    /// # Errors
    /// [`RandomError`] where no value can be generated.
    pub(crate) fn open(&self, client: Arc<RegisteredClient>, now: Instant) -> Result<Secret, RandomError> {
        let mut random = [0; 32];
        SysRng.try_fill_bytes(&mut random)?;
        let cookie = hex::encode(random);
        let mut sessions = self.sessions.lock();
        sessions.retain(|_, session| now < session.until);
        let own = || sessions.iter().filter(|(_, session)| session.client.id == client.id);
        if own().count() >= MAX_SESSIONS_PER_CLIENT
            && let Some(oldest) = own().min_by_key(|(_, session)| session.until).map(|(hash, _)| *hash)
            && let Some(session) = sessions.remove(&oldest)
        {
            session.ended.cancel();
        }
        let session = Session { client, until: now + SESSION_LIFETIME, ended: CancellationToken::new() };
        sessions.insert(self.hash(&cookie), session);
        Ok(Secret::new(cookie))
    }

    /// Returns the session of this cookie; none where it has ended or never was.
    pub(crate) fn find(&self, cookie: &str, now: Instant) -> Option<BrowserSession> {
        let hash = self.hash(cookie);
        let sessions = self.sessions.lock();
        let session = sessions.get(&hash).filter(|session| now < session.until)?;
        Some(BrowserSession {
            client: session.client.clone(),
            csrf_token: self.csrf_token(&hash),
            until: session.until,
            ended: session.ended.clone(),
        })
    }

    /// Ends the session of this cookie.
    pub(crate) fn close(&self, cookie: &str) {
        if let Some(session) = self.sessions.lock().remove(&self.hash(cookie)) {
            session.ended.cancel();
        }
    }

    /// Returns the token that changing requests of a browser on the socket need: that of this process.
    pub(crate) fn socket_csrf_token(&self) -> Secret {
        self.csrf_token(b"socket")
    }

    fn hash(&self, cookie: &str) -> Fingerprint {
        keyed_hash(&self.key, cookie.as_bytes())
    }

    fn csrf_token(&self, subject: &[u8]) -> Secret {
        Secret::new(hex::encode(keyed_hash(&self.key, &[CSRF_LABEL, subject].concat())))
    }
}

/// Returns whether a request has sent this token, in constant time.
pub(crate) fn is_csrf_token(sent: &[u8], expected: &Secret) -> bool {
    bool::from(sent.ct_eq(expected.expose().as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ClientAccess;

    fn client(id: &str) -> Arc<RegisteredClient> {
        let access = ClientAccess::Write;
        Arc::new(RegisteredClient { id: id.into(), instances: None, instance: "default".into(), access })
    }

    fn table() -> SessionTable {
        SessionTable::new().unwrap()
    }

    #[test]
    fn a_session_ends_after_twelve_hours() {
        let (table, now) = (table(), Instant::now());
        let cookie = table.open(client("crm"), now).unwrap();
        let found = |after| table.find(cookie.expose(), now + after).map(|session| session.client.id.clone());
        assert_eq!(found(Duration::ZERO).as_deref(), Some("crm"));
        assert_eq!(found(SESSION_LIFETIME - Duration::from_nanos(1)).as_deref(), Some("crm"));
        assert_eq!(found(SESSION_LIFETIME), None);
        for other in ["", "x", &cookie.expose()[1..], &cookie.expose().to_uppercase()] {
            assert!(table.find(other, now).is_none(), "{other}");
        }
    }

    #[tokio::test]
    async fn a_logout_ends_only_its_own_session() {
        let (table, now) = (table(), Instant::now());
        let [first, second] = [(); 2].map(|()| table.open(client("crm"), now).unwrap());
        let open = table.find(first.expose(), now).unwrap();
        table.close(first.expose());
        open.ended().await;
        assert!(table.find(first.expose(), now).is_none());
        assert!(table.find(second.expose(), now).is_some());
    }

    #[test]
    fn csrf_tokens_differ_by_session_and_process() {
        let (table, now) = (table(), Instant::now());
        let [first, second] = [(); 2].map(|()| {
            let cookie = table.open(client("crm"), now).unwrap();
            table.find(cookie.expose(), now).unwrap().csrf_token
        });
        let socket = table.socket_csrf_token();
        assert!(first != second && first != socket);
        assert!(is_csrf_token(socket.expose().as_bytes(), &table.socket_csrf_token()));
        for wrong in [&first, &SessionTable::new().unwrap().socket_csrf_token(), &Secret::new("")] {
            assert!(!is_csrf_token(wrong.expose().as_bytes(), &socket));
        }
    }

    #[test]
    fn a_client_has_a_bounded_number_of_sessions() {
        let (table, now) = (table(), Instant::now());
        let other = table.open(client("web"), now).unwrap();
        let opened = |n| table.open(client("crm"), now + Duration::from_secs(n)).unwrap();
        let cookies: Vec<Secret> = (0..=MAX_SESSIONS_PER_CLIENT as u64).map(opened).collect();
        let is_open = |cookie: &Secret| table.find(cookie.expose(), now + Duration::from_secs(200)).is_some();
        assert!(!is_open(&cookies[0]), "the oldest one ended");
        assert!(cookies[1..].iter().all(is_open) && is_open(&other));
    }
}
