//! HTTP client over the daemon's Unix socket: makes requests and sends them within a time limit.

use std::error::Error;
use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use reqwest::{Method, RequestBuilder, Response};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::api::dto::COMMAND_LINE_AGENT;
use crate::client::error::{ClientError, MAX_SOCKET_PATH_BYTES};
use crate::client::response::{ReadTimeout, read, refusal};
use crate::error_chain::innermost;
use crate::marketo::outbound::client_builder;

/// Default path of the daemon's socket.
pub const DEFAULT_SOCKET: &str = "/run/marqueue/marqueue.sock";

/// Default of the longest time that the daemon may send nothing.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);

/// Extra time for requests that read the whole database before they answer.
pub(super) const LONG_TIMEOUT: Duration = Duration::from_secs(3600);

/// A URL needs a host; a socket has none.
const HOST: &str = "http://marqueue";

/// Client of one daemon.
pub struct Client {
    http: reqwest::Client,
    pub(super) read_timeout: ReadTimeout,
}

impl Client {
    /// Makes a client, without connecting. `timeout` is the longest time that the daemon may send nothing; waiting for
    /// a job and for events is not limited.
    ///
    /// # Errors
    /// [`ClientError::SocketPathTooLong`]; [`ClientError::Broken`] where the HTTP client can't be made.
    pub fn new(socket: &Path, timeout: Duration) -> Result<Client, ClientError> {
        Client::with_headers(socket, timeout, HeaderMap::new())
    }

    fn with_headers(socket: &Path, timeout: Duration, headers: HeaderMap) -> Result<Client, ClientError> {
        if socket.as_os_str().len() > MAX_SOCKET_PATH_BYTES {
            return Err(ClientError::SocketPathTooLong(socket.to_owned()));
        }
        let http = client_builder()
            .user_agent(COMMAND_LINE_AGENT)
            .default_headers(headers)
            .unix_socket(socket)
            .no_proxy()
            // An idle connection would count against api.max_connections, and the daemon may close it.
            .pool_max_idle_per_host(0)
            // TLS is not used: without this the machine's root certificates are loaded.
            .tls_certs_only([])
            .build()
            .map_err(|error| ClientError::Broken(innermost(&error)))?;
        Ok(Client { http, read_timeout: ReadTimeout { socket: socket.to_owned(), timeout } })
    }

    /// Gets a token with the id and secret of an entry of `api.clients`, and returns a client that acts as this entry for
    /// as long as the token is valid, which is an hour.
    ///
    /// # Errors
    /// Every [`ClientError`].
    pub async fn log_in(&self, client_id: &str, client_secret: &str) -> Result<Client, ClientError> {
        let form = [("grant_type", "client_credentials"), ("client_id", client_id), ("client_secret", client_secret)];
        let TokenAnswer { access_token } =
            self.call(self.request(Method::POST, "/identity/oauth/token").form(&form)).await?;
        let mut bearer = HeaderValue::try_from(format!("Bearer {access_token}"))
            .map_err(|_| ClientError::Broken("the token is no value of a header".to_owned()))?;
        bearer.set_sensitive(true);
        let headers = HeaderMap::from_iter([(AUTHORIZATION, bearer)]);
        Client::with_headers(&self.read_timeout.socket, self.read_timeout.timeout, headers)
    }

    pub(super) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{HOST}{path}"))
    }

    /// Sends a request and parses its response, within the time limit.
    pub(super) async fn call<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, ClientError> {
        self.read_timeout.run(Duration::ZERO, async { read(self.send(request).await?).await }).await?
    }

    /// Sends a request, with the time limit for the begin of the response.
    pub(super) async fn send_in_time(&self, request: RequestBuilder) -> Result<Response, ClientError> {
        self.read_timeout.run(Duration::ZERO, self.send(request)).await?
    }

    pub(super) async fn send(&self, request: RequestBuilder) -> Result<Response, ClientError> {
        let response = request.send().await.map_err(|error| self.connection_error(&error))?;
        if response.status().is_success() { Ok(response) } else { Err(refusal(response).await) }
    }

    pub(super) fn connection_error(&self, error: &reqwest::Error) -> ClientError {
        let (socket, reason) = (self.read_timeout.socket.clone(), innermost(error));
        match io_error_kind(error) {
            _ if !error.is_connect() => ClientError::Broken(reason),
            Some(ErrorKind::PermissionDenied) => ClientError::NotAllowed { socket, reason },
            // The listen backlog is full.
            Some(ErrorKind::WouldBlock) => ClientError::Silent { socket, reason },
            _ => ClientError::NoDaemon { socket, reason },
        }
    }
}

/// The part of the identity endpoint's answer that is used.
#[derive(Deserialize)]
struct TokenAnswer {
    access_token: String,
}

/// Returns the kind of the I/O error among an error's causes.
fn io_error_kind(error: &reqwest::Error) -> Option<ErrorKind> {
    let mut cause: Option<&dyn Error> = Some(error);
    while let Some(deeper) = cause {
        if let Some(error) = deeper.downcast_ref::<std::io::Error>() {
            return Some(error.kind());
        }
        cause = deeper.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_too_long_socket_path_is_refused() {
        let path = format!("/{}", "s".repeat(107));
        let Err(error) = Client::new(Path::new(&path), DEFAULT_TIMEOUT) else { panic!("it was accepted") };
        assert_eq!(
            error.to_string(),
            format!("the socket path {path} is 108 bytes long, and the path of a Unix socket has at most 107")
        );
        assert!(Client::new(Path::new(&path[..107]), DEFAULT_TIMEOUT).is_ok());
    }

    #[tokio::test]
    async fn a_missing_daemon_is_reported_with_advice() {
        let folder = tempfile::tempdir().unwrap();
        let nothing = folder.path().join("none.sock");
        let closed = folder.path().join("closed.sock");
        drop(std::os::unix::net::UnixListener::bind(&closed).unwrap());
        for (socket, reason) in
            [(nothing, "No such file or directory (os error 2)"), (closed, "Connection refused (os error 111)")]
        {
            let error = Client::new(&socket, DEFAULT_TIMEOUT).unwrap().status().await.unwrap_err();
            assert!(matches!(error, ClientError::NoDaemon { .. }), "{error:?}");
            assert_eq!(
                error.to_string(),
                format!(
                    "no daemon answers at {} ({reason}): start one with \"marqueue serve\", or name its socket with --socket or MARQUEUE_SOCKET",
                    socket.display()
                )
            );
        }
    }
}
