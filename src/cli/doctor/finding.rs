//! Findings of the checks: the state of one thing, and what to do about it.

use serde::Serialize;

use crate::cli::format::{sanitize, table};

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

    fn sentence(&self) -> String {
        match &self.advice {
            Some(advice) => format!("{}: {}.", sanitize(&self.detail), sanitize(advice)),
            None => format!("{}.", sanitize(&self.detail)),
        }
    }
}

/// Returns one line for each finding, and one with their numbers.
pub fn render(findings: &[Finding]) -> String {
    let line = |found: &Finding| vec![found.state.as_str().to_owned(), found.check.clone(), found.sentence()];
    let mut text = table(&findings.iter().map(line).collect::<Vec<_>>());
    let count = |state| findings.iter().filter(|found| found.state == state).count();
    let (faults, warnings) = (count(State::Fault), count(State::Warning));
    text += &match (faults, warnings) {
        (0, 0) => "\nAll is fine.\n".to_owned(),
        _ => format!("\nFaults: {faults}. Warnings: {warnings}.\n"),
    };
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_finding_is_a_line_with_one_sentence() {
        let mut findings = vec![
            Finding::ok("database", "/q.db can be made"),
            Finding::warning("retention", "records go first", "keep them longer"),
            Finding::error("credentials of eu", "a\x1bb", "copy them again"),
        ];
        assert_eq!(
            render(&findings),
            "fine     database           /q.db can be made.\n\
             warning  retention          records go first: keep them longer.\n\
             fault    credentials of eu  a\\u{1b}b: copy them again.\n\
             \n\
             Faults: 1. Warnings: 1.\n"
        );
        findings.truncate(1);
        assert!(render(&findings).ends_with("\nAll is fine.\n"));
    }
}
