//! Server of the simulator: a listener, one task for each connection, and what tests change while it runs.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::clock::Clock;
use crate::simulator::call_log::CallLog;
use crate::simulator::faults::Fault;
use crate::simulator::http;
use crate::simulator::model::MarketoModel;
use crate::simulator::settings::Settings;
use crate::simulator::shared_model::SharedModel;

/// Seconds from midnight UTC to Adobe's \"12:00 AM CST\", when the daily quota is reset.
const RESET: u64 = 6 * 3600;
const DAY: u64 = 24 * 3600;

/// A running simulator. It stops when this is dropped.
pub struct Simulator {
    base_url: String,
    shared: Arc<SharedModel>,
    tasks: TaskTracker,
    stop: DropGuard,
}

impl Simulator {
    /// Serves on this listener, on the ambient tokio runtime, in real time.
    ///
    /// # Errors
    /// The listener has no local address.
    pub fn start(listener: TcpListener, settings: Settings) -> io::Result<Simulator> {
        let base_url = format!("http://{}", listener.local_addr()?);
        let shared = Arc::new(SharedModel::new(MarketoModel::new(settings, until_reset())));
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        tasks.spawn(stop.clone().run_until_cancelled_owned(accept(
            listener,
            shared.clone(),
            tasks.clone(),
            stop.clone(),
        )));
        Ok(Simulator { base_url, shared, tasks, stop: stop.drop_guard() })
    }

    /// Returns the base URL, such as `http://127.0.0.1:40123`; the identity URL is this and `/identity`.
    pub fn base_url(&self) -> &str {
        &self.base_url
    }

    /// Returns the log of all calls up to now.
    pub fn call_log(&self) -> CallLog {
        self.shared.with_model(|marketo, now| marketo.call_log(now))
    }

    /// Adds a fault for calls to come.
    pub fn push_fault(&self, fault: Fault) {
        self.shared.faults().push(fault);
    }

    /// Removes all faults that are still to come.
    pub fn clear_faults(&self) {
        self.shared.faults().clear();
    }

    /// Revokes every token issued so far: calls with one get error 601.
    pub fn revoke_tokens(&self) {
        self.shared.with_model(|marketo, _| marketo.revoke_tokens());
    }

    /// Sets the number of other integrations' imports in the queue, until the next call. They take no processing slot.
    pub fn set_other_imports(&self, number: usize) {
        self.shared.with_model(|marketo, now| marketo.set_other_imports(now, number));
    }

    /// Ends the imports that a cell `!stuck` keeps from ending.
    pub fn end_stuck_imports(&self) {
        self.shared.with_model(|marketo, now| marketo.end_stuck(now));
    }

    /// Returns the number of open connections. One that the client has closed counts until its call has been handled.
    pub fn connections(&self) -> usize {
        // One task is the listener.
        self.tasks.len().saturating_sub(1)
    }

    /// Closes the listener and every connection, answered or not.
    pub async fn stop(self) {
        drop(self.stop);
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// Serves on `listen`, such as `127.0.0.1:8080`, until cancelled.
///
/// # Errors
/// The address can't be bound.
pub async fn run(listen: &str, settings: Settings, cancel: CancellationToken) -> io::Result<()> {
    let simulator = Simulator::start(TcpListener::bind(listen).await?, settings)?;
    tracing::info!(base_url = simulator.base_url(), "simulator listening");
    cancel.cancelled().await;
    simulator.stop().await;
    Ok(())
}

async fn accept(
    listener: TcpListener,
    shared: Arc<SharedModel>,
    tasks: TaskTracker,
    stop: CancellationToken,
) -> Infallible {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Usually the process has no free file descriptor. A retry without a pause would only use CPU time.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        stream.set_nodelay(true).ok();
        let (shared, stop) = (shared.clone(), stop.clone());
        tasks.spawn(async move {
            let service = service_fn(|request: hyper::Request<_>| http::serve(&shared, request.map(Body::new)));
            let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            // A connection that ends in an error was aborted by the client or by a fault.
            stop.run_until_cancelled(connection).await.map(Result::ok);
        });
    }
}

/// Returns the time from now to the next reset of the daily quota.
fn until_reset() -> Duration {
    let second = Clock::System.now().as_second().cast_unsigned() % DAY;
    Duration::from_secs(match (RESET + DAY - second) % DAY {
        0 => DAY,
        seconds => seconds,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_daily_quota_resets_within_a_day() {
        let left = until_reset();
        assert!(left > Duration::ZERO && left <= Duration::from_secs(DAY), "{left:?}");
    }
}
