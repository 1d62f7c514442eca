//! Key of `add --once`: an idempotency key that is derived from what is imported and where.

use sha2::{Digest, Sha256};

use crate::client::NewFile;

/// The parameters of the request that go into the key. Not those that only decide when the job is done and what it is
/// called: repeated with others of these, the file must not be imported again.
const KEYED: [&str; 9] =
    ["format", "instance", "list_id", "lookup_field", "name", "partition", "program_id", "status", "target"];

/// The instance that the daemon takes where none is given.
const DEFAULT_INSTANCE: &str = "default";

/// Returns the key of a file with this content. `docs/http-api.md` describes it, so that other programs can make the
/// same.
pub fn once_key(new: &NewFile, content_sha256: [u8; 32]) -> String {
    let mut parameters = new.parameters();
    parameters.retain(|(name, _)| KEYED.contains(name));
    if new.instance.is_none() {
        parameters.push(("instance", DEFAULT_INSTANCE.to_owned()));
    }
    parameters.sort();
    let mut text: String = parameters.iter().map(|(name, value)| format!("{name}={value}\n")).collect();
    text += &format!("content_sha256={}\n", hex::encode(content_sha256));
    format!("once-{}", hex::encode(Sha256::digest(text)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::BatchOptions;
    use crate::domain::{Format, Target};

    fn new() -> NewFile {
        NewFile {
            target: Target::Leads { lookup_field: None, list_id: Some(7), partition: None },
            filename: "a.csv".into(),
            format: Format::Csv,
            instance: None,
            priority: 0,
            group: None,
            not_before: None,
            batches: BatchOptions::default(),
            pack: None,
            idempotency_key: None,
            check: true,
        }
    }

    #[test]
    fn the_key_matches_the_documentation() {
        let text =
            format!("format=csv\ninstance=default\nlist_id=7\ntarget=leads\ncontent_sha256={}\n", "00".repeat(32));
        assert_eq!(once_key(&new(), [0; 32]), format!("once-{}", hex::encode(Sha256::digest(text))));
    }

    #[test]
    fn the_key_depends_on_content_and_target() {
        let key = once_key(&new(), [0; 32]);
        for same in [
            NewFile { filename: "b.csv".into(), ..new() },
            NewFile { priority: 5, group: Some("g".into()), check: false, ..new() },
            NewFile { pack: Some(true), ..new() },
            NewFile { instance: Some("default".into()), ..new() },
            NewFile { not_before: Some(jiff::Timestamp::UNIX_EPOCH), ..new() },
        ] {
            assert_eq!(once_key(&same, [0; 32]), key, "{same:?}");
        }
        let leads = |lookup_field: &str| Target::Leads {
            lookup_field: Some(lookup_field.into()),
            list_id: Some(7),
            partition: None,
        };
        for other in [
            NewFile { format: Format::Ssv, ..new() },
            NewFile { instance: Some("eu".into()), ..new() },
            NewFile { target: leads("id"), ..new() },
            NewFile { target: Target::CustomObject { name: "car_c".into() }, ..new() },
        ] {
            assert_ne!(once_key(&other, [0; 32]), key, "{other:?}");
        }
        assert_ne!(once_key(&new(), [1; 32]), key);
    }
}
