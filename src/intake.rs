//! How does a file come in? Checked and cut while it streams, stored piece by piece, and a job only when all of it is
//! on the disk.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;

use crate::clock::Clock;
use crate::config::Config;
use crate::delimited::{RequiredColumn, ScanRules, ValidationError, Warning, lookup_column, required_columns};
use crate::domain::Target;
use crate::marketo::max_content_bytes;
use crate::store::{Inserted, JobLayout, MetricEvent, NewJob, PartRange, Store, StoreError};

mod chunk_writer;
mod lenient_scanner;
pub(crate) mod validate;

use crate::intake::chunk_writer::{ChunkWriter, MAX_PENDING_CHUNKS_TOTAL};
use crate::intake::lenient_scanner::LenientScanner;
use crate::intake::validate::validate_parameters;

/// The door for files, whichever way they come. Clones are the same door.
#[derive(Clone)]
pub struct Intake {
    store: Store,
    clock: Clock,
    max_file_bytes: u64,
    /// The most bytes of an upload, by instance.
    upload_bytes: Arc<RwLock<BTreeMap<String, u64>>>,
    /// A permit for each piece that is on its way to the disk.
    pieces: Arc<Semaphore>,
}

/// Why a file was not accepted. Nothing of it is kept.
#[derive(Debug, thiserror::Error)]
pub enum IntakeError {
    #[error("there is no instance \"{name}\" in the configuration: it has {known}")]
    UnknownInstance { name: String, known: String },
    /// Something that was said of the file is not possible.
    #[error("{0}")]
    Wrong(String),
    /// The file itself is at fault.
    #[error(transparent)]
    File(#[from] ValidationError),
    #[error("the file has more than {0} bytes (api.max_file_bytes)")]
    TooLarge(u64),
    /// The sender went away or broke off.
    #[error("the file broke off: {0}")]
    CutOff(String),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A file that was taken in.
#[derive(Debug)]
pub struct Received {
    pub added: Inserted,
    /// What was found in it that does not keep it from being imported. The history of a new job has it too.
    pub warnings: Vec<Warning>,
}

/// What comes from one who may say more of a file behind it.
#[derive(Debug)]
pub enum Incoming {
    Content(Bytes),
    /// Everything that was said, now that the file is over.
    Metadata(Box<NewJob>),
}

/// What is asked of a file before it is a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Checks {
    All,
    /// What Marketo asks when it takes a file. All else becomes a row that failed, there as here.
    MarketoOnly,
    None,
}

impl Intake {
    pub fn new(store: Store, clock: Clock, config: &Config) -> Intake {
        let upload_bytes = Arc::new(RwLock::new(upload_bytes(config)));
        Intake {
            store,
            clock,
            max_file_bytes: config.api.max_file_bytes,
            upload_bytes,
            pieces: Arc::new(Semaphore::new(MAX_PENDING_CHUNKS_TOTAL)),
        }
    }

    /// Cuts the files that come from now on by the limits of `config`.
    pub fn reload(&self, config: &Config) {
        *self.upload_bytes.write().unwrap_or_else(PoisonError::into_inner) = upload_bytes(config);
    }

    /// Refuses a file whose size is known before it comes.
    ///
    /// # Errors
    /// [`IntakeError::TooLarge`].
    pub fn check_announced_size(&self, bytes: u64) -> Result<(), IntakeError> {
        if bytes > self.max_file_bytes { Err(IntakeError::TooLarge(self.max_file_bytes)) } else { Ok(()) }
    }

    /// Takes a file in. On return the job is on the disk, and nothing that is killed or full afterwards undoes it.
    /// With `check` false the file is sent as it is: it is only cut.
    ///
    /// # Errors
    /// See [`IntakeError`]. A caller that stops waiting leaves nothing behind either, unless the last bytes had come.
    pub async fn receive<E: std::fmt::Display>(
        &self,
        new: NewJob,
        check: bool,
        body: impl Stream<Item = Result<Bytes, E>>,
    ) -> Result<Inserted, IntakeError> {
        self.receive_with_warnings(new, check, body).await.map(|received| received.added)
    }

