//! Who erases what was kept for long enough? One keeper, in steps so small that files go on coming in meanwhile. It also
//! empties the log of uploads that broke off.
//!
//! What is erased is gone for good, so a wrong clock must not erase anything early. By age nothing is erased before the
//! clock has run evenly for an hour, neither after a start nor after a leap; what seems to have ended before this program
//! was written, or ends in the future, is left to a person.

use std::ops::AddAssign;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex, Notify};
use tokio_util::sync::CancellationToken;

use crate::clock::{Clock, PATIENCE, TimestampSchema, from_ms};
use crate::config;
use crate::domain::JobId;
use crate::store::{EndedRange, ErasableData, Job, RetentionCandidates, Store, StoreError};

/// No job ended before this: a clock said so that had not been set (2025-01-01).
const FIRST_END_MS: i64 = 1_735_689_600_000;

/// How often it is looked whether something is due: ten times in the shortest span, within these.
const RUN_INTERVAL: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(60));

/// How long a person waits for the log to be emptied; after that it is done without them.
const TRUNCATE_TIMEOUT: Duration = Duration::from_secs(5);
const TRUNCATE_RETRY: Duration = Duration::from_millis(20);
const TRUNCATE_INTERVAL: Duration = Duration::from_secs(1);

/// Free bytes that are worth giving back to the disk: the next files need some anyway.
const MIN_RECLAIM_BYTES: u64 = 1 << 20;
/// How many pages one step gives back, and how many are kept.
const PAGES_PER_STEP: u32 = 64;
const PAGES_KEPT: u64 = 64;

/// Clones are the same keeper.
#[derive(Clone)]
pub struct RetentionTask {
    store: Store,
    clock: Clock,
    periods: config::Retention,
    /// One pass at a time.
    run_lock: Arc<Mutex<()>>,
    /// Something was erased and may still stand in the log.
    dirty: Arc<AtomicBool>,
    /// There is something to tidy up.
    wake: Arc<Notify>,
}

/// What a pass erased, or would erase.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RetentionRun {
    /// The daemon's time, from which the ages are counted.
    #[schemars(with = "TimestampSchema")]
    pub at: Timestamp,
    pub dry_run: bool,
    pub content: RetentionCandidates,
    pub reports: RetentionCandidates,
    pub records: RetentionCandidates,
    /// Nothing of what was erased stands in any file of the database any more. False: soon.
    pub clean: bool,
}

/// What was erased of one job, or would be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EraseReport {
    pub job: JobId,
    pub dry_run: bool,
    /// Of content and reports, before compression. 0: they were erased before.
    pub bytes: u64,
    #[schemars(with = "Option<TimestampSchema>")]
    pub content_erased_at: Option<Timestamp>,
    #[schemars(with = "Option<TimestampSchema>")]
    pub reports_erased_at: Option<Timestamp>,
    /// As of [`Pass::clean`].
    pub clean: bool,
}

impl RetentionTask {
    pub fn new(store: Store, clock: Clock, keep: config::Retention) -> RetentionTask {
        // A daemon that was killed may have left something in the log.
        let dirty = Arc::new(AtomicBool::new(true));
        RetentionTask { store, clock, periods: keep, run_lock: Arc::default(), dirty, wake: Arc::default() }
    }

    /// Erases what is due by now, or only says what is.
    ///
    /// # Errors
    /// What the store reports; what was begun is gone on with at the next pass.
    pub async fn run_once(&self, dry_run: bool) -> Result<RetentionRun, StoreError> {
        let _one = self.run_lock.lock().await;
        let at = self.clock.now();
        let mut pass = RetentionRun {
            at,
            dry_run,
            content: self.store.find_expired(ErasableData::Content, self.content_ended(at)).await?,
            reports: self
                .store
                .find_expired(ErasableData::Reports, ended(at, self.periods.reports.min(self.periods.jobs)))
                .await?,
            records: self.store.find_expired_records(ended(at, self.periods.jobs), at).await?,
            clean: !self.dirty.load(Ordering::Relaxed),
        };
        let something = [&pass.content, &pass.reports, &pass.records].into_iter().any(|due| due.jobs > 0);
        if something && !dry_run {
            self.dirty.store(true, Ordering::Relaxed);
            pass.content.jobs = self.mark(ErasableData::Content, self.content_ended(at), at).await?;
            pass.reports.jobs = self.mark(ErasableData::Reports, ended(at, self.periods.reports), at).await?;
            while throttled(self.store.erase_chunks(None)).await? {}
            pass.records.jobs = self.drop_records(at).await?;
            pass.clean = self.truncate_wal(TRUNCATE_TIMEOUT).await?;
            self.wake.notify_one();
        }
        Ok(pass)
    }

    /// Erases content and reports of an ended job at once, or only says what there is.
    ///
    /// # Errors
    /// [`StoreError::Refused`] if it has not ended.
    pub async fn erase(&self, id: JobId, dry_run: bool) -> Result<EraseReport, StoreError> {
        let before = self.store.job(id).await?;
        before.can_be_erased()?;
        let mut clean = !self.dirty.load(Ordering::Relaxed);
        if !dry_run {
            self.dirty.store(true, Ordering::Relaxed);
            let erased = self.store.erase(id, "a client asked for it", self.clock.now()).await;
            // Somebody else's scrub may have come between, and what was marked is still to be erased.
            self.dirty.store(true, Ordering::Relaxed);
            erased?;
            clean = self.truncate_wal(TRUNCATE_TIMEOUT).await?;
            self.wake.notify_one();
        }
        let job = self.store.job(id).await?;
        Ok(EraseReport {
            job: id,
            dry_run,
            bytes: stored_bytes(&before),
            content_erased_at: job.content_erased_at,
            reports_erased_at: job.reports_erased_at,
            clean,
        })
    }

