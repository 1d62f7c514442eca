//! Host and origin of a browser's request: which hosts may be named, and which origins agree with them.
//!
//! A site whose name resolves to this machine (DNS rebinding) could otherwise use a listener on loopback as its own
//! server, through the browser of whoever opens it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use axum::http::header::{HOST, ORIGIN};
use axum::http::{HeaderMap, Uri};
use url::{Host, Url};

use crate::config::{Config, HostName};

/// Why a request of a browser is refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum OriginError {
    /// There is no host, or more than one.
    #[error("a request of a browser needs one header \"Host\"")]
    HostUnclear,
    /// The host is none that the page may have.
    #[error(
        "this daemon is not known as \"{0}\": open it by an address, localhost or a name of api.hosts, or add the name there"
    )]
    HostUnknown(String),
    /// The request comes from another site.
    #[error("the request comes from another site (its Origin is \"{0}\")")]
    OtherOrigin(String),
}

/// Names under which browsers may reach the listeners, beside addresses and `localhost`.
pub struct AllowedHosts {
    names: Vec<HostName>,
    /// The TCP listener uses TLS, so its page's origins begin with `https`.
    tls: TlsUse,
}

/// Whether the TCP listener uses TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TlsUse {
    /// It has a certificate.
    Tls,
    /// It serves plain HTTP; a proxy in front may use TLS.
    Plain,
}

/// Host and port, as a `Host` header has them.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Authority {
    host: HostKind,
    port: Option<u16>,
}

#[derive(Debug, PartialEq, Eq)]
enum HostKind {
    Address(IpAddr),
    /// In lower case, without a dot at its end.
    Name(String),
}

impl AllowedHosts {
    /// Collects the names of `api.hosts` and the hosts of the instances' `base_url`.
    pub fn new(config: &Config) -> AllowedHosts {
        let marketo = config.instances.values().filter_map(|instance| {
            let url = Url::parse(&instance.base_url).ok()?;
            Some(HostName { name: normal_name(url.host_str()?), port: None })
        });
        let tls = if config.api.tls.is_some() { TlsUse::Tls } else { TlsUse::Plain };
        AllowedHosts { names: config.api.page.hosts.iter().cloned().chain(marketo).collect(), tls }
    }

    /// Returns whether the TCP listener uses TLS.
    pub(crate) fn tls(&self) -> TlsUse {
        self.tls
    }

    /// Checks that the request names one host, and one that is allowed.
    pub(super) fn check_host(&self, uri: &Uri, headers: &HeaderMap) -> Result<Authority, OriginError> {
        let text = sole_host(uri, headers).ok_or(OriginError::HostUnclear)?;
        let unknown = || OriginError::HostUnknown(text.clone());
        Authority::parse(&text).filter(|authority| self.allows(authority)).ok_or_else(unknown)
    }

    /// Checks the host of a request over the socket that has no sign of a browser. A browser's GET after DNS rebinding
    /// has no such sign. Programs may use a name of one word, as `http://marqueue/`, or none. Every other host has to be
    /// an allowed one; what is no host at all is refused too, since some browsers and resolvers accept it.
    pub(super) fn check_rebinding(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), OriginError> {
        let hosts = headers.get_all(HOST).iter().map(|host| String::from_utf8_lossy(host.as_bytes()));
        for text in hosts.chain(uri.authority().map(|authority| authority.as_str().into())) {
            let is_allowed = match Authority::parse(&text) {
                // "word." is a top-level domain.
                Some(authority) => self.allows(&authority) || !text.contains('.'),
                None => text.is_empty(),
            };
            if !is_allowed {
                return Err(OriginError::HostUnknown(text.into_owned()));
            }
        }
        Ok(())
    }

    fn allows(&self, Authority { host, port }: &Authority) -> bool {
        let HostKind::Name(name) = host else { return true };
        let allows = |allowed: &HostName| {
            allowed.name == *name
                && allowed.port.is_none_or(|wanted| port.map_or(matches!(wanted, 80 | 443), |port| port == wanted))
        };
        name == "localhost" || self.names.iter().any(allows)
    }
}

/// Checks that the header `Origin`, if there is one, is the origin of a page of this host. Where `tls` is
/// [`TlsUse::Tls`], the page must have come by TLS.
pub(super) fn check_origin(headers: &HeaderMap, host: &Authority, tls: TlsUse) -> Result<(), OriginError> {
    for value in headers.get_all(ORIGIN) {
        let text = String::from_utf8_lossy(value.as_bytes());
        if !origin_agrees(&text, host, tls) {
            return Err(OriginError::OtherOrigin(text.into_owned()));
        }
    }
    Ok(())
}

