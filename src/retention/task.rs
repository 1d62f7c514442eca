//! Retention task: erases what is due at regular intervals, or when a client asks for it.

use std::ops::AddAssign;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::{Mutex, Notify};
use tokio_util::sync::CancellationToken;

use crate::clock::{Clock, PATIENCE, from_ms};
use crate::config;
use crate::domain::JobId;
use crate::retention::erase_report::{EraseReport, RetentionRun};
use crate::store::{ACTIVITY_KEPT, Batch, EndedRange, ErasableData, Job, Store, StoreError};

/// No job ended before this (2025-01-01, milliseconds since 1970). An earlier end comes from a clock that was not set.
const FIRST_END_MS: i64 = 1_735_689_600_000;

/// The bounds of the interval between two runs, which is a tenth of the shortest retention period.
const MIN_RUN_INTERVAL: Duration = Duration::from_millis(100);
const MAX_RUN_INTERVAL: Duration = Duration::from_secs(60);

/// How long a request waits for the WAL to be truncated. After that the background task does it.
const TRUNCATE_TIMEOUT: Duration = Duration::from_secs(5);
const TRUNCATE_RETRY: Duration = Duration::from_millis(20);
const TRUNCATE_INTERVAL: Duration = Duration::from_secs(1);

/// The free bytes in the database from which on they are returned to the disk. Fewer are kept for the next files.
const MIN_RECLAIM_BYTES: u64 = 1 << 20;
/// The number of pages that one step returns, and the number that is kept.
const PAGES_PER_STEP: u32 = 64;
const PAGES_KEPT: u64 = 64;

/// Whether an erasure takes place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EraseMode {
    /// What is due is erased.
    Erase,
    /// What is due is counted, and nothing is erased.
    DryRun,
}

/// The retention task. Clones share one state.
#[derive(Clone)]
pub struct RetentionTask {
    store: Store,
    clock: Clock,
    periods: config::Retention,
    /// Held during a run, so that there is one at a time.
    run_lock: Arc<Mutex<()>>,
    /// Whether erased data may still be in the WAL.
    dirty: Arc<AtomicBool>,
    /// Wakes the background task after an erasure.
    wake: Arc<Notify>,
}

impl RetentionTask {
    /// Builds the task with the configured retention periods.
    pub fn new(store: Store, clock: Clock, periods: config::Retention) -> RetentionTask {
        // A daemon that was killed may have left erased data in the WAL.
        let dirty = Arc::new(AtomicBool::new(true));
        RetentionTask { store, clock, periods, run_lock: Arc::default(), dirty, wake: Arc::default() }
    }

    /// Erases what is due now. A dry run only counts it.
    ///
    /// # Errors
    /// A database error. The next run continues an erasure that was begun.
    pub async fn run_once(&self, mode: EraseMode) -> Result<RetentionRun, StoreError> {
        let _guard = self.run_lock.lock().await;
        let at = self.clock.now();
        let mut run = RetentionRun {
            at,
            dry_run: mode == EraseMode::DryRun,
            content: self.store.find_expired(ErasableData::Content, self.content_ended(at)).await?,
            reports: self
                .store
                .find_expired(ErasableData::Reports, ended(at, self.periods.reports.min(self.periods.jobs)))
                .await?,
            records: self.store.find_expired_records(ended(at, self.periods.jobs), at).await?,
            clean: !self.dirty.load(Ordering::Relaxed),
        };
        let is_any_due = [&run.content, &run.reports, &run.records].into_iter().any(|due| due.jobs > 0);
        if is_any_due && mode == EraseMode::Erase {
            self.dirty.store(true, Ordering::Relaxed);
            run.content.jobs = self.mark(ErasableData::Content, self.content_ended(at), at).await?;
            run.reports.jobs = self.mark(ErasableData::Reports, ended(at, self.periods.reports), at).await?;
            while throttled(self.store.erase_chunks(None)).await? {}
            run.records.jobs = self.drop_records(at).await?;
            run.clean = self.truncate_wal(TRUNCATE_TIMEOUT).await?;
            self.wake.notify_one();
        }
        Ok(run)
    }

    /// Erases content and reports of an ended job now. A dry run only counts their bytes.
    ///
    /// # Errors
    /// [`StoreError::Refused`] if the job has not ended; else a database error.
    pub async fn erase(&self, id: JobId, mode: EraseMode) -> Result<EraseReport, StoreError> {
        let before = self.store.job(id).await?;
        before.can_be_erased()?;
        let mut clean = !self.dirty.load(Ordering::Relaxed);
        if mode == EraseMode::Erase {
            self.dirty.store(true, Ordering::Relaxed);
            let erased = self.store.erase(id, "a client asked for it", self.clock.now()).await;
            // Another truncation of the WAL may have reset the flag in between.
            self.dirty.store(true, Ordering::Relaxed);
            erased?;
            clean = self.truncate_wal(TRUNCATE_TIMEOUT).await?;
            self.wake.notify_one();
        }
        let job = self.store.job(id).await?;
        Ok(EraseReport {
            job: id,
            dry_run: mode == EraseMode::DryRun,
            bytes: stored_bytes(&before),
            content_erased_at: job.content_erased_at,
            reports_erased_at: job.reports_erased_at,
            clean,
        })
    }

