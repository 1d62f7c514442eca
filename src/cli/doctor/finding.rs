//! Findings of the checks: the state of one thing, and what to do about it.

use serde::Serialize;

use crate::cli::format::{sanitize, table};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    Fine,
    /// It works, and should not stay so.
    Warning,
    /// The daemon does not start so, or sends nothing, or what it holds is in danger.
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

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at.
    pub check: String,
    pub state: State,
    /// How it is: a sentence without its full stop.
    pub detail: String,
    /// What to do; the sentence's end. Where all is fine there may be none.
    pub advice: Option<String>,
}

impl Finding {
    pub fn ok(check: impl Into<String>, detail: impl Into<String>) -> Finding {
        Finding { check: check.into(), state: State::Fine, detail: detail.into(), advice: None }
    }

    pub fn warning(check: impl Into<String>, detail: impl Into<String>, advice: impl Into<String>) -> Finding {
        Finding::new(State::Warning, check, detail, advice)
    }

    pub fn error(check: impl Into<String>, detail: impl Into<String>, advice: impl Into<String>) -> Finding {
        Finding::new(State::Fault, check, detail, advice)
    }

    fn new(state: State, check: impl Into<String>, detail: impl Into<String>, advice: impl Into<String>) -> Finding {
        Finding { check: check.into(), state, detail: detail.into(), advice: Some(advice.into()) }
    }

    /// Fine, with something to consider.
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

/// A line each, and one that counts them.
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
