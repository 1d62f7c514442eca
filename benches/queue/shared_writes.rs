//! Measures what a shared import costs the store: how long each of its transactions occupies the writer, for which all
//! accepts wait, and how long a plan's reads take beside thousands of jobs that share imports.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use marqueue::clock::Clock;
use marqueue::delimited::{RowMatch, SentRow};
use marqueue::domain::packing::{ImportShape, Packing};
use marqueue::domain::{BatchKey, Counts, Event, Format, JobId, RemoteStatus, ReportKind, Source, Target};
use marqueue::store::{
    CompressedChunk, DividedFile, DividedReports, Inserted, JobLayout, NewJob, PackLimits, PackedRowMatch, PartRange,
    ReportSizes, Store, UploadBegin,
};
use tempfile::TempDir;

use crate::bench_daemon::cpu;
use crate::{Report, median};

/// The most jobs of an import.
const JOBS: usize = 1_000;
const ROWS: u32 = 10;
const ROUNDS: usize = 7;
/// An accept waits for at most one of these transactions.
const TARGET: Duration = Duration::from_millis(200);
const IMPORTS: usize = 10;
const PENDING: usize = 10_000;
const READS: usize = 21;
const LONGEST: Duration = Duration::from_secs(60);

pub async fn measure(report: &mut Report) {
    report.part(&format!("packing: transactions of an import of {JOBS} jobs, {ROUNDS} rounds"));
    let names =
        ["upload begins", "upload accepted", "import in progress", "import ended", "reports stored, half failed"];
    let (_folder, store) = store().await;
    let mut rounds = Vec::new();
    for round in 0..ROUNDS {
        let alone = import(&store, 1, round).await;
        rounds.push((import(&store, JOBS, round).await, alone));
    }
    for (index, name) in names.into_iter().enumerate() {
        let shared = median(rounds.iter().map(|(shared, _)| shared[index]).collect());
        let alone = median(rounds.iter().map(|(_, alone)| alone[index]).collect());
        let worst = rounds.iter().map(|(shared, _)| shared[index]).fold(0.0, f64::max);
        let value = format!("{shared:.0} ({worst:.0}), {alone:.1} ms");
        report.target(&format!("{name}: median (worst), of one job"), &value, "< 200 ms", shared < ms(TARGET));
    }
    let cpu = |round: &([f64; 6], [f64; 6])| round.0[5];
    let value = format!("{:.0} ms", median(rounds.iter().map(cpu).collect()));
    report.figure("CPU for all of them", &value);
    store.close().await;

    report
        .part(&format!("packing: reads beside {IMPORTS} imports in flight and {PENDING} pending jobs, {READS} times"));
    for (name, jobs) in [("imports of 1 job", 1), ("imports of 1,000 jobs", JOBS)] {
        let (_folder, store) = filled(jobs).await;
        let (mut snapshots, mut outlooks, mut slots) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..READS {
            snapshots.push(timed(store.snapshot("default", Clock::System.now(), 10, LONGEST)).await);
            outlooks.push(timed(store.outlook("default", Clock::System.now(), LONGEST)).await);
            slots.push(timed(store.occupied_slots("default", Clock::System.now())).await);
        }
        let value = format!("{:.1}, {:.1}, {:.2} ms", median(snapshots), median(outlooks), median(slots));
        report.figure(&format!("{name}: snapshot, outlook, occupied slots"), &value);
        store.close().await;
    }
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Returns the milliseconds that a call of the store takes.
async fn timed<T>(call: impl Future<Output = Result<T, marqueue::store::StoreError>>) -> f64 {
    let began = Instant::now();
    call.await.expect("the store works");
    ms(began.elapsed())
}

async fn store() -> (TempDir, Store) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = Store::open(&folder.path().join("q.db")).await.expect("the store opens");
    (folder, store)
}

