//! Findings of the checks: the state of one thing, and what to do about it.

use serde::Serialize;

use crate::cli::format::count;
use crate::cli::render::{Cell, Column, Screen, Table, Tone};

/// Severity of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Nothing to do.
    Fine,
    /// It works, but should be changed.
    Warning,
    /// The daemon can't start or can't send, or its data is in danger.
    Fault,
}

impl State {
    fn as_str(self) -> &'static str {
        match self {
            State::Fine => "fine",
            State::Warning => "warning",
            State::Fault => "fault",
        }
    }

    fn tone(self) -> Tone {
        match self {
            State::Fine => Tone::Good,
            State::Warning => Tone::Attention,
            State::Fault => Tone::Fault,
        }
    }
}

/// Result of one check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The thing that was checked.
    pub check: String,
    /// Its severity.
    pub state: State,
    /// What was found: a sentence without its full stop.
    pub detail: String,
    /// What to do, as the end of the sentence. May be absent if nothing is wrong.
    pub advice: Option<String>,
}

impl Finding {
    /// Creates a finding that needs no action.
    pub fn ok(check: impl Into<String>, detail: impl Into<String>) -> Finding {
        Finding { check: check.into(), state: State::Fine, detail: detail.into(), advice: None }
    }

    /// Creates a warning.
    pub fn warning(check: impl Into<String>, detail: impl Into<String>, advice: impl Into<String>) -> Finding {
        Finding::new(State::Warning, check, detail, advice)
    }

    /// Creates a fault.
    pub fn error(check: impl Into<String>, detail: impl Into<String>, advice: impl Into<String>) -> Finding {
        Finding::new(State::Fault, check, detail, advice)
    }

    fn new(state: State, check: impl Into<String>, detail: impl Into<String>, advice: impl Into<String>) -> Finding {
        Finding { check: check.into(), state, detail: detail.into(), advice: Some(advice.into()) }
    }

    /// Adds advice to a finding that needs no action.
    pub fn with_hint(self, advice: impl Into<String>) -> Finding {
        Finding { advice: Some(advice.into()), ..self }
    }
}

/// Returns the findings, faults last, each with its advice in a line below; and a line with their numbers.
pub fn render(findings: &[Finding], screen: &Screen) -> String {
    let mut table = Table::new(vec![Column::left(""), Column::left(""), Column::left("").wrapped(20)]).without_head();
    let mut sorted: Vec<&Finding> = findings.iter().collect();
    sorted.sort_by_key(|found| found.state);
    for found in sorted {
        let tone = found.state.tone();
        let detail_tone = if found.state == State::Fault { tone } else { Tone::Plain };
        table.push([
            Cell::toned(found.state.as_str(), tone),
            Cell::from(&found.check),
            Cell::toned(&found.detail, detail_tone),
        ]);
        if let Some(advice) = &found.advice {
            table.push(["".into(), "".into(), format!("-> {advice}").into()]);
        }
    }
    let number = |state| findings.iter().filter(|found| found.state == state).count() as u64;
    let (faults, warnings) = (number(State::Fault), number(State::Warning));
    let summary = match (faults, warnings) {
        (0, 0) => screen.paint(Tone::Good, "All is fine."),
        (0, warnings) => screen.paint(Tone::Attention, &format!("No fault, {}.", count(warnings, "warning"))),
        (faults, warnings) => {
            let text = format!("{}, {}.", count(faults, "fault"), count(warnings, "warning"));
            screen.paint(Tone::Fault, &text)
        }
    };
    format!("{}\n{summary}\n", table.render(screen))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_last_and_have_their_advice_below() {
        let mut findings = vec![
            Finding::error("credentials of eu", "a\x1bb", "copy them again"),
            Finding::warning("retention", "records go first", "keep them longer"),
            Finding::ok("database", "/q.db can be made"),
        ];
        assert_eq!(
            render(&findings, &Screen::PLAIN),
            "fine     database           /q.db can be made\n\
             warning  retention          records go first\n\
             \x20                           -> keep them longer\n\
             fault    credentials of eu  a\\u{1b}b\n\
             \x20                           -> copy them again\n\
             \n\
             1 fault, 1 warning.\n"
        );
        findings.retain(|found| found.state != State::Fault);
        assert!(render(&findings, &Screen::PLAIN).ends_with("\nNo fault, 1 warning.\n"));
        findings.retain(|found| found.state == State::Fine);
        assert!(render(&findings, &Screen::PLAIN).ends_with("\nAll is fine.\n"));
    }
}
