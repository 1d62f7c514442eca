//! How far has a batch come? The columns that events change, and what each event makes of them. Pure.

use jiff::Timestamp;

use crate::job::{BatchState, Counts, Event, Illegal, RemoteStatus, Wait, step};

/// The columns of a batch that events change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    pub state: BatchState,
    /// Uploads begun that count against `max_attempts`.
    pub attempts: u32,
    pub marketo_batch_id: Option<String>,
    /// The next upload, poll or fetch is not before this.
    pub not_before: Option<Timestamp>,
    pub wait: Option<Wait>,
    pub message: Option<String>,
    pub counts: Counts,
    pub uploaded_at: Option<Timestamp>,
    pub accepted_at: Option<Timestamp>,
    pub importing_at: Option<Timestamp>,
    pub polled_at: Option<Timestamp>,
    pub ended_at: Option<Timestamp>,
    /// Questions about the import that failed since the last good answer.
    pub ask_failures: u32,
    /// Until then an import counts that a lost answer may have left behind.
    pub ghost_until: Option<Timestamp>,
}

impl Progress {
    /// A batch to which nothing has happened yet.
    pub fn untouched() -> Progress {
        Progress {
            state: BatchState::Pending,
            attempts: 0,
            marketo_batch_id: None,
            not_before: None,
            wait: None,
            message: None,
            counts: Counts::default(),
            uploaded_at: None,
            accepted_at: None,
            importing_at: None,
            polled_at: None,
            ended_at: None,
            ask_failures: 0,
            ghost_until: None,
        }
    }

    /// What the batch is when `event` has happened to it.
    ///
    /// # Errors
    /// [`Illegal`] where the table of moves has no such move.
    pub fn after(&self, event: &Event, now: Timestamp) -> Result<Progress, Illegal> {
        let mut batch = Progress { state: step(self.state, event)?, ..self.clone() };
        batch.apply(event, now);
        Ok(batch)
    }

    /// What the batch is when a question about its import found no good answer: it is asked again at `not_before`.
    pub fn ask_failed(&self, not_before: Timestamp, now: Timestamp) -> Progress {
        Progress {
            ask_failures: self.ask_failures + 1,
            not_before: Some(not_before),
            polled_at: Some(now),
            ..self.clone()
        }
    }

    /// What an event changes besides the state.
    fn apply(&mut self, event: &Event, now: Timestamp) {
        // Whatever the last wait was, it is over; the events that begin one set it anew.
        (self.not_before, self.wait) = (None, None);
        match event {
            Event::UploadBegan => {
                self.attempts += 1;
                self.uploaded_at = Some(now);
            }
            Event::PutBack { wait, reason, not_before } => {
                self.attempts = self.attempts.saturating_sub(1);
                self.wait = Some(*wait);
                // The other waits are the instance's: any batch may be the one that tries again.
                self.not_before = not_before.filter(|_| *wait == Wait::ListBusy);
                self.message = Some(reason.clone());
            }
            Event::Refused { reason, not_before } => {
                self.not_before = Some(*not_before);
                self.message = Some(reason.clone());
            }
            Event::AnswerLost { reason, not_before, ghost_until } => {
                self.not_before = Some(*not_before);
                self.message = Some(reason.clone());
                self.ghost_until = self.ghost_until.max(Some(*ghost_until));
            }
            Event::Held { reason, ghost_until } => {
                self.message = Some(reason.clone());
                self.ghost_until = self.ghost_until.max(Some(*ghost_until));
            }
            Event::Halved { reason } => {
                self.attempts = self.attempts.saturating_sub(1);
                self.message = Some(reason.clone());
            }
            Event::Rejected { reason } => self.message = Some(reason.clone()),
            Event::Accepted { marketo_batch_id, status } => {
                self.marketo_batch_id = Some(marketo_batch_id.clone());
                self.accepted_at = Some(now);
                self.message = None;
                self.ask_failures = 0;
                if *status != RemoteStatus::Queued {
                    self.importing_at = Some(now);
                }
            }
            Event::Polled { status, counts } => {
                self.polled_at = Some(now);
                self.ask_failures = 0;
                self.counts = *counts;
                if *status == RemoteStatus::Importing {
                    self.importing_at = self.importing_at.or(Some(now));
                }
            }
            Event::Ended { counts, message } => {
                self.polled_at = Some(now);
                self.ask_failures = 0;
                self.counts = *counts;
                self.message = Some(message.clone());
            }
            Event::Lost { counts, reason } => {
                self.counts = *counts;
                self.message = Some(reason.clone());
            }
            Event::Collected | Event::Cancelled => {}
            Event::Retried => {
                self.attempts = 0;
                self.counts = Counts::default();
                self.marketo_batch_id = None;
                self.message = None;
                (self.accepted_at, self.importing_at, self.polled_at) = (None, None, None);
            }
        }
        self.ended_at = self.state.has_ended().then_some(now);
    }
}
