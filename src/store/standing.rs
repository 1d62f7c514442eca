//! How does an instance stand? Its pauses, and what Marketo's answers taught: what each makes of the record. Pure.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::clock::TimeText;
use crate::job::{Event, UnknownWord, Wait};

/// Who stopped an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Pause {
    pub kind: PauseKind,
    pub reason: String,
    #[schemars(with = "TimeText")]
    pub at: Timestamp,
    /// When it ends by itself; none where it waits for a person.
    #[schemars(with = "Option<TimeText>")]
    pub until: Option<Timestamp>,
}

/// What is remembered of an instance.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Instance {
    /// The pause that holds now.
    pub pause: Option<Pause>,
    /// A person's pause that lies under one of another kind, and holds again when that is over.
    pub under: Option<Pause>,
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
    /// A person's pause stops uploads, the others every call: those hold as long as they last, and the person's under
    /// them and after them.
    pub fn paused(&self, pause: Pause) -> Instance {
        let by_person = |pause: &&Pause| pause.kind == PauseKind::Person;
        let (person, other) = match pause.kind {
            PauseKind::Person => (Some(&pause), self.pause.as_ref().filter(|pause| !by_person(pause))),
            _ => (self.pause.as_ref().filter(by_person).or(self.under.as_ref()), Some(&pause)),
        };
        let (pause, under) = if other.is_some() { (other, person) } else { (person, None) };
        Instance { pause: pause.cloned(), under: under.cloned(), ..self.clone() }
    }

    /// It goes on at once: what earlier refusals taught is forgotten too. Given a kind, only a pause of that kind ends,
    /// and the person's under it holds again.
    pub fn resumed(&self, kind: Option<PauseKind>) -> Instance {
        let own = self.pause.as_ref().map(|pause| pause.kind);
        match kind {
            None => Instance::default(),
            Some(_) if own == kind => Instance { pause: self.under.clone(), ..Instance::default() },
            Some(_) => self.clone(),
        }
    }

    /// Marketo as a whole did not answer: no upload before `until`.
    pub fn service_failed(&self, until: Timestamp, now: Timestamp) -> Instance {
        // Uploads that were under way together fail together, and that is one failure. (A pause beyond `until`, which
        // would be the longer one, began before the clock was set back.)
        if self.quiet_until.is_some_and(|quiet| now < quiet && quiet <= until) {
            return self.clone();
        }
        Instance { service_failures: self.service_failures + 1, quiet_until: Some(until), ..self.clone() }
    }

    /// Whether [`Instance::after`] makes anything of this event.
    pub fn learns_from(event: &Event) -> bool {
        match event {
            Event::PutBack { wait, .. } => *wait != Wait::Instance,
            Event::Accepted { .. } | Event::Refused { .. } | Event::Rejected { .. } | Event::Halved { .. } => true,
            _ => false,
        }
    }

    /// What the instance learns of what happened to one of its batches. `in_flight` of them hold a slot after it.
    pub fn after(&self, event: &Event, in_flight: u32, now: Timestamp) -> Instance {
        // Marketo has said something that is about the batch, so it is there again.
        let served = Instance { service_failures: 0, quiet_until: None, ..self.clone() };
        match event {
            Event::PutBack { wait: Wait::QueueFull, not_before, .. } => {
                Instance { slots: Some(in_flight), slots_probe_at: *not_before, ..served }
            }
            Event::PutBack { wait: Wait::Service, not_before: Some(until), .. } => self.service_failed(*until, now),
            Event::Accepted { .. } => match self.slots {
                // More went in than it last let us have: others have left its queue, so the next may follow at once.
                Some(slots) if slots < in_flight => {
                    Instance { slots: Some(in_flight), slots_probe_at: Some(now), ..served }
                }
                _ => served,
            },
            Event::PutBack { wait: Wait::ListBusy | Wait::Calls, .. }
            | Event::Refused { .. }
            | Event::Rejected { .. }
            | Event::Halved { .. } => served,
            _ => self.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::from_ms;

    fn pause(kind: PauseKind) -> Pause {
        Pause { kind, reason: kind.as_str().into(), at: from_ms(1), until: None }
    }

    #[test]
    fn a_persons_pause_lies_under_the_others_and_outlasts_them() {
        use PauseKind::{Credentials, Person, Quota};
        // Pauses as they come, what holds then and what lies under it, and what is left when the last is over.
        for (pauses, holds, under, left) in [
            (&[Person][..], Person, None, None),
            (&[Quota], Quota, None, None),
            (&[Person, Quota], Quota, Some(Person), Some(Person)),
            (&[Quota, Person], Quota, Some(Person), Some(Person)),
            (&[Person, Quota, Credentials], Credentials, Some(Person), Some(Person)),
            (&[Quota, Person, Person], Quota, Some(Person), Some(Person)),
            (&[Quota, Credentials], Credentials, None, None),
        ] {
            let instance = pauses.iter().fold(Instance::default(), |instance, &kind| instance.paused(pause(kind)));
            let kind = |pause: &Option<Pause>| pause.as_ref().map(|pause| pause.kind);
            assert_eq!((kind(&instance.pause), kind(&instance.under)), (Some(holds), under), "{pauses:?}");
            assert_eq!(kind(&instance.resumed(Some(holds)).pause), left, "{pauses:?}");
            assert_eq!(instance.resumed(None), Instance::default(), "{pauses:?}");
        }
    }

    #[test]
    fn uploads_that_fail_together_are_one_failure() {
        let failed = |instance: Instance, at, until| instance.service_failed(from_ms(until), from_ms(at));
        let blip = (0..10).fold(Instance::default(), |instance, n| failed(instance, 10 + n, 1_010 + 1_000 * n));
        assert_eq!((blip.service_failures, blip.quiet_until), (1, Some(from_ms(1_010))));
        let again = failed(blip, 1_020, 3_020);
        assert_eq!((again.service_failures, again.quiet_until), (2, Some(from_ms(3_020))));
        // The clock is set back.
        assert_eq!(failed(again, 100, 2_100).quiet_until, Some(from_ms(2_100)));
    }
}
