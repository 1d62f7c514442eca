//! Validation of the page's keys: the path prefix, and the host names that browsers may use.

use crate::config::error::KeyError;
use crate::config::listeners::HostName;

/// First segments of the daemon's own paths. A prefix that begins with one would hide them.
const OWN_SEGMENTS: [&str; 10] =
    ["v1", "ui", "identity", "bulk", "rest", "instances", "metrics", "healthz", "readyz", "openapi.json"];

/// Parses `api.ui_prefix`; it may be empty.
pub(super) fn parse_prefix(text: String) -> Result<String, KeyError> {
    let error = |reason: String| Err(KeyError::new("api.ui_prefix", reason));
    if text.is_empty() {
        return Ok(text);
    }
    let Some(rest) = text.strip_prefix('/') else {
        return error(format!("must begin with /, as \"/marqueue\", not \"{text}\""));
    };
    if rest.ends_with('/') || rest.is_empty() {
        return error(format!("must not end with /: write \"/marqueue\", not \"{text}\""));
    }
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
    for segment in rest.split('/') {
        if segment.is_empty() || matches!(segment, "." | "..") || !segment.bytes().all(is_plain) {
            return error(format!("must be segments of letters, digits, -, ., _ and ~, not \"{text}\""));
        }
    }
    match rest.split('/').next().filter(|first| OWN_SEGMENTS.contains(first)) {
        Some(first) => error(format!("must not begin with /{first}, which is a path of the daemon's own")),
        None => Ok(text),
    }
}

/// Parses `api.hosts`.
pub(super) fn parse_hosts(texts: &[String]) -> Result<Vec<HostName>, KeyError> {
    let entries = texts.iter().enumerate();
    entries
        .map(|(index, text)| {
            parse_host(text).ok_or_else(|| {
                let reason = format!(
                    "must be a host name, optionally with a port, as \"queue.example.com\" or \
                     \"queue.example.com:8437\", not \"{text}\""
                );
                KeyError::new(format!("api.hosts[{index}]"), reason)
            })
        })
        .collect()
}

fn parse_host(text: &str) -> Option<HostName> {
    let (name, port) = match text.rsplit_once(':') {
        Some((name, port)) => {
            let digits = port.bytes().all(|byte| byte.is_ascii_digit());
            (name, Some(port.parse().ok().filter(|port| digits && *port > 0)?))
        }
        None => (text, None),
    };
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    let is_label = |label: &str| {
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        (1..=63).contains(&label.len()) && label.bytes().all(is_allowed)
    };
    (name.len() <= 253 && name.split('.').all(is_label)).then_some(HostName { name, port })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_begins_with_a_slash_and_does_not_end_with_one() {
        for text in ["", "/marqueue", "/tools/queue", "/a.b_c-d~1"] {
            assert_eq!(parse_prefix(text.to_owned()).unwrap(), text);
        }
        for (text, reason) in [
            ("marqueue", "must begin with /"),
            ("/", "must not end with /"),
            ("/marqueue/", "must not end with /"),
            ("//a", "must be segments of letters"),
            ("/a/../b", "must be segments of letters"),
            ("/a b", "must be segments of letters"),
            ("/a%20b", "must be segments of letters"),
            ("/a?b", "must be segments of letters"),
            ("/v1", "must not begin with /v1, which is a path of the daemon's own"),
            ("/ui/x", "must not begin with /ui"),
        ] {
            let error = parse_prefix(text.to_owned()).unwrap_err();
            assert_eq!(error.key, "api.ui_prefix");
            assert!(error.reason.starts_with(reason), "{text}: {}", error.reason);
        }
    }

    #[test]
    fn a_host_is_a_name_optionally_with_a_port() {
        let parsed = |text: &str| parse_hosts(&[text.to_owned()]).map(|hosts| hosts[0].clone());
        for (text, name, port) in [
            ("queue.example.com", "queue.example.com", None),
            ("Queue.Example.com.", "queue.example.com", None),
            ("queue:8437", "queue", Some(8437)),
        ] {
            assert_eq!(parsed(text).unwrap(), HostName { name: name.to_owned(), port });
        }
        for text in
            ["", ":80", "a:", "a:0", "a:99999", "a:+1", "https://a", "a/b", "*.example.com", "a..b", "a b", "[::1]"]
        {
            let error = parsed(text).unwrap_err();
            assert_eq!(error.key, "api.hosts[0]");
            assert!(error.reason.ends_with(&format!("not \"{text}\"")), "{text}: {}", error.reason);
        }
    }
}
