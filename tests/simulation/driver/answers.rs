//! Answers: the second halves of upload, poll and fetch. What follows is decided by `scheduler::outcome`.

use std::time::Duration;

use jiff::Timestamp;
use marqueue::domain::batch::QueryFailureKind;
use marqueue::domain::instance::{Pause, PauseKind};
use marqueue::domain::{BatchKey, BatchState, Counts, Event, FailureReason, FailureScope, RemoteStatus, ReportKind};
use marqueue::marketo::{ErrorAction, UploadError};
use marqueue::scheduler::outcome::{
    FailedQuery, FailedUpload, InstanceAction, PollRetry, PreviousPoll, believed_wait, instance_action, overdue_event,
    poll_event, query_failure_kind,
};

use super::{Done, Mutation, Next, Simulation};
use crate::model_store::SharingLimit;
use crate::worker::{Answer, Stage, Task, Worker};

impl Simulation {
    /// How the workers of uploads, polls and fetches handle an answer.
    pub(super) fn answered(&mut self, mut worker: Worker, answer: Answer) -> Done<Next> {
        let Some(key) = worker.key else { return Ok(Next::Ended) };
        self.note(|| format!("{key} {:?} gets {answer:?}", worker.task));
        let refusal = match &answer {
            Answer::NotCreated(UploadError::Refused { action: ask, reason, .. })
            | Answer::Unanswered { ask, reason } => {
                for key in self.sent_for(&worker) {
                    self.checker.answered(key, *ask);
                }
                Some((*ask, reason.text.clone()))
            }
            _ => None,
        };
        let mut whole_matter = false;
        if let Some((ask, reason)) = refusal {
            if ask == ErrorAction::NewToken {
                let held = self.daemon.as_mut().map(|daemon| &mut daemon.token);
                held.and_then(|held| held.take_if(|token| *token == worker.token));
            }
            if ask == ErrorAction::NewToken && !worker.renewed {
                worker.renewed = true;
                self.checker.token_refused(&worker.packed);
                self.checker.may_repeat(key);
                worker.stage = Stage::Token;
                return Ok(Next::Goes(worker));
            }
            whole_matter = self.handle_refusal(ask, reason, key);
        }
        match (worker.task, answer) {
            (Task::Upload, Answer::Created { id, status }) => {
                let at = self.at;
                self.daemon.as_mut().map(|daemon| daemon.watched.insert(key, at));
                self.record(key, Event::Accepted { marketo_batch_id: id.to_string(), status })?;
            }
            (Task::Upload, Answer::NotCreated(UploadError::Refused { action: ErrorAction::TooLarge, .. })) => {
                let rows: usize = worker.packed.iter().map(|packed| packed.rows.len()).sum();
                if worker.packed.len() > 1 {
                    let limit = SharingLimit::MaxRows(rows as u32 / 2);
                    self.end_sharing(key, Event::Split { reason: "413, and several jobs".into() }, limit)?;
                } else if rows > 1 {
                    self.record(key, Event::Split { reason: "413".into() })?;
                    let halved = self.store.halve(key, self.now());
                    halved.expect("a pending batch can be cancelled");
                } else {
                    self.record(key, Event::Rejected { reason: "413, and one row".into() })?;
                }
            }
            (Task::Upload, Answer::NotCreated(fault)) => return self.not_created(worker, key, fault),
            (Task::Poll, Answer::Status { status, counts, message }) => {
                if status == Some(RemoteStatus::Failed) {
                    self.store.sharing(key).into_iter().for_each(|key| self.checker.import_failed(key));
                }
                self.status(key, status, counts, message)?;
            }
            (Task::Poll, Answer::Unanswered { ask, reason }) if !whole_matter => {
                return self.poll_failed(key, ask, &reason);
            }
            (Task::Collect(report), Answer::Report { there: true }) => return self.next_report(worker, report),
            (Task::Collect(report), Answer::Report { there: false }) => {
                let (counts, _) = self.store.import_counts(key);
                let counted = if report == ReportKind::Failures { counts.failed } else { counts.warned };
                return match counted {
                    None | Some(0) => self.next_report(worker, report),
                    Some(_) => self.fetch_failed(worker, key, report, None, &"no such file".into()),
                };
            }
            (Task::Collect(report), Answer::Unanswered { ask, reason }) if !whole_matter => {
                return self.fetch_failed(worker, key, report, Some(ask), &reason);
            }
            _ => {}
        }
        Ok(Next::Ended)
    }

