//! Job selection: the jobs that a command is about, given by their numbers, by ranges and by filters.

use std::collections::HashSet;

use clap::Args;

use crate::api::dto::JobDto;
use crate::cli::exit_status::CliError;
use crate::cli::global::parse_job_id;
use crate::cli::job_filters::JobFilters;
use crate::client::{Client, ClientError, JobQuery};
use crate::domain::JobId;

/// Jobs that are read at once.
const PAGE: u32 = 1_000;

/// How many jobs of a selection are kept to be shown.
pub const SHOWN: usize = 5;

/// The arguments that select jobs. With filters, numbers and ranges are narrowed to the jobs that match.
#[derive(Args, Clone, Debug, Default)]
pub struct JobSelection {
    /// The jobs' numbers, and ranges of them such as 9-108
    #[arg(value_name = "ID", value_parser = parse_numbers)]
    ids: Vec<Numbers>,
    #[command(flatten)]
    filters: JobFilters,
}

/// One argument: the number of a job, or a range of numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Numbers {
    /// A job that has to exist.
    One(JobId),
    /// The jobs that exist from the first to the last number, both included.
    Range { first: JobId, last: JobId },
}

/// Which jobs a range or a filter selects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobScope {
    /// All that match.
    All,
    /// Those that have not ended. A job that is given by its number alone is selected in any state.
    Unended,
}

/// The selected jobs.
#[derive(Debug, Default)]
pub struct SelectedJobs {
    /// In the order of the arguments, each once; those of a range or of filters alone from the oldest to the newest.
    pub ids: Vec<JobId>,
    /// The first few of them, as they were when they were selected; without those that were given by their numbers
    /// alone.
    pub first: Vec<JobDto>,
}

impl JobSelection {
    /// Returns the job if the selection is a single number.
    pub fn single(&self) -> Option<JobId> {
        match self.ids[..] {
            [Numbers::One(id)] if !self.filters.is_given() => Some(id),
            _ => None,
        }
    }

    /// Returns whether the daemon decides which jobs are selected, because of a range or a filter.
    pub fn is_open(&self) -> bool {
        self.filters.is_given() || self.ids.iter().any(|numbers| matches!(numbers, Numbers::Range { .. }))
    }

    /// Checks that anything is selected.
    ///
    /// # Errors
    /// [`CliError::Usage`] if not.
    pub fn check(&self) -> Result<(), CliError> {
        if self.ids.is_empty() && !self.filters.is_given() {
            let text = "no job is selected: give numbers (12 13), a range (9-108) or a filter (--state failed)";
            return Err(CliError::Usage(text.to_owned()));
        }
        Ok(())
    }

    /// Asks the daemon for the selected jobs. A number without filters is not asked for: the command itself is refused
    /// if there is no such job. With filters, a number of no job is kept for the same reason.
    ///
    /// # Errors
    /// [`CliError::Usage`] if nothing is selected. The daemon refuses a filter, or can't be reached.
    pub async fn resolve(&self, client: &Client, scope: JobScope) -> Result<SelectedJobs, CliError> {
        self.check()?;
        let query = ScopedQuery { client, scope };
        let mut selected = SelectedJobs::default();
        let mut seen = HashSet::new();
        if self.ids.is_empty() {
            self.add_range(query, JobId(1)..=JobId(i64::MAX), &mut selected).await?;
        }
        for numbers in &self.ids {
            match *numbers {
                Numbers::One(id) if !self.filters.is_given() => selected.ids.push(id),
                Numbers::One(id) => {
                    let before = selected.ids.len();
                    self.add_range(query, id..=id, &mut selected).await?;
                    if selected.ids.len() == before && !exists(client, id).await? {
                        selected.ids.push(id);
                    }
                }
                Numbers::Range { first, last } => self.add_range(query, first..=last, &mut selected).await?,
            }
        }
        selected.ids.retain(|id| seen.insert(*id));
        let mut seen = HashSet::new();
        selected.first.retain(|job| seen.insert(job.id));
        selected.first.truncate(SHOWN);
        Ok(selected)
    }

    /// Adds the jobs of a range that match the filters, the oldest first.
    async fn add_range(
        &self,
        query: ScopedQuery<'_>,
        range: std::ops::RangeInclusive<JobId>,
        selected: &mut SelectedJobs,
    ) -> Result<(), CliError> {
        let mut found: Vec<JobId> = Vec::new();
        // The oldest jobs of the range. Pages go from the newest job to the oldest.
        let mut oldest: Vec<JobDto> = Vec::new();
        let mut before = range.end().0.checked_add(1).map(JobId);
        loop {
            // Where few numbers are left, the page is not larger than these.
            let left = before.map_or(i64::MAX, |before| before.0 - range.start().0);
            let limit = u32::try_from(left).map_or(PAGE, |left| left.clamp(1, PAGE));
            let page = query.client.list(&JobQuery { limit: Some(limit), before, ..self.filters.query() }).await?;
            let jobs = page.jobs.into_iter().take_while(|job| job.id >= *range.start());
            let in_scope = |job: &JobDto| query.scope == JobScope::All || !job.state.is_terminal();
            let jobs = jobs.filter(in_scope).collect::<Vec<_>>();
            found.extend(jobs.iter().map(|job| job.id));
            oldest.extend(jobs);
            oldest.drain(..oldest.len().saturating_sub(SHOWN));
            before = page.next_before.filter(|next| next > range.start());
            if before.is_none() {
                break;
            }
        }
        selected.ids.extend(found.into_iter().rev());
        selected.first.extend(oldest.into_iter().rev());
        Ok(())
    }
}

