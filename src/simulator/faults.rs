//! Fault injection: one-shot faults for calls to come.
//!
//! *Request lost* and *answer lost* are two faults. The client sees the same, but in the first case the simulator has
//! not executed the call, and in the second it has.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::simulator::call_log::Call;
use crate::simulator::error::{ApiRefusal, Code};

/// A fault, aimed at calls of one kind. As JSON: `{"call": "create", "nth": 2, "effect": {"http": {"status": 502}}}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// The kind of call.
    pub call: Call,
    /// It begins with the `nth` such call from now; 1 is the next one.
    #[serde(default = "one")]
    pub nth: u32,
    /// Number of calls that it affects.
    #[serde(default = "one")]
    pub times: u32,
    /// What happens to the call.
    pub effect: FaultEffect,
}

/// What a fault does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum FaultEffect {
    /// An envelope with this error.
    Error {
        /// Left out of the body where it is none.
        #[serde(default)]
        code: Option<Code>,
        /// Marketo's message.
        message: String,
        /// Whether the call is carried out all the same.
        #[serde(default)]
        executed: bool,
    },
    /// A plain HTTP status with a body that is no envelope. A 404 for a file that comes late is this.
    Http {
        /// The HTTP status.
        status: u16,
        /// Whether the call is executed all the same.
        #[serde(default)]
        executed: bool,
    },
    /// The connection is closed; the call never arrived.
    LoseRequest,
    /// The call is carried out, then the connection is closed without an answer.
    LoseAnswer,
    /// The call is carried out, and its good answer is spoiled.
    Garble(Corruption),
    /// The call is carried out, and its good answer says other things of the import: these members of the entry in
    /// `result` are replaced, and those that are null are left out. This is how counts go missing or do not add up, how
    /// a `batchId` is given twice or is no number, and how an undocumented status word comes.
    Edit(serde_json::Map<String, serde_json::Value>),
    /// The call is carried out, and the answer comes so many milliseconds later.
    DelayMs(u64),
}

/// How an answer is spoiled. The HTTP status stays what it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Corruption {
    /// A body of no bytes.
    Empty,
    /// The first half of the body, whole as HTTP goes.
    Cut,
    /// The connection is closed after the first half of the body.
    Torn,
}

/// Error that a fault puts in place of the response.
pub(super) struct InjectedRefusal {
    pub refusal: ApiRefusal,
    /// Whether the call is executed all the same.
    pub is_executed: bool,
}

impl Fault {
    /// Creates a fault for the next call of this kind.
    pub fn on(call: Call, effect: FaultEffect) -> Fault {
        Fault { call, nth: 1, times: 1, effect }
    }

    /// Applies the fault first to the `nth` call; 1 is the next one.
    pub fn nth(self, nth: u32) -> Fault {
        Fault { nth, ..self }
    }

    /// Applies the fault to so many calls.
    pub fn times(self, times: u32) -> Fault {
        Fault { times, ..self }
    }
}

impl FaultEffect {
    /// An envelope with this error, in Marketo's form; nothing was executed.
    pub fn error(code: u32, message: &str) -> FaultEffect {
        FaultEffect::Error { code: Some(Code::Text(code.to_string())), message: message.into(), executed: false }
    }

    /// A plain HTTP status; nothing was executed.
    pub fn http(status: u16) -> FaultEffect {
        FaultEffect::Http { status, executed: false }
    }

    /// The members of `changes` in place of those of the import; see [`FaultEffect::Edit`].
    pub fn edit(changes: serde_json::Value) -> FaultEffect {
        match changes {
            serde_json::Value::Object(changes) => FaultEffect::Edit(changes),
            _ => FaultEffect::Edit(serde_json::Map::new()),
        }
    }

    /// The call is executed, and its response is delayed by this time.
    pub fn delay(time: Duration) -> FaultEffect {
        FaultEffect::DelayMs(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
    }

    /// Returns the error of the response; none where the effect has none.
    pub(super) fn refusal(&self) -> Option<InjectedRefusal> {
        match self.clone() {
            FaultEffect::Error { code, message, executed } => {
                Some(InjectedRefusal { refusal: ApiRefusal::Error { code, message }, is_executed: executed })
            }
            FaultEffect::Http { status, executed } => {
                Some(InjectedRefusal { refusal: ApiRefusal::Http(status), is_executed: executed })
            }
            _ => None,
        }
    }

    /// Returns whether the call is executed and its outcome is unknown to the client.
    pub(super) fn hides_outcome(&self) -> bool {
        match self {
            FaultEffect::Error { executed, .. } | FaultEffect::Http { executed, .. } => *executed,
            FaultEffect::LoseAnswer | FaultEffect::Garble(_) => true,
            FaultEffect::LoseRequest | FaultEffect::DelayMs(_) | FaultEffect::Edit(_) => false,
        }
    }
}

fn one() -> u32 {
    1
}

/// The faults still to come, in the order in which they were pushed.
#[derive(Debug, Default)]
pub(super) struct Faults(Vec<Fault>);

impl Faults {
    /// Adds a fault.
    pub fn push(&mut self, fault: Fault) {
        if fault.times > 0 {
            self.0.push(fault);
        }
    }

