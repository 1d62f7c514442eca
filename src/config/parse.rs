//! Parsers of durations, times of day, permission bits and URLs.
//!
//! An error is the end of a sentence that begins with the key.

use std::time::Duration;

use config::{Value, ValueKind};
use jiff::fmt::friendly::SpanParser;
use jiff::{SpanRelativeTo, civil};
use serde::{Deserialize, Deserializer};
use url::{Host, Url};

/// Maximum duration. A longer one is a mistake, and would exceed the range of a timestamp.
const MAX_DURATION: Duration = Duration::from_secs(36_500 * 24 * 60 * 60);

pub(super) fn duration<'de, D: Deserializer<'de>>(input: D) -> Result<Duration, D::Error> {
    match Value::deserialize(input)?.kind {
        ValueKind::String(text) => parse_duration(&text).map_err(serde::de::Error::custom),
        other => Err(serde::de::Error::custom(format!("must be text with a unit, such as \"20s\", not {other}"))),
    }
}

/// Parses a duration: `"250ms"`, `"20s"`, `"7d"`, `"1h30m"`; a day has 24 hours.
fn parse_duration(text: &str) -> Result<Duration, String> {
    if text.trim().parse::<f64>().is_ok() {
        return Err(format!("must have a unit, such as \"{}s\"", text.trim()));
    }
    SpanParser::new()
        .parse_span(text)
        .and_then(|span| span.to_duration(SpanRelativeTo::days_are_24_hours()))
        .ok()
        .and_then(|duration| Duration::try_from(duration).ok())
        .filter(|duration| *duration <= MAX_DURATION)
        .ok_or_else(|| {
            format!(
                "must be a duration of at most 36500d, such as \"250ms\", \"20s\", \"5m\" or \"7d\", not \"{text}\""
            )
        })
}

pub(super) fn time_of_day<'de, D: Deserializer<'de>>(input: D) -> Result<civil::Time, D::Error> {
    match Value::deserialize(input)?.kind {
        ValueKind::String(text) => parse_time_of_day(&text).map_err(serde::de::Error::custom),
        other => Err(serde::de::Error::custom(format!("must be text, such as \"06:00\", not {other}"))),
    }
}

/// Parses a time of day: `"06:00"`, or with seconds.
fn parse_time_of_day(text: &str) -> Result<civil::Time, String> {
    let parts: Vec<&str> = text.split(':').collect();
    let digits = parts.iter().all(|part| part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_digit()));
    let number = |at: usize| parts.get(at).map_or(Some(0), |part| part.parse().ok());
    let time = match (number(0), number(1), number(2)) {
        (Some(hour), Some(minute), Some(second)) if digits && matches!(parts.len(), 2 | 3) => {
            civil::Time::new(hour, minute, second, 0).ok()
        }
        _ => None,
    };
    time.ok_or_else(|| format!("must be a time of day in UTC from \"00:00\" to \"23:59:59\", not \"{text}\""))
}

/// Parses permission bits in octal: `"0660"`.
pub(super) fn parse_mode(text: &str) -> Result<u32, String> {
    let octal = !text.is_empty() && text.bytes().all(|byte| matches!(byte, b'0'..=b'7'));
    u32::from_str_radix(text, 8)
        .ok()
        .filter(|mode| octal && *mode <= 0o777)
        .ok_or_else(|| format!("must be octal digits from \"0000\" to \"0777\", not \"{text}\""))
}

/// Parses Marketo's base URL. `/rest` at the end is removed, because Marketo's admin page shows the URL with it.
pub(super) fn parse_base_url(text: &str) -> Result<Url, String> {
    parse_url(text, "/rest")
}

/// Parses the identity URL. `/oauth/token` at the end is removed, because users paste the whole token endpoint.
pub(super) fn parse_identity_url(text: &str) -> Result<Url, String> {
    parse_url(text, "/oauth/token")
}

/// Parses the URL of notifications. Its query is kept, because some services have a token there.
pub(super) fn parse_hook(text: &str) -> Result<Url, String> {
    safe_url(text)
}

/// Parses a URL that uses TLS, or whose host is this machine.
fn safe_url(text: &str) -> Result<Url, String> {
    // The text is not shown: it may hold a password.
    let url = Url::parse(text).map_err(|error| format!("must be a URL, such as \"https://a.example\": {error}"))?;
    match url.scheme() {
        "https" => Ok(url),
        "http" if is_loopback(&url) => Ok(url),
        _ => {
            Err("must begin with https:// (http:// is allowed only for loopback addresses, as of a simulator)"
                .to_owned())
        }
    }
}

