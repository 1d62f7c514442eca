//! `GET /v1/stats`: rows by result, ended jobs, uploads and calls over time.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use jiff::fmt::friendly::SpanParser;
use jiff::{SpanRelativeTo, Timestamp};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::api::auth::identity::Identity;
use crate::api::dto::{JobStats, Problem, RowStats, Stats};
use crate::api::handlers::instances::find_scheduler;
use crate::api::problem::Query;
use crate::api::state::SharedState;
use crate::clock::from_ms;
use crate::store::{ACTIVITY_SPAN, Activity, ActivityQuery, ActivityScope, ActivityStep};

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// The longest window, in seconds. The store keeps a day more.
const MAX_WINDOW: u64 = 31 * DAY;

/// The most steps of a response.
const MAX_STEPS: u64 = 700;

/// Steps that are chosen from where the request names none, in seconds, and the most that a window then has.
const DEFAULT_STEPS: [u64; 5] = [5 * MINUTE, 15 * MINUTE, HOUR, 6 * HOUR, DAY];
const MAX_DEFAULT_STEPS: u64 = 200;

/// Parameters of the query.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct StatsQuery {
    /// How far back: a duration such as `1h`, `24h` or `7d`, at most `31d`; default `24h`.
    window: Option<String>,
    /// Length of a step: a multiple of `5m`, at most 700 in a window. By default 5m, 15m, 1h, 6h or 1d.
    step: Option<String>,
    /// Only this instance.
    instance: Option<String>,
}

/// The steps of a response, in seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Steps {
    from: u64,
    step: u64,
    count: u64,
}

/// Handles `GET /v1/stats`.
pub(crate) async fn stats(
    State(daemon): State<SharedState>,
    caller: Identity,
    Query(StatsQuery { window, step, instance }): Query<StatsQuery>,
) -> Result<Json<Stats>, Problem> {
    if let Some(name) = &instance {
        find_scheduler(&daemon, &caller, name)?;
    }
    let window = parse_seconds("window", window.as_deref().unwrap_or("24h"))?;
    let step = step.map(|step| parse_seconds("step", &step)).transpose()?;
    let steps = Steps::new(window, step, daemon.clock.now())?;
    let scope = match &caller {
        Identity::User { .. } => ActivityScope::default(),
        Identity::Client(client) => {
            ActivityScope { instances: client.instances.clone(), client: Some(client.id.clone()) }
        }
    };
    let scope = ActivityScope { instances: instance.map(|name| vec![name]).or(scope.instances), ..scope };
    let query =
        ActivityQuery { from: time(steps.from), to: time(steps.end()), step: Duration::from_secs(steps.step), scope };
    let active = daemon.store.activity(query).await?;
    Ok(Json(steps.stats(&active)))
}

impl Steps {
    /// Divides the window before the end of the present step. Steps begin at multiples of their length, so that a
    /// number does not change with the time of the request.
    fn new(window: u64, step: Option<u64>, now: Timestamp) -> Result<Steps, Problem> {
        let refused = |detail: String| Err(Problem::bad_request(detail));
        if window == 0 || window > MAX_WINDOW {
            return refused("window must be more than 0s and at most 31d".to_owned());
        }
        let fits = |step: &u64| window.div_ceil(*step) <= MAX_DEFAULT_STEPS;
        let step = step.unwrap_or_else(|| DEFAULT_STEPS.into_iter().find(fits).unwrap_or(DAY));
        let span = ACTIVITY_SPAN.as_secs();
        if step == 0 || !step.is_multiple_of(span) {
            return refused("step must be a multiple of 5m, such as 15m or 1h".to_owned());
        }
        if step > window.max(DAY) {
            return refused("step must be at most the window, or a day in a shorter window".to_owned());
        }
        let count = window.div_ceil(step);
        if count > MAX_STEPS {
            return refused(format!(
                "window has {count} steps, and at most {MAX_STEPS} are possible: use longer steps"
            ));
        }
        let end = (now.as_second().max(0).cast_unsigned() / step + 1) * step;
        Ok(Steps { from: end.saturating_sub(count * step), step, count })
    }

    fn end(self) -> u64 {
        self.from + self.count * self.step
    }

