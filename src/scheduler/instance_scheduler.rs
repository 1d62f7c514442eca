//! Who looks at the rows, and who carries the steps out? One lane for each instance: a loop that plans, and a task for
//! each step.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock::{Clock, LogThrottle, after};
use crate::config;
use crate::domain::BatchKey;
use crate::domain::instance::PauseKind;
use crate::marketo::{Client, CredentialStatus};
use crate::scheduler::plan::{SchedulingRules, Step, Work, plan};
use crate::scheduler::shared_endpoint::SharedEndpoint;
use crate::scheduler::worker_context::{STORE_RETRY_DELAY, WorkerContext};
use crate::scheduler::{fetch_reports, poll, upload};
use crate::store::{ObservedClock, Snapshot, Store, StoreError};

/// Two looks are at least so far apart: files may arrive by the thousand in a second, and one look sees them all.
const DEBOUNCE: Duration = Duration::from_millis(5);

/// Whoever waits for a look asks for it again after this.
const TICK_RETRY: Duration = Duration::from_millis(50);

/// One instance at work. Clones are the same lane.
#[derive(Clone)]
pub struct InstanceScheduler {
    desk: Arc<WorkerContext>,
    busy: Arc<Mutex<HashMap<BatchKey, Work>>>,
    wake: Arc<Notify>,
    /// Of steps that failed at the store: one a second for each batch in flight, while it fails.
    failed: Arc<Mutex<LogThrottle>>,
    /// How many times it has looked.
    ticks: Arc<watch::Sender<u64>>,
}

