//! Any response of Marketo is read without a panic, and is never taken for more than it says.
//!
//! `cargo +nightly fuzz run marketo_response fuzz/corpus/marketo_response fuzz/seeds/marketo_response -- -max_total_time=60`
//!
//! The input is the body.
#![no_main]

use libfuzzer_sys::fuzz_target;
use marqueue::byte_order_mark::without_mark;
use marqueue::marketo::{ErrorAction, classify, is_file, read_envelope};
use serde_json::Value;

fuzz_target!(|body: &[u8]| {
    let plain = without_mark(body);
    let output = serde_json::from_slice::<Value>(plain).ok().and_then(|value| value.get("success")?.as_bool());
    let envelope = read_envelope(body);
    assert_eq!(envelope.as_ref().map(|envelope| envelope.success), output, "success is exactly what the body says");

    if let Some(envelope) = &envelope {
        for import in &envelope.result {
            let (id, _, _) = (import.id(), import.remote_status(), import.counts());
            // It goes into the path of the calls that ask after it.
            assert!(id.is_none_or(|id| !id.is_empty()), "an empty id is none");
        }
        let written = serde_json::to_vec(envelope).expect("what was read can be written");
        let again = read_envelope(&written).expect("what was written can be read");
        assert_eq!(serde_json::to_value(&again).ok(), serde_json::to_value(envelope).ok(), "the same once more");
    }
    let errors = envelope.as_ref().map(|envelope| &envelope.errors[..]);
    for http in [200, 301, 400, 401, 403, 404, 413, 429, 500, 502, 503] {
        let ask = classify(http, errors);
        assert!(http != 413 || ask == ErrorAction::TooLarge);
        assert!(!(http >= 500 && http != 503 && errors.is_none()) || ask == ErrorAction::OutcomeUnknown, "the outcome is unknown");
    }

    for kind in [None, Some("text/csv;charset=UTF-8"), Some("text/plain")] {
        let whole = is_file(kind, body);
        assert!(envelope.is_none() || whole != Some(true), "an envelope is no file");
        assert!(!plain.trim_ascii_start().starts_with(b"<") || whole != Some(true), "a page is no file");
        // What has been decided on is not decided otherwise when more has come.
        let lengths = (0..body.len().min(64)).chain((64..body.len()).step_by(97));
        assert!(lengths.map(|length| is_file(kind, &body[..length])).all(|early| early.is_none() || early == whole));
    }
    assert_eq!(is_file(Some("application/json"), body), Some(false));
});
