//! Checks of the credentials and of the clock against Marketo's.

use std::time::Duration;

use futures_util::future::join_all;
use jiff::{SignedDuration, Timestamp};

use crate::cli::doctor::finding::Finding;
use crate::clock::Clock;
use crate::config::{Config, Instance};
use crate::marketo::{Client, TokenError};

const CLOCK: &str = "clock";

/// Accepted difference: the `Date` header has whole seconds, and the response takes time.
const MAX_CLOCK_OFFSET: SignedDuration = SignedDuration::from_secs(60);

/// Requests a token for each instance, and compares the clock with the `Date` of the responses.
pub async fn check_credentials(config: &Config) -> Vec<Finding> {
    let asked = join_all(config.instances.iter().map(|(name, instance)| check_instance(name, instance))).await;
    let (mut findings, ahead): (Vec<Finding>, Vec<Option<SignedDuration>>) = asked.into_iter().unzip();
    findings.push(clock(ahead.into_iter().flatten().max_by_key(|ahead| ahead.abs())));
    findings
}

/// Checks the credentials of an instance. Also returns how far our clock is ahead, if the response has a `Date`.
async fn check_instance(name: &str, instance: &Instance) -> (Finding, Option<SignedDuration>) {
    let check = format!("credentials of {name}");
    let client = match Client::new(instance) {
        Ok(client) => client,
        Err(error) => {
            let advice = "install the root certificates (ca-certificates)";
            return (Finding::error(check, format!("TLS can't be used: {error}"), advice), None);
        }
    };
    let asked = client.token().await;
    let ahead = client.server_time().map(|theirs| ahead_of(theirs, Clock::System.now()));
    let url = &instance.identity_url;
    let finding = match asked {
        Ok(_) => Finding::ok(check, format!("{url} issued a token for them")),
        Err(TokenError::Rejected(reason)) => {
            let advice = match reason.starts_with("603") {
                true => {
                    "make sure in Marketo's Admin > Security that the allowlist of IP addresses has this machine's, and that \
                         the role of the API user may import"
                        .to_owned()
                }
                false => {
                    format!("copy id and secret again from Admin > Integration > LaunchPoint into [instances.{name}]")
                }
            };
            Finding::error(check, TokenError::Rejected(reason).to_string(), advice)
        }
        Err(error @ TokenError::Transient(_)) => Finding::error(
            check,
            error.to_string(),
            format!(
                "make sure that this machine reaches {url} (name, firewall, proxy), and that it is the right address"
            ),
        ),
    };
    (finding, ahead)
}

/// Returns how far `ours` is ahead. Their time is cut to whole seconds, so an offset within that second counts as zero.
fn ahead_of(theirs: Timestamp, ours: Timestamp) -> SignedDuration {
    let ahead = ours.duration_since(theirs);
    if ahead.is_positive() { (ahead - SignedDuration::from_secs(1)).max(SignedDuration::ZERO) } else { ahead }
}

fn clock(ahead: Option<SignedDuration>) -> Finding {
    let Some(ahead) = ahead else {
        let advice = "make sure that the clock is synchronised (timedatectl)";
        return Finding::warning(CLOCK, "no identity endpoint returned its time", advice);
    };
    if ahead.abs() <= MAX_CLOCK_OFFSET {
        return Finding::ok(CLOCK, "it agrees with Marketo's to the minute");
    }
    let by = Duration::from_secs(ahead.unsigned_abs().as_secs());
    let way = if ahead.is_positive() { "ahead of" } else { "behind" };
    let by = SignedDuration::try_from(by).unwrap_or(ahead);
    let detail = format!("it is {by:#} {way} Marketo's, and the times of retention depend on it");
    Finding::error(CLOCK, detail, "synchronise it with NTP (timedatectl set-ntp true)")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::finding::State;

    #[test]
    fn a_clock_that_is_more_than_a_minute_off_is_a_fault() {
        for (seconds, state) in
            [(0, State::Fine), (60, State::Fine), (-60, State::Fine), (61, State::Fault), (-61, State::Fault)]
        {
            assert_eq!(clock(Some(SignedDuration::from_secs(seconds))).state, state, "{seconds}");
        }
        assert_eq!(clock(None).state, State::Warning);
        let detail = clock(Some(SignedDuration::from_mins(-125))).detail;
        assert_eq!(detail, "it is 2h 5m behind Marketo's, and the times of retention depend on it");
    }

    #[test]
    fn the_second_that_a_date_leaves_open_is_no_difference() {
        let at = |ms| crate::clock::from_ms(ms);
        assert_eq!(ahead_of(at(1_000), at(1_999)), SignedDuration::ZERO);
        assert_eq!(ahead_of(at(1_000), at(3_000)), SignedDuration::from_secs(1));
        assert_eq!(ahead_of(at(3_000), at(1_000)), SignedDuration::from_secs(-2));
    }
}
