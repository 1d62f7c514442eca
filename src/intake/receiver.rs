//! Receiver: takes the bytes of a file from any source, checks, splits and stores them, and makes them a job.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use jiff::Timestamp;
use parking_lot::RwLock;
use sha2::{Digest, Sha256};

use crate::clock::Clock;
use crate::config;
use crate::config::Config;
use crate::delimited::{
    FileLayout, FilePart, RequiredColumn, ScanRules, ValidationError, columns_required_at_upload, lookup_column,
    required_columns,
};
use crate::domain::Target;
use crate::domain::packing::Packing;
use crate::intake::chunk_writer::{ChunkStore, ChunkWriter};
use crate::intake::error::IntakeError;
use crate::intake::lenient_scanner::LenientScanner;
use crate::intake::packing::{EscapeSearch, is_candidate, packing, validate_packing};
use crate::intake::request::{Checks, Incoming, Received};
use crate::intake::validate::validate_parameters;
use crate::marketo::max_content_bytes;
use crate::store::{Inserted, JobLayout, MetricEvent, NewJob, PartRange, Store};

/// Receives files from the HTTP API, the Marketo-compatible API and the drop folder. Clones share one state.
#[derive(Clone)]
pub struct Intake {
    chunks: ChunkStore,
    max_file_bytes: u64,
    /// What files are stored by, for each instance by its name.
    instances: Arc<RwLock<BTreeMap<String, InstanceRules>>>,
}

/// The part of an instance's configuration by which its files are stored.
#[derive(Clone, Copy, Debug)]
struct InstanceRules {
    /// `limits.upload_bytes`
    upload_bytes: u64,
    pack: bool,
    canary: u64,
    max_failed_percent: u8,
}

impl Intake {
    /// Returns an intake that stores jobs in `store`, with the limits of `config`.
    pub fn new(store: Store, clock: Clock, config: &Config) -> Intake {
        let instances = Arc::new(RwLock::new(instance_rules(config)));
        let chunks = ChunkStore::new(store, clock);
        Intake { chunks, max_file_bytes: config.api.max_file_bytes, instances }
    }

    /// Applies the instances of `config` to files received from now on.
    pub fn reload(&self, config: &Config) {
        *self.instances.write() = instance_rules(config);
    }

    /// Refuses a file whose announced size, in bytes, exceeds `api.max_file_bytes`.
    ///
    /// # Errors
    /// [`IntakeError::TooLarge`].
    pub fn check_announced_size(&self, bytes: u64) -> Result<(), IntakeError> {
        if bytes > self.max_file_bytes { Err(IntakeError::TooLarge(self.max_file_bytes)) } else { Ok(()) }
    }

    /// Receives a file. On return the job is on the disk: no crash and no full disk undoes it afterwards.
    ///
    /// # Errors
    /// See [`IntakeError`]. Dropping the future leaves nothing stored either, unless all bytes had been received.
    pub async fn receive<E: std::fmt::Display>(
        &self,
        new: NewJob,
        checks: Checks,
        body: impl Stream<Item = Result<Bytes, E>>,
    ) -> Result<Inserted, IntakeError> {
        self.receive_with_warnings(new, checks, body).await.map(|received| received.added)
    }

    /// Does the same as [`Intake::receive`] and returns the warnings about the file too.
    ///
    /// # Errors
    /// As of [`Intake::receive`].
    pub async fn receive_with_warnings<E: std::fmt::Display>(
        &self,
        new: NewJob,
        checks: Checks,
        body: impl Stream<Item = Result<Bytes, E>>,
    ) -> Result<Received, IntakeError> {
        let key = new.idempotency_key.clone().map(|key| move |_: [u8; 32]| key);
        self.receive_keyed(new, checks, key, content(body)).await
    }

    /// Receives a file of a multipart form, whose fields may follow the file, with the checks that Marketo makes.
    /// `new` has the parameters known so far. The target's kind, name and program must not change. If the format
    /// changes, the stored file is scanned again.
    ///
    /// # Errors
    /// As of [`Intake::receive`].
    pub async fn receive_form<E: std::fmt::Display>(
        &self,
        new: NewJob,
        body: impl Stream<Item = Result<Incoming, E>>,
    ) -> Result<Inserted, IntakeError> {
        let key = None::<fn([u8; 32]) -> String>;
        self.receive_keyed(new, Checks::MarketoOnly, key, body).await.map(|received| received.added)
    }