    /// Like [`Intake::receive`], for a sender who is told what was found in the file.
    ///
    /// # Errors
    /// As of [`Intake::receive`].
    pub async fn receive_with_warnings<E: std::fmt::Display>(
        &self,
        new: NewJob,
        check: bool,
        body: impl Stream<Item = Result<Bytes, E>>,
    ) -> Result<Received, IntakeError> {
        let key = new.idempotency_key.clone().map(|key| move |_: [u8; 32]| key);
        self.receive_keyed(new, Checks::of(check), key, content(body)).await
    }

    /// Like [`Intake::receive`], with the checks that Marketo makes, for a sender that may say things of the file behind
    /// it: `new` is what it has said so far. Of its target the kind, the name and the program stay; the format may have
    /// been another, and the file is then read once more, from the disk.
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

    /// Like [`Intake::receive`], for a file that may come again and be the same one. Its key is made of `identity`, which
    /// is what tells it apart besides its content, and of the content, which is known only at the end.
    pub(crate) async fn receive_file<E: std::fmt::Display>(
        &self,
        new: NewJob,
        check: bool,
        identity: Vec<u8>,
        body: impl Stream<Item = Result<Bytes, E>>,
    ) -> Result<Inserted, IntakeError> {
        let key = |content: [u8; 32]| {
            let both = Sha256::new().chain_update(content).chain_update(identity).finalize();
            both.iter().fold("file:".to_owned(), |key, byte| format!("{key}{byte:02x}"))
        };
        self.receive_keyed(new, Checks::of(check), Some(key), content(body)).await.map(|received| received.added)
    }

    /// `key` gives the idempotency key when the content's hash is known.
    async fn receive_keyed<E: std::fmt::Display>(
        &self,
        mut new: NewJob,
        checks: Checks,
        key: Option<impl FnOnce([u8; 32]) -> String>,
        body: impl Stream<Item = Result<Incoming, E>>,
    ) -> Result<Received, IntakeError> {
        let mut rules = self.rules(&new, checks)?;
        if checks != Checks::MarketoOnly {
            validate_parameters(&new)?;
        }
        let mut scan = LenientScanner::new(rules.clone());
        let mut hash = key.is_some().then(Sha256::new);
        let mut kept = ChunkWriter::new(self, new.clone());
        let mut body = std::pin::pin!(body);
        while let Some(incoming) = body.next().await {
            let bytes = match incoming.map_err(|error| IntakeError::CutOff(error.to_string()))? {
                Incoming::Content(bytes) => bytes,
                Incoming::Metadata(said) => {
                    new = *said;
                    continue;
                }
            };
            self.check_announced_size(kept.bytes() + bytes.len() as u64)?;
            scan.push(&bytes);
            if let (Checks::All | Checks::None, Some(fault)) = (checks, &scan.fault) {
                return Err(fault.clone().into());
            }
            if let Some(hash) = &mut hash {
                hash.update(&bytes);
            }
            kept.push(&bytes).await?;
        }
        if checks == Checks::MarketoOnly {
            validate_parameters(&new)?;
        }
        if new.format != rules.format {
            rules.format = new.format;
            scan = kept.scan_again(rules).await?;
        }
        let mut layout = scan.finish()?;
        if checks == Checks::MarketoOnly {
            has_columns(&layout.columns, &new.target)?;
        }
        let sha256: Option<[u8; 32]> = hash.map(|hash| hash.finalize().into());
        let warnings = std::mem::take(&mut layout.warnings);
        let layout = JobLayout {
            bytes: layout.bytes,
            header: (layout.header.start, layout.header.end),
            rows: layout.rows,
            parts: layout
                .parts
                .iter()
                .map(|part| PartRange { from: part.from, to: part.to, rows: part.rows })
                .collect(),
            sha256,
            warnings: warnings.iter().map(|warning| warning.detail.clone()).collect(),
        };
        new.idempotency_key = key.zip(sha256).map(|(key, sha256)| key(sha256));
        let added = kept.finish(new, layout).await?;
        if let Inserted::Created(job) = &added {
            tracing::info!(job = %job.id, instance = %job.instance, target = job.target.kind(), rows = job.rows.total,
                bytes = job.bytes, batches = job.batches.len(), source = job.source.as_ref().map(tracing::field::display),
                warnings = warnings.len(), "a file was accepted");
        }
        Ok(Received { added, warnings })
    }

