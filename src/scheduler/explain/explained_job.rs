//! The explained job: checks in the order in which the plan does what the job waits for.

use jiff::Timestamp;

use crate::domain::batch_rules::FIRST_PART;
use crate::domain::instance::PauseKind;
use crate::domain::{BatchState, JobId, JobState};
use crate::scheduler::explain::explanation::{Explanation, Wait, WaitReason, Waiting};
use crate::scheduler::plan::SchedulingRules;
use crate::store::{Batch, Job, QueueOutlook};

/// A job and what the explanation depends on.
#[derive(Clone, Copy, Debug)]
pub struct ExplainedJob<'a> {
    /// The job.
    pub job: &'a Job,
    /// The oldest unended job of its group, if that is another job.
    pub ahead: Option<JobId>,
    /// The rows of its instance.
    pub outlook: &'a QueueOutlook,
    /// The rules of the plan.
    pub rules: &'a SchedulingRules,
    /// The time of the next possible call, if none is possible now.
    pub next_call_at: Option<Timestamp>,
    /// The time of the rows.
    pub now: Timestamp,
}

impl ExplainedJob<'_> {
    /// Explains what the job waits for.
    pub fn explain(&self) -> Explanation {
        let Wait { waits_for, short: _, mut text, until } = self.wait();
        let required = self.first(BatchState::Pending).and_then(|pending| self.required_batch(pending));
        if let Some(required) = required {
            let rule = self.job.batch_rules.dependency();
            text += &format!(" The pending parts of the job wait until part {} is complete ({rule}).", required.part);
        }
        Explanation { id: self.job.id, state: self.job.state, waits_for, text, until }
    }

    /// Returns what the job waits for in a few words; none where it has ended.
    pub fn waiting(&self) -> Option<Waiting> {
        let Wait { waits_for, short, text: _, until } = self.wait();
        (waits_for != WaitReason::Nothing).then_some(Waiting { waits_for, text: short, until })
    }

    /// Returns in a few words what the batch `part` of the job waits for; none where it is not pending. Other batches
    /// of the job may be under way meanwhile.
    pub fn pending_waiting(&self, part: u32) -> Option<Waiting> {
        let is_meant = |batch: &&Batch| batch.part == part && batch.state == BatchState::Pending;
        let pending = self.job.batches.iter().find(is_meant)?;
        let wait = self.paused().unwrap_or_else(|| match self.required_batch(pending) {
            Some(required) => self.dependent(required),
            None => self.pending(pending),
        });
        Some(Waiting { waits_for: wait.waits_for, text: wait.short, until: wait.until })
    }

    /// Returns the batch that has to be complete before `pending` is uploaded, by the rules of their job; none where all
    /// such are. A batch that failed or was cancelled is not looked for: its end has cancelled the pending ones.
    fn required_batch(&self, pending: &Batch) -> Option<&Batch> {
        let rules = &self.job.batch_rules;
        let before = self.job.batches.iter().take_while(|batch| batch.part != pending.part);
        let required = before.filter(|batch| rules.in_order || (rules.canary.is_some() && batch.part == FIRST_PART));
        required.filter(|batch| !batch.state.is_terminal()).last()
    }

    /// Returns the wait of a batch that needs `required` to be complete.
    fn dependent(&self, required: &Batch) -> Wait {
        let short = format!("waits for part {} ({})", required.part, self.job.batch_rules.dependency());
        Wait { short, ..self.under_way(required) }
    }

    fn first(&self, state: BatchState) -> Option<&Batch> {
        self.job.batches.iter().find(|batch| batch.state == state)
    }

    fn wait(&self) -> Wait {
        let job = self.job;
        if job.state.is_terminal() {
            return Wait::new(WaitReason::Nothing, "", ended_text(job));
        }
        if let Some(batch) = job.batches.iter().find(|batch| batch.overdue_at.is_some()) {
            return self.overdue(batch);
        }
        if let Some(batch) = self.first(BatchState::Held) {
            return self.held(batch);
        }
        if let Some(paused) = self.paused()
            && !self.continues_while_paused()
        {
            return paused;
        }
        let under_way =
            [BatchState::Uploading, BatchState::Importing, BatchState::Queued, BatchState::Collecting].into_iter();
        if let Some(batch) = under_way.filter_map(|state| self.first(state)).next() {
            return self.under_way(batch);
        }
        match self.first(BatchState::Pending) {
            Some(batch) => self.pending(batch),
            None => {
                Wait::new(WaitReason::Turn, "about to end", "Its last batch has ended, and the job is about to end.")
            }
        }
    }

    /// Returns the wait of a batch that is uploaded, on Marketo or held, or whose reports are fetched.
    fn under_way(&self, batch: &Batch) -> Wait {
        match batch.state {
            _ if batch.overdue_at.is_some() => self.overdue(batch),
            BatchState::Held => self.held(batch),
            BatchState::Uploading => {
                let text = format!("Part {} is being uploaded to Marketo.{}", batch.part, sharing_text(batch));
                Wait::new(WaitReason::Upload, "being uploaded", text)
            }
            BatchState::Collecting => {
                let text = match batch.query_failures.all {
                    0 => "The import has ended; its failure and warning files are being fetched.".to_owned(),
                    n => format!("The import has ended; fetching its files has failed {n} times and is retried."),
                } + &sharing_text(batch);
                Wait::new(WaitReason::Files, "fetching its failure and warning files", text).until(batch.not_before)
            }
            _ => self.on_marketo(batch),
        }
    }

    fn held(&self, batch: &Batch) -> Wait {
        let text = format!(
            "Whether Marketo has part {} is unknown ({}), and unknown_outcome is \"hold\": retry sends it again, cancel gives it up, and \"marqueue settle {} --part {} --marketo-batch-id ID\" follows an import that an operator has found in Marketo.",
            batch.part,
            batch.message.as_deref().unwrap_or("its answer was lost"),
            self.job.id,
            batch.part,
        );
        Wait::new(WaitReason::Operator, format!("the outcome of the upload of part {} is unknown", batch.part), text)
    }

    /// Returns whether a batch of the job continues although the instance is paused: an operator's pause stops uploads
    /// only.
    fn continues_while_paused(&self) -> bool {
        let is_under_way = |batch: &Batch| {
            batch.is_on_marketo() || matches!(batch.state, BatchState::Uploading | BatchState::Collecting)
        };
        let pause = self.outlook.snapshot.instance.pause.as_ref();
        pause.is_some_and(|pause| pause.kind == PauseKind::Operator) && self.job.batches.iter().any(is_under_way)
    }

    /// Returns the wait for the end of the instance's pause; none where it is not paused.
    fn paused(&self) -> Option<Wait> {
        let pause = self.outlook.snapshot.instance.pause.as_ref()?;
        let ends_at = self.outlook.snapshot.pause_ends_at();
        if ends_at.is_some_and(|until| until <= self.now) {
            return None;
        }
        let (name, reason) = (&self.job.instance, &pause.reason);
        Some(match pause.kind {
            PauseKind::Operator => Wait::new(
                WaitReason::Operator,
                "paused by an operator",
                format!("Instance {name} is paused: {reason}. `marqueue resume {name}` ends the pause."),
            ),
            PauseKind::Credentials => Wait::new(
                WaitReason::Operator,
                "paused, because Marketo refuses the credentials",
                format!(
                    "Instance {name} is paused: {reason}. Correct the credentials, then run `marqueue resume {name}`."
                ),
            ),
            PauseKind::Quota => Wait::new(
                WaitReason::Quota,
                "the day's quota of calls is used up",
                format!("Instance {name} makes no calls until the quota day is over: {reason}."),
            )
            .until(ends_at),
        })
    }
}

