//! What the integration tests observe of a daemon from outside.

use std::fs;

use marqueue::api::dto::JobDto;
use marqueue::domain::{BatchState, JobId};

use crate::support::TestEnv;

impl TestEnv {
    /// How many files the daemon has open.
    pub fn open_files(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.pid())).expect("the daemon's files can be listed").count()
    }

    /// The job when its first batch is in `state`.
    pub async fn in_state(&mut self, id: JobId, state: BatchState) -> JobDto {
        self.until(&format!("the batch of job {id} is {state}"), async |env| {
            let job = env.job(id).await;
            assert!(!job.state.is_terminal(), "job {id} was never seen {state}: {job:?}");
            (job.batches[0].state == state).then_some(job)
        })
        .await
    }
}
