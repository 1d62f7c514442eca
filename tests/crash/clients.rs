//! Clients that submit files, over the socket and into the drop folder, and record the replies.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use marqueue::client::{BatchOptions, Client, ClientError, NewFile};
use marqueue::domain::Target;
use rand::RngExt;
use tokio::sync::Semaphore;
use tokio::time::sleep;
use tokio_util::io::StreamReader;
use tokio_util::sync::CancellationToken;

use super::files::{File, LARGE, PACKED};
use super::rng;
use super::trace::{Reply, Submission};

/// Between two looks for a fact.
pub const POLL_PAUSE: Duration = Duration::from_millis(2);

/// The client of the drop folder.
const FOLDER: &str = "folder";

/// What all clients of a scenario share.
pub struct Counter {
    pub seed: u64,
    files: Mutex<Vec<Submission>>,
    /// How many files may still be begun, how many large ones, and how many that may share an import.
    pub allowance: Semaphore,
    pub large: Semaphore,
    pub packed: Semaphore,
    /// From here on each ends the file that it has begun, and begins none.
    pub closing: CancellationToken,
    /// Files that were acknowledged.
    pub reply: AtomicUsize,
    /// Pieces that left of files that stream into the store in several transactions.
    pub pieces: AtomicUsize,
}

impl Counter {
    pub fn new(seed: u64) -> Arc<Counter> {
        Arc::new(Counter {
            seed,
            files: Mutex::default(),
            allowance: Semaphore::new(0),
            large: Semaphore::new(0),
            packed: Semaphore::new(0),
            closing: CancellationToken::new(),
            reply: AtomicUsize::new(0),
            pieces: AtomicUsize::new(0),
        })
    }

    pub fn files(&self) -> MutexGuard<'_, Vec<Submission>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The file is recorded before anything of it leaves.
    fn begin(&self, file: &File) -> usize {
        let mut files = self.files();
        files.push(Submission { file: file.clone(), reply: Reply::Nothing });
        files.len() - 1
    }

    fn record(&self, index: usize, reply: Reply) {
        self.files()[index].reply = reply;
        self.reply.fetch_add(1, Ordering::SeqCst);
    }

    /// Whether one more file may be begun; false when there will be none.
    async fn may(&self, client: &str) -> bool {
        let allowance = match client {
            LARGE => &self.large,
            _ if PACKED.contains(&client) => &self.packed,
            _ => &self.allowance,
        };
        tokio::select! {
            biased;
            () = self.closing.cancelled() => false,
            permit = allowance.acquire() => permit.map(|permit| permit.forget()).is_ok(),
        }
    }
}

/// Sends files over the socket, one after the other. Those with a key are sent until they are acknowledged; the others
/// are left at the first broken connection.
pub async fn at_the_socket(counter: Arc<Counter>, socket: PathBuf, name: String) {
    let client = Client::new(&socket, Duration::from_secs(120)).expect("a client");
    for n in 0.. {
        if !counter.may(&name).await {
            return;
        }
        let rng = &mut rng(counter.seed, &format!("client {name} {n}"));
        let file = File::of(counter.seed, &name, n, true);
        let key = rng.random_bool(0.5).then(|| format!("key of {}", file.name));
        let pace = Duration::from_millis(rng.random_range(0..25));
        let new = NewFile {
            target: file.target.clone(),
            filename: file.name.clone(),
            format: file.format,
            instance: None,
            priority: file.priority,
            group: file.group.clone(),
            not_before: None,
            batches: BatchOptions::default(),
            pack: file.pack,
            idempotency_key: key,
            check: true,
        };
        let index = counter.begin(&file);
        loop {
            let large = file.is_large();
            let counted = counter.clone();
            let progress = move |_| _ = counted.pieces.fetch_add(usize::from(large), Ordering::SeqCst);
            let pieces: Vec<_> = file.content.chunks(40_000).map(Bytes::copy_from_slice).collect();
            let body = stream::unfold(pieces.into_iter(), move |mut pieces| async move {
                let piece = pieces.next()?;
                if large {
                    sleep(pace).await;
                }
                Some((std::io::Result::Ok(piece), pieces))
            });
            match client.add(&new, StreamReader::new(Box::pin(body)), progress).await {
                Ok(added) => counter.record(index, Reply::Job(added.job.id)),
                // Nothing was sent.
                Err(ClientError::NoDaemon { .. }) => {
                    sleep(POLL_PAUSE).await;
                    continue;
                }
                // It is on its way out, and keeps nothing of it.
                Err(ClientError::Refused(problem)) if problem.status == 503 => {
                    sleep(POLL_PAUSE).await;
                    continue;
                }
                Err(ClientError::Refused(problem)) => counter.record(index, Reply::Refused(problem.detail)),
                Err(_) if new.idempotency_key.is_some() => continue,
                Err(_) => {}
            }
            break;
        }
    }
}

/// Renames files into the drop folder, and records which were removed.
pub async fn at_the_folder(counter: Arc<Counter>, drop: PathBuf) {
    let mut waiting: Vec<(usize, PathBuf)> = Vec::new();
    let mut n = 0;
    loop {
        let may = tokio::select! {
            may = counter.may(FOLDER) => Some(may),
            () = sleep(POLL_PAUSE) => None,
        };
        if may == Some(true) {
            let file = File::of(counter.seed, FOLDER, n, false);
            let path = folder(&drop, &file.target).join(&file.name);
            let draft = path.with_extension("part");
            fs::create_dir_all(path.parent().expect("a folder")).expect("its folder");
            fs::write(&draft, &file.content).expect("a draft");
            waiting.push((counter.begin(&file), path.clone()));
            fs::rename(draft, path).expect("it is renamed");
            n += 1;
        }
        waiting.retain(|(index, path)| {
            let there = path.symlink_metadata().is_ok();
            if !there {
                counter.record(*index, Reply::Taken);
            }
            there
        });
        if may == Some(false) {
            if waiting.is_empty() {
                return;
            }
            sleep(POLL_PAUSE).await;
        }
    }
}

fn folder(drop: &Path, target: &Target) -> PathBuf {
    let instance = drop.join("default");
    match target {
        Target::Leads { .. } => instance.join("leads"),
        Target::CustomObject { name } => instance.join("custom-objects").join(name),
        Target::ProgramMembers { program_id, status } => {
            instance.join("program-members").join(program_id.to_string()).join(status)
        }
    }
}