    /// Receives a file that may be received again after a crash and must then give the same job. Its idempotency key is
    /// made of `identity`, which distinguishes it from other files of the same content, and of the content's hash.
    ///
    /// # Errors
    /// As of [`Intake::receive`].
    pub(crate) async fn receive_file<E: std::fmt::Display>(
        &self,
        new: NewJob,
        checks: Checks,
        identity: Vec<u8>,
        body: impl Stream<Item = Result<Bytes, E>>,
    ) -> Result<Inserted, IntakeError> {
        let key = |content: [u8; 32]| {
            let both = Sha256::new().chain_update(content).chain_update(identity).finalize();
            format!("file:{}", hex::encode(both))
        };
        self.receive_keyed(new, checks, Some(key), content(body)).await.map(|received| received.added)
    }

    /// Receives a file; `key` returns the idempotency key from the content's hash.
    async fn receive_keyed<E: std::fmt::Display>(
        &self,
        mut new: NewJob,
        checks: Checks,
        key: Option<impl FnOnce([u8; 32]) -> String>,
        body: impl Stream<Item = Result<Incoming, E>>,
    ) -> Result<Received, IntakeError> {
        validate_packing(&new, checks)?;
        self.set_defaults(&mut new)?;
        let mut rules = self.rules(&new, checks)?;
        if checks != Checks::MarketoOnly {
            validate_parameters(&new, self.chunks.clock.now())?;
        }
        let mut scan = LenientScanner::new(rules.clone());
        let mut hash = key.is_some().then(Sha256::new);
        let mut escapes = EscapeSearch::default();
        let mut writer = ChunkWriter::new(&self.chunks, new.clone());
        let mut body = std::pin::pin!(body);
        while let Some(incoming) = body.next().await {
            let bytes = match incoming.map_err(|error| IntakeError::CutOff(error.to_string()))? {
                Incoming::Content(bytes) => bytes,
                Incoming::Metadata(metadata) => {
                    new = *metadata;
                    self.set_defaults(&mut new)?;
                    continue;
                }
            };
            self.check_announced_size(writer.bytes() + bytes.len() as u64)?;
            scan.push(&bytes);
            if let (Checks::All | Checks::None, Some(fault)) = (checks, &scan.fault) {
                return Err(fault.clone().into());
            }
            if let Some(hash) = &mut hash {
                hash.update(&bytes);
            }
            escapes.push(&bytes);
            writer.push(&bytes).await?;
        }
        if checks == Checks::MarketoOnly {
            validate_parameters(&new, self.chunks.clock.now())?;
        }
        if new.format != rules.format {
            rules.format = new.format;
            scan = writer.scan_again(rules).await?;
        }
        let mut layout = scan.finish()?;
        if checks == Checks::MarketoOnly {
            has_columns(&layout.columns, &new.target)?;
        }
        let sha256: Option<[u8; 32]> = hash.map(|hash| hash.finalize().into());
        let packing = match checks {
            _ if escapes.is_found() => None,
            Checks::All => packing(&new, &layout),
            // A fault of this file, such as a quote without an end, would change the rows of the others.
            Checks::MarketoOnly if is_candidate(&new, &layout) => {
                let checked = writer.scan_again(self.rules(&new, Checks::All)?).await?.finish();
                checked.ok().and_then(|checked| pack_checked(&new, checked, &mut layout))
            }
            Checks::MarketoOnly | Checks::None => None,
        };
        let job_layout = job_layout(&layout, sha256, packing);
        new.idempotency_key = key.zip(sha256).map(|(key, sha256)| key(sha256));
        let added = writer.finish(new, job_layout).await?;
        if let Inserted::Created(job) = &added {
            tracing::info!(job = %job.id, instance = %job.instance, job_target = job.target.kind(), rows = job.rows.total,
                bytes = job.bytes, batches = job.batches.len(), source = job.source.as_ref().map(tracing::field::display),
                warnings = layout.warnings.len(), "file accepted");
        }
        Ok(Received { added, warnings: layout.warnings })
    }

    pub(super) fn rules(&self, new: &NewJob, checks: Checks) -> Result<ScanRules, IntakeError> {
        Ok(ScanRules {
            format: new.format,
            max_part_bytes: max_content_bytes(&new.filename, self.instance_rules(new)?.upload_bytes),
            first_part_rows: new.canary.filter(|&rows| rows > 0),
            check: checks == Checks::All,
            required: required_columns(&new.target),
            lookup: lookup_column(Some(&new.target)),
        })
    }

