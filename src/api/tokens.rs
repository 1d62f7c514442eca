//! Whose token is this? Given for the entries of `api.clients`, as Marketo's identity service gives them: for an hour, the
//! same one again until then.
//!
//! Neither a secret nor a token is compared as text. Both are hashed with a key that only this process knows, and the
//! hashes are compared or looked up: how long that takes tells of bytes that nobody outside can choose or foresee.
//! A restart forgets all tokens, and so is to a client what a revocation by Marketo is: 601, and a new token.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rand::TryRng;
use rand::rngs::{SysError, SysRng};
use sha2::{Digest, Sha256};

use crate::config::ApiClient;

/// As long as Marketo's.
const LIFE: Duration = Duration::from_secs(3600);

/// An entry of `api.clients`, without its secret.
#[derive(Debug, PartialEq, Eq)]
pub struct Client {
    pub id: String,
    /// Those it may use; none: all.
    pub instances: Option<Vec<String>>,
    /// The one that it means where its address names none.
    pub instance: String,
}

/// Who has shown a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bearer {
    Client(Arc<Client>),
    /// Whoever may write to the socket: where there are no clients, the socket gives tokens to anyone, for programs that
    /// don't go on without one.
    Socket,
}

/// A token as it is given.
#[derive(Debug, PartialEq, Eq)]
pub struct Given {
    pub token: String,
    pub left: Duration,
    pub bearer: Bearer,
}

/// Why a token is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// None was shown, or one that was never given, or not by this process.
    Invalid,
    Expired,
}

