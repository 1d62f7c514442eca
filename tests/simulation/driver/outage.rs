//! Outages of Marketo: for a while every create fails in one way, and every other call too where nothing can answer it.

use marqueue::marketo::types::ApiError;
use marqueue::marketo::{ErrorAction, UploadError, classify};
use rand::RngExt;

use super::Simulation;
use crate::worker::{Answer, Task, Worker};

/// In which way every create fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outage {
    /// No way there: refused, not resolved, no TLS. Nothing leaves, and there are no tokens.
    Unreachable,
    /// Uploads break off on their way.
    BrokenOff,
    /// Marketo answers with this code.
    Code(&'static str),
    /// `success: false`, and no error.
    NoErrors,
    /// An answer with this HTTP status that is not Marketo's: a proxy's page, or a body that can't be read.
    Foreign(u16),
    /// The whole request is sent, and no answer comes, or half of one.
    Silent,
}

impl Outage {
    /// All that makes a call fail in passing, by the table of errors and below it.
    pub const ALL: [Outage; 21] = [
        Outage::Unreachable,
        Outage::BrokenOff,
        Outage::Code("606"),
        Outage::Code("615"),
        Outage::Code("608"),
        Outage::Code("611"),
        Outage::Code("614"),
        Outage::Code("502"),
        Outage::Code("503"),
        Outage::Code("604"),
        Outage::Code("713"),
        Outage::Code("719"),
        Outage::Code("1016"),
        Outage::Code("4711"),
        Outage::NoErrors,
        Outage::Foreign(200),
        Outage::Foreign(404),
        Outage::Foreign(502),
        Outage::Foreign(503),
        Outage::Foreign(504),
        Outage::Silent,
    ];

    /// Whether an import may have been made of an upload that fails so.
    pub fn leaves_outcome_unknown(self) -> bool {
        self == Outage::Silent || matches!(self.ask(), Some(ErrorAction::OutcomeUnknown))
    }

    /// What the answer asks for; none where there is no answer.
    fn ask(self) -> Option<ErrorAction> {
        match self {
            Outage::Unreachable | Outage::BrokenOff | Outage::Silent => None,
            Outage::Code(code) => {
                Some(classify(200, Some(&[ApiError { code: Some(code.into()), message: "an outage".into() }])))
            }
            Outage::NoErrors => Some(classify(200, Some(&[]))),
            Outage::Foreign(status) => Some(classify(status, None)),
        }
    }
}

impl Simulation {
    /// What a call comes to during `outage`.
    pub(super) fn fails(&mut self, outage: Outage, worker: &Worker) -> Answer {
        let reason = format!("an outage: {outage:?}");
        let ask = outage.ask().unwrap_or(ErrorAction::OutcomeUnknown);
        if worker.task != Task::Upload {
            return Answer::Unanswered { ask, reason: reason.into() };
        }
        if outage.leaves_outcome_unknown() && self.rng.random_bool(0.2) {
            let _ = self.create(&worker.packed);
        }
        Answer::NotCreated(match outage {
            Outage::Unreachable => UploadError::NeverSent(reason),
            Outage::BrokenOff => UploadError::BrokenOff(reason),
            _ if outage.leaves_outcome_unknown() => UploadError::AnswerLost { reason: reason.into(), request_id: None },
            _ => UploadError::Refused { action: ask, reason: reason.into(), request_id: None },
        })
    }
}