    fn stats(self, active: &[ActivityStep]) -> Stats {
        let mut all = vec![Activity::default(); usize::try_from(self.count).unwrap_or_default()];
        for ActivityStep { index, activity } in active {
            if let Some(step) = all.get_mut(*index) {
                *step = *activity;
            }
        }
        let list = |number: fn(&Activity) -> u64| all.iter().map(number).collect::<Vec<u64>>();
        Stats {
            from: time(self.from),
            to: time(self.end()),
            step_seconds: self.step,
            rows: RowStats {
                imported: list(|step| step.rows_imported),
                imported_with_warning: list(|step| step.rows_warned),
                failed: list(|step| step.rows_failed),
            },
            jobs: JobStats {
                done: list(|step| step.jobs_complete),
                failed: list(|step| step.jobs_failed),
                cancelled: list(|step| step.jobs_cancelled),
            },
            uploads: list(|step| step.uploads),
            calls: list(|step| step.calls),
        }
    }
}

fn time(seconds: u64) -> Timestamp {
    from_ms(i64::try_from(seconds.saturating_mul(1_000)).unwrap_or(i64::MAX))
}

/// Parses a duration in whole seconds; a day has 24 hours.
fn parse_seconds(parameter: &str, text: &str) -> Result<u64, Problem> {
    let duration = SpanParser::new()
        .parse_span(text)
        .and_then(|span| span.to_duration(SpanRelativeTo::days_are_24_hours()))
        .ok()
        .and_then(|duration| Duration::try_from(duration).ok())
        .filter(|duration| duration.subsec_nanos() == 0);
    let wanted =
        || Problem::bad_request(format!("{parameter} must be a duration such as 15m, 24h or 7d, not \"{text}\""));
    duration.map(|duration| duration.as_secs()).ok_or_else(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 10:07:30 of the thousandth day.
    const NOW: i64 = 1_000 * 86_400 + 10 * 3_600 + 7 * 60 + 30;

    fn steps(window: &str, step: Option<&str>) -> Result<(u64, u64, u64), String> {
        let parsed = parse_seconds("window", window)
            .and_then(|window| Ok((window, step.map(|step| parse_seconds("step", step)).transpose()?)))
            .and_then(|(window, step)| Steps::new(window, step, from_ms(NOW * 1_000)));
        parsed.map(|steps| (steps.step, steps.count, steps.end())).map_err(|problem| problem.detail)
    }

    #[test]
    fn steps_begin_at_multiples_of_their_length() {
        let day = 1_000 * DAY;
        for (window, step, expected) in [
            ("1h", None, (300, 12, day + 10 * HOUR + 10 * MINUTE)),
            ("24h", None, (900, 96, day + 10 * HOUR + 15 * MINUTE)),
            ("7d", None, (HOUR, 168, day + 11 * HOUR)),
            ("31d", None, (6 * HOUR, 124, day + 12 * HOUR)),
            ("24h", Some("5m"), (300, 288, day + 10 * HOUR + 10 * MINUTE)),
            ("90m", Some("1h"), (HOUR, 2, day + 11 * HOUR)),
            ("1h", Some("1d"), (DAY, 1, day + DAY)),
            ("3500m", Some("5m"), (300, 700, day + 10 * HOUR + 10 * MINUTE)),
        ] {
            assert_eq!(steps(window, step), Ok(expected), "{window} {step:?}");
        }
    }

    #[test]
    fn impossible_steps_are_refused_with_the_rule() {
        for (window, step, expected) in [
            ("soon", None, "window must be a duration such as 15m, 24h or 7d, not \"soon\""),
            ("-1h", None, "window must be a duration such as 15m, 24h or 7d, not \"-1h\""),
            ("1 month", None, "window must be a duration such as 15m, 24h or 7d, not \"1 month\""),
            ("250ms", None, "window must be a duration such as 15m, 24h or 7d, not \"250ms\""),
            ("0s", None, "window must be more than 0s and at most 31d"),
            ("32d", None, "window must be more than 0s and at most 31d"),
            ("1h", Some("x"), "step must be a duration such as 15m, 24h or 7d, not \"x\""),
            ("1h", Some("0s"), "step must be a multiple of 5m, such as 15m or 1h"),
            ("1h", Some("1m"), "step must be a multiple of 5m, such as 15m or 1h"),
            ("1h", Some("301s"), "step must be a multiple of 5m, such as 15m or 1h"),
            ("1h", Some("7000000d"), "step must be at most the window, or a day in a shorter window"),
            ("7d", Some("8d"), "step must be at most the window, or a day in a shorter window"),
            ("7d", Some("5m"), "window has 2016 steps, and at most 700 are possible: use longer steps"),
        ] {
            assert_eq!(steps(window, step), Err(expected.to_owned()), "{window} {step:?}");
        }
    }
}
