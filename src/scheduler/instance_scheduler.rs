//! Instance scheduler: the loop that plans the steps of one instance and starts a task for each step.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock::{ClockRecord, after};
use crate::config;
use crate::domain::instance::PauseKind;
use crate::domain::{BatchKey, Target};
use crate::log_throttle::LogThrottle;
use crate::marketo::{Client, CredentialStatus};
use crate::scheduler::import_check::{ImportCheck, check_import};
use crate::scheduler::plan::{SchedulingRules, plan};
use crate::scheduler::step::{Step, Work};
use crate::scheduler::worker_context::{InstanceSetup, STORE_RETRY_DELAY, WorkerContext};
use crate::scheduler::{fetch_reports, poll, upload};
use crate::store::{ObservedClock, Snapshot, StatusRows, Store, StoreError, WakeSubscription, Wakes};

/// The minimum time between two ticks. Thousands of files may arrive within a second; one tick plans for all of them.
const DEBOUNCE: Duration = Duration::from_millis(5);

/// The maximum time between two ticks. Nothing depends on it: it bounds the harm of a mistake in what wakes an instance.
const MAX_TICK_INTERVAL: Duration = Duration::from_secs(300);

/// How often a waiting [`InstanceScheduler::tick`] repeats its wake-up.
const TICK_RETRY: Duration = Duration::from_millis(50);

/// The scheduler of one instance. Clones share one state.
#[derive(Clone)]
pub struct InstanceScheduler {
    pub(super) context: Arc<WorkerContext>,
    busy: Arc<Mutex<HashMap<BatchKey, Work>>>,
    wake: Arc<Notify>,
    /// Throttles the log lines of failed steps: while the store fails, one a second for each batch in flight.
    step_errors: Arc<Mutex<LogThrottle>>,
    /// The number of ticks.
    ticks: Arc<watch::Sender<u64>>,
}

/// Whether an instance has another secret than before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretRenewal {
    /// The file has another secret, which is used from now on.
    Renewed,
    /// The file has the same secret, or the secret stands in the configuration itself.
    Same,
    /// The file cannot be read. The text begins with its path.
    Unreadable(String),
}

