//! Statistics of the daemon.

use reqwest::Method;

use crate::api::dto::Stats;
use crate::client::error::ClientError;
use crate::client::http_client::Client;

impl Client {
    /// Returns what happened over time. `parameters` are those of the query that are given.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn stats(&self, parameters: &[(&str, &str)]) -> Result<Stats, ClientError> {
        self.call(self.request(Method::GET, "/v1/stats").query(parameters)).await
    }
}
