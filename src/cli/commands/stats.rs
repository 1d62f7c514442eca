//! The `stats` command: rows by result, ended jobs, uploads and calls over time.

use clap::Args;

use crate::api::dto::Stats as StatsDto;
use crate::cli::exit_status::{CliError, ExitStatus};
use crate::cli::global::GlobalArgs;
use crate::cli::output;
use crate::cli::render::{Cell, Column, Screen, Table, Tone};
use crate::clock::from_ms;

/// Show rows by result, jobs that ended, uploads and calls over time
///
/// A line is a step of time in which something happened, with its start (UTC); the last line is the sum. Rows count when
/// their import ends, and those with a warning are not among the imported ones. Numbers are kept for 32 days, also those
/// of erased jobs. With --json: an object with "from", "to" and "step_seconds", and lists with one number for each step,
/// as GET /v1/stats has it.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  marqueue stats
  marqueue stats --window 7d --step 1h
  marqueue stats --window 1h --instance eu --json")]
pub struct Stats {
    /// How far back: a duration such as 1h, 24h or 7d, at most 31d
    #[arg(long, default_value = "24h", value_name = "DURATION")]
    window: String,
    /// The length of a step, a multiple of 5m; at most 700 steps [default: 5m, 15m, 1h or 6h, by the window]
    #[arg(long, value_name = "DURATION")]
    step: Option<String>,
    /// Only this instance
    #[arg(long, value_name = "NAME")]
    instance: Option<String>,
}

impl Stats {
    /// Shows the numbers.
    ///
    /// # Errors
    /// The daemon refuses or can't be reached, or standard output is not writable.
    pub async fn run(self, global: &GlobalArgs) -> Result<ExitStatus, CliError> {
        let given = [("step", &self.step), ("instance", &self.instance)];
        let given = given.into_iter().filter_map(|(name, value)| Some((name, value.as_deref()?)));
        let parameters: Vec<_> = [("window", self.window.as_str())].into_iter().chain(given).collect();
        let stats = global.client()?.stats(&parameters).await?;
        if global.json {
            output::print_json(&stats)?;
        } else {
            output::print(&table(&stats).render(&Screen::stdout()))?;
        }
        Ok(ExitStatus::Done)
    }
}

/// Returns a table with a line for each step in which something happened, and one of the sums.
fn table(stats: &StatsDto) -> Table {
    let lists = [
        &stats.rows.imported,
        &stats.rows.imported_with_warning,
        &stats.rows.failed,
        &stats.jobs.done,
        &stats.jobs.failed,
        &stats.jobs.cancelled,
        &stats.uploads,
        &stats.calls,
    ];
    let mut table = Table::new(vec![
        Column::left("TIME"),
        Column::right("IMPORTED"),
        Column::right("WARNED"),
        Column::right("FAILED"),
        Column::right("JOBS"),
        Column::right("JOBS FAILED"),
        Column::right("CANCELLED").optional(1),
        Column::right("UPLOADS").optional(2),
        Column::right("CALLS").optional(0),
    ]);
    let mut push = |first: String, numbers: [u64; 8]| {
        let failed = |column: usize| numbers[column] > 0 && matches!(column, 2 | 4);
        let cells = (0..numbers.len()).map(|column| match failed(column) {
            true => Cell::toned(numbers[column].to_string(), Tone::Fault),
            false => numbers[column].to_string().into(),
        });
        table.push([Cell::from(&first)].into_iter().chain(cells));
    };
    for step in 0..stats.calls.len() {
        let numbers = lists.map(|list| list.get(step).copied().unwrap_or_default());
        if numbers.iter().any(|number| *number > 0) {
            push(step_start(stats, step), numbers);
        }
    }
    push("total".to_owned(), lists.map(|list| list.iter().sum()));
    table
}

fn step_start(stats: &StatsDto, step: usize) -> String {
    let seconds = stats.step_seconds.cast_signed().saturating_mul(i64::try_from(step).unwrap_or(i64::MAX));
    let start = from_ms(stats.from.as_millisecond().saturating_add(seconds.saturating_mul(1_000)));
    start.strftime("%Y-%m-%d %H:%M").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::dto::{JobStats, RowStats};

    #[test]
    fn steps_with_activity_and_their_sum_are_shown() {
        let stats = StatsDto {
            from: from_ms(0),
            to: from_ms(2_700_000),
            step_seconds: 900,
            rows: RowStats { imported: vec![1_000, 0, 7], imported_with_warning: vec![2, 0, 0], failed: vec![3, 0, 0] },
            jobs: JobStats { done: vec![4, 0, 1], failed: vec![0, 0, 0], cancelled: vec![0, 0, 1] },
            uploads: vec![5, 0, 1],
            calls: vec![40, 0, 6],
        };
        assert_eq!(
            table(&stats).render(&Screen::PLAIN),
            "TIME              IMPORTED  WARNED  FAILED  JOBS  JOBS FAILED  CANCELLED  UPLOADS  CALLS\n\
             1970-01-01 00:00      1000       2       3     4            0          0        5     40\n\
             1970-01-01 00:30         7       0       0     1            0          1        1      6\n\
             total                 1007       2       3     5            0          1        6     46\n"
        );
    }
}
