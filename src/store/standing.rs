//! How does an instance stand? Its pauses, and what Marketo's answers taught: what each makes of the record. Pure.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::job::{Event, UnknownWord, Wait};

/// Who stopped an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PauseKind {
    Person,
    /// 401 from the identity endpoint, or 603: until a person resumes, or the daemon starts anew.
    Credentials,
    /// 607, or our own daily limit: until the day is over.
    Quota,
}

impl PauseKind {
    pub fn as_str(self) -> &'static str {
        match self {
            PauseKind::Person => "person",
            PauseKind::Credentials => "credentials",
            PauseKind::Quota => "quota",
        }
    }
}

impl std::str::FromStr for PauseKind {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        let all = [PauseKind::Person, PauseKind::Credentials, PauseKind::Quota];
        crate::job::find("pause", text, &all, PauseKind::as_str)
    }
}

/// Uploads of an instance are stopped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    pub kind: PauseKind,
    pub reason: String,
    pub at: Timestamp,
    /// When it ends by itself; none where it waits for a person.
    pub until: Option<Timestamp>,
}

/// What is remembered of an instance.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Instance {
    pub pause: Option<Pause>,
    /// How many imports Marketo let us have when it last said that its queue is full.
    pub slots: Option<u32>,
    /// When to try one more than that.
    pub slots_probe_at: Option<Timestamp>,
    /// How often in a row Marketo as a whole did not answer.
    pub service_failures: u32,
    /// No upload before this.
    pub quiet_until: Option<Timestamp>,
}

impl Instance {
    /// A person's pause is never weakened by another kind.
    pub fn paused(&self, pause: Pause) -> Instance {
        let by_person = |pause: &Pause| pause.kind == PauseKind::Person;
        if self.pause.as_ref().is_some_and(by_person) && !by_person(&pause) {
            return self.clone();
        }
        Instance { pause: Some(pause), ..self.clone() }
    }

    /// It goes on at once: what earlier refusals taught is forgotten too. Only pauses of `kind`, if one is given.
    pub fn resumed(&self, kind: Option<PauseKind>) -> Instance {
        let own = self.pause.as_ref().map(|pause| pause.kind);
        if kind.is_some() && own != kind { self.clone() } else { Instance::default() }
    }

    /// Marketo as a whole did not answer: no upload before `until`.
    pub fn service_failed(&self, until: Timestamp, _now: Timestamp) -> Instance {
        Instance { service_failures: self.service_failures + 1, quiet_until: Some(until), ..self.clone() }
    }

    /// Whether [`Instance::after`] makes anything of this event.
    pub fn learns_from(event: &Event) -> bool {
        match event {
            Event::PutBack { wait, .. } => matches!(wait, Wait::QueueFull | Wait::Service),
            Event::Accepted { .. } => true,
            _ => false,
        }
    }

    /// What the instance learns of what happened to one of its batches. `in_flight` of them hold a slot after it.
    pub fn after(&self, event: &Event, in_flight: u32, now: Timestamp) -> Instance {
        match event {
            Event::PutBack { wait: Wait::QueueFull, not_before, .. } => {
                Instance { slots: Some(in_flight), slots_probe_at: *not_before, ..self.clone() }
            }
            Event::PutBack { wait: Wait::Service, not_before: Some(until), .. } => self.service_failed(*until, now),
            Event::Accepted { .. } => {
                let served = Instance { service_failures: 0, quiet_until: None, ..self.clone() };
                match self.slots {
                    // More went in than it last let us have: others have left its queue, so the next may follow at
                    // once.
                    Some(slots) if slots < in_flight => {
                        Instance { slots: Some(in_flight), slots_probe_at: Some(now), ..served }
                    }
                    _ => served,
                }
            }
            _ => self.clone(),
        }
    }
}
