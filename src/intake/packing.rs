//! Packing of a received file: whether its job may share an import with others, and how.

use memchr::memmem;

use crate::delimited::FileLayout;
use crate::domain::packing::{ImportShape, Packing, ShapeFields};
use crate::intake::error::IntakeError;
use crate::intake::request::Checks;
use crate::store::NewJob;

/// Refuses a job that asks for packing and for something that excludes it. Where packing is the instance's default,
/// such a job goes alone.
///
/// # Errors
/// [`IntakeError::Wrong`] with both options.
pub(crate) fn validate_packing(new: &NewJob, checks: Checks) -> Result<(), IntakeError> {
    if new.pack != Some(true) {
        return Ok(());
    }
    let other = if new.group.is_some() {
        "a job of a group"
    } else if has_canary(new) {
        "a job with a canary"
    } else if checks == Checks::None {
        "a file without checks"
    } else {
        return Ok(());
    };
    Err(IntakeError::Wrong(format!("{other} cannot share an import (pack): leave out one of both")))
}

/// Returns whether a job may share an import by its options and the number of its batches.
pub(super) fn is_candidate(new: &NewJob, layout: &FileLayout) -> bool {
    new.pack == Some(true) && new.group.is_none() && !has_canary(new) && layout.parts.len() == 1
}

fn has_canary(new: &NewJob) -> bool {
    new.canary.is_some_and(|rows| rows > 0)
}

/// Looks for a backslash before a quote in a file. A program that reads it as an escape finds the end of the field
/// elsewhere, perhaps in the rows of the next job, so such a file goes alone.
#[derive(Debug, Default)]
pub(super) struct EscapeSearch {
    /// The last byte so far was a backslash.
    ends_in_backslash: bool,
    is_found: bool,
}

impl EscapeSearch {
    /// Reads the next bytes of the file.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        let Some(&last) = bytes.last() else { return };
        self.is_found |= self.ends_in_backslash && bytes.first() == Some(&b'"');
        self.is_found |= memmem::find(bytes, b"\\\"").is_some();
        self.ends_in_backslash = last == b'\\';
    }

    /// Returns whether a quote follows on a backslash.
    pub(super) fn is_found(&self) -> bool {
        self.is_found
    }
}

/// Returns how a job shares an import; none where it goes alone. `layout` is that of a file that passed all checks.
pub(super) fn packing(new: &NewJob, layout: &FileLayout) -> Option<Packing> {
    let part = layout.parts.first().filter(|_| is_candidate(new, layout))?;
    let line_end = line_end_bytes(&layout.header_bytes)?;
    let added_line_end = match layout.last_byte {
        // Blank lines behind the rows belong to no part, so the last row has its line end before them.
        _ if part.to < layout.bytes => 0,
        b'\n' => 0,
        // The first half of the line end is there.
        b'\r' => 1,
        _ => line_end,
    };
    let shape = ImportShape::new(&ShapeFields {
        target: &new.target,
        format: new.format,
        header: &layout.header_bytes,
        client: new.source.client_id(),
    });
    Some(Packing { shape, added_line_end })
}

