//! Status of the daemon: its health, and its instances, which can be paused.

use std::time::Duration;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::{Method, StatusCode};

use crate::api::dto::{InstanceQueue, InstanceStatus, NotReady, Readiness, Status};
use crate::client::error::ClientError;
use crate::client::http_client::Client;
use crate::client::response::{read, refusal};
use crate::marketo::answering_daemon;

/// Whether the daemon is ready, and why not.
#[derive(Clone, Debug)]
pub struct ReadinessReport {
    /// The health of each component.
    pub readiness: Readiness,
    /// The reason in one sentence; none where the daemon is ready.
    pub fault: Option<String>,
}

impl Client {
    /// Returns the status of the daemon and its instances.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn status(&self) -> Result<Status, ClientError> {
        self.call(self.request(Method::GET, "/v1/status")).await
    }

    /// Returns what occupies an instance's slots, and at most `limit` pending jobs behind them.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn queue(&self, instance: &str, limit: usize) -> Result<InstanceQueue, ClientError> {
        let name = utf8_percent_encode(instance, NON_ALPHANUMERIC);
        let request = self.request(Method::GET, &format!("/v1/instances/{name}/queue"));
        self.call(request.query(&[("limit", limit)])).await
    }

    /// Returns the id that the daemon's calls to Marketo carry; none where an older daemon has none.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn daemon_id(&self) -> Result<Option<String>, ClientError> {
        let response = self.send_in_time(self.request(Method::GET, "/bulk/v1")).await?;
        Ok(answering_daemon(response.headers()))
    }

    /// Checks that the daemon answers.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn healthz(&self) -> Result<(), ClientError> {
        self.send_in_time(self.request(Method::GET, "/healthz")).await.map(drop)
    }

    /// Returns whether the daemon is ready, as a whole or for one instance, and the reason why it is not.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn readyz(&self, instance: Option<&str>) -> Result<ReadinessReport, ClientError> {
        let parameter = instance.map(|name| ("instance", name));
        let request = self.request(Method::GET, "/readyz").query(parameter.as_slice());
        let sent = self.read_timeout.run(Duration::ZERO, request.send()).await?;
        let response = sent.map_err(|error| self.connection_error(&error))?;
        if response.status() != StatusCode::SERVICE_UNAVAILABLE {
            return if response.status().is_success() {
                Ok(ReadinessReport { readiness: read(response).await?, fault: None })
            } else {
                Err(refusal(response).await)
            };
        }
        let refused: NotReady = read(response).await?;
        Ok(ReadinessReport { readiness: refused.readiness, fault: Some(refused.problem.detail) })
    }

    /// Pauses the uploads of an instance, and returns its status.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn pause(&self, instance: &str) -> Result<InstanceStatus, ClientError> {
        self.post_instance(instance, "pause").await
    }

    /// Resumes the uploads of an instance, and returns its status.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn resume(&self, instance: &str) -> Result<InstanceStatus, ClientError> {
        self.post_instance(instance, "resume").await
    }

    async fn post_instance(&self, instance: &str, action: &str) -> Result<InstanceStatus, ClientError> {
        let name = utf8_percent_encode(instance, NON_ALPHANUMERIC);
        let request = self.request(Method::POST, &format!("/v1/instances/{name}/{action}"));
        let response = self.send_in_time(request).await?;
        if response.status() != StatusCode::NO_CONTENT {
            return read(response).await;
        }
        let unknown = || ClientError::Broken(format!("the status has no instance {instance}"));
        self.status().await?.instances.remove(instance).ok_or_else(unknown)
    }
}
