//! How does a file get to the daemon? Streamed, with a word after each piece that left.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::{StreamExt, stream};
use reqwest::{Body, Method, StatusCode};
use tokio::io::AsyncRead;
use tokio::time::Instant;
use tokio_util::io::ReaderStream;

use crate::api::dto::SubmittedJob;
use crate::client::{Client, ClientError, read};
use crate::delimited::Warning;
use crate::domain::{Format, Target};
use crate::store::Job;

const PIECE_BYTES: usize = 64 * 1024;

/// What is to be said of a file.
#[derive(Clone, Debug)]
pub struct NewFile {
    pub target: Target,
    pub filename: String,
    pub format: Format,
    /// The daemon's default where there is none.
    pub instance: Option<String>,
    /// Higher first.
    pub priority: i64,
    pub group: Option<String>,
    pub idempotency_key: Option<String>,
    /// Without it the daemon takes the file as it is.
    pub check: bool,
}

impl NewFile {
    /// As the daemon reads them.
    pub fn parameters(&self) -> Vec<(&'static str, String)> {
        let mut parameters = vec![
            ("target", self.target.kind().to_owned()),
            ("filename", self.filename.clone()),
            ("format", self.format.to_string()),
        ];
        match &self.target {
            Target::Leads { lookup_field, list_id, partition } => {
                parameters.extend(lookup_field.clone().map(|field| ("lookup_field", field)));
                parameters.extend(list_id.map(|list| ("list_id", list.to_string())));
                parameters.extend(partition.clone().map(|partition| ("partition", partition)));
            }
            Target::CustomObject { name } => parameters.push(("name", name.clone())),
            Target::ProgramMembers { program_id, status } => {
                parameters.push(("program_id", program_id.to_string()));
                parameters.push(("status", status.clone()));
            }
        }
        parameters.extend(self.instance.clone().map(|instance| ("instance", instance)));
        if self.priority != 0 {
            parameters.push(("priority", self.priority.to_string()));
        }
        parameters.extend(self.group.clone().map(|group| ("group", group)));
        if !self.check {
            parameters.push(("check", "false".to_owned()));
        }
        parameters
    }
}

/// What became of a file.
#[derive(Clone, Debug)]
pub struct AddedJob {
    pub job: Job,
    /// The idempotency key and the content were seen before: this is the job that they made then.
    pub seen_before: bool,
    /// What the daemon found in the file.
    pub warnings: Vec<Warning>,
}

impl Client {
    /// Sends a file; on return the job is on the daemon's disk for good. `progress` is told the bytes sent so far.
    ///
    /// # Errors
    /// Any [`ClientError`]; after [`ClientError::Broken`] and [`ClientError::Silent`] only a second call with the same idempotency key is safe.
    pub async fn add(
        &self,
        new: &NewFile,
        content: impl AsyncRead + Send + 'static,
        mut progress: impl FnMut(u64) + Send + 'static,
    ) -> Result<AddedJob, ClientError> {
        let upload = Arc::new(Mutex::new(UploadState { since: Instant::now(), ours: false, unreadable: None }));
        let (state, mut sent) = (upload.clone(), 0);
        let mut content = Box::pin(ReaderStream::with_capacity(content, PIECE_BYTES));
        let body = stream::poll_fn(move |cx| {
            let polled = content.poll_next_unpin(cx);
            let mut state = locked(&state);
            state.since = Instant::now();
            state.ours = polled.is_pending();
            polled.map(|piece| match piece? {
                Ok(piece) => {
                    sent += piece.len() as u64;
                    progress(sent);
                    Some(Ok(piece))
                }
                Err(error) => {
                    state.unreadable = Some(error);
                    Some(Err(io::Error::other("the content can't be read")))
                }
            })
        });
        let mut request = self.request(Method::POST, "/v1/jobs").query(&new.parameters());
        if let Some(key) = &new.idempotency_key {
            request = request.header("idempotency-key", key);
        }
        let answer = tokio::select! {
            answer = self.send(request.body(Body::wrap_stream(body))) => answer,
            () = stalled(&upload, self.silence.timeout) => Err(self.silence.broken()),
        };
        if let Some(error) = locked(&upload).unreadable.take() {
            return Err(ClientError::Content(error));
        }
        let answer = answer?;
        let seen_before = answer.status() != StatusCode::CREATED;
        let SubmittedJob { job, warnings } = self.silence.within(Duration::ZERO, read(answer)).await??;
        Ok(AddedJob { job, seen_before, warnings })
    }
}

/// How a file that is being sent stands. The HTTP client tells only that the body failed, and nothing of how far it is.
struct UploadState {
    /// Of the last piece that left, or that was asked for.
    since: Instant,
    /// The daemon has taken all there was, and it is our own content that is slow.
    ours: bool,
    unreadable: Option<io::Error>,
}

fn locked(upload: &Mutex<UploadState>) -> MutexGuard<'_, UploadState> {
    upload.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns when the daemon has neither taken a piece nor answered for so long.
async fn stalled(upload: &Mutex<UploadState>, timeout: Duration) {
    loop {
        let since = match &*locked(upload) {
            UploadState { ours: true, .. } => Instant::now(),
            UploadState { since, .. } => *since,
        };
        if since.elapsed() >= timeout {
            return;
        }
        tokio::time::sleep_until(since + timeout).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameters(target: Target) -> String {
        let new = NewFile {
            target,
            filename: "a.tsv".into(),
            format: Format::Tsv,
            instance: None,
            priority: 0,
            group: None,
            idempotency_key: None,
            check: true,
        };
        let pairs = new.parameters();
        pairs.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&")
    }

    #[test]
    fn each_target_has_its_own_parameters() {
        assert_eq!(
            parameters(Target::Leads {
                lookup_field: Some("id".into()),
                list_id: Some(7),
                partition: Some("EU".into())
            }),
            "target=leads&filename=a.tsv&format=tsv&lookup_field=id&list_id=7&partition=EU"
        );
        assert_eq!(
            parameters(Target::CustomObject { name: "car_c".into() }),
            "target=custom-object&filename=a.tsv&format=tsv&name=car_c"
        );
        assert_eq!(
            parameters(Target::ProgramMembers { program_id: 1044, status: "On List".into() }),
            "target=program-members&filename=a.tsv&format=tsv&program_id=1044&status=On List"
        );
    }

    #[test]
    fn what_is_as_usual_is_not_said() {
        let new = NewFile {
            target: Target::CustomObject { name: "car_c".into() },
            filename: "a.csv".into(),
            format: Format::Csv,
            instance: Some("eu".into()),
            priority: -1,
            group: Some("g".into()),
            idempotency_key: Some("k".into()),
            check: false,
        };
        assert_eq!(
            new.parameters()[4..],
            [
                ("instance", "eu".to_owned()),
                ("priority", "-1".to_owned()),
                ("group", "g".to_owned()),
                ("check", "false".to_owned())
            ]
        );
    }
}