/// Why a scheduler could not be opened or reloaded.
#[derive(Debug, thiserror::Error)]
pub enum SchedulerError {
    /// The HTTP client of instance `name` could not be built.
    #[error("instance {name}: {reason}")]
    Client {
        /// The instance.
        name: String,
        /// Why.
        reason: String,
    },
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl InstanceScheduler {
    /// Opens the scheduler of an instance, without starting it. Ends a pause for credentials.
    ///
    /// # Errors
    /// [`SchedulerError`].
    pub async fn open(setup: InstanceSetup) -> Result<InstanceScheduler, SchedulerError> {
        let client =
            Client::new(&setup.config).map_err(|reason| SchedulerError::Client { name: setup.name.clone(), reason })?;
        // The configuration may have new credentials since the last run. Refused ones pause the instance again.
        setup.store.resume(&setup.name, Some(PauseKind::Credentials)).await?;
        let context = WorkerContext::new(setup, client);
        Ok(InstanceScheduler {
            context: Arc::new(context),
            busy: Arc::default(),
            wake: Arc::default(),
            ticks: Arc::default(),
            step_errors: Arc::default(),
        })
    }

    /// Replaces the configuration with another one for the same base URL. Calls under way end with the old one. Ends a
    /// pause for credentials: the new ones may be valid, and refused ones pause the instance again.
    ///
    /// # Errors
    /// [`SchedulerError::Client`]: nothing was changed. [`SchedulerError::Store`]: `config` is in effect, and the pause
    /// was not ended.
    pub async fn reload(&self, config: config::Instance) -> Result<(), SchedulerError> {
        let context = &self.context;
        let old = context.config();
        let credentials = |of: &config::Instance| (of.client_id.clone(), of.client_secret.clone());
        let renewed = credentials(&old) != credentials(&config);
        let client = if renewed || old.request_timeout != config.request_timeout {
            Some(Client::new(&config).map_err(|reason| SchedulerError::Client { name: context.name.clone(), reason })?)
        } else {
            None
        };
        context.reload(config, client);
        context.store.resume(&context.name, Some(PauseKind::Credentials)).await?;
        self.wake.notify_one();
        Ok(())
    }

    /// Reads the file of the instance's secret again, and uses the secret from now on if it is another one.
    ///
    /// # Errors
    /// As of [`InstanceScheduler::reload`].
    pub async fn renew_secret(&self) -> Result<SecretRenewal, SchedulerError> {
        let config = self.config();
        let Some(path) = &config.client_secret_file else { return Ok(SecretRenewal::Same) };
        match config::read_secret_file(path) {
            Err(fault) => Ok(SecretRenewal::Unreadable(fault)),
            Ok(secret) if secret == config.client_secret => Ok(SecretRenewal::Same),
            Ok(secret) => {
                self.reload(config::Instance { client_secret: secret, ..config::Instance::clone(&config) }).await?;
                Ok(SecretRenewal::Renewed)
            }
        }
    }

    /// Asks Marketo whether it has the import `id` of a target. The call is made in a task of its own: one that was
    /// admitted is recorded to its end, also where the caller stops waiting.
    ///
    /// # Errors
    /// A database error.
    pub async fn check_import(&self, target: &Target, id: &str) -> Result<ImportCheck, StoreError> {
        let (context, target, id) = (self.context.clone(), target.clone(), id.to_owned());
        let check = tokio::spawn(async move { check_import(&context, &target, &id).await });
        check.await.unwrap_or(Err(StoreError::Closed))
    }

    /// Triggers a tick and returns when it is over, even if the rows could not be read.
    pub async fn tick(&self) {
        let mut ticks = self.ticks.subscribe();
        // A tick that is under way may have read the rows before this call, so the one after it is awaited.
        let target = *ticks.borrow_and_update() + 2;
        loop {
            self.wake.notify_one();
            if tokio::time::timeout(TICK_RETRY, ticks.wait_for(|&ticks| ticks >= target)).await.is_ok() {
                return;
            }
        }
    }

    /// Returns the instance's name.
    pub fn name(&self) -> &str {
        &self.context.name
    }

    /// Returns the configuration in effect.
    pub fn config(&self) -> Arc<config::Instance> {
        self.context.config()
    }

    /// Returns the result of the last token request.
    pub fn credential_status(&self) -> CredentialStatus {
        self.context.client().credential_status()
    }

    /// Returns the number of calls that count in the sliding window.
    pub fn calls_used(&self) -> u32 {
        self.context.endpoint.rate_limiter.used()
    }

    /// Returns the time of the next possible call; none where one is possible at `now`.
    pub fn next_call_at(&self, now: Timestamp) -> Option<Timestamp> {
        self.context.endpoint.rate_limiter.closed_for().map(|closed_for| after(now, closed_for))
    }

    /// Returns the input of a plan made at that time.
    ///
    /// # Errors
    /// A database error.
    pub async fn snapshot(&self, clock: &ObservedClock) -> Result<Snapshot, StoreError> {
        self.context.snapshot(clock).await
    }

    /// Reads the clock. Where the clock was set since the last reading, the stored times are shifted to match it.
    ///
    /// # Errors
    /// A database error, where stored times had to be shifted.
    pub async fn observe(&self) -> Result<ObservedClock, StoreError> {
        self.context.observe().await
    }

    /// Returns what the status of each of these instances is derived from at that time, in their order.
    ///
    /// # Errors
    /// A database error.
    pub async fn status_rows(
        store: &Store,
        schedulers: &[&InstanceScheduler],
        clock: &ObservedClock,
    ) -> Result<Vec<StatusRows>, StoreError> {
        let queries: Vec<_> = schedulers.iter().map(|scheduler| scheduler.context.status_query(clock)).collect();
        let mut rows = store.status_rows(&queries, clock.now()).await?;
        for (scheduler, rows) in schedulers.iter().zip(&mut rows) {
            scheduler.context.complete(&mut rows.outlook.snapshot, clock).await?;
        }
        Ok(rows)
    }

    /// Plans and starts steps until the stop. Steps under way then go on in `tasks`.
    pub async fn run(self, tasks: TaskTracker) {
        let context = &self.context;
        let wakes = context.store.subscribe_wakes(&context.name, &context.endpoint.names);
        let mut throttle = LogThrottle::default();
        while !context.stop.is_cancelled() {
            let began = Instant::now();
            // What is committed from now on wakes the loop again, whether or not the rows show it already.
            wakes.take();
            // The busy set is read before the snapshot. In the other order an upload could finish in between: it would
            // be in neither, and its slot would be given to another batch.
            let busy = self.busy.lock().clone();
            let read = async {
                let clock = self.observe().await?;
                Ok((self.snapshot(&clock).await?, clock))
            };
            let wait = match read.await {
                Ok((snapshot, clock)) => {
                    let rules = SchedulingRules::from_instance(&context.config());
                    let plan = plan(&snapshot, &busy, &rules, clock.now());
                    self.ticks.send_modify(|ticks| *ticks += 1);
                    for step in plan.steps {
                        self.start(step, &tasks);
                    }
                    Wait {
                        until: plan.next_wake.unwrap_or(Timestamp::MAX),
                        may_start_new_job: plan.may_start_new_job,
                        clock: clock.record,
                        began,
                    }
                }
                Err(StoreError::Closed) => return,
                Err(error) => {
                    if let Some(suppressed) = throttle.allow() {
                        tracing::error!(instance = %context.name, %error, suppressed, "reading the queue failed; retrying");
                    }
                    // The tick counts for the watchdog: a restart would not help. Of a database whose file was deleted,
                    // this process has the last copy.
                    self.ticks.send_modify(|ticks| *ticks += 1);
                    sleep_until_stop(&context.stop, STORE_RETRY_DELAY).await;
                    continue;
                }
            };
            tokio::select! {
                () = context.stop.cancelled() => return,
                () = self.wake.notified() => {}
                () = self.next_due(&wait) => {}
                () = self.change(&wakes, &wait) => {}
            }
            sleep_until_stop(&context.stop, DEBOUNCE.saturating_sub(began.elapsed())).await;
        }
    }

    /// Returns when a step is due, or the clock was set since the plan.
    async fn next_due(&self, wait: &Wait) {
        loop {
            self.context.clock.sleep_until(wait.until).await;
            // An error is that of the shift after the clock was set.
            let Ok(clock) = self.observe().await else { return };
            let is_set = !clock.record.runs_on(&wait.clock);
            if is_set || clock.now() >= wait.until || wait.began.elapsed() >= MAX_TICK_INTERVAL {
                return;
            }
        }
    }

    /// Returns after a commit that may change the plan.
    async fn change(&self, wakes: &WakeSubscription, wait: &Wait) {
        loop {
            let Wakes { has_new_job, batches, has_other_change } = wakes.next().await;
            let is_idle = |key| !self.busy.lock().contains_key(key);
            // The end of a worker causes a tick. Its batch's events before that need none.
            if has_other_change || (has_new_job && wait.may_start_new_job) || batches.iter().any(is_idle) {
                return;
            }
        }
    }

    fn start(&self, step: Step, tasks: &TaskTracker) {
        let scheduler = self.clone();
        let busy_guard = match step.work() {
            None => None,
            Some((key, work)) => match BusyGuard::begin(scheduler.clone(), key, work) {
                Some(guard) => Some(guard),
                None => return,
            },
        };
        tasks.spawn(async move {
            let context = &scheduler.context;
            let result = match step {
                Step::Upload(key) => upload::upload(context, key).await,
                Step::Recover(key) => upload::recover(context, key).await,
                Step::Poll(key) => poll::poll(context, key).await,
                Step::Collect(key) => fetch_reports::fetch_reports(context, key).await,
                Step::Resume => {
                    tracing::info!(instance = %context.name, "instance resumed: its quota pause is over");
                    context.store.resume(&context.name, Some(PauseKind::Quota)).await
                }
            };
            if let Err(error) = result {
                let suppressed = scheduler.step_errors.lock().allow();
                if let Some(suppressed) = suppressed {
                    tracing::error!(instance = %context.name, ?step, %error, suppressed, "step failed; retrying");
                }
                // The next tick plans the same step again. Without the wait it would fail again at once.
                sleep_until_stop(&context.stop, STORE_RETRY_DELAY).await;
            }
            drop(busy_guard);
        });
    }
}

/// What ends the wait for the next tick.
struct Wait {
    /// When a step is due.
    until: Timestamp,
    /// Whether a new job could be uploaded at once.
    may_start_new_job: bool,
    /// The clock at the plan.
    clock: ClockRecord,
    /// When the tick began.
    began: Instant,
}

/// Marks a batch as busy until it is dropped, however the worker ends.
struct BusyGuard {
    scheduler: InstanceScheduler,
    key: BatchKey,
}

impl BusyGuard {
    /// Returns none if the batch has a worker already.
    fn begin(scheduler: InstanceScheduler, key: BatchKey, work: Work) -> Option<BusyGuard> {
        match scheduler.busy.lock().entry(key) {
            Entry::Occupied(_) => return None,
            Entry::Vacant(vacant) => vacant.insert(work),
        };
        Some(BusyGuard { scheduler, key })
    }
}

impl Drop for BusyGuard {
    fn drop(&mut self) {
        self.scheduler.busy.lock().remove(&self.key);
        self.scheduler.wake.notify_one();
    }
}

async fn sleep_until_stop(stop: &CancellationToken, time: Duration) {
    let _ = tokio::time::timeout(time, stop.cancelled()).await;
}
