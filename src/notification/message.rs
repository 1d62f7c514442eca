//! Message: the body of one notification, and what is known of its delivery.

use jiff::Timestamp;
use serde::Serialize;

use crate::domain::JobId;
use crate::store::StoreError;

/// A notification that is to be delivered.
#[derive(Clone, Debug)]
pub(super) struct Message {
    /// The kind of notification, for the log.
    pub event: &'static str,
    /// The job that it is about; none where it is about none.
    pub job: Option<JobId>,
    /// The JSON body.
    pub body: Vec<u8>,
    /// When its event happened.
    pub enqueued_at: Timestamp,
    /// Failed attempts.
    pub attempts: u32,
}

/// Returns the JSON of a body.
///
/// # Errors
/// [`StoreError::Refused`]. The types of bodies always serialize.
pub(super) fn json(body: &impl Serialize) -> Result<Vec<u8>, StoreError> {
    serde_json::to_vec(body).map_err(|error| StoreError::Refused(error.to_string()))
}