/// Records an import of new jobs from its upload to its end. Returns the milliseconds of each transaction, and those of
/// the processor for all of them, with the compression of the reports.
async fn import(store: &Store, jobs: usize, round: usize) -> [f64; 6] {
    let shape = u8::try_from(round).ok().filter(|_| jobs > 1);
    let keys = add(store, jobs, shape).await;
    let record = |event| timed(store.record_event(keys[0], event, None, Clock::System.now()));
    let before = cpu("self");
    let begins = timed(store.begin_upload(begin(keys[0]))).await;
    let accepted = record(accepted(&format!("{round}-{jobs}"))).await;
    let importing =
        Event::Polled { status: RemoteStatus::Importing, counts: Counts::default(), waited: Duration::ZERO };
    let importing = record(importing).await;
    let all = jobs as u64 * u64::from(ROWS);
    let counts = Counts { processed: Some(all / 2), failed: Some(all / 2), warned: Some(0) };
    let ended = record(Event::ImportEnded { counts, message: "done".into() }).await;
    let stored = if jobs > 1 {
        let reports = keys.iter().map(|&key| reports(key)).collect();
        timed(store.complete_shared_import(keys[0], reports, Clock::System.now())).await
    } else {
        record(Event::Collected).await
    };
    [begins, accepted, importing, ended, stored, (cpu("self") - before) * 1e3]
}

/// Returns a store with imports of so many jobs each in flight, and other jobs that may share one behind them.
async fn filled(jobs: usize) -> (TempDir, Store) {
    let (folder, store) = store().await;
    for number in 0..IMPORTS {
        let keys = add(&store, jobs, Some(0).filter(|_| jobs > 1)).await;
        store.begin_upload(begin(keys[0])).await.expect("it is pending");
        store
            .record_event(keys[0], accepted(&number.to_string()), None, Clock::System.now())
            .await
            .expect("it was uploaded");
    }
    add(&store, PENDING, Some(1)).await;
    (folder, store)
}

fn begin(key: BatchKey) -> UploadBegin {
    let now = Clock::System.now();
    UploadBegin {
        key,
        limits: PackLimits { max_jobs: u32::MAX, max_bytes: u64::MAX, latest_not_before: now + LONGEST },
        now,
    }
}

fn accepted(id: &str) -> Event {
    Event::Accepted { marketo_batch_id: id.into(), status: RemoteStatus::Queued }
}

/// Adds jobs of one shape, or that go alone without one.
async fn add(store: &Store, jobs: usize, shape: Option<u8>) -> Vec<BatchKey> {
    let header = "email,firstName\n";
    let mut keys = Vec::new();
    let numbers: Vec<usize> = (0..jobs).collect();
    for numbers in numbers.chunks(256) {
        let added = numbers.iter().map(|number| {
            let rows: String = (0..ROWS).map(|row| format!("{number}.{row}@example.com,Ann\n")).collect();
            let (from, to) = (header.len() as u64, (header.len() + rows.len()) as u64);
            let layout = JobLayout {
                bytes: to,
                header: (0, from),
                rows: u64::from(ROWS),
                parts: vec![PartRange { from, to, rows: u64::from(ROWS), first_line: Some(2) }],
                sha256: None,
                packing: shape.map(|shape| Packing { shape: ImportShape([shape; 32]), added_line_end: 0 }),
                warnings: Vec::new(),
            };
            let chunk = CompressedChunk::compress(0, format!("{header}{rows}").as_bytes()).expect("zstd has memory");
            store.add(new_job(), layout, chunk, Clock::System.now())
        });
        for inserted in join_all(added).await {
            let (Inserted::Created(job) | Inserted::Existing(job)) = inserted.expect("the store works");
            keys.push(BatchKey { job: job.id, part: 1 });
        }
    }
    keys.sort_unstable_by_key(|key: &BatchKey| -> JobId { key.job });
    keys
}

fn new_job() -> NewJob {
    NewJob {
        instance: "default".into(),
        target: Target::Leads { lookup_field: None, list_id: None, partition: None },
        filename: "leads.csv".into(),
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
        source: Source::Socket { uid: Some(0) },
    }
}

/// The reports of a job of which every second row failed.
fn reports(key: BatchKey) -> DividedReports {
    let (mut file, mut rows) = (String::from("email,firstName,Import Failure Reason\n"), Vec::new());
    for row in (0..ROWS).step_by(2) {
        file += &format!("{row}@example.com,Ann,Invalid value for field 'phone'\n");
        rows.push(Some(SentRow { row, line: row }));
    }
    let found = RowMatch { rows, ..RowMatch::default() }.encode();
    let kind = ReportKind::Failures;
    let matches = vec![PackedRowMatch::compress(kind, 2, &found).expect("zstd has memory")];
    let half = Some(u64::from(ROWS) / 2);
    DividedReports {
        key,
        counts: Counts { processed: half, failed: half, warned: Some(0) },
        unknown_rows: None,
        files: vec![DividedFile::compress(kind, file.as_bytes()).expect("zstd has memory")],
        sizes: ReportSizes { failures: Some(file.len() as u64), matches, ..ReportSizes::default() },
    }
}
