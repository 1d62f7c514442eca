//! Marketo's errors: every row of the table of errors, against the simulator over a real socket, with the real binary.
//! The tests check what the daemon does next, what the job shows meanwhile, and that no attempt is used up without
//! need.

mod batch_errors;
mod bounds;
mod counts;
mod credentials;
mod instance;
mod other_integrations;
mod outage;
mod polling;
mod quota;
mod raw_server;
mod settle;
mod stuck;
mod unknown;

use crate::support::TestEnv;
use marqueue::api::dto::JobDto;
use marqueue::domain::{JobId, JobState};
use marqueue::simulator::call_log::{CallLog, Outcome};
use serde_json::Value;

/// A file of one row.
const FILE: &str = "email,firstName\nann@example.com,Ann\n";

/// The same with an import that lasts until the test ends it.
const STUCK: &str = "email,firstName\nann@example.com,!stuck\n";

const LEADS: &str = "target=leads&format=csv";

impl TestEnv {
    /// What `explain` says of the job once it waits for `what`, in words; with a time where `timed`.
    async fn explained(&mut self, id: JobId, what: &str, timed: bool) -> String {
        let explained = self
            .until(&format!("job {id} waits for {what}"), async |env| {
                let explained = env.json("GET", &format!("/v1/jobs/{id}/explain")).await.1;
                (explained["waits_for"] == what && explained["until"].is_string() == timed).then_some(explained)
            })
            .await;
        explained["text"].as_str().expect("words").to_owned()
    }

    /// What `explain` says of the job once more uploads in a row have failed than its attempts allow, as JSON.
    async fn failed_often(&mut self, id: JobId) -> String {
        self.until("it was tried more often than it may be", async |env| {
            let text = env.json("GET", &format!("/v1/jobs/{id}/explain")).await.1.to_string();
            let (before, _) = text.split_once(" failures in a row")?;
            let failures: u32 = before.rsplit_once('(')?.1.parse().expect("a number");
            (failures >= 5).then_some(text)
        })
        .await
    }

    /// `instances.default` of the status.
    async fn instance(&self) -> Value {
        self.json("GET", "/v1/status").await.1["instances"]["default"].take()
    }

    /// The instance when it is paused.
    async fn paused(&mut self) -> Value {
        self.until("the instance is paused", async |env| {
            let pause = env.instance().await["pause"].take();
            (!pause.is_null()).then_some(pause)
        })
        .await
    }

    async fn resume(&self) {
        assert_eq!(self.json("POST", "/v1/instances/default/resume").await.0, 200);
    }

    /// The job, complete, with so many attempts used by its one batch.
    async fn complete(&mut self, id: JobId, attempts: u32) -> JobDto {
        let job = self.ended(id).await;
        assert_eq!((job.state, job.batches[0].attempts), (JobState::Complete, attempts), "{job:?}");
        job
    }
}

/// What became of each create call: its error's code, or `ok`.
fn outcomes(ledger: &CallLog) -> Vec<&str> {
    let outcome = |create| match create {
        &Outcome::Accepted(_) => "ok",
        Outcome::Refused { code, .. } => code,
    };
    ledger.creates.iter().map(|create| outcome(&create.outcome)).collect()
}
