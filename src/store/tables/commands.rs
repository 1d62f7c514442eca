//! Commands of an operator: cancel, abandon, retry and settle.

use std::time::Duration;

use jiff::Timestamp;
use sqlx::Row;

use crate::clock::after;
use crate::domain::{BatchKey, Event, IMPORT_LIFETIME, JobId, JobState, transition};
use crate::store::engine::transaction::{ReadTx, StoreTx};
use crate::store::error::StoreError;
use crate::store::models::{Batch, ErasableData, Job};

/// What a command did to the batches of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommandOutcome {
    /// How many batches changed their state.
    pub moved: u32,
    /// The job's state after it.
    pub state: JobState,
}

impl StoreTx<'_> {
    /// Carries out a command for all batches of a job for which it is possible.
    pub(crate) async fn run_command(
        &mut self,
        id: JobId,
        command: JobCommand,
        now: Timestamp,
    ) -> Result<CommandOutcome, StoreError> {
        let job = self.job(id).await?;
        if command == JobCommand::Retry {
            job.still_has(ErasableData::Content)?;
            // The reports to come are not the ones that were erased.
            self.clear_erased_reports(id).await?;
            self.end_stop(id).await?;
        }
        let mut moved = 0;
        for batch in &job.batches {
            if let Some(event) = command.event_for(batch, now) {
                self.apply_event(BatchKey { job: id, part: batch.part }, &event, None, now).await?;
                moved += 1;
            }
        }
        if moved == 0 {
            return Err(StoreError::Refused(no_effect_message(&job, command)));
        }
        let state = self.job(id).await?.state;
        Ok(CommandOutcome { moved, state })
    }

    /// Records the import that an operator found on Marketo for a held batch.
    pub(crate) async fn settle(
        &mut self,
        key: BatchKey,
        marketo_batch_id: String,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.check_settle(key, &marketo_batch_id).await?;
        // The unconfirmed import counts for the batch that stands for it.
        let key = self.shared_import_lead(key).await?;
        self.apply_event(key, &Event::Settled { marketo_batch_id }, None, now).await.map(drop)
    }

    /// Deletes the rest of erased reports, and their sizes. A retried job gets new reports, which must not be mixed
    /// with chunks of old ones that are still being erased.
    async fn clear_erased_reports(&mut self, id: JobId) -> Result<(), StoreError> {
        let erased =
            sqlx::query("UPDATE job SET reports_erased_at = NULL WHERE id = ? AND reports_erased_at IS NOT NULL")
                .bind(id.0)
                .execute(&mut *self.conn)
                .await?;
        if erased.rows_affected() > 0 {
            for sql in [
                "UPDATE batch SET failures_bytes = NULL, warnings_bytes = NULL WHERE job_id = ?",
                "DELETE FROM chunk WHERE job_id = ? AND kind <> 'file'",
                "DELETE FROM pending_erasure WHERE job_id = ? AND what = 'reports'",
            ] {
                sqlx::query(sql).bind(id.0).execute(&mut *self.conn).await?;
            }
        }
        Ok(())
    }
}

impl ReadTx<'_> {
    /// Returns the job of a held batch, if the import with this id may be that of the batch.
    ///
    /// # Errors
    /// [`StoreError::Refused`] if the batch is not held, or the import belongs to another batch.
    pub(crate) async fn check_settle(&mut self, key: BatchKey, marketo_batch_id: &str) -> Result<Job, StoreError> {
        let (job, batch) = self.batch(key).await?;
        if transition(batch.state, &Event::Settled { marketo_batch_id: marketo_batch_id.to_owned() }).is_err() {
            let text = format!("part {} of job {} is not held: it is {}", key.part, key.job, batch.state);
            return Err(StoreError::Refused(text));
        }
        let other = sqlx::query(
            "SELECT b.job_id, b.part FROM batch b JOIN job j ON j.id = b.job_id
             WHERE b.marketo_batch_id = ? AND j.instance = (SELECT instance FROM job WHERE id = ?)",
        )
        .bind(marketo_batch_id)
        .bind(key.job.0)
        .fetch_optional(&mut *self.conn)
        .await?;
        if let Some(other) = other {
            let (owner, part): (i64, u32) = (other.try_get("job_id")?, other.try_get("part")?);
            let text = format!("Marketo's batch {marketo_batch_id} is part {part} of job {owner}");
            return Err(StoreError::Refused(text));
        }
        Ok(job)
    }
}

/// A command for a job as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum JobCommand {
    /// Cancels the batches that Marketo does not have yet.
    Cancel,
    /// Cancels like `Cancel`, and abandons overdue imports.
    Abandon,
    /// Requeues the batches that failed, were cancelled or are held.
    Retry,
}

/// The least time for which an abandoned import occupies a slot: a recent poll found it on Marketo.
const MIN_ABANDONED_TIME: Duration = Duration::from_secs(24 * 3600);

impl JobCommand {
    /// Returns the event for `batch`; none where it stays unchanged.
    fn event_for(self, batch: &Batch, now: Timestamp) -> Option<Event> {
        // It is shown as held, and its stored state is that of the import: only an abandon changes it.
        if batch.overdue_at.is_some() {
            let counts_until =
                after(batch.accepted_at.unwrap_or(now), IMPORT_LIFETIME).max(after(now, MIN_ABANDONED_TIME));
            return (self == JobCommand::Abandon).then_some(Event::Abandoned { counts_until });
        }
        let event = if self == JobCommand::Retry { Event::Retried } else { Event::Cancelled };
        transition(batch.state, &event).is_ok().then_some(event)
    }
}

fn no_effect_message(job: &Job, command: JobCommand) -> String {
    let Job { id, state, .. } = job;
    if let Some(batch) = job.batches.iter().find(|batch| batch.overdue_at.is_some()) {
        let import = batch.marketo_batch_id.as_deref().unwrap_or_default();
        return format!(
            "part {} of job {id} is still on Marketo (its batch {import}), which has not ended it: \"marqueue cancel {id} --abandon\" abandons it",
            batch.part
        );
    }
    match (command, state.is_terminal()) {
        (JobCommand::Cancel | JobCommand::Abandon, true) => format!("job {id} has ended: it is {state}"),
        (JobCommand::Cancel | JobCommand::Abandon, false) => {
            format!("job {id} can't be cancelled: Marketo has all of it already, and an import can't be called back")
        }
        (JobCommand::Retry, true) if job.has_failed_rows() => format!(
            "job {id} is {state}, and some of its rows failed: \"marqueue retry {id} --failed-rows\" sends only those \
             again, as a new job"
        ),
        (JobCommand::Retry, true) => format!("job {id} is {state}: there is nothing to send again"),
        (JobCommand::Retry, false) => {
            format!("job {id} is {state}: it can be retried once it has failed or was cancelled")
        }
    }
}