/// Returns the length of the header's line end, in bytes; none where it has none.
fn line_end_bytes(header: &[u8]) -> Option<u8> {
    let line = header.strip_suffix(b"\n")?;
    Some(if line.ends_with(b"\r") { 2 } else { 1 })
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::path::Path;

    use bytes::Bytes;
    use futures_util::stream;

    use super::*;
    use crate::clock::Clock;
    use crate::config::Config;
    use crate::domain::{Format, Source, Target};
    use crate::intake::receiver::Intake;
    use crate::intake::request::Incoming;
    use crate::store::test_util::leads;
    use crate::store::{CHUNK_BYTES, Inserted, Job, Store};

    const FILE: &str = "email,name\na@example.com,Ann\n";

    fn config(instance: &str) -> Config {
        let text = format!(
            "[instances.default]\nbase_url = 'http://127.0.0.1:1'\nclient_id = 'i'\nclient_secret = 's'\n{instance}"
        );
        Config::read(Some((Path::new("m.toml"), &text)), []).unwrap()
    }

    struct Fixture {
        intake: Intake,
        _folder: tempfile::TempDir,
    }

    impl Fixture {
        /// With these lines in the configuration of the instance.
        async fn new(instance: &str) -> Fixture {
            let folder = tempfile::tempdir().unwrap();
            let store = Store::open(&folder.path().join("q.db")).await.unwrap();
            Fixture { intake: Intake::new(store, Clock::System, &config(instance)), _folder: folder }
        }

        async fn receive(&self, new: NewJob, checks: Checks, file: &str) -> Result<Job, IntakeError> {
            let body = stream::iter([Ok::<_, Infallible>(Bytes::copy_from_slice(file.as_bytes()))]);
            self.intake.receive(new, checks, body).await.map(created)
        }

        async fn packing(&self, new: NewJob, file: &str) -> Option<Packing> {
            self.receive(new, Checks::All, file).await.unwrap().packing
        }

        /// Receives a form whose other fields give `late` behind the file.
        async fn receive_form(&self, new: NewJob, late: Option<NewJob>, file: &str) -> Job {
            let chunks = file.as_bytes().chunks(50_000).map(|chunk| Incoming::Content(Bytes::copy_from_slice(chunk)));
            let late = late.map(|late| Incoming::Metadata(Box::new(late)));
            let body = stream::iter(chunks.chain(late).map(Ok::<_, Infallible>));
            created(self.intake.receive_form(new, body).await.unwrap())
        }
    }

    fn created(inserted: Inserted) -> Job {
        let Inserted::Created(job) = inserted else { panic!("{inserted:?}") };
        job
    }

    fn packed() -> NewJob {
        NewJob { pack: Some(true), ..leads() }
    }

    #[tokio::test]
    async fn last_row_gets_the_line_end_that_it_lacks() {
        let fixture = Fixture::new("").await;
        for (file, added) in [
            ("email,name\na@example.com,Ann\n", 0),
            ("email,name\na@example.com,Ann", 1),
            ("email,name\r\na@example.com,Ann\r\n", 0),
            ("email,name\r\na@example.com,Ann\n", 0),
            ("email,name\r\na@example.com,Ann", 2),
            ("email,name\r\na@example.com,Ann\r", 1),
            ("email,name\na@example.com,\"Ann\n\"", 1),
            ("email,name\na@example.com,Ann\n\n\n", 0),
            ("email,name\r\na@example.com,Ann\r\n\r\n", 0),
            ("email\na@example.com", 1),
            ("\u{feff}email,name\na@example.com,Ann", 1),
        ] {
            let packing = fixture.packing(packed(), file).await;
            assert_eq!(packing.map(|packing| packing.added_line_end), Some(added), "{file:?}");
        }
    }

    #[tokio::test]
    async fn header_and_client_decide_on_the_shape() {
        let fixture = Fixture::new("").await;
        let shape = async |new: NewJob, file: &str| fixture.packing(new, file).await.unwrap().shape;
        let first = shape(packed(), FILE).await;
        let socket = Source::Socket { uid: Some(1000) };
        let drop = Source::Drop { path: "default/leads/a.csv".into() };
        let client = |id: &str| NewJob { source: Source::Client { client_id: id.into() }, ..packed() };
        for (new, file) in [
            (packed(), "\u{feff}email,name\nb@example.com,Ben"),
            (NewJob { filename: "b.csv".into(), priority: 5, ..packed() }, FILE),
            (NewJob { idempotency_key: Some("k".into()), source: socket, ..packed() }, FILE),
            (NewJob { in_order: true, max_failed_percent: Some(5), source: drop, ..packed() }, FILE),
        ] {
            assert_eq!(shape(new.clone(), file).await, first, "{new:?} {file}");
        }
        assert_ne!(shape(client("crm"), FILE).await, first);
        assert_ne!(shape(client("crm"), FILE).await, shape(client("erp"), FILE).await);
        for file in [
            "email,name\r\na@example.com,Ann\r\n",
            "name,email\nAnn,a@example.com\n",
            "email,\"name\"\na@example.com,Ann\n",
        ] {
            assert_ne!(shape(packed(), file).await, first, "{file}");
        }
    }

    #[tokio::test]
    async fn job_goes_alone_without_each_of_the_conditions() {
        let fixture = Fixture::new("pack = true\nlimits = { upload_bytes = 1000 }\n").await;
        assert!(fixture.packing(leads(), FILE).await.is_some());
        assert!(fixture.packing(NewJob { canary: Some(0), ..leads() }, FILE).await.is_some());
        let two_parts = format!("email,name\n{}", "a@example.com,Ann\n".repeat(60));
        for (new, checks, file) in [
            (NewJob { pack: Some(false), ..leads() }, Checks::All, FILE),
            (NewJob { group: Some("g".into()), ..leads() }, Checks::All, FILE),
            (NewJob { canary: Some(5), ..leads() }, Checks::All, FILE),
            (leads(), Checks::None, FILE),
            (packed(), Checks::All, two_parts.as_str()),
        ] {
            let job = fixture.receive(new.clone(), checks, file).await.unwrap();
            assert_eq!(job.packing, None, "{new:?} {checks:?}");
        }
        let fixture = Fixture::new("canary = 5").await;
        assert_eq!(fixture.packing(leads(), FILE).await, None, "packing is off by default");
        assert_eq!(fixture.packing(packed(), FILE).await, None, "the instance has a canary");
        assert!(fixture.packing(NewJob { canary: Some(0), ..packed() }, FILE).await.is_some());
    }

    #[tokio::test]
    async fn packing_with_an_option_that_excludes_it_is_refused() {
        let fixture = Fixture::new("").await;
        for (new, checks, option) in [
            (NewJob { group: Some("g".into()), ..packed() }, Checks::All, "a job of a group"),
            (NewJob { canary: Some(5), ..packed() }, Checks::All, "a job with a canary"),
            (packed(), Checks::None, "a file without checks"),
        ] {
            let error = fixture.receive(new, checks, FILE).await.unwrap_err();
            assert!(matches!(error, IntakeError::Wrong(_)), "{error:?}");
            let expected = format!("{option} cannot share an import (pack): leave out one of both");
            assert_eq!(error.to_string(), expected);
        }
    }

    #[tokio::test]
    async fn reload_applies_to_files_received_later() {
        let fixture = Fixture::new("").await;
        assert_eq!(fixture.packing(leads(), FILE).await, None);
        fixture.intake.reload(&config("pack = true"));
        assert!(fixture.packing(leads(), FILE).await.is_some());
    }

    #[tokio::test]
    async fn form_is_packed_only_if_its_file_passes_all_checks() {
        let fixture = Fixture::new("pack = true").await;
        let checked = fixture.packing(leads(), FILE).await;
        assert_eq!(fixture.receive_form(leads(), None, FILE).await.packing, checked);
        for fault in [
            "email,name\na@example.com\n",
            "email,name\na@example.com,\"Ann\n",
            "email,name\n\na@example.com,Ann\n",
            "name,email2\nAnn,a@example.com\n",
            "email,name\na@example.com,Ann\nemail,name\n",
            "email,name\n,\n",
        ] {
            let job = fixture.receive_form(leads(), None, fault).await;
            assert_eq!(job.packing, None, "{fault}");
        }
        let off = NewJob { pack: Some(false), ..leads() };
        assert_eq!(fixture.receive_form(off, None, FILE).await.packing, None);
    }

    #[tokio::test]
    async fn packed_form_is_sent_without_a_byte_order_mark() {
        let marked = format!("\u{feff}{FILE}");
        let alone = Fixture::new("").await.receive_form(leads(), None, &marked).await;
        assert_eq!(alone.header, (0, 14));
        let packed = Fixture::new("pack = true").await.receive_form(leads(), None, &marked).await;
        assert_eq!((packed.header, packed.packing.is_some(), packed.rows.total), ((3, 14), true, 1));
    }

    #[tokio::test]
    async fn form_is_checked_by_the_format_and_target_behind_its_file() {
        let fixture = Fixture::new("pack = true").await;
        let semicolons = "email;name\na@example.com;Ann\n";
        let ssv = || NewJob { format: Format::Ssv, ..leads() };
        let expected = fixture.packing(ssv(), semicolons).await;
        assert!(expected.is_some());
        assert_eq!(fixture.receive_form(leads(), Some(ssv()), semicolons).await.packing, expected);
        assert_eq!(fixture.receive_form(ssv(), Some(leads()), "email;name\na@example.com\n").await.packing, None);
        let by_id = || NewJob {
            target: Target::Leads { lookup_field: Some("name".into()), list_id: None, partition: None },
            ..leads()
        };
        let expected = fixture.packing(by_id(), FILE).await;
        assert_eq!(fixture.receive_form(leads(), Some(by_id()), FILE).await.packing, expected);
    }

    #[tokio::test]
    async fn form_of_several_chunks_is_checked_to_its_end() {
        let fixture = Fixture::new("pack = true").await;
        let mut file = format!("email,name\n{}", "a@example.com,Ann\n".repeat(40_000));
        assert!(file.len() > 2 * CHUNK_BYTES);
        assert!(fixture.receive_form(leads(), None, &file).await.packing.is_some());
        file += "b@example.com,\"Ben";
        assert_eq!(fixture.receive_form(leads(), None, &file).await.packing, None);
    }

    #[tokio::test]
    async fn file_with_a_backslash_before_a_quote_goes_alone() {
        let fixture = Fixture::new("pack = true").await;
        let file = "email,name\na@example.com,\"Ann\\\"\n";
        assert_eq!(fixture.packing(leads(), file).await, None);
        assert!(fixture.packing(leads(), "email,name\na@example.com,\"Ann\\ \"\n").await.is_some());
        for (chunks, is_found) in
            [(&[&b"a\\"[..], b"\"b"][..], true), (&[b"a\\", b"", b"\""], true), (&[b"a\\b\"", b"\\", b"b\""], false)]
        {
            let mut search = EscapeSearch::default();
            chunks.iter().for_each(|chunk| search.push(chunk));
            assert_eq!(search.is_found(), is_found, "{chunks:?}");
        }
    }
}