    pub(super) fn now(&self) -> Timestamp {
        self.chunks.clock.now()
    }

    /// Counts a file of the drop folder that was refused, for the metrics.
    pub(crate) fn count_rejected_file(&self) {
        self.chunks.store.publish_metric(MetricEvent::DropRefused);
    }

    /// Sets what the job leaves to its instance.
    pub(super) fn set_defaults(&self, new: &mut NewJob) -> Result<(), IntakeError> {
        let rules = self.instance_rules(new)?;
        new.pack.get_or_insert(rules.pack);
        new.canary.get_or_insert(rules.canary);
        new.max_failed_percent.get_or_insert(rules.max_failed_percent);
        Ok(())
    }

    fn instance_rules(&self, new: &NewJob) -> Result<InstanceRules, IntakeError> {
        let instances = self.instances.read();
        instances.get(&new.instance).copied().ok_or_else(|| IntakeError::UnknownInstance {
            name: new.instance.clone(),
            known: instances.keys().map(String::as_str).collect::<Vec<_>>().join(", "),
        })
    }
}

fn instance_rules(config: &Config) -> BTreeMap<String, InstanceRules> {
    let rules = |instance: &config::Instance| InstanceRules {
        upload_bytes: instance.limits.upload_bytes,
        pack: instance.pack,
        canary: instance.canary,
        max_failed_percent: instance.max_failed_percent,
    };
    config.instances.iter().map(|(name, instance)| (name.clone(), rules(instance))).collect()
}

fn content<E>(body: impl Stream<Item = Result<Bytes, E>>) -> impl Stream<Item = Result<Incoming, E>> {
    body.map(|chunk| chunk.map(Incoming::Content))
}

/// Returns how a job shares an import whose file passed all checks only now, and replaces its layout: the header of a
/// shared import is sent without a byte-order mark.
fn pack_checked(new: &NewJob, checked: FileLayout, layout: &mut FileLayout) -> Option<Packing> {
    let packing = packing(new, &checked)?;
    *layout = FileLayout { warnings: Vec::new(), ..checked };
    Some(packing)
}

fn job_layout(layout: &FileLayout, sha256: Option<[u8; 32]>, packing: Option<Packing>) -> JobLayout {
    let part = |part: &FilePart| {
        let FilePart { from, to, rows, first_line, .. } = *part;
        PartRange { from, to, rows, first_line: Some(first_line) }
    };
    JobLayout {
        bytes: layout.bytes,
        header: (layout.header.start, layout.header.end),
        rows: layout.rows,
        parts: layout.parts.iter().map(part).collect(),
        sha256,
        packing,
        warnings: layout.warnings.iter().map(|warning| warning.detail.clone()).collect(),
    }
}

