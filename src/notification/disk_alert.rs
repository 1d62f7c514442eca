//! Disk alert: tells that the database's disk is full, once per occurrence. It is kept in memory, because a full disk
//! may take no row; after a restart of the daemon a disk that is still full is reported again.

use jiff::Timestamp;
use tokio::sync::watch;

use crate::api::dto::DiskFullAlert;
use crate::notification::attempt::{AttemptResult, MessageSender};
use crate::notification::message::{Message, json};
use crate::store::StoreError;

/// Delivers an alert for each time that the disk becomes full, until the store is closed. The alert of an occurrence
/// that is over is still delivered; a new occurrence replaces it.
///
/// # Errors
/// A body that can't be serialized.
pub(super) async fn deliver_disk_alerts(
    sender: &MessageSender,
    mut full_since: watch::Receiver<Option<Timestamp>>,
) -> Result<(), StoreError> {
    // After its delivery it stays, as a mark of the occurrence that was reported.
    let mut pending: Option<Message> = None;
    let mut next_at = Timestamp::MAX;
    loop {
        let since = *full_since.borrow_and_update();
        if let Some(at) = since
            && pending.as_ref().is_none_or(|pending| pending.enqueued_at != at)
        {
            let database = sender.store.path().display().to_string();
            let body = json(&DiskFullAlert::new(database, at))?;
            pending = Some(Message { event: DiskFullAlert::EVENT, job: None, body, enqueued_at: at, attempts: 0 });
            next_at = sender.clock.now();
        }
        if let Some(message) = pending.as_mut().filter(|_| next_at <= sender.clock.now()) {
            match sender.attempt(message).await {
                AttemptResult::Done => next_at = Timestamp::MAX,
                AttemptResult::RetryAt(at) => {
                    message.attempts += 1;
                    next_at = at;
                }
            }
        }
        tokio::select! {
            () = sender.clock.sleep_until(next_at) => {}
            changed = full_since.changed() => if changed.is_err() { return Ok(()) },
        }
    }
}
