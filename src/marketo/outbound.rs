//! Outbound HTTP: how a client is built that leaves this machine, and how an answer is read whole.

use reqwest::{ClientBuilder, Response, redirect};

use crate::config;
use crate::error_chain::reason;

/// Returns the beginnings of a client for calls to `url`.
///
/// Where `url` is on this machine, no proxy of the environment is used: plain `http://` is accepted for loopback only,
/// where nobody else reads it, and a proxy would read it. A client is therefore for one host, not for two. Redirects are
/// not followed: the request would go somewhere that nobody wrote into the configuration.
pub fn client_for(url: &str) -> ClientBuilder {
    // Another part of the process may have chosen before; then that choice stands.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder()
        .user_agent(concat!("marqueue/", env!("CARGO_PKG_VERSION")))
        .redirect(redirect::Policy::none());
    if config::is_loopback(url) { client.no_proxy() } else { client }
}

/// An answer could not be read to its end.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("{}", reason(.0))]
    Broken(reqwest::Error),
    #[error("its body is longer than {0} bytes")]
    TooLong(usize),
}

/// Reads the rest of an answer behind `body`, of which some has come. At most `max_bytes` are kept in memory.
///
/// # Errors
/// [`ReadError`]. The caller drops the answer then, which closes its connection.
pub async fn read_body(answer: &mut Response, mut body: Vec<u8>, max_bytes: usize) -> Result<Vec<u8>, ReadError> {
    while let Some(piece) = answer.chunk().await.map_err(ReadError::Broken)? {
        if body.len() + piece.len() > max_bytes {
            return Err(ReadError::TooLong(max_bytes));
        }
        body.extend_from_slice(&piece);
    }
    Ok(body)
}