fn has_columns(columns: &[String], target: &Target) -> Result<(), ValidationError> {
    match columns_required_at_upload(target).into_iter().find(|required| !columns.contains(&required.column)) {
        Some(RequiredColumn { column, need }) => Err(ValidationError::MissingColumn { column, need, similar: None }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures_util::stream;

    use super::*;
    use crate::domain::{JobId, JobState};
    use crate::store::test_util::leads;
    use crate::store::{StoreError, StoredFile};

    struct Fixture {
        intake: Intake,
        _folder: tempfile::TempDir,
    }

    async fn fixture(upload_bytes: u64, max_file_bytes: u64) -> Fixture {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("q.db")).await.unwrap();
        let rules = InstanceRules { upload_bytes, pack: false, canary: 0, max_failed_percent: 100 };
        let instances = Arc::new(RwLock::new([("default".to_owned(), rules)].into()));
        let intake = Intake { chunks: ChunkStore::new(store, Clock::System), max_file_bytes, instances };
        Fixture { intake, _folder: folder }
    }

    fn rows(n: usize) -> Vec<u8> {
        let mut file = b"email,name\n".to_vec();
        for row in 0..n {
            file.extend(format!("{row}@example.com,somebody\n").bytes());
        }
        file
    }

    fn body(file: &[u8]) -> impl Stream<Item = Result<Bytes, Infallible>> + use<> {
        let chunks: Vec<_> = file.chunks(7_777).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect();
        stream::iter(chunks)
    }

    async fn stored(store: &Store, id: JobId, bytes: u64) -> Vec<u8> {
        let mut content = store.content(StoredFile::submitted(id), 0..bytes);
        let mut file = Vec::new();
        while let Some(chunk) = content.next().await.unwrap() {
            file.extend(chunk);
        }
        file
    }

    #[tokio::test]
    async fn a_file_of_any_size_is_stored_unchanged_and_split() {
        let Fixture { intake, _folder } = fixture(100_000, u64::MAX).await;
        for n in [1, 5_000, 10_000, 40_000] {
            let file = rows(n);
            let Inserted::Created(job) = intake.receive(leads(), Checks::All, body(&file)).await.unwrap() else {
                panic!()
            };
            assert!(stored(&intake.chunks.store, job.id, job.bytes).await == file);
            assert_eq!(job.rows.total, n as u64);
            assert_eq!(job.batches.len(), file.len().div_ceil(99_700).max(1), "{} bytes", file.len());
        }
    }

    #[tokio::test]
    async fn a_refused_file_leaves_nothing_whether_small_or_large() {
        let Fixture { intake, _folder } = fixture(10_000_000, 2_000_000).await;
        let mut ragged = rows(40_000);
        ragged.extend(b"one field too many,x,y\n");
        for (file, fault) in [
            (b"email\n".to_vec(), "header"),
            (Vec::new(), "empty"),
            (ragged, "line 40002"),
            (rows(200_000), "more than 2000000 bytes"),
        ] {
            let error = intake.receive(leads(), Checks::All, body(&file)).await.unwrap_err().to_string();
            assert!(error.contains(fault), "{error}");
        }
        // The deletion is a task of its own; the write after it shows that it has ended.
        let file = rows(1);
        let Inserted::Created(job) = intake.receive(leads(), Checks::All, body(&file)).await.unwrap() else { panic!() };
        assert_eq!(intake.chunks.store.jobs(None, 100, None).await.unwrap(), [job]);
    }

    #[tokio::test]
    async fn an_interrupted_upload_leaves_nothing() {
        let Fixture { intake, _folder } = fixture(10_000_000, u64::MAX).await;
        let half = rows(40_000);
        let broken =
            body(&half).map(|chunk| chunk.map_err(|never| match never {})).chain(stream::once(async { Err("reset") }));
        let error = intake.receive(leads(), Checks::All, broken).await.unwrap_err();
        assert!(matches!(error, IntakeError::CutOff(_)), "{error}");
        assert_eq!(intake.chunks.store.jobs(None, 100, None).await.unwrap().len(), 0);
    }

    #[tokio::test]
    async fn the_same_key_gives_the_same_job_for_large_files_too() {
        let Fixture { intake, _folder } = fixture(10_000_000, u64::MAX).await;
        let keyed = || NewJob { idempotency_key: Some("k".into()), ..leads() };
        let file = rows(40_000);
        let Inserted::Created(first) = intake.receive(keyed(), Checks::All, body(&file)).await.unwrap() else {
            panic!()
        };
        let Inserted::Existing(second) = intake.receive(keyed(), Checks::All, body(&file)).await.unwrap() else {
            panic!()
        };
        assert_eq!(first.id, second.id);
        let other = intake.receive(keyed(), Checks::All, body(&rows(1))).await.unwrap_err();
        assert!(matches!(other, IntakeError::Store(StoreError::KeyReused(_))), "{other}");
    }

    #[tokio::test]
    async fn impossible_parameters_are_refused() {
        let Fixture { intake, _folder } = fixture(10_000_000, u64::MAX).await;
        let file = rows(1);
        for (new, fault) in [
            (
                NewJob { instance: "nowhere".into(), ..leads() },
                "there is no instance \"nowhere\" in the configuration: it has default",
            ),
            (NewJob { filename: " ".into(), ..leads() }, "the filename is empty"),
            (NewJob { group: Some("x".repeat(256)), ..leads() }, "the group is longer than 255 bytes"),
            (
                NewJob { target: Target::CustomObject { name: String::new() }, ..leads() },
                "the name of the custom object is empty",
            ),
            (
                NewJob { target: Target::ProgramMembers { program_id: 1, status: "a\nb".into() }, ..leads() },
                "the status has a control character",
            ),
        ] {
            assert_eq!(intake.receive(new, Checks::All, body(&file)).await.unwrap_err().to_string(), fault);
        }
        let job = intake.receive(leads(), Checks::All, body(&file)).await.unwrap();
        assert!(matches!(job, Inserted::Created(job) if job.state == JobState::Pending));
    }
}
