//! Upload of the client: streams a file to the daemon and reports progress.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use jiff::Timestamp;
use parking_lot::Mutex;
use reqwest::{Body, Method, RequestBuilder, Response, StatusCode};
use tokio::io::AsyncRead;
use tokio::time::Instant;
use tokio_util::io::ReaderStream;

use crate::api::dto::{JobDto, RetriedJob, SubmittedJob, Warning};
use crate::client::error::ClientError;
use crate::client::http_client::Client;
use crate::client::response::read;
use crate::domain::{Format, JobId, Target};

/// Bytes that are read at once.
const CHUNK_BYTES: usize = 64 * 1024;

/// Settings of a new job.
#[derive(Clone, Debug)]
pub struct NewFile {
    /// Where the rows go.
    pub target: Target,
    /// Name of the file.
    pub filename: String,
    /// Format of the file.
    pub format: Format,
    /// None: the daemon's default.
    pub instance: Option<String>,
    /// Higher first; default 0.
    pub priority: i64,
    /// Jobs of one group are imported one after the other.
    pub group: Option<String>,
    /// The earliest time of its uploads.
    pub not_before: Option<Timestamp>,
    /// How the batches depend on each other.
    pub batches: BatchOptions,
    /// Whether it may share an import with other jobs. None: the daemon's default.
    pub pack: Option<bool>,
    /// The same key and the same file return the same job.
    pub idempotency_key: Option<String>,
    /// Whether the daemon checks the file.
    pub check: bool,
}

/// How the batches of a new job depend on each other.
#[derive(Clone, Copy, Debug, Default)]
pub struct BatchOptions {
    /// Whether each waits until the one before it is complete.
    pub in_order: bool,
    /// The rows of a first batch for which the others wait; 0 for none. None: the daemon's default.
    pub canary: Option<u64>,
    /// The percentage of failed rows above which no further batch is uploaded. None: the daemon's default.
    pub max_failed_percent: Option<u8>,
}

impl NewFile {
    /// Returns the parameters of the query.
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
        parameters.extend(self.not_before.map(|at| ("not_before", at.to_string())));
        let BatchOptions { in_order, canary, max_failed_percent } = self.batches;
        if in_order {
            parameters.push(("in_order", "true".to_owned()));
        }
        parameters.extend(canary.map(|rows| ("canary", rows.to_string())));
        parameters.extend(max_failed_percent.map(|percent| ("max_failed_percent", percent.to_string())));
        parameters.extend(self.pack.map(|pack| ("pack", pack.to_string())));
        if !self.check {
            parameters.push(("check", "false".to_owned()));
        }
        parameters
    }
}

/// A failure file that was corrected, to be sent for the job whose rows it has.
#[derive(Clone, Copy, Debug)]
pub struct CorrectedFile {
    /// The job.
    pub job: JobId,
    /// Its format; none where the header shows it, or it is the job's.
    pub format: Option<Format>,
    /// Whether the daemon checks it.
    pub check: bool,
}

/// Result of an upload.
#[derive(Clone, Debug)]
pub struct AddedJob {
    /// The job.
    pub job: JobDto,
    /// Whether the job existed already, made with the same idempotency key and content.
    pub seen_before: bool,
    /// Warnings of the daemon's checks.
    pub warnings: Vec<Warning>,
}

impl Client {
    /// Uploads a file. On return the job is durably stored by the daemon. `progress` gets the bytes sent so far.
    ///
    /// # Errors
    /// Every [`ClientError`]. After [`ClientError::Broken`] and [`ClientError::Silent`] the job may exist: retry with
    /// the same idempotency key only.
    pub async fn add(
        &self,
        new: &NewFile,
        content: impl AsyncRead + Send + 'static,
        progress: impl FnMut(u64) + Send + 'static,
    ) -> Result<AddedJob, ClientError> {
        let mut request = self.request(Method::POST, "/v1/jobs").query(&new.parameters());
        if let Some(key) = &new.idempotency_key {
            request = request.header("idempotency-key", key);
        }
        let response = self.upload(request, content, progress).await?;
        let seen_before = response.status() != StatusCode::CREATED;
        let SubmittedJob { job, warnings } = self.read_timeout.run(Duration::ZERO, read(response)).await??;
        Ok(AddedJob { job, seen_before, warnings })
    }

