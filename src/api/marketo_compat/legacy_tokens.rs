//! Legacy tokens: access tokens outside the header `Authorization`, as a parameter of the query or the form.
//!
//! Adobe has announced the end of this method several times, and many programs still use it: Adobe's own curl examples
//! send the token after the file. Such a token is never logged and never sent to Marketo. A form is buffered in memory
//! until its token is read, because no content of an unknown sender may reach the disk. The memory is bounded here.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use axum::http::Uri;
use axum::http::uri::PathAndQuery;
use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::api::auth::identity::Identity;
use crate::api::marketo_compat::response::CompatError;
use crate::config;
use crate::secret::Secret;

/// Name of the parameter.
pub(super) const ACCESS_TOKEN: &str = "access_token";

/// The most bytes of one form before its token.
pub(super) const MAX_HELD_BYTES: u64 = 11_000_000;

/// The most forms that are buffered at the same time.
const MAX_HELD_FORMS: usize = 4;

/// How long a form waits for a buffer.
const BUFFER_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a form may occupy a buffer without its token.
pub(super) const MAX_HOLD_TIME: Duration = Duration::from_secs(120);

/// Content is copied into blocks of this size, because a chunk of the reader may be a small slice of a large buffer.
const BLOCK_BYTES: usize = 256 * 1024;

/// Setting and limits for legacy tokens, and the clients that send them.
pub struct LegacyTokens {
    /// `api.legacy_tokens`.
    accepted: bool,
    buffers: Semaphore,
    /// Clients that were logged since the start.
    logged: Mutex<BTreeSet<String>>,
}

impl LegacyTokens {
    /// Makes the limits of this configuration.
    pub fn new(config: &config::Api) -> LegacyTokens {
        LegacyTokens {
            accepted: config.legacy_tokens,
            buffers: Semaphore::new(MAX_HELD_FORMS),
            logged: Mutex::default(),
        }
    }

    /// Returns whether legacy tokens are accepted.
    pub(super) fn are_accepted(&self) -> bool {
        self.accepted
    }

    /// Acquires a buffer for one form. Waits for one, because several uploads often arrive at once.
    ///
    /// # Errors
    /// 601 if none becomes free in time.
    pub(super) async fn acquire_buffer(&self) -> Result<SemaphorePermit<'_>, CompatError> {
        match tokio::time::timeout(BUFFER_TIMEOUT, self.buffers.acquire()).await {
            Ok(Ok(permit)) => Ok(permit),
            _ => Err(refused_error(&format!(
                "{MAX_HELD_FORMS} forms wait for their token already: send it in the header Authorization or before \
                 the file"
            ))),
        }
    }

    /// Logs the client's id, once since the start. `location` is where the token stood.
    pub(super) fn log_client_once(&self, caller: &Identity, location: &str) {
        let client_id = match caller {
            Identity::Client(client) => client.id.clone(),
            Identity::User { .. } => "socket".to_owned(),
        };
        if self.logged.lock().insert(client_id.clone()) {
            let advice = "Marketo has announced that it will accept the header Authorization only";
            match self.accepted {
                true => tracing::warn!(client_id, location, advice, "client sends its token outside the header"),
                false => tracing::warn!(
                    client_id,
                    location,
                    advice,
                    "client sends its token outside the header and is refused (api.legacy_tokens)"
                ),
            }
        }
    }

    /// Returns the error of a legacy token where `api.legacy_tokens` is false.
    pub(super) fn disabled_error(&self) -> CompatError {
        refused_error("send it in the header Authorization (api.legacy_tokens is false)")
    }
}

/// Returns 601 with Marketo's message and the reason.
pub(super) fn refused_error(reason: &str) -> CompatError {
    CompatError::new(601, format!("Access token invalid: {reason}"))
}

/// An address whose tokens were removed.
pub struct StrippedAddress {
    /// The address without its tokens.
    pub uri: Uri,
    /// Its different tokens. An empty one counts as missing.
    pub tokens: Vec<Secret>,
}

/// Removes the tokens from an address's query.
///
/// Public for the fuzzers: nothing else of the query changes.
pub fn take_from_query(uri: Uri) -> StrippedAddress {
    let Some(query) = uri.query() else { return StrippedAddress { uri, tokens: Vec::new() } };
    let pairs = || url::form_urlencoded::parse(query.as_bytes());
    if !pairs().any(|(name, _)| name == ACCESS_TOKEN) {
        return StrippedAddress { uri, tokens: Vec::new() };
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
    // Both parts come from a valid address. If they make no valid one, nothing of the query is kept.
    let uri = PathAndQuery::try_from(text).map(Uri::from).unwrap_or_default();
    StrippedAddress { uri, tokens }
}

/// Buffered content of a file whose sender is not known yet.
#[derive(Default)]
pub(super) struct HeldForm {
    blocks: VecDeque<BytesMut>,
}

impl HeldForm {
    /// Appends content.
    pub(super) fn push(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.blocks.back().is_none_or(|block| block.len() == BLOCK_BYTES) {
                self.blocks.push_back(BytesMut::with_capacity(BLOCK_BYTES));
            }
            let Some(block) = self.blocks.back_mut() else { return };
            let (fitting, rest) = bytes.split_at(bytes.len().min(BLOCK_BYTES - block.len()));
            block.extend_from_slice(fitting);
            bytes = rest;
        }
    }

    /// Removes and returns the first block.
    pub(super) fn pop(&mut self) -> Option<Bytes> {
        self.blocks.pop_front().map(BytesMut::freeze)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_removed_from_the_query() {
        for (given, left, tokens) in [
            ("/bulk/v1/leads.json?format=csv", "/bulk/v1/leads.json?format=csv", &[][..]),
            ("/bulk/v1/leads.json?access_token=t", "/bulk/v1/leads.json", &["t"]),
            ("/a?access_token=t&format=csv&listId=7", "/a?format=csv&listId=7", &["t"]),
            ("/a?programMemberStatus=On%20List&access%5Ftoken=t%2B1", "/a?programMemberStatus=On+List", &["t+1"]),
            ("/a?access_token=t&access_token=t&access_token=", "/a", &["t"]),
            ("/a?access_token=t&access_token=u", "/a", &["t", "u"]),
            ("/a?access_token", "/a", &[]),
        ] {
            let StrippedAddress { uri, tokens: found } = take_from_query(given.parse().unwrap());
            assert_eq!(uri.to_string(), left, "{given}");
            assert_eq!(found.iter().map(Secret::expose).collect::<Vec<_>>(), tokens, "{given}");
        }
    }

    #[test]
    fn buffered_content_is_returned_unchanged() {
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
