//! Calls: `scheduler::api_call`, the first halves of upload, poll and fetch, and the way to Marketo.

use std::time::Instant;

use marqueue::clock::PATIENCE;
use marqueue::domain::instance::PauseKind;
use marqueue::domain::{BatchKey, BatchState, DeferReason, Event, FailureReason, ReportKind};
use marqueue::marketo::types::ApiError;
use marqueue::marketo::{Decision, ErrorAction, UploadError, classify};
use marqueue::scheduler::outcome::{FailedUpload, may_have_report, service_backoff_until};
use marqueue::scheduler::{day_of, may_still_upload, next_day};
use marqueue::simulator::{Admission, Call};
use marqueue::store::QuotaDay;
use rand::RngExt;

use super::marketo::reading;
use super::outage::Outage;
use super::{Done, Mutation, Next, Simulation};
use crate::worker::{Answer, ServerOutcome, Stage, Task, Worker};

impl Simulation {
    pub(super) fn stage(&mut self, mut worker: Worker) -> Done<Next> {
        let instant = self.instant();
        match worker.stage.clone() {
            Stage::Token => self.begin(worker),
            Stage::RateLimited => {
                let Some(daemon) = &mut self.daemon else { return Ok(Next::Ended) };
                if daemon.rate_limiter.decide(instant) != Decision::Go {
                    return Ok(Next::Waits(worker));
                }
                daemon.rate_limiter.begin();
                self.leave(worker)
            }
            Stage::Sent { call } => {
                worker.stage = self.arrive(&worker, call);
                Ok(Next::Goes(worker))
            }
            Stage::Inside { call, admission, outcome } => {
                let answer = self.serve(&worker, outcome);
                self.marketo.end_call(Call::Other, admission);
                worker.stage = Stage::Back { call, answer };
                Ok(Next::Goes(worker))
            }
            Stage::Back { call, answer } => {
                if let Some(daemon) = &mut self.daemon {
                    daemon.rate_limiter.end(instant);
                }
                self.store.call_ended(call, self.uptime());
                self.answered(worker, answer)
            }
        }
    }

    /// The worker looks at its batch, and gets a token.
    pub(super) fn begin(&mut self, mut worker: Worker) -> Done<Next> {
        let now = self.now();
        if worker.task == Task::Resume {
            self.note(|| "the pause is over".into());
            self.store.instance = self.store.instance.without_pause(Some(PauseKind::Quota));
            self.wake();
            return Ok(Next::Ended);
        }
        let Some(key) = worker.key else { return Ok(Next::Ended) };
        let progress = self.store.batch(key).progress.clone();
        let state = progress.state;
        match worker.task {
            Task::Recover => {
                let (tried, seen) = (progress.upload_attempts(), self.snapshot(now));
                let upload = FailedUpload { tried, snapshot: &seen, instance: &self.config, now };
                let event = upload.interrupted("the daemon ended".into());
                self.record_failed_upload(key, event, false)?;
                return Ok(Next::Ended);
            }
            Task::Poll if !matches!(state, BatchState::Queued | BatchState::Importing) => return Ok(Next::Ended),
            Task::Collect(_) if state != BatchState::Collecting => return Ok(Next::Ended),
            Task::Collect(report) => {
                let (counts, rows) = self.store.import_counts(key);
                if !may_have_report(report, counts, u64::from(rows)) {
                    return self.next_report(worker, report);
                }
            }
            _ => {}
        }
        if self.faults.unreachable || self.faults.outage == Some(Outage::Unreachable) {
            return self.unreachable(worker, key);
        }
        let has = self.daemon.as_ref().and_then(|daemon| daemon.token.clone());
        let token = match has {
            Some(token) => token,
            None => {
                let secret = if self.faults.locked_out { "wrong" } else { "secret" };
                match self.marketo.issue_token(self.at, "simulator", secret) {
                    Ok(token) => token.access_token,
                    Err(error) => {
                        self.pause(PauseKind::Credentials, error.error_description, None);
                        return self.not_now(worker, key);
                    }
                }
            }
        };
        if let Some(daemon) = &mut self.daemon {
            daemon.token = Some(token.clone());
        }
        worker.token.clone_from(&token);
        worker.stage = Stage::RateLimited;
        Ok(Next::Goes(worker))
    }

