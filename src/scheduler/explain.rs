//! Explanation: what a job waits for, as text and with a time. A pure function of the snapshot that the plan uses.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::clock::TimestampSchema;
use crate::domain::instance::PauseKind;
use crate::domain::{BatchKey, BatchState, JobId, JobState};
use crate::scheduler::plan::SchedulingRules;
use crate::scheduler::poll_interval;
use crate::store::{Batch, Job, Snapshot};

/// What a job waits for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Explanation {
    /// The job.
    pub id: JobId,
    /// The job's state.
    pub state: JobState,
    /// What it waits for, for programs.
    pub waits_for: WaitReason,
    /// The same in one or two sentences.
    pub text: String,
    /// When the job is checked again at the latest; none where that is unknown.
    #[schemars(with = "Option<TimestampSchema>")]
    pub until: Option<Timestamp>,
}

/// What a job can wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum WaitReason {
    /// Nothing: the job has ended.
    Nothing,
    /// An operator: a batch is held, or the instance has a pause that an operator made or has to end.
    Operator,
    /// The end of the quota day.
    Quota,
    /// The end of the instance's backoff: Marketo is unreachable, or all uploads fail.
    Service,
    /// The end of the batch's backoff after a refusal.
    Backoff,
    /// An earlier job of its group.
    Group,
    /// Another import into its static list.
    List,
    /// A slot in Marketo's queue.
    Slot,
    /// The rate limiter: the limit of calls in the window is reached.
    Calls,
    /// The next plan, which may upload it.
    Turn,
    /// The upload that is under way.
    Upload,
    /// Marketo's queue.
    MarketoQueue,
    /// The end of the import.
    Import,
    /// Marketo's failure and warning files.
    Files,
}

/// Explains what `job` waits for. `ahead` is the oldest unended job of its group, if that is another job; `calls_at` is
/// the time of the next possible call, if none is possible at `now`.
pub fn explain(
    job: &Job,
    ahead: Option<JobId>,
    snapshot: &Snapshot,
    rules: &SchedulingRules,
    calls_at: Option<Timestamp>,
    now: Timestamp,
) -> Explanation {
    let (waits_for, text, until) = reason(job, ahead, snapshot, rules, calls_at, now);
    Explanation { id: job.id, state: job.state, waits_for, text, until }
}

type Reason = (WaitReason, String, Option<Timestamp>);

fn reason(
    job: &Job,
    ahead: Option<JobId>,
    snapshot: &Snapshot,
    rules: &SchedulingRules,
    calls_at: Option<Timestamp>,
    now: Timestamp,
) -> Reason {
    if job.state.is_terminal() {
        let text = match &job.error {
            Some(error) => format!("It has failed: {error}"),
            None => format!("It has ended: it is {}.", job.state),
        };
        return (WaitReason::Nothing, text, None);
    }
    let first = |state: BatchState| job.batches.iter().find(|batch| batch.state == state);
    if let Some(batch) = job.batches.iter().find(|batch| batch.overdue_at.is_some()) {
        return overdue(job, batch, snapshot, rules, now);
    }
    if let Some(batch) = first(BatchState::Held) {
        let text = format!(
            "Whether Marketo has part {} is unknown ({}), and unknown_outcome is \"hold\": retry sends it again, cancel gives it up, and POST /v1/jobs/{}/settle?part={}&marketo_batch_id=ID follows an import that an operator has found in Marketo.",
            batch.part,
            batch.message.as_deref().unwrap_or("its answer was lost"),
            job.id,
            batch.part,
        );
        return (WaitReason::Operator, text, None);
    }
    if let Some(paused) = paused(snapshot, job, now) {
        return paused;
    }
    if let Some(batch) = first(BatchState::Uploading) {
        return (WaitReason::Upload, format!("Part {} is being uploaded to Marketo.", batch.part), None);
    }
    if let Some(batch) = first(BatchState::Importing).or_else(|| first(BatchState::Queued)) {
        return on_marketo(job, batch, snapshot, rules, now);
    }
    if let Some(batch) = first(BatchState::Collecting) {
        let text = match batch.query_failures.all {
            0 => "The import has ended; its failure and warning files are being fetched.".to_owned(),
            n => format!("The import has ended; fetching its files has failed {n} times and is retried."),
        };
        return (WaitReason::Files, text, batch.not_before);
    }
    match first(BatchState::Pending) {
        Some(batch) => {
            let (waits_for, text, until) = pending(job, batch, ahead, snapshot, rules, now);
            match calls_at.filter(|_| waits_for == WaitReason::Turn) {
                Some(until) => (WaitReason::Calls, no_calls(batch), Some(until)),
                None => (waits_for, text, until),
            }
        }
        None => (WaitReason::Turn, "Its last batch has ended, and the job is about to end.".into(), None),
    }
}

