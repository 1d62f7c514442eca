//! Whose token is this? Given for the entries of `api.clients`, as Marketo's identity service gives them: for an hour, the
//! same one again until then.
//!
//! Neither a secret nor a token is compared as text. Both are hashed with a key that only this process knows, and the
//! hashes are compared or looked up: how long that takes tells of bytes that nobody outside can choose or foresee.
//! Tokens outlive a restart, as hashes in the database: many programs for Marketo do not log in again when a token is refused
//! before its time. A token ends by its time, when its client leaves the configuration, or when its secret changes.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hmac::{Hmac, Mac};
use jiff::{SignedDuration, Timestamp};
use rand::TryRng;
use rand::rngs::{SysError, SysRng};
use sha2::{Digest, Sha256};

use crate::config::ApiClient;
use crate::secret::Secret;
use crate::store::StoredToken;

/// As long as Marketo's.
const TOKEN_LIFETIME: Duration = Duration::from_secs(3600);

/// How long a token is known to have expired. Some programs log in again on 602 and not on 601.
const RECORD_LIFETIME: Duration = Duration::from_secs(8 * 24 * 3600);

/// A clock that is corrected between two starts may seem to stand before the time at which a token was given.
const CLOCK_STEP: Duration = Duration::from_secs(60);

/// An entry of `api.clients`, without its secret.
#[derive(Debug, PartialEq, Eq)]
pub struct RegisteredClient {
    pub id: String,
    /// Those it may use; none: all.
    pub instances: Option<Vec<String>>,
    /// The one that it means where its address names none.
    pub instance: String,
}

/// Who has shown a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bearer {
    Client(Arc<RegisteredClient>),
    /// Whoever may write to the socket: where there are no clients, the socket gives tokens to anyone, for programs that
    /// don't go on without one.
    Socket,
}

/// A token as it is given.
#[derive(Debug, PartialEq, Eq)]
pub struct IssuedToken {
    pub token: String,
    pub left: Duration,
    pub bearer: Bearer,
    /// What is to be kept of it, unless that is known to be on the disk: see [`Tokens::kept`].
    pub to_keep: Option<StoredToken>,
}

/// Why a token is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthError {
    /// None was shown, or one that was never given, or not by this process.
    Invalid,
    Expired,
}

/// There is no randomness to be had.
#[derive(Debug, thiserror::Error)]
#[error("the operating system gives no random numbers, so no token can be made: {0}")]
pub struct RandomError(#[from] SysError);

type Fingerprint = [u8; 32];

/// All tokens in force.
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

/// For each holder the token that it is given, and all that are known. The socket's holder is the empty name, which no
/// client has.
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
    /// None: it had expired before the start.
    until: Option<Instant>,
    issued_at: Timestamp,
    /// Of a token from before the start, until it is shown: whether the secret is still the same.
    secret_check: Option<Fingerprint>,
}

impl TokenTable {
    /// # Errors
    /// [`NoRandom`].
    pub fn new(clients: &[ApiClient]) -> Result<TokenTable, RandomError> {
        let mut key = [0; 32];
        SysRng.try_fill_bytes(&mut key)?;
        let entry = |client: &ApiClient| {
            let known = RegisteredClient {
                id: client.client_id.clone(),
                instances: client.instances.clone(),
                instance: client.instance.clone(),
            };
            let secret = client.client_secret.clone();
            let fingerprint = fingerprint(&key, secret.expose().as_bytes());
            (client.client_id.clone(), Entry { client: Arc::new(known), secret, fingerprint })
        };
        Ok(TokenTable { key, clients: clients.iter().map(entry).collect(), given: Mutex::default() })
    }

    /// Whose credentials these are; none where they are wrong. `on_socket`: where nobody is named in the configuration,
    /// the socket's permissions have said already who may come.
    pub fn verify_client(&self, id: &str, secret: &str, on_socket: bool) -> Option<Bearer> {
        if on_socket && self.clients.is_empty() {
            return Some(Bearer::Socket);
        }
        // Hashed for an unknown id too, so that the time tells nobody which ids there are.
        let shown = fingerprint(&self.key, secret.as_bytes());
        let entry = self.clients.get(id)?;
        (shown == entry.fingerprint).then(|| Bearer::Client(entry.client.clone()))
    }