/// Returns whether the page came by TLS, by its origin: behind a proxy no other header has it.
pub(crate) fn is_https_origin(headers: &HeaderMap) -> bool {
    headers.get(ORIGIN).is_some_and(|origin| origin.as_bytes().starts_with(b"https://"))
}

fn origin_agrees(origin: &str, host: &Authority, tls: TlsUse) -> bool {
    // An opaque origin is "null", which is no URL.
    let Ok(url) = Url::parse(origin) else { return false };
    let default_port = match (url.scheme(), tls) {
        ("https", _) => 443,
        ("http", TlsUse::Plain) => 80,
        _ => return false,
    };
    let is_bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none() && url.username().is_empty();
    let same_host = match (url.host(), &host.host) {
        (Some(Host::Domain(name)), HostKind::Name(own)) => normal_name(name) == *own,
        (Some(Host::Ipv4(address)), HostKind::Address(own)) => IpAddr::V4(address) == *own,
        (Some(Host::Ipv6(address)), HostKind::Address(own)) => IpAddr::V6(address) == *own,
        _ => false,
    };
    is_bare && same_host && url.port().unwrap_or(default_port) == host.port.unwrap_or(default_port)
}

/// Returns the only host that the request names, in its address or its header.
fn sole_host(uri: &Uri, headers: &HeaderMap) -> Option<String> {
    let mut hosts = headers.get_all(HOST).iter();
    let text = hosts.next()?.to_str().ok()?;
    let agrees = uri.authority().is_none_or(|authority| authority.as_str().eq_ignore_ascii_case(text));
    (hosts.next().is_none() && agrees).then(|| text.to_owned())
}

impl Authority {
    /// Parses `host`, `host:port`, `[address]` and `[address]:port`.
    fn parse(text: &str) -> Option<Authority> {
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (address, port) = rest.split_once(']')?;
                (HostKind::Address(IpAddr::V6(address.parse::<Ipv6Addr>().ok()?)), port)
            }
            None => {
                let (host, port) = text.split_at(text.find(':').unwrap_or(text.len()));
                let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
                if host.is_empty() || !host.bytes().all(is_name) {
                    return None;
                }
                let name = || HostKind::Name(normal_name(host));
                (host.parse::<Ipv4Addr>().map_or_else(|_| name(), |address| HostKind::Address(address.into())), port)
            }
        };
        let port = match port.strip_prefix(':') {
            Some("") => None,
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => Some(digits.parse().ok()?),
            Some(_) => return None,
            None if port.is_empty() => None,
            None => return None,
        };
        Some(Authority { host, port })
    }
}

