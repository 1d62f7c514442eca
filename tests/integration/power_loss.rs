//! Power loss: any number of the log's last bytes may be missing or wrong; what was committed before them is intact.

use std::fs;
use std::path::{Path, PathBuf};

use marqueue::clock::from_ms;
use marqueue::domain::{BatchKey, Event, Format, JobId, Source, Target};
use marqueue::store::{CompressedChunk, Inserted, JobLayout, NewJob, PartRange, Store, StoredFile};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions, Connection};

/// The log's header, a frame's header, and the page that it brings.
const HEADER: u64 = 32;
const FRAME: u64 = 24 + 8192;

/// Each with a file of another size, some of several pages.
const JOBS: usize = 6;

fn file(job: usize) -> Vec<u8> {
    let digits = |row: usize| (row + job * 1_000 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let rows = (0..=job * 150).map(|row| format!("{:016x}{:016x}@example.com\n", digits(row), digits(row + 7_777)));
    "email\n".chars().chain(rows.collect::<String>().chars()).collect::<String>().into_bytes()
}

async fn add(store: &Store, job: usize) -> JobId {
    let new = NewJob {
        instance: "default".into(),
        target: Target::Leads { lookup_field: None, list_id: None, partition: None },
        filename: "a.csv".into(),
        format: Format::Csv,
        priority: 0,
        group: None,
        not_before: None,
        in_order: false,
        canary: None,
        max_failed_percent: None,
        pack: None,
        idempotency_key: None,
        retry_of: None,
        source: Source::Socket { uid: Some(1000) },
    };
    let file = file(job);
    let bytes = file.len() as u64;
    let parts = vec![PartRange { from: 6, to: bytes, rows: 1, first_line: Some(2) }];
    let layout = JobLayout { bytes, header: (0, 6), rows: 1, parts, sha256: None, packing: None, warnings: Vec::new() };
    let piece = CompressedChunk::compress(0, &file).expect("memory");
    match store.add(new, layout, piece, from_ms(1_000)).await.expect("it is added") {
        Inserted::Created(job) | Inserted::Existing(job) => job.id,
    }
}

/// A database as a power cut leaves it.
struct Cut {
    folder: tempfile::TempDir,
    log: Vec<u8>,
    /// For each commit the length of the log, and the jobs and lines of history then.
    commits: Vec<(u64, Counts)>,
}

type Counts = (i64, i64);

impl Cut {
    /// Jobs in commits of their own; every other one also begins its upload.
    async fn new() -> Cut {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("live.db");
        let store = Store::open(&path).await.expect("a store");
        let log = folder.path().join("live.db-wal");
        let length = || fs::metadata(&log).expect("the log").len();
        let mut commits = vec![(length(), (0, 0))];
        let (mut jobs, mut lines) = (0, 0);
        for job in 0..JOBS {
            let id = add(&store, job).await;
            (jobs, lines) = (jobs + 1, lines + 1);
            commits.push((length(), (jobs, lines)));
            if job % 2 == 0 {
                let key = BatchKey { job: id, part: 1 };
                store.record_event(key, Event::UploadBegan, None, from_ms(2_000)).await.expect("recorded");
                lines += 1;
                commits.push((length(), (jobs, lines)));
            }
        }
        assert!(commits.is_sorted_by_key(|(length, _)| *length), "the log only grows: {commits:?}");
        fs::copy(&path, folder.path().join("cut.db")).expect("a copy");
        let log = fs::read(&log).expect("the log");
        assert_eq!(log.len() as u64, commits.last().expect("one").0);
        assert_eq!((log.len() as u64 - HEADER) % FRAME, 0, "frames as they are known here");
        Cut { folder, log, commits }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("cut.db")
    }

    /// Leaves `length` bytes of the log, and `rest` behind them.
    fn cut(&self, length: u64, rest: &[u8]) {
        let length = usize::try_from(length).expect("small");
        let beside = |ending| self.folder.path().join(format!("cut.db-{ending}"));
        fs::write(beside("wal"), [&self.log[..length], rest].concat()).expect("written");
        let _ = fs::remove_file(beside("shm"));
    }

    /// What was committed within the first `length` bytes.
    fn committed(&self, length: u64) -> Option<Counts> {
        self.commits.iter().rev().find(|(whole, _)| *whole <= length).map(|(_, counts)| *counts)
    }
}

async fn open(path: &Path) -> SqliteConnection {
    SqliteConnectOptions::new().filename(path).read_only(true).connect().await.expect("it opens")
}

/// Whole, and with what was committed then.
async fn holds(cut: &Cut, expected: Option<Counts>, what: &str) {
    let mut conn = open(&cut.path()).await;
    let whole: String = sqlx::query_scalar("PRAGMA integrity_check").fetch_one(&mut conn).await.expect(what);
    assert_eq!(whole, "ok", "{what}");
    // Before the schema's own commit there is nothing to count.
    if let Some(expected) = expected {
        let counts: Counts = sqlx::query_as("SELECT (SELECT count(*) FROM job), (SELECT count(*) FROM history)")
            .fetch_one(&mut conn)
            .await
            .expect(what);
        assert_eq!(counts, expected, "{what}");
    }
    conn.close().await.expect("it closes");
}

#[tokio::test]
async fn cutting_the_log_at_any_byte_keeps_earlier_commits() {
    let cut = Cut::new().await;
    let end = cut.log.len() as u64;
    let mut lengths: Vec<u64> = (end - FRAME..=end).collect();
    let mut at = HEADER;
    while at < end {
        // A frame's header byte by byte, and the ends of its page.
        lengths.extend(at - 1..=at + 25);
        at += FRAME;
    }
    lengths.extend(0..HEADER);
    lengths.sort_unstable();
    lengths.dedup();
    lengths.retain(|length| *length <= end);
    // Each takes some milliseconds, most of them in the thread of its connection.
    let workers = lengths.chunks(lengths.len().div_ceil(4)).map(async |some| {
        let cut = Cut::new().await;
        for &length in some {
            cut.cut(length, b"");
            holds(&cut, cut.committed(length), &format!("{length} of {end} bytes")).await;
        }
    });
    futures_util::future::join_all(workers).await;
}

#[tokio::test]
async fn garbage_after_the_cut_is_ignored() {
    let cut = Cut::new().await;
    let end = cut.log.len() as u64;
    let garbage: Vec<u8> = (0..2 * FRAME).map(|n| (n.wrapping_mul(0x9e37_79b9) >> 13) as u8).collect();
    let zeros = vec![0; garbage.len()];
    for frame in 0..(end - HEADER) / FRAME {
        let at = HEADER + frame * FRAME;
        // Between two frames, within a header, behind it, and a page that is torn in the middle.
        for length in [at, at + 11, at + 24, at + 24 + 4096] {
            for rest in [&garbage, &zeros] {
                cut.cut(length, rest);
                holds(&cut, cut.committed(length), &format!("{length} of {end} bytes and garbage")).await;
            }
        }
    }
}

#[tokio::test]
async fn the_daemon_opens_a_truncated_log_with_intact_jobs() {
    let cut = Cut::new().await;
    let live = fs::read(cut.path()).expect("the database");
    for (nth, (length, (jobs, _))) in cut.commits.iter().enumerate() {
        for length in [*length, length + 1, length + FRAME - 1] {
            fs::write(cut.path(), &live).expect("written");
            cut.cut(length.min(cut.log.len() as u64), b"");
            let store = Store::open(&cut.path()).await.expect("it opens");
            let found = store.jobs(None, 100, None).await.expect("jobs");
            assert_eq!(found.len() as i64, *jobs, "commit {nth}, {length} bytes");
            for job in found {
                let mut content = store.content(StoredFile::submitted(job.id), 0..job.bytes);
                let number = usize::try_from(job.id.0).expect("small") - 1;
                assert!(content.next().await.expect("content").expect("a piece") == file(number), "job {}", job.id);
                assert_eq!((job.batches.len(), store.history(job.id).await.expect("lines").is_empty()), (1, false));
            }
            store.close().await;
        }
    }
}
