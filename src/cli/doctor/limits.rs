//! Checks of the limits, as a share of Marketo's, and of the retention times against each other.

use std::time::Duration;

use crate::cli::doctor::finding::Finding;
use crate::config::{Config, Instance, Limits, Retention};

/// Marketo's limits for all integrations of an instance. The configuration's validation keeps ours within them.
const IMPORTS: u32 = 10;
const CALLS: f64 = 100.0;
const WINDOW: Duration = Duration::from_secs(20);
const AT_ONCE: u32 = 10;

/// Adobe's advice for one integration.
const FAIR_CALLS: f64 = 50.0;
const FAIR_AT_ONCE: u32 = 5;

/// Checks the limits of each instance, and the retention times.
pub fn check_limits(config: &Config) -> Vec<Finding> {
    let instances = config.instances.iter().map(|(name, instance)| limits(format!("limits of {name}"), instance));
    instances.chain([retention(&config.retention)]).collect()
}

fn limits(check: String, instance: &Instance) -> Finding {
    if instance.is_loopback() {
        return Finding::ok(check, "it is a simulator on this machine, and its limits are its own");
    }
    let Limits { importing, queued, calls, window, concurrent_calls, .. } = instance.limits;
    // Maximum of calls in any twenty seconds. Rounding hides a difference of less than one.
    let calls = f64::from(calls) * (WINDOW.as_secs_f64() / window.as_secs_f64()).max(1.0);
    let taken = format!(
        "{importing} of 2 imports at once, {queued} of {IMPORTS} in the queue, {calls:.0} of {CALLS} calls in 20 s and \
         {concurrent_calls} of {AT_ONCE} calls at once are ours"
    );
    if calls > FAIR_CALLS || concurrent_calls > FAIR_AT_ONCE {
        let advice = "Adobe advises 50 calls in 20 s and 5 at once for one integration; others of this instance may be \
                      refused (606, 615) for ours";
        return Finding::warning(check, taken, advice);
    }
    let fine = Finding::ok(check, taken);
    if queued == IMPORTS {
        let advice = "where other programs import into this instance too, lower queued, because none is left to them while \
                      ours is full";
        return fine.with_hint(advice);
    }
    fine
}

fn retention(retention: &Retention) -> Finding {
    const CHECK: &str = "retention";
    let Retention { files, failed_files, reports, jobs } = retention;
    if jobs < files || jobs < reports || jobs < failed_files {
        let detail =
            "retention.jobs is shorter than files, failed_files or reports, and the record is erased with all the rest";
        return Finding::warning(CHECK, detail, "make jobs the longest of them");
    }
    if reports < files {
        let detail =
            "retention.reports is shorter than files, and without its reports no job's failed rows can be sent again";
        return Finding::warning(CHECK, detail, "make reports as long as files at least");
    }
    Finding::ok(CHECK, "content goes first, then reports, then the record")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::cli::doctor::finding::State;

    fn found(base: &str, lines: &str) -> Vec<Finding> {
        let text = format!("[instances.default]\nbase_url = '{base}'\nclient_id = 'i'\nclient_secret = 's'\n{lines}");
        check_limits(&Config::read(Some((Path::new("m.toml"), &text)), []).unwrap())
    }

    #[test]
    fn limits_that_leave_no_share_to_others_are_reported() {
        for (lines, state, advised, detail) in [
            ("", State::Fine, true, "10 of 10 in the queue, 50 of 100 calls in 20 s and 5 of 10"),
            ("limits.queued = 8", State::Fine, false, "8 of 10 in the queue"),
            ("limits.calls = 100", State::Warning, true, "100 of 100 calls in 20 s"),
            ("limits = { calls = 5, window = '1s' }", State::Warning, true, "100 of 100 calls in 20 s"),
            ("limits.concurrent_calls = 10", State::Warning, true, "10 of 10 calls at once"),
        ] {
            let found = &found("https://a.mktorest.com", lines)[0];
            assert_eq!((found.state, found.advice.is_some()), (state, advised), "{found:?}");
            assert!(found.detail.contains(detail), "{found:?}");
        }
        assert_eq!(found("http://127.0.0.1:1", "limits.calls = 5000")[0].state, State::Fine);
    }

    #[test]
    fn a_record_erased_before_its_files_is_reported() {
        for (lines, state) in [
            ("", State::Fine),
            ("[retention]\njobs = '1d'", State::Warning),
            ("[retention]\nreports = '1d'", State::Warning),
            ("[retention]\nfiles = '30d'", State::Fine),
        ] {
            assert_eq!(found("https://a.mktorest.com", lines)[1].state, state, "{lines}");
        }
    }
}