/// There is no randomness to be had.
#[derive(Debug, thiserror::Error)]
#[error("the operating system gives no random numbers, so no token can be made: {0}")]
pub struct NoRandom(#[from] SysError);

type Fingerprint = [u8; 32];

/// All tokens in force.
pub struct Tokens {
    key: [u8; 32],
    clients: BTreeMap<String, (Arc<Client>, Fingerprint)>,
    given: Mutex<Book>,
}

/// For each holder the token in force and the one before, of which is known that it has expired. The socket's holder is
/// the empty name, which no client has.
#[derive(Default)]
struct Book {
    current: HashMap<String, (String, Instant)>,
    known: HashMap<Fingerprint, (Bearer, Instant)>,
}

impl Tokens {
    /// # Errors
    /// [`NoRandom`].
    pub fn new(clients: &[ApiClient]) -> Result<Tokens, NoRandom> {
        let mut key = [0; 32];
        SysRng.try_fill_bytes(&mut key)?;
        let entry = |client: &ApiClient| {
            let known = Client {
                id: client.client_id.clone(),
                instances: client.instances.clone(),
                instance: client.instance.clone(),
            };
            let secret = fingerprint(&key, client.client_secret.expose());
            (client.client_id.clone(), (Arc::new(known), secret))
        };
        Ok(Tokens { key, clients: clients.iter().map(entry).collect(), given: Mutex::default() })
    }

    /// Whose credentials these are; none where they are wrong. `on_socket`: where nobody is named in the configuration,
    /// the socket's permissions have said already who may come.
    pub fn judge(&self, id: &str, secret: &str, on_socket: bool) -> Option<Bearer> {
        if on_socket && self.clients.is_empty() {
            return Some(Bearer::Socket);
        }
        // Hashed for an unknown id too, so that the time tells nobody which ids there are.
        let shown = fingerprint(&self.key, secret);
        let (client, secret) = self.clients.get(id)?;
        (shown == *secret).then(|| Bearer::Client(client.clone()))
    }

    pub fn knows(&self, id: &str) -> bool {
        self.clients.contains_key(id)
    }

    /// The token of this bearer: until it expires the same one, with less time left.
    ///
    /// # Errors
    /// [`NoRandom`].
    pub fn give(&self, bearer: Bearer, now: Instant) -> Result<Given, NoRandom> {
        let holder = match &bearer {
            Bearer::Client(client) => client.id.as_str(),
            Bearer::Socket => "",
        };
        let mut book = self.book();
        let until = match book.current.get(holder) {
            Some((token, until)) if now < *until => {
                let (token, left) = (token.clone(), *until - now);
                return Ok(Given { token, left, bearer });
            }
            expired => expired.map(|&(_, until)| until),
        };
        let mut random = [0; 16];
        SysRng.try_fill_bytes(&mut random)?;
        let token = format!("{:032x}", u128::from_be_bytes(random));
        // Of this holder only the one that has just expired stays known.
        book.known.retain(|_, (known, end)| *known != bearer || Some(*end) == until);
        book.known.insert(fingerprint(&self.key, &token), (bearer.clone(), now + LIFE));
        book.current.insert(holder.to_owned(), (token.clone(), now + LIFE));
        Ok(Given { token, left: LIFE, bearer })
    }

    /// Who has this token.
    ///
    /// # Errors
    /// [`Denied`].
    pub fn bearer(&self, token: &str, now: Instant) -> Result<Bearer, Denied> {
        match self.book().known.get(&fingerprint(&self.key, token)) {
            Some((bearer, until)) if now < *until => Ok(bearer.clone()),
            Some(_) => Err(Denied::Expired),
            None => Err(Denied::Invalid),
        }
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.given.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn fingerprint(key: &[u8; 32], text: &str) -> Fingerprint {
    Sha256::new().chain_update(key).chain_update(text).finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;

    fn tokens(clients: &[(&str, &str)]) -> Tokens {
        let client = |&(id, secret): &(&str, &str)| ApiClient {
            client_id: id.into(),
            client_secret: Secret::new(secret),
            instances: None,
            instance: "default".into(),
        };
        Tokens::new(&clients.iter().map(client).collect::<Vec<_>>()).unwrap()
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
            assert_eq!(tokens.judge(id, secret, on_socket).is_some(), right, "{id} {secret} {on_socket}");
        }
    }

    #[test]
    fn without_clients_the_socket_takes_anyone_and_nothing_else_does() {
        let tokens = tokens(&[]);
        assert_eq!(tokens.judge("any", "thing", true), Some(Bearer::Socket));
        assert_eq!(tokens.judge("any", "thing", false), None);
    }

    #[test]
    fn the_same_token_comes_again_with_less_time_left_until_it_expires() {
        let tokens = tokens(&[("crm", "s")]);
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let crm = tokens.judge("crm", "s", false).unwrap();
        let first = tokens.give(crm.clone(), start).unwrap();
        assert_eq!((first.token.len(), first.left), (32, LIFE));
        let again = tokens.give(crm.clone(), start + second * 3599).unwrap();
        assert_eq!((&again.token, again.left), (&first.token, second));
        let next = tokens.give(crm, start + LIFE).unwrap();
        assert_ne!(next.token, first.token);
        assert_eq!(next.left, LIFE);
    }

    #[test]
    fn a_token_that_has_run_out_is_expired_and_one_that_was_never_given_is_invalid() {
        let tokens = tokens(&[("crm", "s")]);
        let start = Instant::now();
        let crm = tokens.judge("crm", "s", false).unwrap();
        let token = tokens.give(crm.clone(), start).unwrap().token;
        let at = |time, token: &str| tokens.bearer(token, start + time);
        assert_eq!(at(Duration::ZERO, &token), Ok(crm.clone()));
        assert_eq!(at(LIFE - Duration::from_nanos(1), &token), Ok(crm.clone()));
        assert_eq!(at(LIFE, &token), Err(Denied::Expired));
        for other in ["", "x", &token[1..], &token.to_uppercase().replace(|c: char| c.is_ascii_digit(), "f")] {
            assert_eq!(at(Duration::ZERO, other), Err(Denied::Invalid), "{other}");
        }
        // The next one leaves this one known, the one after it does not: what is kept does not grow.
        tokens.give(crm.clone(), start + LIFE).unwrap();
        assert_eq!(tokens.bearer(&token, start + LIFE), Err(Denied::Expired));
        tokens.give(crm, start + LIFE * 2).unwrap();
        assert_eq!(tokens.bearer(&token, start + LIFE * 2), Err(Denied::Invalid));
        assert_eq!(tokens.book().known.len(), 2);
    }

    #[test]
    fn each_client_has_a_token_of_its_own() {
        let tokens = tokens(&[("crm", "s"), ("web", "s")]);
        let now = Instant::now();
        let [crm, web] = ["crm", "web"].map(|id| tokens.judge(id, "s", false).unwrap());
        let [first, second] = [&crm, &web].map(|bearer| tokens.give(bearer.clone(), now).unwrap().token);
        assert_ne!(first, second);
        assert_eq!((tokens.bearer(&first, now), tokens.bearer(&second, now)), (Ok(crm), Ok(web)));
    }
}
