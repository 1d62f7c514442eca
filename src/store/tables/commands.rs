//! Commands of an operator: cancel, abandon, retry and settle.

use std::time::Duration;

use jiff::Timestamp;
use sqlx::Row;

use crate::clock::after;
use crate::domain::{BatchKey, Event, IMPORT_LIFETIME, JobId, JobState, transition};
use crate::store::Store;
use crate::store::engine::writer::StoreTx;
use crate::store::error::StoreError;
use crate::store::models::ErasableData;
use crate::store::models::{Batch, Job};
use crate::store::tables::batches::apply_event;
use crate::store::tables::jobs;

/// What a command did to the batches of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommandOutcome {
    /// How many batches changed their state.
    pub moved: u32,
    /// The job's state after it.
    pub state: JobState,
}

impl Store {
    /// Cancels the batches that Marketo does not have yet. The others run to their end, since an import can't be undone.
    ///
    /// # Errors
    /// [`StoreError::Refused`] if there is nothing to cancel.
    pub async fn cancel(&self, id: JobId, now: Timestamp) -> Result<CommandOutcome, StoreError> {
        self.run_command(id, JobCommand::Cancel, now).await
    }

    /// Cancels like [`Store::cancel`], and abandons overdue imports. Each of these occupies a slot for as long as it may be on
    /// Marketo.
    ///
    /// # Errors
    /// [`StoreError::Refused`] if there is nothing to cancel and nothing to abandon.
    pub async fn abandon(&self, id: JobId, now: Timestamp) -> Result<CommandOutcome, StoreError> {
        self.run_command(id, JobCommand::Abandon, now).await
    }

    /// Requeues the batches that failed, were cancelled or are held. Complete ones stay complete.
    ///
    /// # Errors
    /// [`StoreError::Refused`] if there is nothing to send, [`StoreError::Erased`] if the content has been erased.
    pub async fn retry(&self, id: JobId, now: Timestamp) -> Result<CommandOutcome, StoreError> {
        self.run_command(id, JobCommand::Retry, now).await
    }

    /// Records the import that an operator found on Marketo for a held batch. It is polled to its end from now on.
    ///
    /// # Errors
    /// [`StoreError::Illegal`] if the batch is not held, [`StoreError::Refused`] if the import belongs to another batch.
    pub async fn settle(&self, key: BatchKey, marketo_batch_id: String, now: Timestamp) -> Result<(), StoreError> {
        self.write("settle", move |tx| {
            Box::pin(async move {
                let other = sqlx::query(
                    "SELECT b.job_id, b.part FROM batch b JOIN job j ON j.id = b.job_id
                         WHERE b.marketo_batch_id = ? AND j.instance = (SELECT instance FROM job WHERE id = ?)",
                )
                .bind(&marketo_batch_id)
                .bind(key.job.0)
                .fetch_optional(&mut *tx.conn)
                .await?;
                if let Some(other) = other {
                    let (job, part): (i64, u32) = (other.try_get("job_id")?, other.try_get("part")?);
                    let text = format!("Marketo's batch {marketo_batch_id} is part {part} of job {job}");
                    return Err(StoreError::Refused(text));
                }
                apply_event(tx, key, &Event::Settled { marketo_batch_id }, None, now).await.map(drop)
            })
        })
        .await
    }

    async fn run_command(&self, id: JobId, command: JobCommand, now: Timestamp) -> Result<CommandOutcome, StoreError> {
        self.write("run_command", move |tx| {
            Box::pin(async move {
                let job = jobs::job(&mut *tx.conn, id).await?;
                if command == JobCommand::Retry {
                    job.still_has(ErasableData::Content)?;
                    // The reports to come are not the ones that were erased.
                    clear_erased_reports(tx, id).await?;
                }
                let mut moved = 0;
                for batch in &job.batches {
                    if let Some(event) = command.event_for(batch, now) {
                        apply_event(tx, BatchKey { job: id, part: batch.part }, &event, None, now).await?;
                        moved += 1;
                    }
                }
                if moved == 0 {
                    return Err(StoreError::Refused(no_effect_message(&job, command)));
                }
                let state = jobs::job(&mut *tx.conn, id).await?.state;
                Ok(CommandOutcome { moved, state })
            })
        })
        .await
    }
}

/// A command for a job as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum JobCommand {
    Cancel,
    Abandon,
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
        (JobCommand::Retry, true) => format!("job {id} is {state}: there is nothing to send again"),
        (JobCommand::Retry, false) => {
            format!("job {id} is {state}: it can be retried once it has failed or was cancelled")
        }
    }
}

/// Deletes the rest of erased reports, and their sizes. A retried job gets new reports, which must not be mixed with chunks
/// of old ones that are still being erased.
async fn clear_erased_reports(tx: &mut StoreTx<'_>, id: JobId) -> Result<(), StoreError> {
    let erased = sqlx::query("UPDATE job SET reports_erased_at = NULL WHERE id = ? AND reports_erased_at IS NOT NULL")
        .bind(id.0)
        .execute(&mut *tx.conn)
        .await?;
    if erased.rows_affected() > 0 {
        for sql in [
            "UPDATE batch SET failures_bytes = NULL, warnings_bytes = NULL WHERE job_id = ?",
            "DELETE FROM chunk WHERE job_id = ? AND kind <> 'file'",
            "DELETE FROM pending_erasure WHERE job_id = ? AND what = 'reports'",
        ] {
            sqlx::query(sql).bind(id.0).execute(&mut *tx.conn).await?;
        }
    }
    Ok(())
}