    /// Erases what is due at regular intervals until the stop.
    pub async fn run(self, stop: CancellationToken) {
        let shortest = self.periods.files.min(self.periods.reports).min(self.periods.jobs);
        let interval = (shortest / 10).clamp(MIN_RUN_INTERVAL, MAX_RUN_INTERVAL);
        // A retention period below an hour requires less patience with the clock.
        let patience = PATIENCE.min(shortest);
        let erase_regularly = async {
            loop {
                match self.store.observe_clock(&self.clock).await {
                    Ok(clock) if clock.steady_at(patience).is_some() => {}
                    Ok(clock) => match self.run_once(EraseMode::Erase).await {
                        Ok(run) => {
                            log_run(&run);
                            let kept = ended(clock.now(), ACTIVITY_KEPT).until;
                            self.store.delete_activity(kept).await.unwrap_or_else(|error| log_error(&error));
                        }
                        Err(error) => log_error(&error),
                    },
                    Err(error) => log_error(&error),
                }
                if let Err(error) = self.reclaim_space().await {
                    log_error(&error);
                }
                // A reader prevented the truncation of the WAL. It is repeated sooner.
                let wait = if self.dirty.load(Ordering::Relaxed) { interval.min(TRUNCATE_INTERVAL) } else { interval };
                tokio::select! {
                    () = tokio::time::sleep(wait) => {}
                    () = self.wake.notified() => {}
                    () = self.store.wait_for_incomplete_submissions() => self.dirty.store(true, Ordering::Relaxed),
                }
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = erase_regularly => {}
        }
    }

    /// Finishes erasures of an earlier run or process, and returns free pages to the disk.
    async fn reclaim_space(&self) -> Result<(), StoreError> {
        let _guard = self.run_lock.lock().await;
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

    /// Returns the range of jobs whose content is due. The content of a job that failed after all its attempts is kept
    /// longer, for a retry, but not longer than its record.
    fn content_ended(&self, at: Timestamp) -> EndedRange {
        let config::Retention { files, failed_files, jobs, .. } = self.periods;
        EndedRange { exhausted_until: ended(at, failed_files.max(files).min(jobs)).until, ..ended(at, files.min(jobs)) }
    }

    async fn mark(&self, what: ErasableData, due: EndedRange, at: Timestamp) -> Result<u64, StoreError> {
        let mut jobs = 0;
        // Content and reports are erased before their record.
        let with_record = (ended(at, self.periods.jobs), "retention.jobs is over");
        for (due, reason) in [(due, "its retention period is over"), with_record] {
            while added(&mut jobs, throttled(self.store.mark_expired(what, due, reason, at)).await?) {}
        }
        Ok(jobs)
    }

    async fn drop_records(&self, at: Timestamp) -> Result<u64, StoreError> {
        let mut jobs = 0;
        loop {
            let deleted = throttled(self.store.delete_expired_records(ended(at, self.periods.jobs), at)).await?;
            jobs += deleted.jobs;
            if !deleted.has_more {
                return Ok(jobs);
            }
        }
    }

    /// Truncates the WAL, and retries for `patience` while a reader prevents it. Returns whether it was truncated.
    /// Queries end soon, a backup may take longer.
    async fn truncate_wal(&self, patience: Duration) -> Result<bool, StoreError> {
        let deadline = Instant::now() + patience;
        loop {
            // Reset before the truncation: an erasure during it sets the flag again.
            self.dirty.store(false, Ordering::Relaxed);
            match self.store.truncate_wal().await {
                Ok(true) => return Ok(true),
                failed => {
                    self.dirty.store(true, Ordering::Relaxed);
                    failed?;
                }
            }
            if Instant::now() >= deadline {
                return Ok(false);
            }
            tokio::time::sleep(TRUNCATE_RETRY).await;
        }
    }
}

/// Returns the range of jobs that ended longer than `keep` ago.
fn ended(at: Timestamp, keep: Duration) -> EndedRange {
    let keep = i64::try_from(keep.as_millis()).unwrap_or(i64::MAX);
    let until = from_ms(at.as_millisecond().saturating_sub(keep));
    EndedRange { after: from_ms(FIRST_END_MS), until, exhausted_until: until }
}

fn stored_bytes(job: &Job) -> u64 {
    let reports = |batch: &Batch| batch.failures_bytes.unwrap_or(0) + batch.warnings_bytes.unwrap_or(0);
    let content = if job.content_erased_at.is_none() { job.bytes } else { 0 };
    content + if job.reports_erased_at.is_none() { job.batches.iter().map(reports).sum() } else { 0 }
}

/// Adds `more`, and returns whether it is not zero.
fn added<T: AddAssign + Default + PartialEq + Copy>(sum: &mut T, more: T) -> bool {
    *sum += more;
    more != T::default()
}

/// Runs one step, then waits as long as it took, so that at most half of the writer's time is spent on retention.
async fn throttled<T>(step: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    let started = Instant::now();
    let result = step.await;
    tokio::time::sleep(started.elapsed()).await;
    result
}

fn log_run(run: &RetentionRun) {
    let (content, reports, records) = (run.content.jobs, run.reports.jobs, run.records.jobs);
    if content + reports + records > 0 {
        tracing::info!(content, reports, records, clean = run.clean, "expired data erased");
    }
}

fn log_error(error: &StoreError) {
    // The store closes when the daemon stops.
    if !matches!(error, StoreError::Closed) {
        tracing::error!(%error, "erasing expired data failed; retrying");
    }
}
