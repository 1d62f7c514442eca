//! Access tokens: issues them to the clients of `api.clients` and verifies them.
//!
//! As at Marketo's identity service a token is valid for an hour, and until then a login gives the same token again.
//!
//! Neither a secret nor a token is compared as text. Both are hashed with a key that only this process knows, and the
//! hashes are looked up, or compared in constant time. The time of a lookup depends on bytes that an attacker can
//! neither choose nor predict. Tokens survive a restart as hashes in the database, because many programs for Marketo do
//! not log in again when a token is refused before it expires. A token becomes invalid when it expires, when its client
//! is removed from the configuration, or when the client's secret changes.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hmac::{Hmac, Mac};
use jiff::{SignedDuration, Timestamp};
use parking_lot::{Mutex, MutexGuard};
use rand::TryRng;
use rand::rngs::{SysError, SysRng};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::config::{ApiClient, ClientAccess};
use crate::http_server::Peer;
use crate::secret::Secret;
use crate::store::StoredToken;

/// Validity of a token, the same as Marketo's.
const TOKEN_LIFETIME: Duration = Duration::from_secs(3600);

/// How long an expired token is remembered, so that it is answered with 602 and not with 601. Some programs log in
/// again on 602 only.
const RECORD_LIFETIME: Duration = Duration::from_secs(8 * 24 * 3600);

/// Largest difference by which a token may have been issued in the future, because the clock was corrected between two
/// starts.
const CLOCK_STEP: Duration = Duration::from_secs(60);

/// An entry of `api.clients`, without its secret.
#[derive(Debug, PartialEq, Eq)]
pub struct RegisteredClient {
    /// `client_id`.
    pub id: String,
    /// Instances that the client may use; none: all.
    pub instances: Option<Vec<String>>,
    /// Instance that is used where the request's address names none.
    pub instance: String,
    /// What the client may do.
    pub access: ClientAccess,
}

/// Owner of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bearer {
    /// A client of `api.clients`.
    Client(Arc<RegisteredClient>),
    /// Any local user who may write to the socket. Where no clients are configured, the socket issues a token to every
    /// login, for programs that do not work without one.
    Socket,
}

/// A token as a login returns it.
#[derive(Debug, PartialEq, Eq)]
pub struct IssuedToken {
    /// The token, 32 hexadecimal digits.
    pub token: String,
    /// Time until it expires.
    pub left: Duration,
    /// Its owner.
    pub bearer: Bearer,
    /// What is to be stored of it; none where it is stored already, see [`TokenTable::mark_stored`].
    pub to_keep: Option<StoredToken>,
}

/// Why a token is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthError {
    /// None was sent, or it is unknown (Marketo's 601).
    Invalid,
    /// Its time is over (Marketo's 602).
    Expired,
}

