//! Job filters: the options that select jobs by what they are, for `list` and for commands about many jobs.

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};

use crate::cli::format::sanitize;
use crate::client::JobQuery;
use crate::domain::JobState;

/// The filter options. A job has to match all that are given.
#[derive(Args, Clone, Debug, Default)]
pub struct JobFilters {
    /// Only jobs in this state
    #[arg(long, value_parser = PossibleValuesParser::new(JobState::ALL.map(JobState::as_str)).try_map(|text| text.parse::<JobState>()))]
    pub state: Option<JobState>,
    /// Only jobs of this instance
    #[arg(long, value_name = "NAME")]
    pub instance: Option<String>,
    /// Only jobs for this kind of target
    #[arg(long, value_name = "KIND", value_parser = ["leads", "custom-object", "program-members"])]
    pub target: Option<String>,
    /// Only jobs of this group
    #[arg(long, value_name = "KEY")]
    pub group: Option<String>,
    /// Only jobs that were added since then: a duration such as 2h, or a time such as 2026-01-31T12:00:00Z
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Only jobs whose file name has this part
    #[arg(long, value_name = "PART")]
    pub name: Option<String>,
    /// Only jobs with rows that failed
    #[arg(long)]
    pub with_failures: bool,
}

impl JobFilters {
    /// Returns whether any filter is given.
    pub fn is_given(&self) -> bool {
        let texts = [&self.instance, &self.target, &self.group, &self.since, &self.name];
        self.state.is_some() || self.with_failures || texts.iter().any(|text| text.is_some())
    }

    /// Returns the query of the jobs that match.
    pub fn query(&self) -> JobQuery {
        JobQuery {
            state: self.state,
            instance: self.instance.clone(),
            target: self.target.clone(),
            group: self.group.clone(),
            since: self.since.clone(),
            name: self.name.clone(),
            with_failures: self.with_failures,
            ..JobQuery::default()
        }
    }

    /// Returns the options as they are written on the command line, with a blank before each.
    pub fn to_words(&self) -> String {
        let state = self.state.map(|state| state.to_string());
        let named = [
            ("state", &state),
            ("instance", &self.instance),
            ("target", &self.target),
            ("group", &self.group),
            ("since", &self.since),
            ("name", &self.name),
        ];
        let quoted =
            |value: &str| match value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte)) {
                true => value.to_owned(),
                false => format!("'{}'", sanitize(&value.replace('\'', "'\\''"))),
            };
        let mut text = String::new();
        for (option, value) in named {
            if let Some(value) = value {
                text += &format!(" --{option} {}", quoted(value));
            }
        }
        if self.with_failures {
            text += " --with-failures";
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_shown_as_they_were_given() {
        assert!(!JobFilters::default().is_given());
        let filters = JobFilters {
            state: Some(JobState::Failed),
            name: Some("good people".into()),
            with_failures: true,
            ..JobFilters::default()
        };
        assert!(filters.is_given());
        assert_eq!(filters.to_words(), " --state failed --name 'good people' --with-failures");
    }
}
