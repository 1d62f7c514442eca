//! May this call leave? Token, gate and ledger, in this order, and what a refusal means for the instance as a whole.

use crate::marketo::{AccessToken, Ask, Permit, TokenFault};
use crate::store::{PauseKind, StoreError};

use super::lane::Lane;
use super::outcome::{Whole, whole};
use super::{day_of, next_day};

/// What came of asking to make a call.
pub(super) enum Admitted {
    Go(AccessToken, Pass),
    /// The instance is paused, or the daemon is stopping: the next plan knows more.
    NotNow,
    /// There is no token to be had just now.
    Unreachable(String),
}

/// One call that has been written down.
pub(super) struct Pass {
    lane: Lane,
    call: i64,
    _permit: Permit,
}

impl Pass {
    /// Says that the call is over; it then counts for one window more.
    pub async fn over(self) -> Result<(), StoreError> {
        let shared = &self.lane.shared;
        shared.store.call_ended(self.call, shared.clock.now()).await
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

impl Lane {
    /// Waits until a call may leave, and writes it down.
    pub(super) async fn admit(&self) -> Result<Admitted, StoreError> {
        let shared = &self.shared;
        let token = tokio::select! {
            token = shared.client.token() => token,
            () = shared.stop.cancelled() => return Ok(Admitted::NotNow),
        };
        let token = match token {
            Ok(token) => token,
            Err(TokenFault::Passing(_)) if shared.stop.is_cancelled() => return Ok(Admitted::NotNow),
            Err(fault @ TokenFault::Passing(_)) => return Ok(Admitted::Unreachable(fault.to_string())),
            Err(fault @ TokenFault::Credentials(_)) => {
                self.pause(PauseKind::Credentials, &fault.to_string(), None).await?;
                return Ok(Admitted::NotNow);
            }
        };
        let permit = tokio::select! {
            permit = shared.gate.pass() => permit,
            () = shared.stop.cancelled() => return Ok(Admitted::NotNow),
        };
        let now = shared.clock.now();
        let limits = &shared.config.limits;
        let daily = (limits.daily_calls > 0).then_some(limits.daily_calls);
        let call = shared.store.call_began(&shared.name, limits.window, day_of(now), daily, now).await?;
        match call {
            Some(call) => Ok(Admitted::Go(token, Pass { lane: self.clone(), call, _permit: permit })),
            None => {
                let reason = format!("the {} calls of the day are used up (limits.daily_calls)", limits.daily_calls);
                self.pause(PauseKind::Quota, &reason, Some(next_day(now))).await?;
                Ok(Admitted::NotNow)
            }
        }
    }

    /// Sees to what a refusal asks of the instance. `renewed` remembers that a new token was tried already: two refused
    /// ones in a row are a fault of the credentials.
    pub(super) async fn heed(&self, ask: Ask, reason: &str, renewed: &mut bool) -> Result<Matter, StoreError> {
        if ask == Ask::NewToken && !*renewed {
            *renewed = true;
            return Ok(Matter::Again);
        }
        match whole(ask, self.shared.clock.now()) {
            None => return Ok(Matter::Batch),
            Some(Whole::WindowIsFull) => self.shared.gate.window_is_full(),
            Some(Whole::TooManyAtOnce) => self.shared.gate.too_many_at_once(),
            Some(Whole::Pause { kind, until }) => self.pause(kind, reason, until).await?,
        }
        tracing::warn!(instance = %self.shared.name, reason, "Marketo holds the instance back");
        Ok(Matter::Instance)
    }

    async fn pause(&self, kind: PauseKind, reason: &str, until: Option<jiff::Timestamp>) -> Result<(), StoreError> {
        let shared = &self.shared;
        tracing::warn!(instance = %shared.name, kind = kind.as_str(), reason, until = ?until, "the instance pauses");
        shared.store.pause(&shared.name, kind, reason, until, shared.clock.now()).await
    }
}