    /// Removes all faults.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Returns the effect on a call of this kind that arrives now: that of the oldest fault that is due. The other
    /// faults count the call.
    pub fn next_effect(&mut self, call: Call) -> Option<FaultEffect> {
        let mut effect = None;
        for fault in self.0.iter_mut().filter(|fault| fault.call == call) {
            if fault.nth > 1 {
                fault.nth -= 1;
            } else if effect.is_none() {
                fault.times -= 1;
                effect = Some(fault.effect.clone());
            }
        }
        self.0.retain(|fault| fault.times > 0);
        effect
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn struck(faults: &mut Faults, calls: usize) -> Vec<Option<u16>> {
        (0..calls)
            .map(|_| match faults.next_effect(Call::Create) {
                Some(FaultEffect::Http { status, .. }) => Some(status),
                _ => None,
            })
            .collect()
    }

    #[test]
    fn faults_apply_in_order_to_calls_of_their_kind() {
        let mut faults = Faults::default();
        faults.push(Fault::on(Call::Create, FaultEffect::http(500)));
        faults.push(Fault::on(Call::Status, FaultEffect::http(501)));
        faults.push(Fault::on(Call::Create, FaultEffect::http(502)));
        assert_eq!(struck(&mut faults, 3), [Some(500), Some(502), None]);
        assert_eq!(faults.next_effect(Call::Status), Some(FaultEffect::http(501)));
    }

    #[test]
    fn cleared_faults_apply_to_no_call() {
        let mut faults = Faults::default();
        faults.push(Fault::on(Call::Create, FaultEffect::http(500)).times(u32::MAX));
        assert_eq!(struck(&mut faults, 1), [Some(500)]);
        faults.clear();
        assert_eq!(struck(&mut faults, 1), [None]);
    }

    #[test]
    fn a_fault_hits_its_call_as_often_as_configured() {
        let mut faults = Faults::default();
        faults.push(Fault::on(Call::Create, FaultEffect::http(500)).nth(3).times(2));
        faults.push(Fault::on(Call::Create, FaultEffect::http(502)).times(0));
        assert_eq!(struck(&mut faults, 6), [None, None, Some(500), Some(500), None, None]);
    }

    #[test]
    fn a_misspelt_fault_is_refused() {
        for (json, expected) in [
            (r#"{"call":"create","effect":"lose-answer"}"#, Fault::on(Call::Create, FaultEffect::LoseAnswer)),
            (
                r#"{"call":"status","nth":2,"times":3,"effect":{"garble":"torn"}}"#,
                Fault::on(Call::Status, FaultEffect::Garble(Corruption::Torn)).nth(2).times(3),
            ),
            (
                r#"{"call":"token","effect":{"error":{"code":615,"message":"Busy"}}}"#,
                Fault::on(
                    Call::Token,
                    FaultEffect::Error { code: Some(Code::Number(615)), message: "Busy".into(), executed: false },
                ),
            ),
            (
                r#"{"call":"failures","effect":{"http":{"status":404}}}"#,
                Fault::on(Call::Failures, FaultEffect::http(404)),
            ),
            (
                r#"{"call":"status","effect":{"edit":{"numOfRowsFailed":null,"status":"Paused"}}}"#,
                Fault::on(
                    Call::Status,
                    FaultEffect::edit(serde_json::json!({"numOfRowsFailed": null, "status": "Paused"})),
                ),
            ),
            (r#"{"call":"create","effect":{"delay-ms":50}}"#, Fault::on(Call::Create, FaultEffect::DelayMs(50))),
        ] {
            assert_eq!(serde_json::from_str::<Fault>(json).unwrap(), expected, "{json}");
        }
        assert!(serde_json::from_str::<Fault>(r#"{"call":"create","efect":"lose-answer"}"#).is_err());
    }
}