fn paused(snapshot: &Snapshot, job: &Job, now: Timestamp) -> Option<Reason> {
    let pause = snapshot.instance.pause.as_ref()?;
    let ends_at = snapshot.pause_ends_at();
    if ends_at.is_some_and(|until| until <= now) {
        return None;
    }
    // An operator's pause stops uploads only. Imports that Marketo has continue.
    let only_uploads = pause.kind == PauseKind::Operator;
    if only_uploads
        && job
            .batches
            .iter()
            .any(|batch| batch.is_on_marketo() || matches!(batch.state, BatchState::Uploading | BatchState::Collecting))
    {
        return None;
    }
    let name = &job.instance;
    Some(match pause.kind {
        PauseKind::Operator => (
            WaitReason::Operator,
            format!("Instance {name} is paused: {}. `marqueue resume {name}` ends the pause.", pause.reason),
            None,
        ),
        PauseKind::Credentials => (
            WaitReason::Operator,
            format!(
                "Instance {name} is paused: {}. Correct the credentials, then run `marqueue resume {name}`.",
                pause.reason
            ),
            None,
        ),
        PauseKind::Quota => (
            WaitReason::Quota,
            format!("Instance {name} makes no calls until the quota day is over: {}.", pause.reason),
            ends_at,
        ),
    })
}

fn on_marketo(job: &Job, batch: &Batch, snapshot: &Snapshot, rules: &SchedulingRules, now: Timestamp) -> Reason {
    let id = batch.marketo_batch_id.as_deref().unwrap_or("?");
    let (older, until) = next_poll(job, batch, snapshot, rules, now);
    // The last error or undocumented status.
    let last_error = match &batch.message {
        Some(message) if batch.query_failures.all > 0 => format!(" The last poll failed: {message}."),
        _ => String::new(),
    };
    if batch.state == BatchState::Importing {
        let text = format!("Marketo is importing part {} (its batch {id}).{last_error}", batch.part);
        return (WaitReason::Import, text, until);
    }
    let text = match older {
        0 => format!(
            "Part {} is in Marketo's queue (its batch {id}), with none of our imports before it.{last_error}",
            batch.part
        ),
        older => {
            format!(
                "Part {} is in Marketo's queue (its batch {id}), with {older} of our imports before it.{last_error}",
                batch.part
            )
        }
    };
    (WaitReason::MarketoQueue, text, until)
}

/// Returns how many of our imports may end before the batch's, and when it is polled next.
fn next_poll(
    job: &Job,
    batch: &Batch,
    snapshot: &Snapshot,
    rules: &SchedulingRules,
    now: Timestamp,
) -> (usize, Option<Timestamp>) {
    let key = BatchKey { job: job.id, part: batch.part };
    match poll_interval::in_order(&snapshot.in_flight).find(|(flight, _)| flight.key == key) {
        Some((flight, older)) => {
            (older, Some(poll_interval::due(flight, older, &snapshot.recent_durations, &rules.polling, now)))
        }
        None => (0, None),
    }
}