    /// `Admitted::NotNow`.
    pub(super) fn not_now(&mut self, worker: Worker, key: BatchKey) -> Done<Next> {
        if worker.begun() {
            let event = Event::Requeued {
                defer_reason: DeferReason::Instance,
                reason: "the instance is paused".into(),
                not_before: None,
            };
            self.record(key, event)?;
        }
        Ok(Next::Ended)
    }

    /// `Admitted::Unreachable`.
    pub(super) fn unreachable(&mut self, worker: Worker, key: BatchKey) -> Done<Next> {
        let now = self.now();
        let reason = FailureReason::from("no route");
        match worker.task {
            Task::Upload => {
                let until = service_backoff_until(&self.snapshot(now), &self.config, now);
                if worker.begun() {
                    self.record(
                        key,
                        Event::Requeued { defer_reason: DeferReason::Service, reason, not_before: Some(until) },
                    )?;
                } else {
                    self.store.instance = self.store.instance.after_service_failure(until, now);
                    self.checker.progress_made();
                    self.wake();
                }
                Ok(Next::Ended)
            }
            Task::Poll => self.poll_failed(key, ErrorAction::ServiceDown, &reason),
            Task::Collect(report) => self.fetch_failed(worker, key, report, Some(ErrorAction::ServiceDown), &reason),
            Task::Recover | Task::Resume => Ok(Next::Ended),
        }
    }

    /// The rate limiter admits the call: it is recorded and leaves, unless something has changed meanwhile.
    pub(super) fn leave(&mut self, mut worker: Worker) -> Done<Next> {
        let (now, instant) = (self.now(), self.instant());
        let Some(key) = worker.key else { return Ok(Next::Ended) };
        let stopped = self.store.instance.pause.as_ref().is_some_and(|pause| pause.kind != PauseKind::Operator);
        if stopped && self.mutation != Mutation::CallsWhilePaused {
            self.end_permit(instant);
            return self.not_now(worker, key);
        }
        let (reset, daily) = (self.config.limits.daily_reset, self.config.limits.daily_calls);
        let steady_at = self.store.clock_steady_at(&self.reading());
        let is_clock_steady = steady_at.is_none() || self.mutation == Mutation::BeginsDayAtJump;
        let day = QuotaDay { by_clock: day_of(now, reset), is_clock_steady };
        let call = match self.store.call_began(day, daily, self.uptime()) {
            Ok(call) => call,
            Err(used_up) => {
                self.end_permit(instant);
                let day_ends = next_day(now, reset);
                let until = steady_at.filter(|_| used_up < day.by_clock).map_or(day_ends, |at| at.min(day_ends));
                self.pause(PauseKind::Quota, "daily_calls".into(), Some(until));
                return self.not_now(worker, key);
            }
        };
        let is_believed = self.jumped_at.is_none_or(|jumped_at| self.at >= jumped_at + PATIENCE);
        self.checker.counts(day.by_clock, is_believed, daily)?;
        if worker.task == Task::Upload && !worker.begun() {
            let seen = self.snapshot(now);
            let open = may_still_upload(&seen, &self.rules, now) || self.mutation != Mutation::None;
            if !open || self.store.state(key) != BatchState::Pending {
                self.end_permit(instant);
                self.store.call_ended(call, self.uptime());
                return Ok(Next::Ended);
            }
            worker.packed = self.begin_upload(key)?;
        }
        let (min, sharing) = (self.config.polling.min, self.store.sharing(key));
        self.checker.calls(self.store.instance.pause.as_ref().map(|pause| pause.kind))?;
        match worker.task {
            Task::Upload => {
                self.stats.uploads += 1;
                self.checker.upload_sent(&worker.packed)?;
            }
            Task::Poll => {
                self.stats.polls += 1;
                self.checker.query_sent(&sharing, "status", min, self.at)?;
            }
            Task::Collect(ReportKind::Failures) => {
                self.checker.query_sent(&sharing, "failures", self.config.backoff_min, self.at)?
            }
            Task::Collect(ReportKind::Warnings) => {
                self.checker.query_sent(&sharing, "warnings", self.config.backoff_min, self.at)?
            }
            Task::Recover | Task::Resume => {}
        }
        worker.stage = Stage::Sent { call };
        Ok(Next::Goes(worker))
    }

