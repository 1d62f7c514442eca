//! What did a person say? Cancel, retry, and where an import is that nobody could see.

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

/// What a person's order did to a job's batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommandOutcome {
    /// Batches that it moved.
    pub moved: u32,
    /// The job's state now.
    pub state: JobState,
}

impl Store {
    /// Cancels what Marketo does not have yet. Batches that it has run to their end: nothing calls an import back.
    ///
    /// # Errors
    /// [`StoreError::Refused`] if there is nothing to cancel.
    pub async fn cancel(&self, id: JobId, now: Timestamp) -> Result<CommandOutcome, StoreError> {
        self.run_command(id, JobCommand::Cancel, now).await
    }

    /// Cancels like [`Store::cancel`], and gives up imports that are overdue. Each of these counts as one of ours for as long
    /// as it may be on Marketo.
    ///
    /// # Errors
    /// [`StoreError::Refused`] if there is nothing to cancel and none to give up.
    pub async fn abandon(&self, id: JobId, now: Timestamp) -> Result<CommandOutcome, StoreError> {
        self.run_command(id, JobCommand::Abandon, now).await
    }

    /// Sends the batches again that failed, were cancelled or are held. Those that are complete stay so.
    ///
    /// # Errors
    /// [`StoreError::Refused`] if there is nothing to send, [`StoreError::Erased`] if the content has been erased.
    pub async fn retry(&self, id: JobId, now: Timestamp) -> Result<CommandOutcome, StoreError> {
        self.run_command(id, JobCommand::Retry, now).await
    }

    /// A person found the import on Marketo that a held batch became: it is followed to its end from here on.
    ///
    /// # Errors
    /// [`StoreError::Illegal`] if the batch is not held, [`StoreError::Refused`] if the import is another batch's.
    pub async fn settle(&self, key: BatchKey, marketo_batch_id: String, now: Timestamp) -> Result<(), StoreError> {
        self.shared
            .writer
            .write(move |w| {
                Box::pin(async move {
                    let other = sqlx::query(
                        "SELECT b.job_id, b.part FROM batch b JOIN job j ON j.id = b.job_id
                         WHERE b.marketo_batch_id = ? AND j.instance = (SELECT instance FROM job WHERE id = ?)",
                    )
                    .bind(&marketo_batch_id)
                    .bind(key.job.0)
                    .fetch_optional(&mut *w.conn)
                    .await?;
                    if let Some(other) = other {
                        let (job, part): (i64, u32) = (other.try_get("job_id")?, other.try_get("part")?);
                        let taken = format!("Marketo's batch {marketo_batch_id} is part {part} of job {job}");
                        return Err(StoreError::Refused(taken));
                    }
                    apply_event(w, key, &Event::Settled { marketo_batch_id }, None, now).await.map(drop)
                })
            })
            .await
    }

    async fn run_command(&self, id: JobId, order: JobCommand, now: Timestamp) -> Result<CommandOutcome, StoreError> {
        self.shared
            .writer
            .write(move |w| {
                Box::pin(async move {
                    let job = jobs::job(&mut *w.conn, id).await?;
                    if order == JobCommand::Retry {
                        job.still_has(ErasableData::Content)?;
                        // What comes now is not what was erased.
                        expect_reports_again(w, id).await?;
                    }
                    let mut moved = 0;
                    for batch in &job.batches {
                        if let Some(event) = order.event_for(batch, now) {
                            apply_event(w, BatchKey { job: id, part: batch.part }, &event, None, now).await?;
                            moved += 1;
                        }
                    }
                    if moved == 0 {
                        return Err(StoreError::Refused(no_effect_message(&job, order)));
                    }
                    let state = jobs::job(&mut *w.conn, id).await?.state;
                    Ok(CommandOutcome { moved, state })
                })
            })
            .await
    }
}

/// What a person may say of a job as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum JobCommand {
    Cancel,
    Abandon,
    Retry,
}

/// An import that is given up counts for at least so long: Marketo has just said that it has it.
const MIN_ABANDONED_TIME: Duration = Duration::from_secs(24 * 3600);

impl JobCommand {
    /// What happens to `batch`; none where it stays as it is.
    fn event_for(self, batch: &Batch, now: Timestamp) -> Option<Event> {
        // It is shown as held, and is what Marketo last said: only giving it up moves it.
        if batch.overdue_at.is_some() {
            let counts_until =
                after(batch.accepted_at.unwrap_or(now), IMPORT_LIFETIME).max(after(now, MIN_ABANDONED_TIME));
            return (self == JobCommand::Abandon).then_some(Event::Abandoned { counts_until });
        }
        let event = if self == JobCommand::Retry { Event::Retried } else { Event::Cancelled };
        transition(batch.state, &event).is_ok().then_some(event)
    }
}

fn no_effect_message(job: &Job, order: JobCommand) -> String {
    let Job { id, state, .. } = job;
    if let Some(batch) = job.batches.iter().find(|batch| batch.overdue_at.is_some()) {
        let import = batch.marketo_batch_id.as_deref().unwrap_or_default();
        return format!(
            "part {} of job {id} is still on Marketo (its batch {import}), which does not end it: \"marqueue cancel {id} --abandon\" gives it up",
            batch.part
        );
    }
    match (order, state.is_terminal()) {
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

/// A job that is sent again will have failure and warning files again. Where the old ones are still being erased, their
/// sizes are forgotten and the rest of them goes at once: the two must not be mixed up.
async fn expect_reports_again(w: &mut StoreTx<'_>, id: JobId) -> Result<(), StoreError> {
    let erased = sqlx::query("UPDATE job SET reports_erased_at = NULL WHERE id = ? AND reports_erased_at IS NOT NULL")
        .bind(id.0)
        .execute(&mut *w.conn)
        .await?;
    if erased.rows_affected() > 0 {
        for sql in [
            "UPDATE batch SET failures_bytes = NULL, warnings_bytes = NULL WHERE job_id = ?",
            "DELETE FROM chunk WHERE job_id = ? AND kind <> 'file'",
            "DELETE FROM pending_erasure WHERE job_id = ? AND what = 'reports'",
        ] {
            sqlx::query(sql).bind(id.0).execute(&mut *w.conn).await?;
        }
    }
    Ok(())
}
