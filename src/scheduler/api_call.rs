//! May this call leave? Token, gate and ledger, in this order, and what a refusal means for the instance as a whole.

use std::sync::Arc;

use crate::clock::PATIENCE;
use crate::domain::instance::PauseKind;
use crate::marketo::{AccessToken, CallPermit, ErrorAction, TokenError};
use crate::scheduler::next_day;
use crate::scheduler::outcome::{InstanceAction, instance_action};
use crate::scheduler::worker_context::WorkerContext;
use crate::store::{CallAdmission, NewCall, StoreError};

/// What came of asking to make a call.
pub(super) enum Admission<'d> {
    Admitted(AccessToken, CallGuard<'d>),
    /// The instance is paused, or the daemon is stopping: the next plan knows more.
    NotNow,
    /// There is no token to be had just now, for this reason.
    Unreachable(String),
}

/// One call that has been written down.
pub(super) struct CallGuard<'d> {
    desk: &'d WorkerContext,
    call: i64,
    _permit: CallPermit,
}

impl CallGuard<'_> {
    /// Says that the call is over; it then counts for one window more. Where that can't be written down, it counts from
    /// the next start, and what the call brought is not lost over it.
    pub async fn finish(self) {
        if let Err(error) = self.desk.store.end_call(self.call, self.desk.clock.now(), self.desk.clock.uptime()).await {
            tracing::warn!(instance = %self.desk.name, %error, "the end of a call could not be written down");
        }
    }
}

impl WorkerContext {
    /// Makes a call that may be broken off, and says that it is over. None where the daemon is told to stop meanwhile:
    /// a question can be asked again at the next start, so nothing waits for its answer.
    pub(super) async fn run_until_stop<T>(&self, pass: CallGuard<'_>, call: impl Future<Output = T>) -> Option<T> {
        let answer = tokio::select! {
            biased;
            () = self.stop.cancelled() => None,
            answer = call => Some(answer),
        };
        pass.finish().await;
        answer
    }
}

/// Whose matter a refusal is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ErrorScope {
    /// Nobody's: the same call again, with a new token.
    Retry,
    /// The instance's, and it has been seen to.
    Instance,
    /// That of the batch it was about.
    Batch,
}

impl WorkerContext {
    /// Waits until a call may leave, and writes it down.
    pub(super) async fn admit_call(&self) -> Result<Admission<'_>, StoreError> {
        // Before the gate, so that nothing waits there that could not go on; behind it once more, for the wait may have
        // been longer than what was left of the token's life.
        if let Err(other) = self.token().await? {
            return Ok(other);
        }
        let permit = tokio::select! {
            biased;
            () = self.stop.cancelled() => return Ok(Admission::NotNow),
            permit = self.endpoint.rate_limiter.acquire() => permit,
        };
        let token = match self.token().await? {
            Ok(token) => token,
            Err(other) => return Ok(other),
        };
        // The wait at the gate may have been long.
        let pause = self.store.instance(&self.name).await?.pause;
        if pause.is_some_and(|pause| pause.kind != PauseKind::Operator) {
            return Ok(Admission::NotNow);
        }
        let clock = self.observe().await?;
        let (now, day) = (clock.now(), self.quota_day(&clock));
        let config = self.config();
        let limits = &config.limits;
        let daily = (limits.daily_calls > 0).then_some(limits.daily_calls);
        let call = self.store.begin_call(NewCall {
            instance: self.name.clone(),
            sharing: self.endpoint.names.to_vec(),
            window: limits.window,
            may_take: config.request_timeout,
            day,
            daily,
            at: now,
            up: clock.reading.up.clone(),
        });
        let call = call.await?;
        match call {
            CallAdmission::Call(call) => {
                Ok(Admission::Admitted(token, CallGuard { desk: self, call, _permit: permit }))
            }
            CallAdmission::DayUsedUp { day: used_up } => {
                let reason = format!("the {} calls of the day are used up (limits.daily_calls)", limits.daily_calls);
                let day_ends = next_day(now, limits.daily_reset);
                // Once the clock can be believed, it may be another day.
                let until = match clock.steady_at(PATIENCE) {
                    Some(steady_at) if used_up < day.by_clock => steady_at.min(day_ends),
                    _ => day_ends,
                };
                self.pause(PauseKind::Quota, &reason, Some(until)).await?;
                Ok(Admission::NotNow)
            }
        }
    }

    async fn token(&self) -> Result<Result<AccessToken, Admission<'_>>, StoreError> {
        let client = self.client();
        let token = tokio::select! {
            biased;
            () = self.stop.cancelled() => return Ok(Err(Admission::NotNow)),
            token = client.token() => token,
        };
        Ok(match token {
            Ok(token) => Ok(token),
            Err(fault @ TokenError::Transient(_)) => Err(Admission::Unreachable(fault.to_string())),
            // New ones came while the old ones were tried.
            Err(TokenError::Rejected(_)) if !Arc::ptr_eq(&client, &self.client()) => Err(Admission::NotNow),
            Err(fault @ TokenError::Rejected(_)) => {
                self.pause(PauseKind::Credentials, &fault.to_string(), None).await?;
                Err(Admission::NotNow)
            }
        })
    }

    /// Sees to what a refusal asks of the instance. `renewed` remembers that a new token was tried already: what follows
    /// where that was refused too, the batch's own pause says.
    pub(super) async fn handle_refusal(
        &self,
        ask: ErrorAction,
        reason: &str,
        renewed: &mut bool,
    ) -> Result<ErrorScope, StoreError> {
        if ask == ErrorAction::NewToken && !*renewed {
            *renewed = true;
            return Ok(ErrorScope::Retry);
        }
        match instance_action(ask, &self.config(), self.clock.now()) {
            None => return Ok(ErrorScope::Batch),
            Some(InstanceAction::WindowFull) => self.endpoint.rate_limiter.window_is_full(),
            Some(InstanceAction::TooManyConcurrent) => self.endpoint.rate_limiter.too_many_at_once(),
            Some(InstanceAction::Pause { kind, until }) => self.pause(kind, reason, until).await?,
        }
        tracing::warn!(instance = %self.name, reason, "Marketo holds the instance back");
        Ok(ErrorScope::Instance)
    }

    async fn pause(&self, kind: PauseKind, reason: &str, until: Option<jiff::Timestamp>) -> Result<(), StoreError> {
        tracing::warn!(instance = %self.name, kind = kind.as_str(), reason, until = ?until, "the instance pauses");
        self.store.pause(&self.name, kind, reason, until, self.clock.now()).await
    }
}
