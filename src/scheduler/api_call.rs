//! Admission of one API call: token, rate limiter and call ledger, in this order; and the effect of a refusal on the
//! whole instance.

use std::sync::Arc;

use jiff::Timestamp;

use crate::clock::PATIENCE;
use crate::domain::instance::{Pause, PauseKind};
use crate::marketo::{AccessToken, CallPermit, ErrorAction, TokenError};
use crate::scheduler::outcome::{InstanceAction, instance_action};
use crate::scheduler::quota_day::next_day;
use crate::scheduler::worker_context::WorkerContext;
use crate::store::{CallAdmission, NewCall, StoreError};

/// The result of a request for admission.
pub(super) enum Admission<'c> {
    Admitted(AccessToken, CallGuard<'c>),
    Denied(Denial),
}

/// Why a call was not admitted.
pub(super) enum Denial {
    /// The instance is paused, or the daemon is stopping. The next plan takes it into account.
    NotNow,
    /// No token can be obtained at present, for this reason.
    Unreachable(String),
}

/// The result of a request for a token.
enum TokenRequest {
    Granted(AccessToken),
    Denied(Denial),
}

/// Whether a call was repeated with a new token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TokenUse {
    /// The token may have expired: where it is refused, the call is repeated with a new one.
    First,
    /// The token was renewed for this call.
    Renewed,
}

/// One call that is recorded in the call ledger.
pub(super) struct CallGuard<'c> {
    context: &'c WorkerContext,
    call: i64,
    _permit: CallPermit,
}

impl CallGuard<'_> {
    /// Records the end of the call. From then on it counts for one more window. Where the end cannot be recorded, the
    /// call counts in full after the next start; the call's result is kept either way.
    pub async fn finish(self) {
        let WorkerContext { name, store, clock, .. } = self.context;
        if let Err(error) = store.end_call(self.call, clock.now(), clock.uptime()).await {
            tracing::warn!(instance = %name, %error, "recording the end of a call failed");
        }
    }
}

impl WorkerContext {
    /// Makes a call that may be cancelled, and records its end. Returns none where the daemon stops first: a query can
    /// be repeated after the next start, so the stop does not wait for its response.
    pub(super) async fn run_until_stop<T>(&self, guard: CallGuard<'_>, call: impl Future<Output = T>) -> Option<T> {
        let response = tokio::select! {
            biased;
            () = self.stop.cancelled() => None,
            response = call => Some(response),
        };
        guard.finish().await;
        response
    }
}

/// What a refusal applies to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ErrorScope {
    /// The token only: the same call is to be made again with a new one.
    Retry,
    /// The instance. Its pause or its limit is set already.
    Instance,
    /// The batch of the call.
    Batch,
}

impl WorkerContext {
    /// Waits until a call may be made, and records it in the call ledger.
    ///
    /// # Errors
    /// A database error.
    pub(super) async fn admit_call(&self) -> Result<Admission<'_>, StoreError> {
        // The token is checked before the rate limiter, so that a call without a token does not wait there. It is
        // checked again afterwards, because the wait may have been longer than the token's remaining time.
        if let TokenRequest::Denied(denial) = self.token().await? {
            return Ok(Admission::Denied(denial));
        }
        let permit = tokio::select! {
            biased;
            () = self.stop.cancelled() => return Ok(Admission::Denied(Denial::NotNow)),
            permit = self.endpoint.rate_limiter.acquire() => permit,
        };
        let token = match self.token().await? {
            TokenRequest::Granted(token) => token,
            TokenRequest::Denied(denial) => return Ok(Admission::Denied(denial)),
        };
        // The instance may have been paused during the wait at the rate limiter.
        let pause = self.store.instance(&self.name).await?.pause;
        if pause.is_some_and(|pause| pause.kind != PauseKind::Operator) {
            return Ok(Admission::Denied(Denial::NotNow));
        }
        let clock = self.observe().await?;
        let (now, day) = (clock.now(), self.quota_day(&clock));
        let config = self.config();
        let limits = &config.limits;
        let daily = (limits.daily_calls > 0).then_some(limits.daily_calls);
        let admission = self.store.begin_call(NewCall {
            instance: self.name.clone(),
            sharing: self.endpoint.names.to_vec(),
            window: limits.window,
            may_take: config.request_timeout,
            day,
            daily,
            at: now,
            up: clock.reading.up.clone(),
        });
        match admission.await? {
            CallAdmission::Call(call) => {
                Ok(Admission::Admitted(token, CallGuard { context: self, call, _permit: permit }))
            }
            CallAdmission::DayUsedUp { day: used_up } => {
                let reason = format!("the {} calls of the day are used up (limits.daily_calls)", limits.daily_calls);
                let day_ends = next_day(now, limits.daily_reset);
                // When the clock is known to be right, it may turn out to be another day.
                let until = match clock.steady_at(PATIENCE) {
                    Some(steady_at) if used_up < day.by_clock => steady_at.min(day_ends),
                    _ => day_ends,
                };
                self.pause(PauseKind::Quota, &reason, Some(until)).await?;
                Ok(Admission::Denied(Denial::NotNow))
            }
        }
    }

    async fn token(&self) -> Result<TokenRequest, StoreError> {
        let client = self.client();
        let token = tokio::select! {
            biased;
            () = self.stop.cancelled() => return Ok(TokenRequest::Denied(Denial::NotNow)),
            token = client.token() => token,
        };
        let denial = match token {
            Ok(token) => return Ok(TokenRequest::Granted(token)),
            Err(error @ TokenError::Transient(_)) => Denial::Unreachable(error.to_string()),
            // A reload brought new credentials while the old ones were tried.
            Err(TokenError::Rejected(_)) if !Arc::ptr_eq(&client, &self.client()) => Denial::NotNow,
            Err(error @ TokenError::Rejected(_)) => {
                self.pause(PauseKind::Credentials, &error.to_string(), None).await?;
                Denial::NotNow
            }
        };
        Ok(TokenRequest::Denied(denial))
    }

    /// Applies the effect of a refusal on the instance, and returns what the refusal applies to. A second refused token
    /// applies to the batch, which then waits.
    ///
    /// # Errors
    /// A database error.
    pub(super) async fn handle_refusal(
        &self,
        action: ErrorAction,
        reason: &str,
        token: &mut TokenUse,
    ) -> Result<ErrorScope, StoreError> {
        if action == ErrorAction::NewToken && *token == TokenUse::First {
            *token = TokenUse::Renewed;
            return Ok(ErrorScope::Retry);
        }
        match instance_action(action, &self.config(), self.clock.now()) {
            None => return Ok(ErrorScope::Batch),
            Some(InstanceAction::WindowFull) => self.endpoint.rate_limiter.window_is_full(),
            Some(InstanceAction::TooManyConcurrent) => self.endpoint.rate_limiter.too_many_at_once(),
            Some(InstanceAction::Pause { kind, until }) => self.pause(kind, reason, until).await?,
        }
        tracing::warn!(instance = %self.name, reason, "Marketo limited the instance");
        Ok(ErrorScope::Instance)
    }

    async fn pause(&self, kind: PauseKind, reason: &str, until: Option<Timestamp>) -> Result<(), StoreError> {
        tracing::warn!(instance = %self.name, kind = kind.as_str(), reason, until = until.map(tracing::field::display), "instance paused");
        let pause = Pause { kind, reason: reason.to_owned(), at: self.clock.now(), until };
        self.store.pause(&self.name, pause).await
    }
}