fn normal_name(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use axum::http::HeaderValue;

    use super::*;

    fn hosts(listed: &str) -> AllowedHosts {
        let text = format!(
            "api.hosts = {listed}\ninstances.default = {{base_url = 'https://123-ABC-456.mktorest.com/rest', \
             client_id = 'i', client_secret = 's'}}"
        );
        AllowedHosts::new(&Config::read(Some((Path::new("m.toml"), &text)), []).unwrap())
    }

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let value = |value: &str| HeaderValue::from_bytes(value.as_bytes()).unwrap();
        pairs.iter().map(|(name, text)| (name.parse().unwrap(), value(text))).collect::<HeaderMap>()
    }

    fn path() -> Uri {
        Uri::from_static("/")
    }

    #[test]
    fn addresses_localhost_and_configured_names_are_allowed() {
        let allowed = hosts("['Queue.example.com', 'port.example.com:8437', 'plain.example.com:443']");
        for (host, expected) in [
            ("127.0.0.1", true),
            ("127.0.0.1:8437", true),
            ("10.1.2.3:1", true),
            ("[::1]", true),
            ("[::1]:8437", true),
            ("[2001:db8::1]:443", true),
            ("localhost", true),
            ("LOCALHOST:8437", true),
            ("localhost:", true),
            ("queue.example.com", true),
            ("queue.EXAMPLE.com.:9000", true),
            ("port.example.com:8437", true),
            ("plain.example.com", true),
            ("123-abc-456.mktorest.com", true),
            ("123-ABC-456.mktorest.com:443", true),
            ("port.example.com:8438", false),
            ("port.example.com", false),
            ("evil.example", false),
            ("evil.example:8437", false),
            ("localhost.evil.example", false),
            ("127.0.0.1.evil.example", false),
            ("queue.example.com.evil.example", false),
            ("marqueue", false),
            ("2130706433", false),
            ("0x7f.1", false),
            ("::1", false),
            ("[::1", false),
            ("[::1]x", false),
            ("[evil.example]", false),
            ("localhost:x", false),
            ("localhost:99999", false),
            ("evil.example:1@localhost", false),
            ("user@localhost", false),
            ("local host", false),
            ("localhost, evil.example", false),
            ("", false),
        ] {
            let checked = allowed.check_host(&path(), &headers(&[("host", host)]));
            assert_eq!(checked.is_ok(), expected, "{host}: {checked:?}");
        }
    }

    #[test]
    fn a_missing_or_ambiguous_host_is_refused() {
        let allowed = hosts("[]");
        assert_eq!(allowed.check_host(&path(), &HeaderMap::new()), Err(OriginError::HostUnclear));
        let mut twice = headers(&[("host", "localhost")]);
        twice.append(HOST, "localhost".parse().unwrap());
        assert_eq!(allowed.check_host(&path(), &twice), Err(OriginError::HostUnclear));
        for (address, expected) in [("http://localhost/", true), ("http://evil.example/", false)] {
            let checked = allowed.check_host(&Uri::from_static(address), &headers(&[("host", "localhost")]));
            assert_eq!(checked.is_ok(), expected, "{address}");
        }
    }

    #[test]
    fn an_origin_agrees_with_host_and_port() {
        for (origin, host, expected) in [
            ("http://localhost:8437", "localhost:8437", true),
            ("http://LOCALHOST:8437", "localhost:8437", true),
            ("http://localhost", "localhost", true),
            ("http://localhost", "localhost:80", true),
            ("https://queue.example.com", "queue.example.com", true),
            ("https://queue.example.com:443", "queue.example.com", true),
            ("https://queue.example.com", "queue.example.com:443", true),
            ("http://[::1]:8437", "[::1]:8437", true),
            ("http://127.0.0.1:8437", "127.0.0.1:8437", true),
            ("http://localhost:8438", "localhost:8437", false),
            ("http://localhost", "localhost:8437", false),
            ("http://localhost:8437", "127.0.0.1:8437", false),
            ("http://[::2]:8437", "[::1]:8437", false),
            ("https://queue.example.com", "queue.example.com:80", false),
            ("http://evil.example", "localhost", false),
            ("http://localhost.evil.example", "localhost", false),
            ("http://localhost@evil.example", "localhost", false),
            ("http://evil@localhost", "localhost", false),
            ("http://localhost/path", "localhost", false),
            ("null", "localhost", false),
            ("", "localhost", false),
            ("localhost", "localhost", false),
            ("file://", "localhost", false),
            ("chrome-extension://localhost", "localhost", false),
        ] {
            let host = Authority::parse(host).unwrap();
            assert_eq!(origin_agrees(origin, &host, TlsUse::Plain), expected, "{origin} at {host:?}");
        }
    }

    #[test]
    fn a_page_without_tls_is_foreign_to_a_listener_with_tls() {
        let host = Authority::parse("queue.example.com").unwrap();
        for (origin, tls, expected) in [
            ("https://queue.example.com", TlsUse::Tls, true),
            ("https://queue.example.com", TlsUse::Plain, true),
            ("http://queue.example.com", TlsUse::Plain, true),
            ("http://queue.example.com", TlsUse::Tls, false),
        ] {
            assert_eq!(check_origin(&headers(&[("origin", origin)]), &host, tls).is_ok(), expected, "{origin}");
        }
        assert_eq!(check_origin(&HeaderMap::new(), &host, TlsUse::Tls), Ok(()));
    }

    #[test]
    fn only_single_words_may_be_unknown_on_the_socket() {
        let allowed = hosts("['queue.example.com']");
        for (host, expected) in [
            ("marqueue", true),
            ("daemon:80", true),
            ("localhost", true),
            ("127.0.0.1:8437", true),
            ("queue.example.com", true),
            ("", true),
            ("evil.example:8437", false),
            ("evil.", false),
            ("a~b.evil.example:8437", false),
            ("a!b", false),
            ("evil\u{e9}.example", false),
        ] {
            let checked = allowed.check_rebinding(&path(), &headers(&[("host", host)]));
            assert_eq!(checked.is_ok(), expected, "{host}");
        }
        assert_eq!(allowed.check_rebinding(&path(), &HeaderMap::new()), Ok(()));
        for uri in ["http://evil.example/v1/jobs", "http://a~b.evil/v1/jobs"] {
            assert!(allowed.check_rebinding(&uri.parse().unwrap(), &HeaderMap::new()).is_err(), "{uri}");
        }
    }
}
