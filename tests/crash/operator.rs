//! The operator's part: resumes an instance whose token was refused twice, and looks on Marketo for the imports of held
//! batches.

use std::collections::BTreeSet;

use marqueue::api::dto::{BatchDto, JobDto};
use marqueue::client::{JobQuery, RetryScope};
use marqueue::domain::BatchState;
use marqueue::domain::instance::PauseKind;

use super::clients::POLL_PAUSE;
use super::scenario::client;
use super::test_env::TestEnv;
use super::trace::Trace;
use super::uploads::{self, Upload};

const INSTANCE: &str = "default";

/// Does what waits for an operator. `trace` returns the trace so far.
pub async fn look(env: &TestEnv, trace: impl Fn() -> Trace) {
    let client = client(env);
    let status = client.status().await.expect("the daemon answers");
    let instance = &status.instances[INSTANCE];
    if instance.pause.as_ref().is_some_and(|pause| pause.kind == PauseKind::Credentials) {
        client.resume(INSTANCE).await.expect("it is resumed");
    }
    if instance.queue.held.is_empty() {
        return;
    }
    // While nothing is uploaded, what Marketo has does not change, nor what is held.
    client.pause(INSTANCE).await.expect("it is paused");
    while client.status().await.expect("the daemon answers").instances[INSTANCE].slots.uploading > 0 {
        tokio::time::sleep(POLL_PAUSE).await;
    }
    let jobs =
        client.list(&JobQuery { limit: Some(10_000), ..JobQuery::default() }).await.expect("a list of jobs").jobs;
    let trace = trace();
    let (sent, _) = uploads::read(&trace);
    let mut known: BTreeSet<String> = jobs.iter().flat_map(|job| &job.batches).filter_map(id).collect();
    // Marketo could not be asked for these, so the batches of all their jobs wait for the next look.
    let mut unchecked = BTreeSet::new();
    for job in jobs {
        let mut has_unchecked = false;
        let file = trace.files.iter().map(|submission| &submission.file).find(|file| file.name == job.filename);
        for batch in held(&job) {
            let at = |byte| usize::try_from(byte).expect("it was in memory");
            let rows = file.map(|file| file.rows_between(at(batch.byte_from), at(batch.byte_to)));
            // A shared import that failed is another one than the import that was made of the job alone since.
            let is_held = |upload: &&Upload| {
                Some(&upload.rows) == rows.as_ref() && upload.shared_with == batch.shared_with as usize
            };
            let uploads = sent.get(job.filename.as_str()).into_iter().flatten();
            let imports = uploads.filter(is_held).filter_map(|upload| upload.import);
            let imports: Vec<String> = imports.map(|import| import.to_string()).collect();
            has_unchecked |= imports.iter().any(|import| unchecked.contains(import));
            if has_unchecked {
                continue;
            }
            if let Some(made) = imports.into_iter().find(|import| !known.contains(import)) {
                let part = batch.part;
                let path = format!("/v1/jobs/{}/settle?part={part}&marketo_batch_id={made}", job.id);
                let (status, answer) = env.json("POST", &path).await;
                assert!(matches!(status, 200 | 503), "{path}: {status} {answer}");
                if status == 503 {
                    has_unchecked = true;
                    unchecked.insert(made.clone());
                }
                known.insert(made);
            }
        }
        let left = client.job(job.id, None).await.expect("the job");
        if held(&left).next().is_some() && !has_unchecked {
            client.retry(job.id, RetryScope::FailedBatches).await.expect("what Marketo does not have is sent again");
        }
    }
    client.resume(INSTANCE).await.expect("it is resumed");
}

/// The batches whose upload has an unknown outcome. One that Marketo does not end has its id, and is waited for.
fn held(job: &JobDto) -> impl Iterator<Item = &BatchDto> {
    job.batches.iter().filter(|batch| batch.state == BatchState::Held && batch.marketo_batch_id.is_none())
}

fn id(batch: &BatchDto) -> Option<String> {
    batch.marketo_batch_id.clone()
}