/// The operating system's random number generator failed.
#[derive(Debug, thiserror::Error)]
#[error("the operating system returned no random numbers, so no token can be issued: {0}")]
pub struct RandomError(#[from] SysError);

pub(super) type Fingerprint = [u8; 32];

/// Valid and recently expired tokens of all clients.
pub struct TokenTable {
    key: [u8; 32],
    clients: BTreeMap<String, Entry>,
    given: Mutex<IssuedTokens>,
}

struct Entry {
    client: Arc<RegisteredClient>,
    secret: Secret,
    fingerprint: Fingerprint,
}

/// The token that a login returns, by owner, and all known tokens, by hash. The socket's owner name is empty, which no
/// client's id is.
#[derive(Default)]
struct IssuedTokens {
    current: HashMap<String, Current>,
    known: HashMap<Fingerprint, Known>,
}

struct Current {
    token: String,
    until: Instant,
    issued_at: Timestamp,
    is_kept: bool,
}

struct Known {
    bearer: Bearer,
    /// None where it had expired before the daemon started.
    until: Option<Instant>,
    issued_at: Timestamp,
    /// Set for a token from an earlier start until it is used first: hash that shows whether the secret is unchanged.
    secret_check: Option<Fingerprint>,
}

impl TokenTable {
    /// Creates the table for these clients, without any token.
    ///
    /// # Errors
    /// [`RandomError`] where no hash key can be generated.
    pub fn new(clients: &[ApiClient]) -> Result<TokenTable, RandomError> {
        let mut key = [0; 32];
        SysRng.try_fill_bytes(&mut key)?;
        let entry = |client: &ApiClient| {
            let known = RegisteredClient {
                id: client.client_id.clone(),
                instances: client.instances.clone(),
                instance: client.instance.clone(),
                access: client.access,
            };
            let secret = client.client_secret.clone();
            let fingerprint = keyed_hash(&key, secret.expose().as_bytes());
            (client.client_id.clone(), Entry { client: Arc::new(known), secret, fingerprint })
        };
        Ok(TokenTable { key, clients: clients.iter().map(entry).collect(), given: Mutex::default() })
    }

    /// Returns the owner of these credentials; none where they are wrong. On the socket, where no clients are
    /// configured, all credentials are accepted: the socket's permissions have decided already who may connect.
    pub fn verify_client(&self, id: &str, secret: &str, peer: Option<Peer>) -> Option<Bearer> {
        if matches!(peer, Some(Peer::Socket { .. })) && self.clients.is_empty() {
            return Some(Bearer::Socket);
        }
        // The secret is hashed for an unknown id too, so that the response time does not reveal which ids exist.
        let sent = keyed_hash(&self.key, secret.as_bytes());
        let entry = self.clients.get(id)?;
        bool::from(sent.ct_eq(&entry.fingerprint)).then(|| Bearer::Client(entry.client.clone()))
    }

    /// Returns whether `api.clients` has a client with this id.
    pub fn is_registered(&self, id: &str) -> bool {
        self.clients.contains_key(id)
    }

    /// Loads the tokens of earlier starts. Returns the hashes of those whose client is no longer configured.
    pub fn restore(&self, stored: Vec<StoredToken>, now: Instant, at: Timestamp) -> Vec<[u8; 32]> {
        let mut book = self.book();
        let mut ended = Vec::new();
        for token in stored {
            let bearer = match self.clients.get(&token.client_id) {
                Some(entry) => Bearer::Client(entry.client.clone()),
                None if token.client_id.is_empty() && self.clients.is_empty() => Bearer::Socket,
                None => {
                    ended.push(token.token_sha256);
                    continue;
                }
            };
            let (age, step) = (at.duration_since(token.issued_at), SignedDuration::try_from(CLOCK_STEP));
            // Where a token was issued in the future, its age is unknown. It is accepted within [`CLOCK_STEP`] only.
            let left = match Duration::try_from(age) {
                Ok(age) => TOKEN_LIFETIME.checked_sub(age).filter(|left| !left.is_zero()),
                Err(_) => step.is_ok_and(|step| -age <= step).then_some(TOKEN_LIFETIME),
            };
            let known = Known {
                bearer,
                until: left.map(|left| now + left),
                issued_at: token.issued_at,
                secret_check: Some(token.secret_check),
            };
            book.known.insert(keyed_hash(&self.key, &token.token_sha256), known);
        }
        ended
    }

    /// Returns the token of this owner: the same one until it expires. After a restart it is a new one, since only the
    /// hash of the old one is known; the old one stays valid.
    ///
    /// # Errors
    /// [`RandomError`] where no token can be generated.
    pub fn issue(&self, bearer: Bearer, now: Instant, at: Timestamp) -> Result<IssuedToken, RandomError> {
        let holder = holder(&bearer);
        let mut book = self.book();
        if book.current.get(holder).is_none_or(|current| now >= current.until) {
            let mut random = [0; 16];
            SysRng.try_fill_bytes(&mut random)?;
            let token = hex::encode(random);
            let until = now + TOKEN_LIFETIME;
            book.known.retain(|_, known| at.duration_since(known.issued_at).unsigned_abs() <= RECORD_LIFETIME);
            let known = Known { bearer: bearer.clone(), until: Some(until), issued_at: at, secret_check: None };
            book.known.insert(self.lookup_hash(&token), known);
            book.current.insert(holder.to_owned(), Current { token, until, issued_at: at, is_kept: false });
        }
        let current = &book.current[holder];
        let to_keep = || StoredToken {
            token_sha256: sha256(&current.token),
            client_id: holder.to_owned(),
            secret_check: self.secret_check(&bearer, &current.token),
            issued_at: current.issued_at,
        };
        let to_keep = (!current.is_kept).then(to_keep);
        Ok(IssuedToken { token: current.token.clone(), left: current.until - now, to_keep, bearer: bearer.clone() })
    }

    /// Records that this owner's current token is stored in the database.
    pub fn mark_stored(&self, bearer: &Bearer, token: &str) {
        if let Some(current) = self.book().current.get_mut(holder(bearer))
            && current.token == token
        {
            current.is_kept = true;
        }
    }

    /// Returns the issue time before which tokens need not be stored any longer at `at`.
    pub fn drop_before(at: Timestamp) -> Timestamp {
        at.checked_sub(RECORD_LIFETIME).unwrap_or(Timestamp::MIN)
    }

    /// Returns the owner of this token.
    ///
    /// # Errors
    /// [`AuthError`] where it is unknown or expired.
    pub fn verify_token(&self, token: &str, now: Instant) -> Result<Bearer, AuthError> {
        let hash = self.lookup_hash(token);
        let mut book = self.book();
        let Some(known) = book.known.get_mut(&hash) else { return Err(AuthError::Invalid) };
        if known.secret_check.is_some_and(|check| !bool::from(check.ct_eq(&self.secret_check(&known.bearer, token)))) {
            book.known.remove(&hash);
            return Err(AuthError::Invalid);
        }
        known.secret_check = None;
        match known.until {
            Some(until) if now < until => Ok(known.bearer.clone()),
            _ => Err(AuthError::Expired),
        }
    }

    /// Returns the key of a token in `known`. The token's plain hash may be on the disk, so it is hashed again with a
    /// key that only this process knows.
    fn lookup_hash(&self, token: &str) -> Fingerprint {
        keyed_hash(&self.key, &sha256(token))
    }

    /// Returns the owner's secret, hashed with the token as the key: only an owner of the token could test secrets with
    /// it.
    fn secret_check(&self, bearer: &Bearer, token: &str) -> Fingerprint {
        let secret = self.clients.get(holder(bearer)).map_or("", |entry| entry.secret.expose());
        keyed_hash(token.as_bytes(), secret.as_bytes())
    }

    fn book(&self) -> MutexGuard<'_, IssuedTokens> {
        self.given.lock()
    }
}

