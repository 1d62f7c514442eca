//! State that all connections of the simulator share: the model with its clock, and the faults to come.

use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};

use crate::simulator::faults::Faults;
use crate::simulator::model::MarketoModel;

/// The model and the faults, behind locks.
pub(super) struct SharedModel {
    started: Instant,
    max_body: u64,
    lenient: bool,
    marketo: Mutex<MarketoModel>,
    faults: Mutex<Faults>,
}

impl SharedModel {
    /// Makes the state of a simulator that starts now.
    pub fn new(marketo: MarketoModel) -> SharedModel {
        SharedModel {
            started: Instant::now(),
            max_body: marketo.settings().max_body,
            lenient: marketo.settings().lenient,
            marketo: Mutex::new(marketo),
            faults: Mutex::default(),
        }
    }

    /// Returns the largest body in bytes; of a larger one only the length is kept.
    pub fn max_body(&self) -> u64 {
        self.max_body
    }

    /// Returns whether legacy clients are accepted; see
    /// [`Settings::lenient`](crate::simulator::settings::Settings::lenient).
    pub fn is_lenient(&self) -> bool {
        self.lenient
    }

    /// Applies `operation` to the model. The time is taken under the model's lock, so that it never goes back.
    pub fn with_model<T>(&self, operation: impl FnOnce(&mut MarketoModel, Duration) -> T) -> T {
        let mut marketo = self.marketo.lock();
        operation(&mut marketo, self.started.elapsed())
    }

    /// Locks the faults to come.
    pub fn faults(&self) -> MutexGuard<'_, Faults> {
        self.faults.lock()
    }
}
