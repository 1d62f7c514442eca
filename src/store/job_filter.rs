//! Filter of the list of jobs, and one page of it.

use jiff::Timestamp;

use crate::domain::{JobId, JobState};

/// Selects jobs of a list. What is none or false selects all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JobFilter {
    /// Only jobs in this state.
    pub state: Option<JobState>,
    /// Only jobs of this instance.
    pub instance: Option<String>,
    /// Only jobs of this kind of target, as [`Target::kind`](crate::domain::Target::kind) names it.
    pub target: Option<String>,
    /// Only jobs of this group.
    pub group: Option<String>,
    /// Only jobs from this kind of source: `socket`, `client` or `drop`.
    pub source: Option<String>,
    /// Only jobs that were accepted at this time or later.
    pub since: Option<Timestamp>,
    /// Only jobs with a batch in which rows failed.
    pub has_failed_rows: bool,
    /// Only jobs whose file name has this part, in capital or small letters.
    pub name_part: Option<String>,
    /// Only jobs that send the failed rows of this job again.
    pub retry_of: Option<JobId>,
    /// Only jobs that this client may see.
    pub visible_to: Option<ClientScope>,
}

/// The jobs that a client may see: its own, on its instances.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientScope {
    /// The client's id.
    pub client_id: String,
    /// The instances that it may use; none: all.
    pub instances: Option<Vec<String>>,
}

/// A page of the list of jobs, newest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobPage {
    /// Which jobs are in the list.
    pub filter: JobFilter,
    /// The most jobs of the page.
    pub limit: u32,
    /// Only jobs with smaller ids.
    pub before: Option<JobId>,
}