    /// The batches that a call is about.
    fn sent_for(&self, worker: &Worker) -> Vec<BatchKey> {
        match (worker.task, worker.key) {
            (Task::Upload, _) => worker.packed.iter().map(|packed| packed.key).collect(),
            (_, Some(key)) => self.store.sharing(key),
            (_, None) => Vec::new(),
        }
    }

    /// `poll::answered`.
    fn status(
        &mut self,
        key: BatchKey,
        status: Option<RemoteStatus>,
        counts: Counts,
        message: Option<String>,
    ) -> Done<()> {
        let (now, at) = (self.now(), self.at);
        if self.given_up(key) {
            return Ok(());
        }
        let progress = self.store.batch(key).progress.clone();
        let asked = PreviousPoll {
            accepted_at: progress.accepted_at,
            query_failures: progress.query_failures,
            counts: progress.counts,
            waited: progress.waited,
            is_overdue: progress.overdue_at.is_some(),
        };
        let previous = self.daemon.as_mut().and_then(|daemon| daemon.watched.insert(key, at));
        let mut watched = previous.map(|before| at - before);
        if self.mutation == Mutation::TrustsClock {
            let since = progress.polled_at.max(progress.accepted_at).unwrap_or(now);
            watched = Some(Duration::try_from(now.duration_since(since)).unwrap_or_default());
        }
        let waited = believed_wait(watched, &self.config);
        let word = if status.is_some() { "Importing" } else { "Paused" };
        let event = match status {
            Some(status) => poll_event(status, counts, message, waited),
            None => asked.unknown_status_event(word, waited, &self.config, now),
        };
        if let Event::ImportLost { reason, .. } = &event
            && self.store.batch(key).sharing.others > 0
            && status == Some(RemoteStatus::Failed)
        {
            return self.end_sharing(key, Event::Unpacked { reason: reason.clone() }, SharingLimit::Alone);
        }
        let goes_on = !matches!(event, Event::ImportEnded { .. } | Event::ImportLost { .. });
        self.record(key, event)?;
        match overdue_event(word, asked, waited, &self.config) {
            Some(event) if goes_on => {
                self.stats.overdue += 1;
                self.record(key, event)
            }
            _ => Ok(()),
        }
    }

    /// `poll::unless_given_up`: an operator gave up the import while it was asked after.
    fn given_up(&self, key: BatchKey) -> bool {
        !matches!(self.store.state(key), BatchState::Queued | BatchState::Importing)
    }

    /// `WorkerContext::handle_refusal`: whether a refusal is about the whole instance.
    pub(super) fn handle_refusal(&mut self, ask: ErrorAction, reason: String, key: BatchKey) -> bool {
        let (now, instant) = (self.now(), self.instant());
        match instance_action(ask, &self.config, now) {
            None => return false,
            Some(InstanceAction::WindowFull) => {
                self.checker.may_repeat(key);
                self.daemon.as_mut().into_iter().for_each(|daemon| daemon.rate_limiter.window_is_full(instant));
            }
            Some(InstanceAction::TooManyConcurrent) => {
                self.checker.may_repeat(key);
                self.daemon.as_mut().into_iter().for_each(|daemon| daemon.rate_limiter.too_many_at_once(instant));
            }
            Some(InstanceAction::Pause { kind, until }) => self.pause(kind, reason, until),
        }
        true
    }

    pub(super) fn pause(&mut self, kind: PauseKind, reason: String, until: Option<Timestamp>) {
        self.note(|| format!("a pause: {kind:?} {reason} until {until:?}"));
        let pause = Pause { kind, reason, at: self.now(), until };
        let stopped = self.store.instance.with_pause(pause);
        if stopped.pause.as_ref().map(|pause| pause.kind) != self.store.instance.pause.as_ref().map(|pause| pause.kind)
        {
            self.checker.progress_made();
        }
        self.store.instance = stopped;
        self.wake();
    }