    /// Uploads a corrected failure file of an ended job, and returns the new job. `progress` gets the bytes sent so
    /// far.
    ///
    /// # Errors
    /// As of [`Client::add`].
    pub async fn retry_with(
        &self,
        file: &CorrectedFile,
        content: impl AsyncRead + Send + 'static,
        progress: impl FnMut(u64) + Send + 'static,
    ) -> Result<RetriedJob, ClientError> {
        let mut parameters = vec![("rows", "corrected".to_owned())];
        parameters.extend(file.format.map(|format| ("format", format.to_string())));
        if !file.check {
            parameters.push(("check", "false".to_owned()));
        }
        let request = self.request(Method::POST, &format!("/v1/jobs/{}/retry", file.job)).query(&parameters);
        let response = self.upload(request, content, progress).await?;
        self.read_timeout.run(Duration::ZERO, read(response)).await?
    }

    /// Sends a request with a file as its body, and returns the response when the daemon has read all of it.
    async fn upload(
        &self,
        request: RequestBuilder,
        content: impl AsyncRead + Send + 'static,
        mut progress: impl FnMut(u64) + Send + 'static,
    ) -> Result<Response, ClientError> {
        let upload =
            Arc::new(Mutex::new(UploadState { since: Instant::now(), awaits_content: false, read_error: None }));
        let (state, mut sent) = (upload.clone(), 0);
        let mut content = Box::pin(ReaderStream::with_capacity(content, CHUNK_BYTES));
        let body = stream::poll_fn(move |cx| {
            let polled = content.poll_next_unpin(cx);
            let mut state = state.lock();
            state.since = Instant::now();
            state.awaits_content = polled.is_pending();
            polled.map(|piece| match piece? {
                Ok(piece) => {
                    sent += piece.len() as u64;
                    progress(sent);
                    Some(Ok(piece))
                }
                Err(error) => {
                    state.read_error = Some(error);
                    Some(Err(io::Error::other("the content can't be read")))
                }
            })
        });
        let result = tokio::select! {
            result = self.send(request.body(Body::wrap_stream(body))) => result,
            () = wait_for_stall(&upload, self.read_timeout.timeout) => Err(self.read_timeout.error()),
        };
        if let Some(error) = upload.lock().read_error.take() {
            return Err(ClientError::Content(error));
        }
        result
    }
}

/// State of an upload under way. The HTTP client reports neither its progress nor the cause of a failed body.
struct UploadState {
    /// When the last chunk was sent or requested.
    since: Instant,
    /// The daemon has read everything so far, and the next chunk of the content is awaited.
    awaits_content: bool,
    read_error: Option<io::Error>,
}

/// Returns when the daemon has neither read a chunk nor answered for `timeout`.
async fn wait_for_stall(upload: &Mutex<UploadState>, timeout: Duration) {
    loop {
        let since = match &*upload.lock() {
            UploadState { awaits_content: true, .. } => Instant::now(),
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
            not_before: None,
            batches: BatchOptions::default(),
            pack: None,
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
    fn only_settings_that_differ_from_the_default_are_sent() {
        let new = NewFile {
            target: Target::CustomObject { name: "car_c".into() },
            filename: "a.csv".into(),
            format: Format::Csv,
            instance: Some("eu".into()),
            priority: -1,
            group: Some("g".into()),
            not_before: None,
            batches: BatchOptions::default(),
            pack: Some(false),
            idempotency_key: Some("k".into()),
            check: false,
        };
        assert_eq!(
            new.parameters()[4..],
            [
                ("instance", "eu".to_owned()),
                ("priority", "-1".to_owned()),
                ("group", "g".to_owned()),
                ("pack", "false".to_owned()),
                ("check", "false".to_owned())
            ]
        );
    }
}
