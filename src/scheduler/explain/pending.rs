//! Explanations of pending batches: backoff, group, static list, slots, calls.

use crate::scheduler::explain::explained_job::ExplainedJob;
use crate::scheduler::explain::explanation::{Wait, WaitReason};
use crate::scheduler::outlook::{JobsAhead, jobs_ahead};
use crate::store::Batch;

impl ExplainedJob<'_> {
    pub(super) fn pending(&self, batch: &Batch) -> Wait {
        let wait = self
            .not_before()
            .or_else(|| self.service_backoff(batch))
            .or_else(|| self.busy_elsewhere())
            .or_else(|| self.batch_backoff(batch));
        let wait = wait.or_else(|| self.group()).or_else(|| self.busy_list()).or_else(|| self.no_slot());
        wait.unwrap_or_else(|| self.next_call(batch))
    }

    /// The job has an earliest time.
    fn not_before(&self) -> Option<Wait> {
        let until = self.job.not_before.filter(|&until| until > self.now)?;
        let text = format!("It was added with an earliest time, and is uploaded not before {until:.0}.");
        Some(Wait::new(WaitReason::NotBefore, "waits for its earliest time", text).until(until))
    }

    fn service_backoff(&self, batch: &Batch) -> Option<Wait> {
        let instance = &self.outlook.snapshot.instance;
        let until = instance.backoff_until.filter(|&until| until > self.now)?;
        let message =
            batch.message.as_ref().map(|message| format!(", the last for this file: {message}")).unwrap_or_default();
        let failures = instance.service_failures;
        let text = format!(
            "Marketo is unreachable or unavailable, or no upload succeeds ({failures} failures in a row{message}). No attempt is used up."
        );
        Some(Wait::new(WaitReason::Service, "Marketo is unavailable, or no upload succeeds", text).until(until))
    }

    /// Another integration imports into the job's static list.
    fn busy_elsewhere(&self) -> Option<Wait> {
        let list = self.job.target.list_id()?;
        let (_, until) = self.outlook.snapshot.busy_lists.iter().find(|&&(busy, _)| busy == list)?;
        let text = format!(
            "Another integration imports into static list {list}, and Marketo allows one import at a time for a list."
        );
        let short = format!("another integration imports into static list {list}");
        Some(Wait::new(WaitReason::List, short, text).until(*until))
    }

    fn batch_backoff(&self, batch: &Batch) -> Option<Wait> {
        let until = batch.not_before.filter(|&until| until > self.now)?;
        let message = batch.message.as_deref().unwrap_or("no reason was given");
        let text = format!("Part {} failed and is retried: {message} (attempts used: {}).", batch.part, batch.attempts);
        let short = format!("part {} failed and is retried", batch.part);
        Some(Wait::new(WaitReason::Backoff, short, text).until(until))
    }

    fn group(&self) -> Option<Wait> {
        let ahead = self.ahead?;
        let group = self.job.group.as_deref().unwrap_or_default();
        let text = format!("Its group \"{group}\" is imported in order, and job {ahead} comes first.");
        Some(Wait::new(WaitReason::Group, format!("waits for job {ahead} (group {group})"), text))
    }

    /// Another job imports into the job's static list.
    fn busy_list(&self) -> Option<Wait> {
        let list = self.job.target.list_id()?;
        let mut in_flight = self.outlook.snapshot.in_flight.iter();
        let flight = in_flight.find(|flight| flight.list_id == Some(list) && flight.state.occupies_slot())?;
        let text = format!(
            "Marketo allows one import at a time for a static list, and job {} is importing into list {list}.",
            flight.key.job
        );
        let short = format!("waits for job {} (static list {list})", flight.key.job);
        Some(Wait::new(WaitReason::List, short, text))
    }

    fn no_slot(&self) -> Option<Wait> {
        let (instance, max_in_flight) = (&self.outlook.snapshot.instance, self.rules.max_in_flight);
        let occupied = self.outlook.snapshot.in_flight.iter().filter(|flight| flight.state.occupies_slot()).count()
            + self.outlook.snapshot.unconfirmed_until.len();
        if let Some(slots) = instance.observed_slot_limit.filter(|&slots| occupied >= slots as usize) {
            let text = format!(
                "Marketo's queue is full: it has {occupied} of our imports (at most {slots} were accepted) and those of other integrations. The job continues when one of ours ends, or at the next probe."
            );
            return Some(Wait::new(WaitReason::Slot, "Marketo's queue is full", text).until(instance.slot_probe_at));
        }
        let occupied = occupied + self.outlook.snapshot.in_flight_elsewhere as usize;
        (occupied >= max_in_flight as usize).then(|| {
            let (are, ahead) = match jobs_ahead(self.outlook, self.job) {
                JobsAhead::Exactly(0) => ("no job is".to_owned(), String::new()),
                JobsAhead::Exactly(1) => ("1 job is".to_owned(), ", 1 job ahead of it".to_owned()),
                JobsAhead::Exactly(jobs) => (format!("{jobs} jobs are"), format!(", {jobs} jobs ahead of it")),
                JobsAhead::MoreThan(jobs) => {
                    (format!("more than {jobs} jobs are"), format!(", more than {jobs} jobs ahead of it"))
                }
            };
            let text = format!("All {max_in_flight} slots are occupied; {are} before it.");
            Wait::new(WaitReason::Slot, format!("waits for a free slot{ahead}"), text)
        })
    }

    /// Nothing but the rate limiter delays the batch.
    fn next_call(&self, batch: &Batch) -> Wait {
        let Some(until) = self.next_call_at else {
            return Wait::new(WaitReason::Turn, "next", "It is next: it is uploaded with the next possible call.");
        };
        let part = batch.part;
        let text = match &batch.message {
            Some(message) => {
                format!("Part {part} waits for the next possible call. Marketo's last message: {message}")
            }
            None => {
                format!("Part {part} waits for the next possible call: the limit of calls in the window is reached.")
            }
        };
        Wait::new(WaitReason::Calls, "the limit of calls in the window is reached", text).until(until)
    }
}
