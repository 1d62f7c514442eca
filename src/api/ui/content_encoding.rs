//! Content encoding: sends the files of the page compressed to browsers that take gzip, which all do over plain HTTP too.

use std::collections::HashMap;
use std::io::Write;
use std::sync::LazyLock;

use axum::http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, VARY};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use parking_lot::Mutex;

/// Files that were compressed since the start, by their content.
static COMPRESSED: LazyLock<Mutex<HashMap<&'static str, Bytes>>> = LazyLock::new(Mutex::default);

/// How a file is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    /// Compressed.
    Gzip,
    /// As it is.
    Identity,
}

impl Encoding {
    /// Chooses by the request's `Accept-Encoding`.
    pub fn of_request(headers: &HeaderMap) -> Encoding {
        let accepted = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
        let takes_gzip = accepted.flat_map(|value| value.split(',')).any(|entry| {
            let (name, parameters) = entry.split_once(';').unwrap_or((entry, ""));
            let weight = parameters.trim().strip_prefix("q=").map_or(Some(1.0), |weight| weight.trim().parse().ok());
            name.trim().eq_ignore_ascii_case("gzip") && weight.is_some_and(|weight: f32| weight > 0.0)
        });
        if takes_gzip { Encoding::Gzip } else { Encoding::Identity }
    }

    /// Makes the response with a file.
    pub fn response(self, media_type: &'static str, content: &'static str) -> Response {
        let mut response = match self {
            Encoding::Gzip => ([(CONTENT_ENCODING, "gzip")], compressed(content)).into_response(),
            Encoding::Identity => content.into_response(),
        };
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
        headers.insert(VARY, HeaderValue::from_static("accept-encoding"));
        response
    }
}

fn compressed(content: &'static str) -> Bytes {
    let mut files = COMPRESSED.lock();
    files.entry(content).or_insert_with(|| gzip(content)).clone()
}

fn gzip(content: &str) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    let written = encoder.write_all(content.as_bytes()).and_then(|()| encoder.finish());
    written.expect("writing to memory can't fail").into()
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use flate2::read::GzDecoder;

    use super::*;

    #[test]
    fn gzip_is_chosen_where_it_is_accepted() {
        for (accepted, expected) in [
            ("gzip, deflate, br, zstd", Encoding::Gzip),
            ("br;q=1.0, GZIP;q=0.8", Encoding::Gzip),
            ("gzip; q=0.5", Encoding::Gzip),
            ("gzip;q=0", Encoding::Identity),
            ("gzip;q=0.000", Encoding::Identity),
            ("gzip;q=x", Encoding::Identity),
            ("x-gzip, br", Encoding::Identity),
            ("", Encoding::Identity),
        ] {
            let headers = HeaderMap::from_iter([(ACCEPT_ENCODING, accepted.parse().unwrap())]);
            assert_eq!(Encoding::of_request(&headers), expected, "{accepted}");
        }
        assert_eq!(Encoding::of_request(&HeaderMap::new()), Encoding::Identity);
    }

    #[test]
    fn compressed_content_is_the_same_text() {
        let content = include_str!("assets/app.js");
        let mut text = String::new();
        GzDecoder::new(&gzip(content)[..]).read_to_string(&mut text).unwrap();
        assert_eq!(text, content);
        assert!(gzip(content).len() < content.len());
    }
}