    pub fn is_registered(&self, id: &str) -> bool {
        self.clients.contains_key(id)
    }

    /// Takes up the tokens of earlier starts. Gives the hashes of those whose client is not in the configuration any more.
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
            // Of one from a time that is still to come nobody can tell how much of its hour has passed.
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
            book.known.insert(fingerprint(&self.key, &token.token_sha256), known);
        }
        ended
    }

    /// The token of this bearer: until it expires the same one, with less time left. After a restart it is a new one, since
    /// of the old one only the hash is known; the old one is good as well.
    ///
    /// # Errors
    /// [`NoRandom`].
    pub fn issue(&self, bearer: Bearer, now: Instant, at: Timestamp) -> Result<IssuedToken, RandomError> {
        let holder = holder(&bearer);
        let mut book = self.book();
        if book.current.get(holder).is_none_or(|current| now >= current.until) {
            let mut random = [0; 16];
            SysRng.try_fill_bytes(&mut random)?;
            let token = format!("{:032x}", u128::from_be_bytes(random));
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

    /// The token that this bearer is given now is on the disk.
    pub fn mark_stored(&self, bearer: &Bearer, token: &str) {
        if let Some(current) = self.book().current.get_mut(holder(bearer))
            && current.token == token
        {
            current.is_kept = true;
        }
    }

    /// When tokens were given that need not be kept any longer at `at`.
    pub fn drop_before(at: Timestamp) -> Timestamp {
        at.checked_sub(RECORD_LIFETIME).unwrap_or(Timestamp::MIN)
    }

    /// Who has this token.
    ///
    /// # Errors
    /// [`Denied`].
    pub fn verify_token(&self, token: &str, now: Instant) -> Result<Bearer, AuthError> {
        let place = self.lookup_hash(token);
        let mut book = self.book();
        let Some(known) = book.known.get_mut(&place) else { return Err(AuthError::Invalid) };
        if known.secret_check.is_some_and(|check| check != self.secret_check(&known.bearer, token)) {
            book.known.remove(&place);
            return Err(AuthError::Invalid);
        }
        known.secret_check = None;
        match known.until {
            Some(until) if now < until => Ok(known.bearer.clone()),
            _ => Err(AuthError::Expired),
        }
    }

    /// Where a token is known. Its own hash may be on the disk, so the place is one that nobody outside can foresee.
    fn lookup_hash(&self, token: &str) -> Fingerprint {
        fingerprint(&self.key, &sha256(token))
    }

    /// The bearer's secret, hashed under the token: only who has the token could try secrets against it.
    fn secret_check(&self, bearer: &Bearer, token: &str) -> Fingerprint {
        let secret = self.clients.get(holder(bearer)).map_or("", |entry| entry.secret.expose());
        let mut check = Hmac::<Sha256>::new_from_slice(token.as_bytes()).expect("a key of any length will do");
        check.update(secret.as_bytes());
        check.finalize().into_bytes().into()
    }

    fn book(&self) -> MutexGuard<'_, IssuedTokens> {
        self.given.lock().unwrap_or_else(PoisonError::into_inner)
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

fn fingerprint(key: &[u8; 32], bytes: &[u8]) -> Fingerprint {
    Sha256::new().chain_update(key).chain_update(bytes).finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::after;

    const AT: Timestamp = Timestamp::UNIX_EPOCH;

    fn tokens(clients: &[(&str, &str)]) -> TokenTable {
        let client = |&(id, secret): &(&str, &str)| ApiClient {
            client_id: id.into(),
            client_secret: Secret::new(secret),
            instances: None,
            instance: "default".into(),
        };
        TokenTable::new(&clients.iter().map(client).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn only_a_clients_own_secret_is_right() {
        let tokens = tokens(&[("crm", "s1"), ("web", "s2")]);
        for (id, secret, on_socket, right) in [
            ("crm", "s1", false, true),
            ("crm", "s1", true, true),
            ("crm", "s2", false, false),
            ("crm", "S1", false, false),
            ("crm", "", false, false),
            ("CRM", "s1", false, false),
            ("nobody", "s1", false, false),
            ("nobody", "s1", true, false),
            ("", "", true, false),
        ] {
            assert_eq!(tokens.verify_client(id, secret, on_socket).is_some(), right, "{id} {secret} {on_socket}");
        }
    }

    #[test]
    fn without_clients_only_the_socket_is_open() {
        let tokens = tokens(&[]);
        assert_eq!(tokens.verify_client("any", "thing", true), Some(Bearer::Socket));
        assert_eq!(tokens.verify_client("any", "thing", false), None);
    }

    #[test]
    fn a_token_is_reissued_until_it_expires() {
        let tokens = tokens(&[("crm", "s")]);
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let crm = tokens.verify_client("crm", "s", false).unwrap();
        let first = tokens.issue(crm.clone(), start, AT).unwrap();
        assert_eq!((first.token.len(), first.left), (32, TOKEN_LIFETIME));
        let again = tokens.issue(crm.clone(), start + second * 3599, AT).unwrap();
        assert_eq!((&again.token, again.left), (&first.token, second));
        let next = tokens.issue(crm, start + TOKEN_LIFETIME, AT).unwrap();
        assert_ne!(next.token, first.token);
        assert_eq!(next.left, TOKEN_LIFETIME);
    }

    #[test]
    fn expired_and_unknown_tokens_are_told_apart() {
        let tokens = tokens(&[("crm", "s")]);
        let start = Instant::now();
        let crm = tokens.verify_client("crm", "s", false).unwrap();
        let token = tokens.issue(crm.clone(), start, AT).unwrap().token;
        let at = |time, token: &str| tokens.verify_token(token, start + time);
        assert_eq!(at(Duration::ZERO, &token), Ok(crm.clone()));
        assert_eq!(at(TOKEN_LIFETIME - Duration::from_nanos(1), &token), Ok(crm.clone()));
        assert_eq!(at(TOKEN_LIFETIME, &token), Err(AuthError::Expired));
        for other in ["", "x", &token[1..], &token.to_uppercase().replace(|c: char| c.is_ascii_digit(), "f")] {
            assert_eq!(at(Duration::ZERO, other), Err(AuthError::Invalid), "{other}");
        }
        // It stays known as such for some days, and no longer: what is kept does not grow for ever.
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
    fn a_token_outlives_a_restart_until_its_time() {
        let before = tokens(&[("crm", "s"), ("web", "t")]);
        let crm = before.verify_client("crm", "s", false).unwrap();
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
            // A login gives a new one beside it.
            let crm = tokens.verify_client("crm", "s", false).unwrap();
            let next = tokens.issue(crm.clone(), now, at).unwrap();
            assert_ne!(next.token, given.token);
            assert_eq!(tokens.verify_token(&next.token, now), Ok(crm));
            assert_eq!(tokens.verify_token(&given.token, now + later), expected, "beside the new one");
        }
    }

    #[test]
    fn a_token_ends_when_its_client_leaves_or_its_secret_changes() {
        let before = tokens(&[("crm", "s")]);
        let given = before.issue(before.verify_client("crm", "s", false).unwrap(), Instant::now(), AT).unwrap();
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
        // The socket's own end where clients come into the configuration.
        let nobody = tokens(&[]);
        let given = nobody.issue(nobody.verify_client("", "", true).unwrap(), now, AT).unwrap();
        let stored = given.to_keep.unwrap();
        assert_eq!(before.restore(vec![stored.clone()], now, AT), [stored.token_sha256]);
        let nobody = tokens(&[]);
        assert_eq!(nobody.restore(vec![stored], now, AT), [[0; 32]; 0]);
        assert_eq!(nobody.verify_token(&given.token, now), Ok(Bearer::Socket));
    }

    #[test]
    fn each_client_has_a_token_of_its_own() {
        let tokens = tokens(&[("crm", "s"), ("web", "s")]);
        let now = Instant::now();
        let [crm, web] = ["crm", "web"].map(|id| tokens.verify_client(id, "s", false).unwrap());
        let [first, second] = [&crm, &web].map(|bearer| tokens.issue(bearer.clone(), now, AT).unwrap().token);
        assert_ne!(first, second);
        assert_eq!((tokens.verify_token(&first, now), tokens.verify_token(&second, now)), (Ok(crm), Ok(web)));
    }
}
