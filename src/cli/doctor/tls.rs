//! Check of the TLS files: whether they can be loaded, and when the certificate expires.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use jiff::Timestamp;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use x509_cert::Certificate;
use x509_cert::der::Decode;
use x509_cert::time::Time;

use crate::cli::doctor::finding::Finding;
use crate::cli::render::time::to_the_second;
use crate::clock::{Clock, from_ms};
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

/// Returns whether a TLS file that the configuration names does not exist: a fault of the configuration itself.
pub fn is_file_missing(config: &Config) -> bool {
    let is_missing = |file: &Path| fs::metadata(file).is_err_and(|error| error.kind() == ErrorKind::NotFound);
    config.api.tls.as_ref().is_some_and(|files| is_missing(&files.cert) || is_missing(&files.key))
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
        Finding::error(CHECK, format!("the certificate {shown} expired on {}", to_the_second(until)), ADVICE)
    } else if now < from {
        let detail = format!("the certificate {shown} is valid only from {}", to_the_second(from));
        Finding::error(CHECK, detail, "wait, correct the clock, or get another one")
    } else if days < SOON_DAYS {
        Finding::warning(CHECK, format!("the certificate {shown} expires on {}", to_the_second(until)), ADVICE)
    } else {
        Finding::ok(CHECK, format!("{shown} and its key belong together, and are valid until {}", to_the_second(until)))
    }
}

/// Returns the two times between which a certificate is valid.
fn validity(certificate: &[u8]) -> Option<(Timestamp, Timestamp)> {
    let validity = Certificate::from_der(certificate).ok()?.tbs_certificate.validity;
    let at = |time: Time| i64::try_from(time.to_unix_duration().as_secs()).ok().map(|second| from_ms(second * 1000));
    Some((at(validity.not_before)?, at(validity.not_after)?))
}

#[cfg(test)]
mod tests {
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
    fn a_truncated_certificate_has_no_times() {
        let leaf = CertificateDer::pem_file_iter(files().cert).unwrap().next().unwrap().unwrap();
        for length in 0..leaf.len() {
            assert_eq!(validity(&leaf[..length]), None);
        }
    }
}
