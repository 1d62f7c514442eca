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

use crate::clock::{Clock, TimeText, Trust, from_ms};
use crate::config;
use crate::job::JobId;
use crate::store::{Due, Ended, Job, Store, StoreError, Stored};

/// No job ended before this: a clock said so that had not been set (2025-01-01).
const FIRST_END_MS: i64 = 1_735_689_600_000;

/// How often it is looked whether something is due: ten times in the shortest span, within these.
const LOOKS: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(60));

/// How long a person waits for the log to be emptied; after that it is done without them.
const SCRUBBING: Duration = Duration::from_secs(5);
const BETWEEN_SCRUBS: Duration = Duration::from_millis(20);
const SCRUBBED_AGAIN: Duration = Duration::from_secs(1);

/// Free bytes that are worth giving back to the disk: the next files need some anyway.
const FREE_WORTH: u64 = 1 << 20;
/// How many pages one step gives back, and how many are kept.
const PAGES_AT_ONCE: u32 = 64;
const PAGES_KEPT: u64 = 64;

/// Clones are the same keeper.
#[derive(Clone)]
pub struct Keeper {
    store: Store,
    clock: Clock,
    keep: config::Retention,
    /// One pass at a time.
    passes: Arc<Mutex<()>>,
    /// Something was erased and may still stand in the log.
    dirty: Arc<AtomicBool>,
    /// There is something to tidy up.
    wake: Arc<Notify>,
}

/// What a pass erased, or would erase.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Pass {
    /// The daemon's time, from which the ages are counted.
    #[schemars(with = "TimeText")]
    pub at: Timestamp,
    pub dry_run: bool,
    pub content: Due,
    pub reports: Due,
    pub records: Due,
    /// Nothing of what was erased stands in any file of the database any more. False: soon.
    pub clean: bool,
}

/// What was erased of one job, or would be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Erasure {
    pub job: JobId,
    pub dry_run: bool,
    /// Of content and reports, before compression. 0: they were erased before.
    pub bytes: u64,
    #[schemars(with = "Option<TimeText>")]
    pub content_erased_at: Option<Timestamp>,
    #[schemars(with = "Option<TimeText>")]
    pub reports_erased_at: Option<Timestamp>,
    /// As of [`Pass::clean`].
    pub clean: bool,
}

impl Keeper {
    pub fn new(store: Store, clock: Clock, keep: config::Retention) -> Keeper {
        // A daemon that was killed may have left something in the log.
        let dirty = Arc::new(AtomicBool::new(true));
        Keeper { store, clock, keep, passes: Arc::default(), dirty, wake: Arc::default() }
    }

    /// Erases what is due by now, or only says what is.
    ///
    /// # Errors
    /// What the store reports; what was begun is gone on with at the next pass.
    pub async fn pass(&self, dry_run: bool) -> Result<Pass, StoreError> {
        let _one = self.passes.lock().await;
        let at = self.clock.now();
        let mut pass = Pass {
            at,
            dry_run,
            content: self.store.due(Stored::Content, self.content_ended(at)).await?,
            reports: self.store.due(Stored::Reports, ended(at, self.keep.reports.min(self.keep.jobs))).await?,
            records: self.store.due_records(ended(at, self.keep.jobs), at).await?,
            clean: !self.dirty.load(Ordering::Relaxed),
        };
        let something = [&pass.content, &pass.reports, &pass.records].into_iter().any(|due| due.jobs > 0);
        if something && !dry_run {
            self.dirty.store(true, Ordering::Relaxed);
            pass.content.jobs = self.mark(Stored::Content, self.content_ended(at), at).await?;
            pass.reports.jobs = self.mark(Stored::Reports, ended(at, self.keep.reports), at).await?;
            while slowly(self.store.erase_some(None)).await? {}
            pass.records.jobs = self.drop_records(at).await?;
            pass.clean = self.scrub(SCRUBBING).await?;
            self.wake.notify_one();
        }
        Ok(pass)
    }