    fn rules(&self, new: &NewJob, checks: Checks) -> Result<ScanRules, IntakeError> {
        Ok(ScanRules {
            format: new.format,
            max_part_bytes: self.max_part_bytes(new)?,
            check: checks == Checks::All,
            required: required_columns(&new.target),
            lookup: lookup_column(Some(&new.target)),
        })
    }

    /// For those who count.
    pub(crate) fn count_rejected_file(&self) {
        self.store.publish_metric(MetricEvent::DropRefused);
    }

    /// The most bytes of the header and the rows of one batch.
    fn max_part_bytes(&self, new: &NewJob) -> Result<u64, IntakeError> {
        let limits = self.upload_bytes.read().unwrap_or_else(PoisonError::into_inner);
        match limits.get(&new.instance) {
            Some(&upload_bytes) => Ok(max_content_bytes(&new.filename, upload_bytes)),
            None => Err(IntakeError::UnknownInstance {
                name: new.instance.clone(),
                known: limits.keys().map(String::as_str).collect::<Vec<_>>().join(", "),
            }),
        }
    }
}

fn upload_bytes(config: &Config) -> BTreeMap<String, u64> {
    config.instances.iter().map(|(name, instance)| (name.clone(), instance.limits.upload_bytes)).collect()
}

impl Checks {
    fn of(check: bool) -> Checks {
        if check { Checks::All } else { Checks::None }
    }
}

fn content<E>(body: impl Stream<Item = Result<Bytes, E>>) -> impl Stream<Item = Result<Incoming, E>> {
    body.map(|piece| piece.map(Incoming::Content))
}

fn has_columns(columns: &[String], target: &Target) -> Result<(), ValidationError> {
    match required_columns(target).into_iter().find(|required| !columns.contains(&required.column)) {
        Some(RequiredColumn { column, need }) => Err(ValidationError::MissingColumn { column, need, similar: None }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures_util::stream;

    use super::*;
    use crate::domain::{Format, JobId, JobState, Source};
    use crate::store::FileKind;

    struct Door {
        intake: Intake,
        _folder: tempfile::TempDir,
    }

    async fn door(upload_bytes: u64, max_file_bytes: u64) -> Door {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("q.db")).await.unwrap();
        let upload_bytes = Arc::new(RwLock::new([("default".to_owned(), upload_bytes)].into()));
        let pieces = Arc::new(Semaphore::new(MAX_PENDING_CHUNKS_TOTAL));
        let intake = Intake { store, clock: Clock::System, max_file_bytes, upload_bytes, pieces };
        Door { intake, _folder: folder }
    }

    fn leads() -> NewJob {
        NewJob {
            instance: "default".into(),
            target: Target::Leads { lookup_field: None, list_id: None, partition: None },
            filename: "leads.csv".into(),
            format: Format::Csv,
            priority: 0,
            group: None,
            idempotency_key: None,
            retry_of: None,
            source: Source::Socket { uid: Some(0) },
        }
    }

    fn rows(n: usize) -> Vec<u8> {
        let mut file = b"email,name\n".to_vec();
        for row in 0..n {
            file.extend(format!("{row}@example.com,somebody\n").bytes());
        }
        file
    }

    fn body(file: &[u8]) -> impl Stream<Item = Result<Bytes, Infallible>> + use<> {
        let pieces: Vec<_> = file.chunks(7_777).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
        stream::iter(pieces)
    }

    async fn stored(store: &Store, id: JobId, bytes: u64) -> Vec<u8> {
        let mut content = store.content(id, FileKind::File, 0, 0, bytes);
        let mut file = Vec::new();
        while let Some(piece) = content.next().await.unwrap() {
            file.extend(piece);
        }
        file
    }

    #[tokio::test]
    async fn a_file_of_any_size_is_stored_unchanged_and_split() {
        let Door { intake, _folder } = door(100_000, u64::MAX).await;
        for n in [1, 5_000, 10_000, 40_000] {
            let file = rows(n);
            let Inserted::Created(job) = intake.receive(leads(), true, body(&file)).await.unwrap() else { panic!() };
            assert!(stored(&intake.store, job.id, job.bytes).await == file);
            assert_eq!(job.rows.total, n as u64);
            assert_eq!(job.batches.len(), file.len().div_ceil(99_700).max(1), "{} bytes", file.len());
        }
    }

    #[tokio::test]
    async fn a_refused_file_leaves_nothing_whether_small_or_large() {
        let Door { intake, _folder } = door(10_000_000, 2_000_000).await;
        let mut ragged = rows(40_000);
        ragged.extend(b"one field too many,x,y\n");
        for (file, fault) in [
            (b"email\n".to_vec(), "header"),
            (Vec::new(), "empty"),
            (ragged, "line 40002"),
            (rows(200_000), "more than 2000000 bytes"),
        ] {
            let error = intake.receive(leads(), true, body(&file)).await.unwrap_err().to_string();
            assert!(error.contains(fault), "{error}");
        }
        // The sweep is a task of its own; the write after it shows that it has come and gone.
        let file = rows(1);
        let Inserted::Created(job) = intake.receive(leads(), true, body(&file)).await.unwrap() else { panic!() };
        assert_eq!(intake.store.jobs(None, 100, None).await.unwrap(), [job]);
    }

    #[tokio::test]
    async fn a_sender_that_breaks_off_leaves_nothing() {
        let Door { intake, _folder } = door(10_000_000, u64::MAX).await;
        let half = rows(40_000);
        let broken =
            body(&half).map(|piece| piece.map_err(|never| match never {})).chain(stream::once(async { Err("reset") }));
        let error = intake.receive(leads(), true, broken).await.unwrap_err();
        assert!(matches!(error, IntakeError::CutOff(_)), "{error}");
        assert_eq!(intake.store.jobs(None, 100, None).await.unwrap().len(), 0);
    }

    #[tokio::test]
    async fn the_same_key_gives_the_same_job_for_large_files_too() {
        let Door { intake, _folder } = door(10_000_000, u64::MAX).await;
        let keyed = || NewJob { idempotency_key: Some("k".into()), ..leads() };
        let file = rows(40_000);
        let Inserted::Created(first) = intake.receive(keyed(), true, body(&file)).await.unwrap() else { panic!() };
        let Inserted::Existing(second) = intake.receive(keyed(), true, body(&file)).await.unwrap() else { panic!() };
        assert_eq!(first.id, second.id);
        let other = intake.receive(keyed(), true, body(&rows(1))).await.unwrap_err();
        assert!(matches!(other, IntakeError::Store(StoreError::KeyReused(_))), "{other}");
    }

    #[tokio::test]
    async fn what_is_said_of_a_file_must_be_possible() {
        let Door { intake, _folder } = door(10_000_000, u64::MAX).await;
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
            assert_eq!(intake.receive(new, true, body(&file)).await.unwrap_err().to_string(), fault);
        }
        let job = intake.receive(leads(), true, body(&file)).await.unwrap();
        assert!(matches!(job, Inserted::Created(job) if job.state == JobState::Pending));
    }
}