fn overdue(job: &Job, batch: &Batch, snapshot: &Snapshot, rules: &SchedulingRules, now: Timestamp) -> Reason {
    let message = batch.message.as_deref().unwrap_or("the import has not ended within max_import_time");
    let text = format!(
        "Part {} is held (Marketo's batch {}): {message}. It is polled on, and ends as usual if Marketo ends the import; it occupies its slot until then. `marqueue cancel {} --abandon` gives it up; before that it cannot be retried.",
        batch.part,
        batch.marketo_batch_id.as_deref().unwrap_or("?"),
        job.id,
    );
    (WaitReason::Operator, text, next_poll(job, batch, snapshot, rules, now).1)
}

fn no_calls(batch: &Batch) -> String {
    match &batch.message {
        Some(message) => {
            format!("Part {} waits for the next possible call. Marketo's last message: {message}", batch.part)
        }
        None => format!(
            "Part {} waits for the next possible call: the limit of calls in the window is reached.",
            batch.part
        ),
    }
}

fn pending(
    job: &Job,
    batch: &Batch,
    ahead: Option<JobId>,
    snapshot: &Snapshot,
    rules: &SchedulingRules,
    now: Timestamp,
) -> Reason {
    let instance = &snapshot.instance;
    if let Some(until) = instance.backoff_until.filter(|&until| until > now) {
        let message =
            batch.message.as_ref().map(|message| format!(", the last for this file: {message}")).unwrap_or_default();
        let failures = instance.service_failures;
        let text = format!(
            "Marketo is unreachable or unavailable, or no upload succeeds ({failures} failures in a row{message}). No attempt is used up."
        );
        return (WaitReason::Service, text, Some(until));
    }
    let list = job.target.list_id();
    if let Some((list, until)) = snapshot.busy_lists.iter().find(|&&(busy, _)| list == Some(busy)) {
        let text = format!(
            "Another integration imports into static list {list}, and Marketo allows one import at a time for a list."
        );
        return (WaitReason::List, text, Some(*until));
    }
    if let Some(until) = batch.not_before.filter(|&until| until > now) {
        let message = batch.message.as_deref().unwrap_or("no reason was given");
        let text = format!("Part {} failed and is retried: {message} (attempts used: {}).", batch.part, batch.attempts);
        return (WaitReason::Backoff, text, Some(until));
    }
    if let Some(ahead) = ahead {
        return (
            WaitReason::Group,
            format!(
                "Its group \"{}\" is imported in order, and job {ahead} comes first.",
                job.group.as_deref().unwrap_or_default()
            ),
            None,
        );
    }
    if let Some(list) = list
        && let Some(flight) = snapshot.in_flight.iter().find(|f| f.list_id == Some(list) && f.state.occupies_slot())
    {
        let text = format!(
            "Marketo allows one import at a time for a static list, and job {} is importing into list {list}.",
            flight.key.job
        );
        return (WaitReason::List, text, None);
    }
    let occupied = snapshot.in_flight.iter().filter(|flight| flight.state.occupies_slot()).count()
        + snapshot.unconfirmed_until.len();
    let before = snapshot.candidates.iter().take_while(|candidate| candidate.key.job != job.id).count();
    if let Some(slots) = instance.observed_slot_limit.filter(|&slots| occupied >= slots as usize) {
        let text = format!(
            "Marketo's queue is full: it has {occupied} of our imports (at most {slots} were accepted) and those of other integrations. The job continues when one of ours ends, or at the next probe."
        );
        return (WaitReason::Slot, text, instance.slot_probe_at);
    }
    if occupied >= rules.max_in_flight as usize {
        let text = format!("All {} slots are occupied; {before} batches are before it.", rules.max_in_flight);
        return (WaitReason::Slot, text, None);
    }
    (WaitReason::Turn, "It is next: it is uploaded with the next possible call.".into(), None)
}
