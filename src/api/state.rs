//! State that the handlers share.

use std::net::SocketAddr;
use std::sync::Arc;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::api::auth::login_throttle::LoginThrottle;
use crate::api::auth::request_origin::AllowedHosts;
use crate::api::auth::session_table::SessionTable;
use crate::api::auth::tokens::TokenTable;
use crate::api::marketo_compat::legacy_tokens::LegacyTokens;
use crate::api::metrics::Metrics;
use crate::clock::Clock;
use crate::config;
use crate::drop_folder::DropReport;
use crate::intake::Intake;
use crate::retention::RetentionTask;
use crate::scheduler::InstanceScheduler;
use crate::store::Store;

/// What the handlers need of the daemon.
pub struct AppState {
    /// The database.
    pub store: Store,
    /// Accepts files.
    pub intake: Intake,
    /// The daemon's clock.
    pub clock: Clock,
    /// Clients of `api.clients` and their tokens.
    pub tokens: TokenTable,
    /// Sessions of browsers.
    pub sessions: SessionTable,
    /// Names under which browsers may reach the listeners.
    pub hosts: AllowedHosts,
    /// Delays of failed logins.
    pub login_throttle: LoginThrottle,
    /// Settings and limits for tokens outside the header `Authorization`.
    pub legacy_tokens: LegacyTokens,
    /// Settings of the page.
    pub page: config::Page,
    /// One for each instance of the configuration.
    pub schedulers: Vec<InstanceScheduler>,
    /// When the daemon started.
    pub started_at: Timestamp,
    /// Address of the TCP listener; none without one.
    pub listen: Option<SocketAddr>,
    /// Erases data.
    pub retention: RetentionTask,
    /// Metrics of `GET /metrics`.
    pub metrics: Arc<Metrics>,
    /// None where there is no drop folder.
    pub drop: Option<DropReport>,
    /// Cancelled when the daemon stops: waiting responses end.
    pub stop: CancellationToken,
}

impl AppState {
    /// Returns the scheduler of this instance; none where it is not configured.
    pub(super) fn scheduler(&self, name: &str) -> Option<&InstanceScheduler> {
        self.schedulers.iter().find(|scheduler| scheduler.name() == name)
    }
}

/// State as the handlers extract it.
pub(crate) type SharedState = Arc<AppState>;