fn parse_url(text: &str, surplus: &str) -> Result<Url, String> {
    let mut url = safe_url(text)?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err("must not have a user name or a password".to_owned());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("must not have a query or a fragment".to_owned());
    }
    let path = url.path().trim_end_matches('/');
    let path = path.strip_suffix(surplus).unwrap_or(path).trim_end_matches('/').to_owned();
    if path.contains("//") {
        return Err("must not have // in its path: Marketo rejects it".to_owned());
    }
    url.set_path(&path);
    Ok(url)
}

/// Returns a URL without a `/` at the end, so that paths can be appended. ([`Url`] itself always has one.)
pub(super) fn without_slash(url: &Url) -> String {
    url.as_str().trim_end_matches('/').to_owned()
}

pub(super) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units() {
        for (text, milliseconds) in [
            ("250ms", 250),
            ("20s", 20_000),
            ("5m", 300_000),
            ("1h30m", 5_400_000),
            ("1h 30m", 5_400_000),
            ("7d", 604_800_000),
            ("365d", 31_536_000_000),
            ("2 weeks", 1_209_600_000),
            ("0s", 0),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
    }

    #[test]
    fn a_number_without_a_unit_is_refused() {
        assert_eq!(parse_duration("20").unwrap_err(), "must have a unit, such as \"20s\"");
    }

    #[test]
    fn texts_that_are_no_durations_are_refused() {
        for text in ["", "soon", "5x", "-5s", "5s ago", "1 month", "1y", "36501d", "99999999999999999999d"] {
            let reason = parse_duration(text).unwrap_err();
            assert!(reason.ends_with(&format!("not \"{text}\"")), "{text}: {reason}");
        }
    }

    #[test]
    fn a_time_of_day_has_hours_and_minutes_and_may_have_seconds() {
        for (text, time) in [
            ("06:00", civil::time(6, 0, 0, 0)),
            ("00:00", civil::time(0, 0, 0, 0)),
            ("23:59:59", civil::time(23, 59, 59, 0)),
        ] {
            assert_eq!(parse_time_of_day(text), Ok(time));
        }
        for text in ["", "6:00", "24:00", "06:60", "06", "06:00:60", "06:00:00:00", "06:00Z", "6 am", "+6:00", "06:00:"]
        {
            assert!(parse_time_of_day(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_mode_is_octal_and_has_permission_bits_only() {
        assert_eq!(parse_mode("0660"), Ok(0o660));
        assert_eq!(parse_mode("600"), Ok(0o600));
        for text in ["", "0888", "1777", "+660", "0o660", "rw-rw----", "99999999999999"] {
            assert!(parse_mode(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_base_url_may_be_pasted_from_the_admin_page() {
        for text in ["https://a.mktorest.com", "https://a.mktorest.com/", "https://a.mktorest.com/rest"] {
            assert_eq!(without_slash(&parse_base_url(text).unwrap()), "https://a.mktorest.com");
        }
        let prefixed = parse_base_url("https://proxy.example/marketo/rest//").unwrap();
        assert_eq!(without_slash(&prefixed), "https://proxy.example/marketo");
    }

    #[test]
    fn an_identity_url_may_end_in_a_slash_or_be_the_token_endpoint() {
        for text in ["/identity", "/identity/", "/identity/oauth/token", "/identity/oauth/token/"] {
            let url = parse_identity_url(&format!("https://a.mktorest.com{text}")).unwrap();
            assert_eq!(without_slash(&url), "https://a.mktorest.com/identity");
        }
    }

    #[test]
    fn plain_http_is_for_loopback_only() {
        for host in ["127.0.0.1:9000", "127.8.8.8", "[::1]:80", "localhost:1", "LOCALHOST"] {
            assert!(parse_base_url(&format!("http://{host}")).is_ok(), "{host}");
        }
        for host in ["a.mktorest.com", "128.0.0.1", "[::2]", "localhost.example", "127.0.0.1.example", "10.0.0.1"] {
            assert!(parse_base_url(&format!("http://{host}")).is_err(), "{host}");
        }
    }

    #[test]
    fn a_url_with_user_query_or_fragment_is_refused() {
        for text in [
            "",
            "a.mktorest.com",
            "ftp://a.mktorest.com",
            "https://u:p@a.mktorest.com",
            "https://a.mktorest.com?x=1",
            "https://a.mktorest.com#x",
            "https://a.mktorest.com//b",
        ] {
            assert!(parse_base_url(text).is_err(), "{text}");
        }
    }
}
