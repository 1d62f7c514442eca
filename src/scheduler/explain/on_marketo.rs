//! Explanations of batches that Marketo has: queued, importing or overdue.

use jiff::Timestamp;

use crate::domain::BatchState;
use crate::scheduler::explain::explained_job::{ExplainedJob, sharing_text};
use crate::scheduler::explain::explanation::{Wait, WaitReason};
use crate::scheduler::poll_interval;
use crate::scheduler::poll_interval::PollSchedule;
use crate::store::Batch;

/// The next poll of a batch.
#[derive(Default)]
struct NextPoll {
    /// How many of our imports may end before the batch's.
    older: usize,
    at: Option<Timestamp>,
}

impl ExplainedJob<'_> {
    pub(super) fn on_marketo(&self, batch: &Batch) -> Wait {
        let (part, id) = (batch.part, batch.marketo_batch_id.as_deref().unwrap_or("?"));
        let NextPoll { older, at } = self.next_poll(batch);
        // The last error or undocumented status.
        let last_error = match &batch.message {
            Some(message) if batch.query_failures.all > 0 => format!(" The last poll failed: {message}."),
            _ => sharing_text(batch),
        };
        if batch.state == BatchState::Importing {
            let text = format!("Marketo is importing part {part} (its batch {id}).{last_error}");
            return Wait::new(WaitReason::Import, "Marketo is importing it", text).until(at);
        }
        let short = match older {
            0 => "in Marketo's queue".to_owned(),
            1 => "in Marketo's queue, behind 1 import of ours".to_owned(),
            older => format!("in Marketo's queue, behind {older} imports of ours"),
        };
        let older = if older == 0 { "none".to_owned() } else { older.to_string() };
        let text = format!(
            "Part {part} is in Marketo's queue (its batch {id}), with {older} of our imports before it.{last_error}"
        );
        Wait::new(WaitReason::MarketoQueue, short, text).until(at)
    }

    pub(super) fn overdue(&self, batch: &Batch) -> Wait {
        let message = batch.message.as_deref().unwrap_or("the import has not ended within max_import_time");
        let text = format!(
            "Part {} is held (Marketo's batch {}): {message}. It is polled on, and ends as usual if Marketo ends the import; it occupies its slot until then. `marqueue cancel {} --abandon` gives it up; before that it cannot be retried.",
            batch.part,
            batch.marketo_batch_id.as_deref().unwrap_or("?"),
            self.job.id,
        );
        let short = format!("part {} is held: Marketo does not end its import", batch.part);
        Wait::new(WaitReason::Operator, short, text).until(self.next_poll(batch).at)
    }

    fn next_poll(&self, batch: &Batch) -> NextPoll {
        let key = batch.import_key(self.job.id);
        let schedule = PollSchedule::of(&self.outlook.snapshot, &self.rules.polling, self.now);
        match poll_interval::in_order(&self.outlook.snapshot.in_flight).find(|(flight, _)| flight.key == key) {
            Some((flight, older)) => NextPoll { older, at: Some(schedule.due(flight, older)) },
            None => NextPoll::default(),
        }
    }
}