    pub(super) fn end_permit(&mut self, instant: Instant) {
        if let Some(daemon) = &mut self.daemon {
            daemon.rate_limiter.end(instant);
        }
    }

    /// The call comes to Marketo, or does not.
    pub(super) fn arrive(&mut self, worker: &Worker, call: usize) -> Stage {
        let upload = worker.task == Task::Upload;
        let faulty = self.rng.random_bool(self.faults.fault);
        let lost = |reason: &str| match upload {
            true => Answer::NotCreated(UploadError::AnswerLost { reason: reason.into(), request_id: None }),
            false => Answer::Unanswered { ask: ErrorAction::OutcomeUnknown, reason: reason.into() },
        };
        let never = |reason: &str| match upload {
            true => Answer::NotCreated(UploadError::NeverSent(reason.into())),
            false => Answer::Unanswered { ask: ErrorAction::OutcomeUnknown, reason: reason.into() },
        };
        if self.faults.unreachable {
            return Stage::Back { call, answer: never("no route") };
        }
        if let Some(outage) = self.faults.outage {
            let answer = self.fails(outage, worker);
            return Stage::Back { call, answer };
        }
        if upload && worker.packed.iter().any(|packed| self.refused.contains(&packed.key.job)) {
            let refused =
                UploadError::Refused { action: ErrorAction::Again, reason: "611: always".into(), request_id: None };
            return Stage::Back { call, answer: Answer::NotCreated(refused) };
        }
        let fault = if faulty { self.rng.random_range(0..10) } else { 99 };
        match fault {
            0 if upload && self.rng.random_bool(0.5) => {
                let interrupted = UploadError::BrokenOff("it broke off".into());
                return Stage::Back { call, answer: Answer::NotCreated(interrupted) };
            }
            0 => return Stage::Back { call, answer: never("the connection was refused") },
            1 => {
                self.note(|| "a request is lost".into());
                self.marketo.record_lost_request();
                self.stats.lost_requests += 1;
                return Stage::Back { call, answer: lost("the request was lost") };
            }
            _ => {}
        }
        let kind = match worker.task {
            Task::Upload => Call::Create,
            Task::Poll => Call::Status,
            _ => Call::Failures,
        };
        let entered = self.marketo.begin_call(self.at, kind, Some(&worker.token));
        let admission = Admission::of(&entered);
        let outcome = match (entered, fault) {
            (Err(refusal), _) => {
                let (ask, reason) = reading(&refusal);
                ServerOutcome::Refused(ask, reason.into())
            }
            (Ok(()), 2 | 3) => ServerOutcome::AnswerLost,
            (Ok(()), 4) if matches!(worker.task, Task::Collect(_)) => ServerOutcome::Late,
            (Ok(()), 4..10) => {
                let codes =
                    ["606", "615", "607", "601", "603", "611", "608", "610", "1003", "1016", "1019", "503", "502"];
                let code = codes[self.rng.random_range(0..codes.len())];
                let error = ApiError { code: Some(code.into()), message: "by chance".into() };
                ServerOutcome::Refused(classify(200, Some(&[error])), format!("{code}: by chance").into())
            }
            (Ok(()), _) => ServerOutcome::Served,
        };
        Stage::Inside { call, admission, outcome }
    }
}