    pub(super) fn not_created(&mut self, mut worker: Worker, key: BatchKey, fault: UploadError) -> Done<Next> {
        let now = self.now();
        let tried = self.store.batch(key).progress.upload_attempts();
        match self.mutation {
            Mutation::ResendsWithoutReason if matches!(fault, UploadError::AnswerLost { .. }) => {
                worker.stage = Stage::Token;
                return Ok(Next::Goes(worker));
            }
            Mutation::AcceptsRefusals if matches!(fault, UploadError::Refused { .. }) => {
                let status = RemoteStatus::Queued;
                self.record(key, Event::Accepted { marketo_batch_id: "77".into(), status })?;
                return Ok(Next::Ended);
            }
            Mutation::GivesUpAtOnce if matches!(fault, UploadError::Refused { .. }) => {
                self.record(key, Event::Rejected { reason: "no".into() })?;
                return Ok(Next::Ended);
            }
            _ => {}
        }
        let is_broken_off = matches!(fault, UploadError::BrokenOff(_));
        let seen = self.snapshot(now);
        let mut event = FailedUpload { tried, snapshot: &seen, instance: &self.config, now }.event(fault);
        if let (Mutation::BlamesBatch, Event::Refused { scope: blame, .. } | Event::AnswerLost { scope: blame, .. }) =
            (self.mutation, &mut event)
        {
            *blame = FailureScope::Batch;
        }
        self.record_failed_upload(key, event, is_broken_off)?;
        Ok(Next::Ended)
    }

    pub(super) fn poll_failed(&mut self, key: BatchKey, ask: ErrorAction, reason: &FailureReason) -> Done<Next> {
        let now = self.now();
        if self.given_up(key) {
            return Ok(Next::Ended);
        }
        let progress = self.store.batch(key).progress.clone();
        if self.mutation == Mutation::ResendsAfterPoll {
            self.store.forget(key);
            self.wake();
            return Ok(Next::Ended);
        }
        let failed = FailedQuery {
            action: Some(ask),
            reason,
            accepted_at: progress.accepted_at,
            failures_before: progress.query_failures,
        };
        match failed.after_poll(&self.config, now) {
            PollRetry::GiveUp(reason) => self.record(key, Event::ImportLost { counts: progress.counts, reason })?,
            PollRetry::RetryAt(not_before) => self.ask_again(key, query_failure_kind(Some(ask)), not_before),
        }
        Ok(Next::Ended)
    }

    pub(super) fn fetch_failed(
        &mut self,
        worker: Worker,
        key: BatchKey,
        report: ReportKind,
        ask: Option<ErrorAction>,
        reason: &FailureReason,
    ) -> Done<Next> {
        let (now, progress) = (self.now(), self.store.batch(key).progress.clone());
        let failed = FailedQuery {
            action: ask,
            reason,
            accepted_at: progress.accepted_at,
            failures_before: progress.query_failures,
        };
        match failed.after_fetch(&self.config, now) {
            PollRetry::GiveUp(_) => {
                self.ask_again(key, query_failure_kind(ask), now);
                self.next_report(worker, report)
            }
            PollRetry::RetryAt(not_before) => {
                self.ask_again(key, query_failure_kind(ask), not_before);
                Ok(Next::Ended)
            }
        }
    }

    pub(super) fn ask_again(&mut self, key: BatchKey, kind: QueryFailureKind, not_before: Timestamp) {
        let now = self.now();
        self.note(|| format!("{key} is asked after again at {not_before}"));
        self.store.ask_failed(key, kind, not_before, now);
        self.checker.progress_made();
        self.wake();
    }

    /// One file is fetched, or there is none.
    pub(super) fn next_report(&mut self, mut worker: Worker, done: ReportKind) -> Done<Next> {
        let Some(key) = worker.key else { return Ok(Next::Ended) };
        match done {
            ReportKind::Failures => {
                (worker.task, worker.stage, worker.renewed) =
                    (Task::Collect(ReportKind::Warnings), Stage::Token, false);
                Ok(Next::Goes(worker))
            }
            ReportKind::Warnings => {
                self.record(key, Event::Collected)?;
                Ok(Next::Ended)
            }
        }
    }
}