    /// Erases content and reports of an ended job at once, or only says what there is.
    ///
    /// # Errors
    /// [`StoreError::Refused`] if it has not ended.
    pub async fn erase(&self, id: JobId, dry_run: bool) -> Result<Erasure, StoreError> {
        let before = self.store.job(id).await?;
        before.can_be_erased()?;
        let mut clean = !self.dirty.load(Ordering::Relaxed);
        if !dry_run {
            self.dirty.store(true, Ordering::Relaxed);
            let erased = self.store.erase(id, "a client asked for it", self.clock.now()).await;
            // Somebody else's scrub may have come between, and what was marked is still to be erased.
            self.dirty.store(true, Ordering::Relaxed);
            erased?;
            clean = self.scrub(SCRUBBING).await?;
            self.wake.notify_one();
        }
        let job = self.store.job(id).await?;
        Ok(Erasure {
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
        let shortest = self.keep.files.min(self.keep.reports).min(self.keep.jobs);
        let look = (shortest / 10).clamp(LOOKS.0, LOOKS.1);
        let mut trust = Trust::begin(shortest, self.clock.now(), Instant::now());
        let work = async {
            loop {
                if trust.steady(self.clock.now(), Instant::now()) {
                    match self.pass(false).await {
                        Ok(pass) => tell(&pass),
                        Err(error) => said(&error),
                    }
                }
                if let Err(error) = self.tidy().await {
                    said(&error);
                }
                // Somebody was in the way of the scrub, and is soon gone.
                let look = if self.dirty.load(Ordering::Relaxed) { look.min(SCRUBBED_AGAIN) } else { look };
                tokio::select! {
                    () = tokio::time::sleep(look) => {}
                    () = self.wake.notified() => {}
                    () = self.store.swept() => self.dirty.store(true, Ordering::Relaxed),
                }
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = work => {}
        }
    }

    /// Ends what an earlier pass or a daemon that died had begun, and gives free pages back.
    async fn tidy(&self) -> Result<(), StoreError> {
        let _one = self.passes.lock().await;
        if self.dirty.load(Ordering::Relaxed) {
            while slowly(self.store.erase_some(None)).await? {}
        }
        if self.store.space().await?.free >= FREE_WORTH {
            while slowly(self.store.reclaim(PAGES_AT_ONCE)).await? > PAGES_KEPT {}
            self.dirty.store(true, Ordering::Relaxed);
        }
        if self.dirty.load(Ordering::Relaxed) {
            self.scrub(Duration::ZERO).await?;
        }
        Ok(())
    }

    /// The jobs whose content is due. That of a job that failed by its attempts waits for someone, so it stays longer; with
    /// the record everything goes.
    fn content_ended(&self, at: Timestamp) -> Ended {
        let config::Retention { files, failed_files, jobs, .. } = self.keep;
        Ended { given_up_until: ended(at, failed_files.max(files).min(jobs)).until, ..ended(at, files.min(jobs)) }
    }

    async fn mark(&self, what: Stored, due: Ended, at: Timestamp) -> Result<u64, StoreError> {
        let mut jobs = 0;
        // A record does not go before what it is about.
        let with_record = (ended(at, self.keep.jobs), "the time of its record was over");
        for (due, reason) in [(due, "its time was over"), with_record] {
            while added(&mut jobs, slowly(self.store.mark_due(what, due, reason, at)).await?) {}
        }
        Ok(jobs)
    }

    async fn drop_records(&self, at: Timestamp) -> Result<u64, StoreError> {
        let mut jobs = 0;
        loop {
            let (dropped, more) = slowly(self.store.drop_due_records(ended(at, self.keep.jobs), at)).await?;
            jobs += dropped;
            if !more {
                return Ok(jobs);
            }
        }
    }

    /// Tries at least once. Readers that are in the way are gone soon; a copy that is being made is not.
    async fn scrub(&self, patience: Duration) -> Result<bool, StoreError> {
        let deadline = Instant::now() + patience;
        loop {
            // Whoever erases something after this says so again.
            self.dirty.store(false, Ordering::Relaxed);
            match self.store.scrub().await {
                Ok(true) => return Ok(true),
                scrubbed => {
                    self.dirty.store(true, Ordering::Relaxed);
                    scrubbed?;
                }
            }
            if Instant::now() >= deadline {
                return Ok(false);
            }
            tokio::time::sleep(BETWEEN_SCRUBS).await;
        }
    }
}

/// The jobs whose end is longer ago than that.
fn ended(at: Timestamp, keep: Duration) -> Ended {
    let keep = i64::try_from(keep.as_millis()).unwrap_or(i64::MAX);
    let until = from_ms(at.as_millisecond().saturating_sub(keep));
    Ended { after: from_ms(FIRST_END_MS), until, given_up_until: until }
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
async fn slowly<T>(step: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    let begun = Instant::now();
    let done = step.await;
    tokio::time::sleep(begun.elapsed()).await;
    done
}

fn tell(pass: &Pass) {
    let (content, reports, records) = (pass.content.jobs, pass.reports.jobs, pass.records.jobs);
    if content + reports + records > 0 {
        tracing::info!(content, reports, records, clean = pass.clean, "erased what was kept for long enough");
    }
}

fn said(error: &StoreError) {
    // A closed store is the daemon's end.
    if !matches!(error, StoreError::Closed) {
        tracing::error!(%error, "what is due could not be erased; it is tried again");
    }
}
