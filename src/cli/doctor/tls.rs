//! Check of the TLS files: whether they can be loaded, and when the certificate expires.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::fmt::strtime;
use jiff::tz::TimeZone;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::cli::doctor::finding::Finding;
use crate::cli::format::time;
use crate::clock::Clock;
use crate::config::{Config, TlsFiles};
use crate::http_server::Tls;

const CHECK: &str = "TLS files";

/// Days before its end at which a certificate is reported. Enough time to get a new one.
const SOON_DAYS: i64 = 14;

/// Checks the TLS files of the configuration, if any.
pub fn check_tls(config: &Config) -> Option<Finding> {
    let files = config.api.tls.as_ref()?;
    if let Err(error) = Tls::load(files.clone()) {
        let advice = "name a certificate and its own key, both in PEM form, that this user may read";
        return Some(Finding::error(CHECK, error.to_string(), advice));
    }
    Some(age(files, Clock::System.now()))
}

fn age(files: &TlsFiles, now: Timestamp) -> Finding {
    let shown = files.cert.display();
    let leaf = CertificateDer::pem_file_iter(&files.cert).ok().and_then(|mut chain| chain.next()?.ok());
    let Some((from, until)) = leaf.as_deref().and_then(validity) else {
        return Finding::ok(CHECK, format!("{shown} and its key belong together, but its end can't be read"));
    };
    const ADVICE: &str = "get a new one, install it at that path and reload the service (systemctl reload marqueue)";
    let days = until.duration_since(now).as_hours() / 24;
    if now > until {
        Finding::error(CHECK, format!("the certificate {shown} expired on {}", time(until)), ADVICE)
    } else if now < from {
        let detail = format!("the certificate {shown} is valid only from {}", time(from));
        Finding::error(CHECK, detail, "wait, correct the clock, or get another one")
    } else if days < SOON_DAYS {
        Finding::warning(CHECK, format!("the certificate {shown} expires on {}", time(until)), ADVICE)
    } else {
        Finding::ok(CHECK, format!("{shown} and its key belong together, and are valid until {}", time(until)))
    }
}

/// Returns the validity of a certificate: the two times of its fifth field, or of its fourth if it has no version (RFC
/// 5280, 4.1). No dependency provides them, and the parser is short.
fn validity(certificate: &[u8]) -> Option<(Timestamp, Timestamp)> {
    const SEQUENCE: u8 = 0x30;
    const VERSION: u8 = 0xa0;
    let (_, certificate, _) = element(certificate)?;
    let (_, mut rest, _) = element(certificate)?;
    if *rest.first()? == VERSION {
        (_, _, rest) = element(rest)?;
    }
    // Serial number, algorithm, issuer.
    for _ in 0..3 {
        (_, _, rest) = element(rest)?;
    }
    let (tag, times, _) = element(rest)?;
    let (from_tag, from, times) = element(times)?;
    let (until_tag, until, _) = element(times)?;
    (tag == SEQUENCE).then_some((parse_time(from_tag, from)?, parse_time(until_tag, until)?))
}

/// Parses the first element of DER: its tag, its content, and the bytes after it.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&short, mut rest) = rest.split_first()?;
    let mut length = usize::from(short);
    if short >= 0x80 {
        let (bytes, after) = rest.split_at_checked(usize::from(short & 0x7f))?;
        if bytes.len() > 4 {
            return None;
        }
        length = bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
        rest = after;
    }
    let (content, after) = rest.split_at_checked(length)?;
    Some((tag, content, after))
}

/// Parses a time. `UTCTime` has two digits of the year, of 1950 to 2049; `GeneralizedTime` four.
fn parse_time(tag: u8, text: &[u8]) -> Option<Timestamp> {
    let text = std::str::from_utf8(text).ok()?;
    let text = match (tag, text.get(..2)?.parse::<u8>().ok()?) {
        (0x17, 50..) => format!("19{text}"),
        (0x17, _) => format!("20{text}"),
        _ => text.to_owned(),
    };
    let civil: DateTime = strtime::parse("%Y%m%d%H%M%SZ", text).ok()?.to_datetime().ok()?;
    TimeZone::UTC.to_timestamp(civil).ok()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::cli::doctor::finding::State;

    fn files() -> TlsFiles {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tls");
        TlsFiles { cert: folder.join("one.pem"), key: folder.join("one.key") }
    }

    #[test]
    fn a_certificate_is_valid_between_its_two_times() {
        let leaf = CertificateDer::pem_file_iter(files().cert).unwrap().next().unwrap().unwrap();
        let (from, until) = validity(&leaf).unwrap();
        assert!(from < until);
        let day = jiff::SignedDuration::from_hours(24);
        for (now, state) in [
            (from - day, State::Fault),
            (from, State::Fine),
            (until - 15 * day, State::Fine),
            (until - 13 * day, State::Warning),
            (until + day, State::Fault),
        ] {
            assert_eq!(age(&files(), now).state, state, "{now}");
        }
    }

    #[test]
    fn both_formats_of_a_time_are_parsed() {
        let at = |text: &str| Some(text.parse::<Timestamp>().unwrap());
        assert_eq!(parse_time(0x17, b"490102030405Z"), at("2049-01-02T03:04:05Z"));
        assert_eq!(parse_time(0x17, b"500102030405Z"), at("1950-01-02T03:04:05Z"));
        assert_eq!(parse_time(0x18, b"20500102030405Z"), at("2050-01-02T03:04:05Z"));
        assert_eq!(parse_time(0x18, b"soon"), None);
    }

    #[test]
    fn a_truncated_certificate_has_no_times() {
        let leaf = CertificateDer::pem_file_iter(files().cert).unwrap().next().unwrap().unwrap();
        for length in 0..leaf.len() {
            assert_eq!(validity(&leaf[..length]), None);
        }
    }
}
