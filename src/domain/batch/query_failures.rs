//! Query failures: how often Marketo was asked about an import in vain.

/// Queries about an import that failed since the last successful one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueryFailures {
    /// All failed queries.
    pub all: u32,
    /// Those that Marketo rejected. The others got no answer, which shows nothing about the import.
    pub refusals: u32,
}

impl QueryFailures {
    /// Returns the counts with one more failure.
    pub fn plus(self, kind: QueryFailureKind) -> QueryFailures {
        let refused = u32::from(kind == QueryFailureKind::Rejected);
        QueryFailures { all: self.all.saturating_add(1), refusals: self.refusals.saturating_add(refused) }
    }
}

/// How a query about an import failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueryFailureKind {
    /// Marketo rejected it.
    Rejected,
    /// It got no answer, or none that says something about the import.
    Unanswered,
}
