//! Outbound HTTP: builds the clients for calls to other machines, and reads response bodies with a size limit.

use reqwest::{ClientBuilder, Response, redirect};

use crate::config;
use crate::error_chain::reason;

/// Returns a client builder that uses the process's TLS provider, which reqwest needs even for plain HTTP.
pub(crate) fn client_builder() -> ClientBuilder {
    // Where another part of the process has installed a provider before, that one stays.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
}

/// Returns a builder of a client for calls to the host of `url`.
///
/// A client for a loopback address does not use the proxy of the environment: plain `http://` is accepted for loopback
/// only, because nothing else reads it there, and a proxy would. A client is therefore for hosts of one of the two
/// kinds. Redirects are not followed, because the request would go to a host that is not in the configuration.
pub fn client_for(url: &str) -> ClientBuilder {
    let client =
        client_builder().user_agent(concat!("marqueue/", env!("CARGO_PKG_VERSION"))).redirect(redirect::Policy::none());
    if config::is_loopback(url) { client.no_proxy() } else { client }
}

/// Why a response body could not be read to its end.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The connection failed.
    #[error("{}", reason(.0))]
    Broken(reqwest::Error),
    /// The body is longer than this many bytes.
    #[error("the body is longer than {0} bytes")]
    TooLong(usize),
}

/// Reads the rest of a response body after `body`, the part that has arrived. Returns at most `max_bytes` bytes.
///
/// # Errors
/// [`ReadError`]. The caller then drops the response, which closes its connection.
pub async fn read_body(response: &mut Response, mut body: Vec<u8>, max_bytes: usize) -> Result<Vec<u8>, ReadError> {
    while let Some(chunk) = response.chunk().await.map_err(ReadError::Broken)? {
        if body.len() + chunk.len() > max_bytes {
            return Err(ReadError::TooLong(max_bytes));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}
