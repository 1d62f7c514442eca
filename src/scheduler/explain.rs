//! Why is a job where it is? What it waits for, in words and with a time. Pure: from the same snapshot that the plan sees.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::clock::TimestampSchema;
use crate::domain::instance::PauseKind;
use crate::domain::{BatchKey, BatchState, JobId, JobState};
use crate::scheduler::plan::SchedulingRules;
use crate::scheduler::poll_interval;
use crate::store::{Batch, Job, Snapshot};

/// The answer to `explain`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Explanation {
    pub id: JobId,
    pub state: JobState,
    /// What it waits for, as a word for programs; see [`WaitsFor`].
    pub waits_for: WaitReason,
    /// The same as one or two sentences.
    pub text: String,
    /// When that is looked at again at the latest; none where nobody knows.
    #[schemars(with = "Option<TimestampSchema>")]
    pub until: Option<Timestamp>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum WaitReason {
    /// It has ended.
    Nothing,
    /// A person: a held batch, or a pause that a person made or has to end.
    Operator,
    /// The end of the quota's day.
    Quota,
    /// Marketo as a whole to answer again.
    Service,
    /// A pause after a refusal.
    Backoff,
    /// An earlier job of its group.
    Group,
    /// Another import into its static list.
    List,
    /// A place in Marketo's queue.
    Slot,
    /// The next call: too many have been made in the window.
    Calls,
    /// Its turn: it may go at the next look.
    Turn,
    /// The upload that is under way.
    Upload,
    /// Its place at the front of Marketo's queue.
    MarketoQueue,
    /// The import to end.
    Import,
    /// Marketo's failure and warning files.
    Files,
}

/// Explains `job`. `ahead` is the oldest unended job of its group, if it is in one and not that itself; `calls_at` is
/// when the next call may leave, where none may now.
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
            "Whether Marketo has part {} is unknown ({}), and the policy is to ask a person: retry sends it again, cancel leaves it, and POST /v1/jobs/{}/settle?part={}&marketo_batch_id=ID follows the import that was found there.",
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
            n => format!("The import has ended; fetching its files has failed {n} times and is tried again."),
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
        None => (WaitReason::Turn, "It is being settled.".into(), None),
    }
}

fn paused(snapshot: &Snapshot, job: &Job, now: Timestamp) -> Option<Reason> {
    let pause = snapshot.instance.pause.as_ref()?;
    let ends_at = snapshot.pause_ends_at();
    if ends_at.is_some_and(|until| until <= now) {
        return None;
    }
    // A person's pause stops uploads; what Marketo has goes on.
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
            format!("Instance {name} is paused: {}. `marqueue resume {name}` lets it go on.", pause.reason),
            None,
        ),
        PauseKind::Credentials => (
            WaitReason::Operator,
            format!("Instance {name} has stopped: {}. When that is mended, `marqueue resume {name}`.", pause.reason),
            None,
        ),
        PauseKind::Quota => (
            WaitReason::Quota,
            format!("Instance {name} makes no calls until the day is over: {}.", pause.reason),
            ends_at,
        ),
    })
}

fn on_marketo(job: &Job, batch: &Batch, snapshot: &Snapshot, rules: &SchedulingRules, now: Timestamp) -> Reason {
    let id = batch.marketo_batch_id.as_deref().unwrap_or("?");
    let (older, until) = next_poll(job, batch, snapshot, rules, now);
    // What was last said instead of an answer, be it an error or a status word that nobody documents.
    let in_vain = match &batch.message {
        Some(said) if batch.query_failures.all > 0 => format!(" It was last asked in vain: {said}."),
        _ => String::new(),
    };
    if batch.state == BatchState::Importing {
        let text = format!("Marketo is importing part {} (its batch {id}).{in_vain}", batch.part);
        return (WaitReason::Import, text, until);
    }
    let text = match older {
        0 => format!("Part {} is in Marketo's queue (its batch {id}), the first of ours.{in_vain}", batch.part),
        older => {
            format!("Part {} is in Marketo's queue (its batch {id}), behind {older} of ours.{in_vain}", batch.part)
        }
    };
    (WaitReason::MarketoQueue, text, until)
}

/// How many of our imports may end before the batch's, and when it is asked after next.
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
    let said = batch.message.as_deref().unwrap_or("Marketo has not ended the import within max_import_time");
    let text = format!(
        "Part {} is held (Marketo's batch {}): {said}. It is asked after on, and ends as usual if Marketo ends it; its place counts as taken until then. `marqueue cancel {} --abandon` gives it up; it can't be retried before.",
        batch.part,
        batch.marketo_batch_id.as_deref().unwrap_or("?"),
        job.id,
    );
    (WaitReason::Operator, text, next_poll(job, batch, snapshot, rules, now).1)
}

fn no_calls(batch: &Batch) -> String {
    match &batch.message {
        Some(said) => format!("Part {} goes as soon as a call may leave. Marketo said last: {said}", batch.part),
        None => format!("Part {} goes as soon as a call may leave: too many were made in the window.", batch.part),
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
        let said = batch.message.as_ref().map(|said| format!(", the last about this file: {said}")).unwrap_or_default();
        let times = instance.service_failures;
        let text = format!(
            "Marketo can't be reached or says that it is down ({times} times in a row{said}), or no upload succeeds. No attempt is used up."
        );
        return (WaitReason::Service, text, Some(until));
    }
    let list = job.target.list_id();
    if let Some((list, until)) = snapshot.busy_lists.iter().find(|&&(busy, _)| list == Some(busy)) {
        let text = format!("Another integration's import fills static list {list}, and Marketo takes one at a time.");
        return (WaitReason::List, text, Some(*until));
    }
    if let Some(until) = batch.not_before.filter(|&until| until > now) {
        let said = batch.message.as_deref().unwrap_or("no reason was given");
        let text =
            format!("Part {} was refused and is tried again: {said} (attempts used: {}).", batch.part, batch.attempts);
        return (WaitReason::Backoff, text, Some(until));
    }
    if let Some(ahead) = ahead {
        return (
            WaitReason::Group,
            format!(
                "Its group \"{}\" is imported in order, and job {ahead} is before it.",
                job.group.as_deref().unwrap_or_default()
            ),
            None,
        );
    }
    if let Some(list) = list
        && let Some(flight) = snapshot.in_flight.iter().find(|f| f.list_id == Some(list) && f.state.occupies_slot())
    {
        let text = format!(
            "Marketo imports into one static list one file at a time, and job {} is importing into list {list}.",
            flight.key.job
        );
        return (WaitReason::List, text, None);
    }
    let held = snapshot.in_flight.iter().filter(|flight| flight.state.occupies_slot()).count()
        + snapshot.unconfirmed_until.len();
    let before = snapshot.candidates.iter().take_while(|candidate| candidate.key.job != job.id).count();
    if let Some(slots) = instance.observed_slot_limit.filter(|&slots| held >= slots as usize) {
        let text = format!(
            "Marketo's queue is full: it has {held} of our imports (it last let us have {slots}), and others' besides. It goes when one of ours ends, or at the next try."
        );
        return (WaitReason::Slot, text, instance.slot_probe_at);
    }
    if held >= rules.max_in_flight as usize {
        let text = format!(
            "All {} places that we may take on Marketo are taken; {before} batches are before it.",
            rules.max_in_flight
        );
        return (WaitReason::Slot, text, None);
    }
    (WaitReason::Turn, "It is next: it is uploaded as soon as a call may leave.".into(), None)
}
