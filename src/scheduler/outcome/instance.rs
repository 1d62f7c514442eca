//! Effect of an error on the whole instance, and its backoff.

use std::time::Duration;

use jiff::Timestamp;

use crate::backoff;
use crate::config::Instance;
use crate::domain::instance::PauseKind;
use crate::marketo::ErrorAction;
use crate::scheduler::quota_day::next_day;

/// The effect of a response on the whole instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InstanceAction {
    /// No call is sent until the window has passed (error 606).
    WindowFull,
    /// Fewer calls are sent at once for a while (error 615).
    TooManyConcurrent,
    /// The instance pauses, until `until` or until it is resumed.
    Pause {
        /// The cause of the pause.
        kind: PauseKind,
        /// The end of the pause; none where an operator has to end it.
        until: Option<Timestamp>,
    },
}

/// Returns the effect of an error on the instance. None where the error applies to the batch only.
pub fn instance_action(action: ErrorAction, instance: &Instance, now: Timestamp) -> Option<InstanceAction> {
    match action {
        ErrorAction::WaitWindow => Some(InstanceAction::WindowFull),
        ErrorAction::FewerAtOnce => Some(InstanceAction::TooManyConcurrent),
        ErrorAction::DayIsOver => Some(InstanceAction::Pause {
            kind: PauseKind::Quota,
            until: Some(next_day(now, instance.limits.daily_reset)),
        }),
        ErrorAction::StopForCredentials => Some(InstanceAction::Pause { kind: PauseKind::Credentials, until: None }),
        _ => None,
    }
}

/// Returns the backoff after the `n`th consecutive failure, counted from 1: doubling from `backoff_min` up to
/// `backoff_max`.
pub fn instance_backoff(instance: &Instance, n: u32) -> Duration {
    backoff::doubled(instance.backoff_min, n.saturating_sub(1), instance.backoff_max)
}
