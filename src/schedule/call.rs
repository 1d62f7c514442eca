//! May this call leave? Token, gate and ledger, in this order, and what a refusal means for the instance as a whole.

use std::sync::Arc;

use crate::marketo::{AccessToken, Ask, Permit, TokenFault};
use crate::store::{NewCall, PauseKind, StoreError};

use super::desk::Desk;
use super::outcome::{Whole, whole};
use super::{day_of, next_day};

/// What came of asking to make a call.
pub(super) enum Admitted<'d> {
    Go(AccessToken, Pass<'d>),
    /// The instance is paused, or the daemon is stopping: the next plan knows more.
    NotNow,
    /// There is no token to be had just now, for this reason.
    Unreachable(String),
}

/// One call that has been written down.
pub(super) struct Pass<'d> {
    desk: &'d Desk,
    call: i64,
    _permit: Permit,
}

impl Pass<'_> {
    /// Says that the call is over; it then counts for one window more. Where that can't be written down, it counts from
    /// the next start, and what the call brought is not lost over it.
    pub async fn over(self) {
        if let Err(error) = self.desk.store.call_ended(self.call, self.desk.clock.now(), self.desk.clock.uptime()).await
        {
            tracing::warn!(instance = %self.desk.name, %error, "the end of a call could not be written down");
        }
    }
}

impl Desk {
    /// Makes a call that may be broken off, and says that it is over. None where the daemon is told to stop meanwhile:
    /// a question can be asked again at the next start, so nothing waits for its answer.
    pub(super) async fn unless_stopped<T>(&self, pass: Pass<'_>, call: impl Future<Output = T>) -> Option<T> {
        let answer = tokio::select! {
            biased;
            () = self.stop.cancelled() => None,
            answer = call => Some(answer),
        };
        pass.over().await;
        answer
    }
}

/// Whose matter a refusal is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Matter {
    /// Nobody's: the same call again, with a new token.
    Again,
    /// The instance's, and it has been seen to.
    Instance,
    /// That of the batch it was about.
    Batch,
}

impl Desk {
    /// Waits until a call may leave, and writes it down.
    pub(super) async fn admit(&self) -> Result<Admitted<'_>, StoreError> {
        // Before the gate, so that nothing waits there that could not go on; behind it once more, for the wait may have
        // been longer than what was left of the token's life.
        if let Err(other) = self.token().await? {
            return Ok(other);
        }
        let permit = tokio::select! {
            biased;
            () = self.stop.cancelled() => return Ok(Admitted::NotNow),
            permit = self.endpoint.gate.pass() => permit,
        };
        let token = match self.token().await? {
            Ok(token) => token,
            Err(other) => return Ok(other),
        };
        // The wait at the gate may have been long.
        let pause = self.store.instance(&self.name).await?.pause;
        if pause.is_some_and(|pause| pause.kind != PauseKind::Person) {
            return Ok(Admitted::NotNow);
        }
        let now = self.clock.now();
        let config = self.config();
        let limits = &config.limits;
        let daily = (limits.daily_calls > 0).then_some(limits.daily_calls);
        let call = self.store.call_began(NewCall {
            instance: self.name.clone(),
            sharing: self.endpoint.names.to_vec(),
            window: limits.window,
            may_take: config.request_timeout,
            day: day_of(now, limits.daily_reset),
            daily,
            at: now,
            up: self.clock.uptime(),
        });
        let call = call.await?;
        match call {
            Some(call) => Ok(Admitted::Go(token, Pass { desk: self, call, _permit: permit })),
            None => {
                let reason = format!("the {} calls of the day are used up (limits.daily_calls)", limits.daily_calls);
                let until = next_day(now, limits.daily_reset);
                self.pause(PauseKind::Quota, &reason, Some(until)).await?;
                Ok(Admitted::NotNow)
            }
        }
    }

    async fn token(&self) -> Result<Result<AccessToken, Admitted<'_>>, StoreError> {
        let client = self.client();
        let token = tokio::select! {
            biased;
            () = self.stop.cancelled() => return Ok(Err(Admitted::NotNow)),
            token = client.token() => token,
        };
        Ok(match token {
            Ok(token) => Ok(token),
            Err(fault @ TokenFault::Passing(_)) => Err(Admitted::Unreachable(fault.to_string())),
            // New ones came while the old ones were tried.
            Err(TokenFault::Credentials(_)) if !Arc::ptr_eq(&client, &self.client()) => Err(Admitted::NotNow),
            Err(fault @ TokenFault::Credentials(_)) => {
                self.pause(PauseKind::Credentials, &fault.to_string(), None).await?;
                Err(Admitted::NotNow)
            }
        })
    }

    /// Sees to what a refusal asks of the instance. `renewed` remembers that a new token was tried already: what follows
    /// where that was refused too, the batch's own pause says.
    pub(super) async fn heed(&self, ask: Ask, reason: &str, renewed: &mut bool) -> Result<Matter, StoreError> {
        if ask == Ask::NewToken && !*renewed {
            *renewed = true;
            return Ok(Matter::Again);
        }
        match whole(ask, &self.config(), self.clock.now()) {
            None => return Ok(Matter::Batch),
            Some(Whole::WindowIsFull) => self.endpoint.gate.window_is_full(),
            Some(Whole::TooManyAtOnce) => self.endpoint.gate.too_many_at_once(),
            Some(Whole::Pause { kind, until }) => self.pause(kind, reason, until).await?,
        }
        tracing::warn!(instance = %self.name, reason, "Marketo holds the instance back");
        Ok(Matter::Instance)
    }

    async fn pause(&self, kind: PauseKind, reason: &str, until: Option<jiff::Timestamp>) -> Result<(), StoreError> {
        tracing::warn!(instance = %self.name, kind = kind.as_str(), reason, until = ?until, "the instance pauses");
        self.store.pause(&self.name, kind, reason, until, self.clock.now()).await
    }
}
