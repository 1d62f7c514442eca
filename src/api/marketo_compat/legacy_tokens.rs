//! Access tokens outside the header `Authorization`: Marketo's older form, as a parameter of the query or the form.
//!
//! Adobe has announced its end several times, and many programs still use it: Adobe's own curl lines send it behind the
//! file. Such a token is never logged and never passed on to Marketo. A form is held in memory until its token is read,
//! because nothing of a stranger's file may reach the disk; how much memory that takes is bounded here.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use axum::http::Uri;
use axum::http::uri::PathAndQuery;
use bytes::{Bytes, BytesMut};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::api::auth::identity::Identity;
use crate::api::marketo_compat::response::CompatError;
use crate::secret::Secret;

pub(super) const ACCESS_TOKEN: &str = "access_token";

/// Bytes of one form that may come before its token is read.
pub(super) const MAX_HELD_BYTES: u64 = 11_000_000;

/// Forms that are held at the same time.
const MAX_HELD_FORMS: usize = 4;

/// How long a form waits for one of these places, and how long it may keep it without a token.
const SLOT_TIMEOUT: Duration = Duration::from_secs(5);
pub(super) const MAX_HOLD_TIME: Duration = Duration::from_secs(120);

/// Content is copied into blocks of this size: what the reader gives may be a small slice of a large buffer.
const BLOCK_BYTES: usize = 256 * 1024;

/// Whether such tokens are taken, and the clients that send them.
pub struct LegacyTokens {
    accepted: bool,
    places: Semaphore,
    /// Named in the log since the start.
    named: Mutex<BTreeSet<String>>,
}

impl LegacyTokens {
    /// `accepted` is `api.legacy_tokens`.
    pub fn new(accepted: bool) -> LegacyTokens {
        LegacyTokens { accepted, places: Semaphore::new(MAX_HELD_FORMS), named: Mutex::default() }
    }

    pub(super) fn are_accepted(&self) -> bool {
        self.accepted
    }

    /// A place for one form. It waits a little, because several uploads often come at once.
    ///
    /// # Errors
    /// 601 if none is free.
    pub(super) async fn acquire_slot(&self) -> Result<SemaphorePermit<'_>, CompatError> {
        match tokio::time::timeout(SLOT_TIMEOUT, self.places.acquire()).await {
            Ok(Ok(place)) => Ok(place),
            _ => Err(refused_error(&format!(
                "{MAX_HELD_FORMS} forms are already waiting for their token; send it in the header Authorization or before \
                 the file"
            ))),
        }
    }

    /// Writes the client's name into the log, once since the start. `place` is where the token stood.
    pub(super) fn log_client_once(&self, caller: &Identity, place: &str) {
        let client_id = match caller {
            Identity::Client(client) => client.id.clone(),
            Identity::User { .. } => "socket".to_owned(),
        };
        if self.named.lock().unwrap_or_else(PoisonError::into_inner).insert(client_id.clone()) {
            let advice = "Marketo has announced that it will only take the header Authorization";
            match self.accepted {
                true => tracing::warn!(client_id, place, advice, "a client sends its token outside the header"),
                false => tracing::warn!(
                    client_id,
                    place,
                    advice,
                    "a client sends its token outside the header and is refused (api.legacy_tokens)"
                ),
            }
        }
    }

    /// Why a token outside the header is refused where the configuration says so.
    pub(super) fn disabled_error(&self) -> CompatError {
        refused_error("it is taken in the header Authorization only (api.legacy_tokens is false)")
    }
}

/// 601, in Marketo's words and with the reason behind them.
pub(super) fn refused_error(reason: &str) -> CompatError {
    CompatError::new(601, format!("Access token invalid: {reason}"))
}

/// The address without its tokens, and the tokens that stood in its query. An empty one was not given.
///
/// Public to the fuzzers: nothing else of the query changes.
pub fn take_from_query(uri: Uri) -> (Uri, Vec<Secret>) {
    let Some(query) = uri.query() else { return (uri, Vec::new()) };
    let pairs = || url::form_urlencoded::parse(query.as_bytes());
    if !pairs().any(|(name, _)| name == ACCESS_TOKEN) {
        return (uri, Vec::new());
    }
    let mut tokens: Vec<Secret> = Vec::new();
    let mut rest = url::form_urlencoded::Serializer::new(String::new());
    for (name, value) in pairs() {
        if name != ACCESS_TOKEN {
            rest.append_pair(&name, &value);
        } else if !value.is_empty() && tokens.iter().all(|token| token.expose() != value) {
            tokens.push(Secret::new(value));
        }
    }
    let rest = rest.finish();
    let path = uri.path();
    let text = if rest.is_empty() { path.to_owned() } else { format!("{path}?{rest}") };
    // Both halves come from an address that could be read; if they make none, nothing of the query is kept.
    let kept = PathAndQuery::try_from(text).map(Uri::from).unwrap_or_default();
    (kept, tokens)
}

/// The content of a file whose sender is not known yet.
#[derive(Default)]
pub(super) struct HeldForm {
    blocks: VecDeque<BytesMut>,
}

impl HeldForm {
    pub(super) fn push(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.blocks.back().is_none_or(|block| block.len() == BLOCK_BYTES) {
                self.blocks.push_back(BytesMut::with_capacity(BLOCK_BYTES));
            }
            let Some(block) = self.blocks.back_mut() else { return };
            let (now, later) = bytes.split_at(bytes.len().min(BLOCK_BYTES - block.len()));
            block.extend_from_slice(now);
            bytes = later;
        }
    }

    pub(super) fn pop(&mut self) -> Option<Bytes> {
        self.blocks.pop_front().map(BytesMut::freeze)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_in_the_query_is_taken_out_of_it() {
        for (given, left, tokens) in [
            ("/bulk/v1/leads.json?format=csv", "/bulk/v1/leads.json?format=csv", &[][..]),
            ("/bulk/v1/leads.json?access_token=t", "/bulk/v1/leads.json", &["t"]),
            ("/a?access_token=t&format=csv&listId=7", "/a?format=csv&listId=7", &["t"]),
            ("/a?programMemberStatus=On%20List&access%5Ftoken=t%2B1", "/a?programMemberStatus=On+List", &["t+1"]),
            ("/a?access_token=t&access_token=t&access_token=", "/a", &["t"]),
            ("/a?access_token=t&access_token=u", "/a", &["t", "u"]),
            ("/a?access_token", "/a", &[]),
        ] {
            let (uri, found) = take_from_query(given.parse().unwrap());
            assert_eq!(uri.to_string(), left, "{given}");
            assert_eq!(found.iter().map(Secret::expose).collect::<Vec<_>>(), tokens, "{given}");
        }
    }

    #[test]
    fn held_content_comes_back_as_it_went_in() {
        let content: Vec<u8> = (0..700_000_u32).map(|n| u8::try_from(n % 251).unwrap()).collect();
        for size in [1, 1_000, 300_000] {
            let mut held = HeldForm::default();
            content.chunks(size).for_each(|piece| held.push(piece));
            assert!(held.blocks.len() <= 3, "{} blocks", held.blocks.len());
            let back: Vec<u8> = std::iter::from_fn(|| held.pop()).flatten().collect();
            assert!(back == content, "by {size}");
        }
    }
}