/// A lane could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum SchedulerError {
    #[error("instance {name}: {why}")]
    Client { name: String, why: String },
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl InstanceScheduler {
    /// Makes ready what the lane needs.
    pub async fn open(
        name: &str,
        config: config::Instance,
        endpoint: SharedEndpoint,
        store: Store,
        clock: Clock,
        stop: CancellationToken,
    ) -> Result<InstanceScheduler, SchedulerError> {
        let client = Client::new(&config).map_err(|why| SchedulerError::Client { name: name.to_owned(), why })?;
        // New credentials come with a new start: whether they are better shows when they are tried.
        store.resume(name, Some(PauseKind::Credentials)).await?;
        let desk = WorkerContext::new(name, config, client, store, endpoint, clock, stop);
        Ok(InstanceScheduler {
            desk: Arc::new(desk),
            busy: Arc::default(),
            wake: Arc::default(),
            ticks: Arc::default(),
            failed: Arc::default(),
        })
    }

    /// Goes by another configuration of the same Marketo from now on. Calls under way end as they began. A pause for
    /// credentials is over: whether they are better now shows when they are tried.
    ///
    /// # Errors
    /// See [`OpenError`]. Without a client the lane goes on as before; where only the pause could not be ended, it goes by
    /// `config` already.
    pub async fn reload(&self, config: config::Instance) -> Result<(), SchedulerError> {
        let desk = &self.desk;
        let old = desk.config();
        let credentials = |of: &config::Instance| (of.client_id.clone(), of.client_secret.clone());
        let renewed = credentials(&old) != credentials(&config);
        let client = if renewed || old.request_timeout != config.request_timeout {
            Some(Client::new(&config).map_err(|why| SchedulerError::Client { name: desk.name.clone(), why })?)
        } else {
            None
        };
        desk.reload(config, client);
        desk.store.resume(&desk.name, Some(PauseKind::Credentials)).await?;
        self.wake.notify_one();
        Ok(())
    }

    /// Has it look at the rows now, and returns when it has, whether or not they could be read.
    pub async fn tick(&self) {
        let mut looks = self.ticks.subscribe();
        // A look that is under way began before, and ends as the next.
        let enough = *looks.borrow_and_update() + 2;
        loop {
            self.wake.notify_one();
            if tokio::time::timeout(TICK_RETRY, looks.wait_for(|&looks| looks >= enough)).await.is_ok() {
                return;
            }
        }
    }

    pub fn name(&self) -> &str {
        &self.desk.name
    }

    pub fn config(&self) -> Arc<config::Instance> {
        self.desk.config()
    }

    /// How the last request for a token went.
    pub fn credential_status(&self) -> CredentialStatus {
        self.desk.client().credential_status()
    }

    /// Calls that count in the window now.
    pub fn calls_used(&self) -> u32 {
        self.desk.endpoint.rate_limiter.used().0
    }

    /// When the next call may leave, where none may at `now`.
    pub fn next_call_at(&self, now: Timestamp) -> Option<Timestamp> {
        self.desk.endpoint.rate_limiter.closed_for().map(|shut| after(now, shut))
    }

    /// What a plan made now would see.
    ///
    /// # Errors
    /// What reading the database reports.
    pub async fn snapshot(&self, clock: &ObservedClock) -> Result<Snapshot, StoreError> {
        self.desk.snapshot(clock).await
    }

    /// Reads the clock, after which the stored times are in accord with it.
    ///
    /// # Errors
    /// What writing the database reports, where the clock was set.
    pub async fn observe(&self) -> Result<ObservedClock, StoreError> {
        self.desk.observe().await
    }

    /// The calls of this instance that count for the quota's day.
    ///
    /// # Errors
    /// What reading the database reports.
    pub async fn calls_today(&self, clock: &ObservedClock) -> Result<u64, StoreError> {
        self.desk.calls_today(clock).await
    }

    /// Plans and has the steps carried out until the stop. Steps under way then go on in `tasks`.
    pub async fn run(self, tasks: TaskTracker) {
        let desk = &self.desk;
        let mut changes = desk.store.subscribe();
        let mut seldom = LogThrottle::default();
        while !desk.stop.is_cancelled() {
            // Who is at work is asked before the rows are: whoever ends between the two is then seen at work and not
            // overlooked. The other way round an upload could end unseen, and its slot be given away.
            let busy = self.busy().clone();
            let looked = async {
                let clock = self.observe().await?;
                Ok((self.snapshot(&clock).await?, clock.now()))
            };
            let next_look = match looked.await {
                Ok((snapshot, now)) => {
                    let plan = plan(&snapshot, &busy, &SchedulingRules::from_instance(&desk.config()), now);
                    self.ticks.send_modify(|looks| *looks += 1);
                    for step in plan.steps {
                        self.start(step, &tasks);
                    }
                    plan.next_wake.unwrap_or(Timestamp::MAX)
                }
                Err(StoreError::Closed) => return,
                Err(error) => {
                    if let Some(unsaid) = seldom.allow() {
                        tracing::error!(instance = %desk.name, %error, unsaid, "the queue can't be read; trying again");
                    }
                    // It lives, and to be started anew would not help: of a database that was taken away this process has the
                    // last copy.
                    self.ticks.send_modify(|looks| *looks += 1);
                    pause(&desk.stop, STORE_RETRY_DELAY).await;
                    continue;
                }
            };
            tokio::select! {
                () = desk.stop.cancelled() => return,
                () = self.wake.notified() => {}
                () = desk.clock.sleep_until(next_look) => {}
                change = changes.recv() => if change == Err(RecvError::Closed) { return },
            }
            pause(&desk.stop, DEBOUNCE).await;
            // All that has changed meanwhile is seen by the next look.
            while !matches!(changes.try_recv(), Err(TryRecvError::Empty | TryRecvError::Closed)) {}
        }
    }

    fn start(&self, step: Step, tasks: &TaskTracker) {
        let lane = self.clone();
        let at_work = match step.work() {
            None => None,
            Some((key, work)) => match BusyGuard::begin(lane.clone(), key, work) {
                Some(at_work) => Some(at_work),
                None => return,
            },
        };
        tasks.spawn(async move {
            let done = match step {
                Step::Upload(key) => upload::upload(&lane.desk, key).await,
                Step::Recover(key) => upload::recover(&lane.desk, key).await,
                Step::Poll(key) => poll::poll(&lane.desk, key).await,
                Step::Collect(key) => fetch_reports::fetch_reports(&lane.desk, key).await,
                Step::Resume => {
                    tracing::info!(instance = %lane.desk.name, "the pause is over");
                    lane.desk.store.resume(&lane.desk.name, Some(PauseKind::Quota)).await
                }
            };
            if let Err(error) = done {
                if let Some(unsaid) = lane.allow_log() {
                    tracing::error!(instance = %lane.desk.name, ?step, %error, unsaid, "a step could not be recorded");
                }
                // The same step is planned again at once, and would fail again at once.
                pause(&lane.desk.stop, STORE_RETRY_DELAY).await;
            }
            drop(at_work);
        });
    }

    fn allow_log(&self) -> Option<u64> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).allow()
    }

    fn busy(&self) -> MutexGuard<'_, HashMap<BatchKey, Work>> {
        self.busy.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A worker is at a batch for as long as this lives, however the worker ends.
struct BusyGuard {
    lane: InstanceScheduler,
    key: BatchKey,
}

impl BusyGuard {
    /// None if another worker is at the batch: it has one at a time.
    fn begin(lane: InstanceScheduler, key: BatchKey, work: Work) -> Option<BusyGuard> {
        match lane.busy().entry(key) {
            Entry::Occupied(_) => return None,
            Entry::Vacant(free) => free.insert(work),
        };
        Some(BusyGuard { lane, key })
    }
}

impl Drop for BusyGuard {
    fn drop(&mut self) {
        self.lane.busy().remove(&self.key);
        self.lane.wake.notify_one();
    }
}

async fn pause(stop: &CancellationToken, pause: Duration) {
    let _ = tokio::time::timeout(pause, stop.cancelled()).await;
}