/// The daemon that is asked for jobs, and for which of them.
#[derive(Clone, Copy)]
struct ScopedQuery<'a> {
    client: &'a Client,
    scope: JobScope,
}

/// Returns whether the job exists, whatever the filters are.
async fn exists(client: &Client, id: JobId) -> Result<bool, ClientError> {
    match client.job(id, None).await {
        Ok(_) => Ok(true),
        Err(ClientError::Refused(problem)) if problem.status == 404 => Ok(false),
        Err(error) => Err(error),
    }
}

/// Parses a job's number, or a range of numbers.
fn parse_numbers(text: &str) -> Result<Numbers, String> {
    let Some((first, last)) = text.split_once('-') else { return parse_job_id(text).map(Numbers::One) };
    let number = |text: &str| parse_job_id(text).map_err(|rule| format!("{rule}, and a range two of them: 9-108"));
    let (first, last) = (number(first)?, number(last)?);
    if last < first {
        return Err(format!("the range ends before it begins: write {last}-{first}"));
    }
    Ok(Numbers::Range { first, last })
}

/// Returns the numbers as arguments that select these jobs and no others: `7 9-108 110`.
pub fn to_arguments(ids: &[JobId]) -> String {
    let mut words: Vec<String> = Vec::new();
    let mut rest = ids;
    while let Some(&first) = rest.first() {
        let run = rest.iter().zip(first.0..).take_while(|(id, number)| id.0 == *number).count();
        let (together, behind) = rest.split_at(run);
        match (together, together.last()) {
            ([_, _, _, ..], Some(last)) => words.push(format!("{first}-{last}")),
            _ => words.extend(together.iter().map(JobId::to_string)),
        }
        rest = behind;
    }
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selection(ids: &[&str], filters: JobFilters) -> JobSelection {
        JobSelection { ids: ids.iter().map(|text| parse_numbers(text).unwrap()).collect(), filters }
    }

    #[test]
    fn numbers_and_ranges_are_parsed() {
        assert_eq!(parse_numbers("12"), Ok(Numbers::One(JobId(12))));
        assert_eq!(parse_numbers("9-108"), Ok(Numbers::Range { first: JobId(9), last: JobId(108) }));
        assert_eq!(parse_numbers("9-9"), Ok(Numbers::Range { first: JobId(9), last: JobId(9) }));
        for (text, fault) in [
            ("seven", "a job's number is a whole number of at least 1"),
            ("0", "a job's number is a whole number of at least 1"),
            ("0-4", "a job's number is a whole number of at least 1, and a range two of them: 9-108"),
            ("4-", "a job's number is a whole number of at least 1, and a range two of them: 9-108"),
            ("1-2-3", "a job's number is a whole number of at least 1, and a range two of them: 9-108"),
            ("108-9", "the range ends before it begins: write 9-108"),
        ] {
            assert_eq!(parse_numbers(text).unwrap_err(), fault, "{text}");
        }
    }

    #[test]
    fn only_one_number_without_filters_is_single() {
        let failed = JobFilters { with_failures: true, ..JobFilters::default() };
        for (selection, single, is_open) in [
            (selection(&["12"], JobFilters::default()), Some(JobId(12)), false),
            (selection(&["12", "13"], JobFilters::default()), None, false),
            (selection(&["12-12"], JobFilters::default()), None, true),
            (selection(&["12"], failed.clone()), None, true),
            (selection(&[], failed), None, true),
        ] {
            assert_eq!((selection.single(), selection.is_open()), (single, is_open), "{selection:?}");
            assert!(selection.check().is_ok());
        }
        assert!(matches!(JobSelection::default().check(), Err(CliError::Usage(_))));
    }

    #[test]
    fn arguments_have_a_range_for_three_numbers_in_a_row() {
        let words = |ids: &[i64]| to_arguments(&ids.iter().map(|&id| JobId(id)).collect::<Vec<_>>());
        assert_eq!(words(&[]), "");
        assert_eq!(words(&[4, 5]), "4 5");
        assert_eq!(words(&[7, 9, 10, 11, 13, 12]), "7 9-11 13 12");
        assert_eq!(words(&[1, 2, 3, 4]), "1-4");
    }
}