/// Returns a sentence that tells with how many jobs a batch shares its import; empty where with none.
pub(super) fn sharing_text(batch: &Batch) -> String {
    match batch.shared_with {
        0 => String::new(),
        1 => " It shares an import with 1 other job.".to_owned(),
        others => format!(" It shares an import with {others} other jobs."),
    }
}

/// Returns how a job ended: why it failed, or what Marketo imported of it.
fn ended_text(job: &Job) -> String {
    if let (JobState::Failed, Some(error)) = (job.state, &job.error) {
        return error.clone();
    }
    let rows = &job.rows;
    let noun = if rows.total == 1 { "row" } else { "rows" };
    if rows.processed.is_none() && job.batches.iter().any(|batch| batch.shared_with > 0) {
        return "The outcome of some of its rows is unknown: it shared an import with other jobs, and Marketo's reports \
                do not show to which job each of their rows belongs."
            .to_owned();
    }
    let mut text = match rows.processed {
        Some(processed) => format!("Marketo imported {processed} of its {} {noun}", rows.total),
        None => format!("Marketo did not count how many of its {} {noun} it imported", rows.total),
    };
    match rows.failed {
        Some(0) => {}
        Some(failed) => text += &format!(", and {failed} failed"),
        None => text += ", nor how many failed",
    }
    match rows.discrepancy() {
        Some(discrepancy) => format!("{text}. {discrepancy}."),
        None => text + ".",
    }
}

#[cfg(test)]
mod tests;