    /// Erases what is due, until the stop.
    pub async fn run(self, stop: CancellationToken) {
        let shortest = self.periods.files.min(self.periods.reports).min(self.periods.jobs);
        let look = (shortest / 10).clamp(RUN_INTERVAL.0, RUN_INTERVAL.1);
        // Who keeps things for a minute can't wait for an hour.
        let patience = PATIENCE.min(shortest);
        let work = async {
            loop {
                match self.store.observe_clock(&self.clock).await {
                    Ok(clock) if clock.steady_at(patience).is_some() => {}
                    Ok(_) => match self.run_once(false).await {
                        Ok(pass) => log_run(&pass),
                        Err(error) => log_error(&error),
                    },
                    Err(error) => log_error(&error),
                }
                if let Err(error) = self.reclaim_space().await {
                    log_error(&error);
                }
                // Somebody was in the way of the scrub, and is soon gone.
                let look = if self.dirty.load(Ordering::Relaxed) { look.min(TRUNCATE_INTERVAL) } else { look };
                tokio::select! {
                    () = tokio::time::sleep(look) => {}
                    () = self.wake.notified() => {}
                    () = self.store.wait_for_incomplete_submissions() => self.dirty.store(true, Ordering::Relaxed),
                }
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = work => {}
        }
    }

    /// Ends what an earlier pass or a daemon that died had begun, and gives free pages back.
    async fn reclaim_space(&self) -> Result<(), StoreError> {
        let _one = self.run_lock.lock().await;
        if self.dirty.load(Ordering::Relaxed) {
            while throttled(self.store.erase_chunks(None)).await? {}
        }
        if self.store.database_size().await?.free >= MIN_RECLAIM_BYTES {
            while throttled(self.store.incremental_vacuum(PAGES_PER_STEP)).await? > PAGES_KEPT {}
            self.dirty.store(true, Ordering::Relaxed);
        }
        if self.dirty.load(Ordering::Relaxed) {
            self.truncate_wal(Duration::ZERO).await?;
        }
        Ok(())
    }

    /// The jobs whose content is due. That of a job that failed by its attempts waits for someone, so it stays longer; with
    /// the record everything goes.
    fn content_ended(&self, at: Timestamp) -> EndedRange {
        let config::Retention { files, failed_files, jobs, .. } = self.periods;
        EndedRange { given_up_until: ended(at, failed_files.max(files).min(jobs)).until, ..ended(at, files.min(jobs)) }
    }

    async fn mark(&self, what: ErasableData, due: EndedRange, at: Timestamp) -> Result<u64, StoreError> {
        let mut jobs = 0;
        // A record does not go before what it is about.
        let with_record = (ended(at, self.periods.jobs), "the time of its record was over");
        for (due, reason) in [(due, "its time was over"), with_record] {
            while added(&mut jobs, throttled(self.store.mark_expired(what, due, reason, at)).await?) {}
        }
        Ok(jobs)
    }

    async fn drop_records(&self, at: Timestamp) -> Result<u64, StoreError> {
        let mut jobs = 0;
        loop {
            let (dropped, more) =
                throttled(self.store.delete_expired_records(ended(at, self.periods.jobs), at)).await?;
            jobs += dropped;
            if !more {
                return Ok(jobs);
            }
        }
    }

    /// Tries at least once. Readers that are in the way are gone soon; a copy that is being made is not.
    async fn truncate_wal(&self, patience: Duration) -> Result<bool, StoreError> {
        let deadline = Instant::now() + patience;
        loop {
            // Whoever erases something after this says so again.
            self.dirty.store(false, Ordering::Relaxed);
            match self.store.truncate_wal().await {
                Ok(true) => return Ok(true),
                scrubbed => {
                    self.dirty.store(true, Ordering::Relaxed);
                    scrubbed?;
                }
            }
            if Instant::now() >= deadline {
                return Ok(false);
            }
            tokio::time::sleep(TRUNCATE_RETRY).await;
        }
    }
}

/// The jobs whose end is longer ago than that.
fn ended(at: Timestamp, keep: Duration) -> EndedRange {
    let keep = i64::try_from(keep.as_millis()).unwrap_or(i64::MAX);
    let until = from_ms(at.as_millisecond().saturating_sub(keep));
    EndedRange { after: from_ms(FIRST_END_MS), until, given_up_until: until }
}

fn stored_bytes(job: &Job) -> u64 {
    let reports = |batch: &crate::store::Batch| batch.failures_bytes.unwrap_or(0) + batch.warnings_bytes.unwrap_or(0);
    let content = if job.content_erased_at.is_none() { job.bytes } else { 0 };
    content + if job.reports_erased_at.is_none() { job.batches.iter().map(reports).sum() } else { 0 }
}

/// Adds, and says whether there was anything to add.
fn added<T: AddAssign + Default + PartialEq + Copy>(sum: &mut T, more: T) -> bool {
    *sum += more;
    more != T::default()
}

/// One step, then a rest as long as the step took: at most half of the writer's time is spent here.
async fn throttled<T>(step: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    let begun = Instant::now();
    let done = step.await;
    tokio::time::sleep(begun.elapsed()).await;
    done
}

fn log_run(pass: &RetentionRun) {
    let (content, reports, records) = (pass.content.jobs, pass.reports.jobs, pass.records.jobs);
    if content + reports + records > 0 {
        tracing::info!(content, reports, records, clean = pass.clean, "erased what was kept for long enough");
    }
}

fn log_error(error: &StoreError) {
    // A closed store is the daemon's end.
    if !matches!(error, StoreError::Closed) {
        tracing::error!(%error, "what is due could not be erased; it is tried again");
    }
}