fn holder(bearer: &Bearer) -> &str {
    match bearer {
        Bearer::Client(client) => &client.id,
        Bearer::Socket => "",
    }
}

fn sha256(text: &str) -> Fingerprint {
    Sha256::digest(text).into()
}

pub(super) fn keyed_hash(key: &[u8], bytes: &[u8]) -> Fingerprint {
    let mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.chain_update(bytes).finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;

    const SOCKET: Option<Peer> = Some(Peer::Socket { uid: Some(1000) });
    const TCP: Option<Peer> = Some(Peer::Tcp(IpAddr::V4(Ipv4Addr::LOCALHOST)));
    use crate::clock::after;

    const AT: Timestamp = Timestamp::UNIX_EPOCH;

    fn tokens(clients: &[(&str, &str)]) -> TokenTable {
        let client = |&(id, secret): &(&str, &str)| ApiClient {
            client_id: id.into(),
            client_secret: Secret::new(secret),
            instances: None,
            instance: "default".into(),
            access: ClientAccess::Write,
        };
        TokenTable::new(&clients.iter().map(client).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn only_a_clients_own_secret_is_accepted() {
        let tokens = tokens(&[("crm", "s1"), ("web", "s2")]);
        for (id, secret, peer, right) in [
            ("crm", "s1", TCP, true),
            ("crm", "s1", SOCKET, true),
            ("crm", "s2", TCP, false),
            ("crm", "S1", TCP, false),
            ("crm", "", TCP, false),
            ("CRM", "s1", TCP, false),
            ("nobody", "s1", TCP, false),
            ("nobody", "s1", SOCKET, false),
            ("", "", SOCKET, false),
        ] {
            assert_eq!(tokens.verify_client(id, secret, peer).is_some(), right, "{id} {secret} {peer:?}");
        }
    }

    #[test]
    fn without_clients_only_the_socket_accepts_any_login() {
        let tokens = tokens(&[]);
        assert_eq!(tokens.verify_client("any", "thing", SOCKET), Some(Bearer::Socket));
        assert_eq!(tokens.verify_client("any", "thing", TCP), None);
    }

    #[test]
    fn a_login_returns_the_same_token_until_it_expires() {
        let tokens = tokens(&[("crm", "s")]);
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let crm = tokens.verify_client("crm", "s", TCP).unwrap();
        let first = tokens.issue(crm.clone(), start, AT).unwrap();
        assert_eq!((first.token.len(), first.left), (32, TOKEN_LIFETIME));
        let again = tokens.issue(crm.clone(), start + second * 3599, AT).unwrap();
        assert_eq!((&again.token, again.left), (&first.token, second));
        let next = tokens.issue(crm, start + TOKEN_LIFETIME, AT).unwrap();
        assert_ne!(next.token, first.token);
        assert_eq!(next.left, TOKEN_LIFETIME);
    }

    #[test]
    fn an_old_token_is_expired_and_an_unknown_one_invalid() {
        let tokens = tokens(&[("crm", "s")]);
        let start = Instant::now();
        let crm = tokens.verify_client("crm", "s", TCP).unwrap();
        let token = tokens.issue(crm.clone(), start, AT).unwrap().token;
        let at = |time, token: &str| tokens.verify_token(token, start + time);
        assert_eq!(at(Duration::ZERO, &token), Ok(crm.clone()));
        assert_eq!(at(TOKEN_LIFETIME - Duration::from_nanos(1), &token), Ok(crm.clone()));
        assert_eq!(at(TOKEN_LIFETIME, &token), Err(AuthError::Expired));
        for other in ["", "x", &token[1..], &token.to_uppercase().replace(|c: char| c.is_ascii_digit(), "f")] {
            assert_eq!(at(Duration::ZERO, other), Err(AuthError::Invalid), "{other}");
        }
        // It is remembered as expired for some days only, so that the table does not grow without a limit.
        tokens.issue(crm.clone(), start + TOKEN_LIFETIME, after(AT, TOKEN_LIFETIME)).unwrap();
        tokens.issue(crm.clone(), start + TOKEN_LIFETIME * 2, after(AT, TOKEN_LIFETIME * 2)).unwrap();
        assert_eq!(tokens.verify_token(&token, start + TOKEN_LIFETIME * 2), Err(AuthError::Expired));
        assert_eq!(tokens.book().known.len(), 3);
        tokens
            .issue(crm, start + RECORD_LIFETIME + TOKEN_LIFETIME, after(AT, RECORD_LIFETIME + TOKEN_LIFETIME))
            .unwrap();
        assert_eq!(tokens.verify_token(&token, start + RECORD_LIFETIME + TOKEN_LIFETIME), Err(AuthError::Invalid));
        assert_eq!(tokens.book().known.len(), 3);
    }

    #[test]
    fn a_token_survives_a_restart_until_it_expires() {
        let before = tokens(&[("crm", "s"), ("web", "t")]);
        let crm = before.verify_client("crm", "s", TCP).unwrap();
        let given = before.issue(crm.clone(), Instant::now(), AT).unwrap();
        let stored = given.to_keep.clone().unwrap();
        assert!(!format!("{stored:?}").contains(&given.token));
        before.mark_stored(&crm, &given.token);
        assert_eq!(before.issue(crm.clone(), Instant::now(), AT).unwrap().to_keep, None);
        let minute = Duration::from_secs(60);
        let early = |by: Duration| AT.checked_sub(by).unwrap();
        for (at, later, expected) in [
            (AT, Duration::ZERO, Ok(crm.clone())),
            (after(AT, minute * 59), minute, Err(AuthError::Expired)),
            (after(AT, minute * 59), Duration::from_secs(59), Ok(crm.clone())),
            (after(AT, TOKEN_LIFETIME), Duration::ZERO, Err(AuthError::Expired)),
            // The clock was corrected, or set back.
            (early(minute), minute * 59, Ok(crm.clone())),
            (early(minute * 2), Duration::ZERO, Err(AuthError::Expired)),
        ] {
            let now = Instant::now();
            let tokens = tokens(&[("web", "t"), ("crm", "s")]);
            assert_eq!(tokens.restore(vec![stored.clone()], now, at), [[0; 32]; 0]);
            assert_eq!(tokens.verify_token(&given.token, now + later), expected, "{at} and {later:?}");
            assert_eq!(tokens.verify_token(&given.token, now + later), expected, "and again");
            // A login issues a new token, and the old one stays valid.
            let crm = tokens.verify_client("crm", "s", TCP).unwrap();
            let next = tokens.issue(crm.clone(), now, at).unwrap();
            assert_ne!(next.token, given.token);
            assert_eq!(tokens.verify_token(&next.token, now), Ok(crm));
            assert_eq!(tokens.verify_token(&given.token, now + later), expected, "beside the new one");
        }
    }

    #[test]
    fn removing_a_client_or_its_secret_invalidates_its_token() {
        let before = tokens(&[("crm", "s")]);
        let given = before.issue(before.verify_client("crm", "s", TCP).unwrap(), Instant::now(), AT).unwrap();
        let stored = given.to_keep.unwrap();
        let now = Instant::now();
        let changed = tokens(&[("crm", "another")]);
        assert_eq!(changed.restore(vec![stored.clone()], now, AT), [[0; 32]; 0]);
        assert_eq!(changed.verify_token(&given.token, now), Err(AuthError::Invalid));
        for others in [&[("web", "s")][..], &[]] {
            let left = tokens(others);
            assert_eq!(left.restore(vec![stored.clone()], now, AT), [stored.token_sha256]);
            assert_eq!(left.verify_token(&given.token, now), Err(AuthError::Invalid));
        }
        // The socket's tokens become invalid when clients are configured.
        let no_clients = tokens(&[]);
        let given = no_clients.issue(no_clients.verify_client("", "", SOCKET).unwrap(), now, AT).unwrap();
        let stored = given.to_keep.unwrap();
        assert_eq!(before.restore(vec![stored.clone()], now, AT), [stored.token_sha256]);
        let no_clients = tokens(&[]);
        assert_eq!(no_clients.restore(vec![stored], now, AT), [[0; 32]; 0]);
        assert_eq!(no_clients.verify_token(&given.token, now), Ok(Bearer::Socket));
    }

    #[test]
    fn each_client_has_a_token_of_its_own() {
        let tokens = tokens(&[("crm", "s"), ("web", "s")]);
        let now = Instant::now();
        let [crm, web] = ["crm", "web"].map(|id| tokens.verify_client(id, "s", TCP).unwrap());
        let [first, second] = [&crm, &web].map(|bearer| tokens.issue(bearer.clone(), now, AT).unwrap().token);
        assert_ne!(first, second);
        assert_eq!((tokens.verify_token(&first, now), tokens.verify_token(&second, now)), (Ok(crm), Ok(web)));
    }
}
