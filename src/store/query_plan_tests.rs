//! Test of query plans: no statement of the scheduler, of an accept or of a status reads all jobs or batches.
//!
//! The statements are those that run: SQLite's connection logs each one, so the test has no copy of any.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::time::Duration;

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Row, SqliteConnection};
use tracing::field::{Field, Visit};
use tracing::{Event as LogEvent, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Context, SubscriberExt};

use crate::clock::{Uptime, from_ms};
use crate::domain::Counts;
use crate::domain::{BatchKey, Event, RemoteStatus};
use crate::store::engine::disk_reserve::DiskBudget;
use crate::store::engine::transaction::{ReadTx, StoreTx, UndoScope};
use crate::store::tables::call_ledger::{CallAdmission, NewCall, QuotaDay};
use crate::store::tables::candidates::SnapshotQuery;
use crate::store::tables::chunks::CompressedChunk;
use crate::store::tables::commands::JobCommand;
use crate::store::tables::complete_files::CompleteFile;
use crate::store::tables::status_rows::StatusQuery;
use crate::store::test_util::{accepted, add, ended, file, leads, store};
use crate::store::{ACTIVITY_SPAN, ActivityQuery, ActivityScope, Inserted, NewJob, PackLimits, UploadBegin};

/// The thread of the connection whose statements are collected. Other tests run at the same time.
const THREAD: &str = "query-plans";

/// Tables that grow with the queue or with time, and the names that statements give them.
const LARGE_TABLES: [&str; 22] = [
    "activity",
    "job",
    "batch",
    "history",
    "chunk",
    "api_call",
    "shared_import",
    "shared_import_batch",
    "row_match",
    "j",
    "b",
    "o",
    "f",
    "p",
    "e",
    "c",
    "s",
    "h",
    "l",
    "m",
    "n",
    "a",
];

static STATEMENTS: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// Collects the statements of one thread.
struct Collector;

impl<S: Subscriber> Layer<S> for Collector {
    fn on_event(&self, event: &LogEvent<'_>, _context: Context<'_, S>) {
        if std::thread::current().name() == Some(THREAD) {
            event.record(&mut Statement);
        }
    }
}

struct Statement;

impl Visit for Statement {
    fn record_str(&mut self, field: &Field, value: &str) {
        // A statement of four words or less is its own summary.
        if matches!(field.name(), "db.statement" | "summary") && !value.is_empty() && !value.ends_with(" …") {
            STATEMENTS.lock().unwrap().insert(value.trim().to_owned());
        }
    }

    fn record_debug(&mut self, _field: &Field, _value: &dyn std::fmt::Debug) {}
}

#[tokio::test]
async fn hot_statements_search_by_an_index() {
    let logged = tracing_subscriber::registry()
        .with(Collector.with_filter(Targets::new().with_target("sqlx::query", tracing::Level::DEBUG)));
    tracing::subscriber::set_global_default(logged).unwrap();
    let store = store().await;
    add(&store, leads(), 3).await;
    let options = SqliteConnectOptions::new().filename(store.path()).thread_name(|_| THREAD.into());
    let mut conn = options.connect().await.unwrap();
    write(&mut conn).await;
    read(&mut conn).await;
    let statements = STATEMENTS.lock().unwrap().clone();
    assert!(statements.len() > 30, "the statements are collected: {statements:#?}");
    let mut scans = Vec::new();
    // A call of several statements is explained up to the end of its first one.
    for statement in statements.iter().flat_map(|call| call.split(';')).filter(|statement| is_query(statement)) {
        let plan =
            sqlx::query(AssertSqlSafe(format!("EXPLAIN QUERY PLAN {statement}"))).fetch_all(&mut conn).await.unwrap();
        for line in plan {
            let line: String = line.get("detail");
            let table = line.strip_prefix("SCAN ").and_then(|rest| rest.split(' ').next());
            if table.is_some_and(|table| LARGE_TABLES.contains(&table)) {
                scans.push(format!("{line}\nin {}", statement.trim()));
            }
        }
    }
    assert!(scans.is_empty(), "{}", scans.join("\n\n"));
}

fn is_query(statement: &str) -> bool {
    let first = statement.split_whitespace().next().unwrap_or_default();
    matches!(first, "SELECT" | "INSERT" | "UPDATE" | "DELETE" | "WITH")
}

/// Runs the writes of an accept, a call, an upload with its import, and a command.
async fn write(conn: &mut SqliteConnection) {
    let (mut changes, mut budget) = (Vec::new(), DiskBudget::unlimited());
    let mut tx = StoreTx::new(conn, &mut changes, &mut budget, UndoScope::Savepoint);
    let (bytes, layout) = file(2);
    let new = NewJob { group: Some("a".into()), idempotency_key: Some("k".into()), ..leads() };
    let chunk = CompressedChunk::compress(0, &bytes).unwrap();
    let file = CompleteFile { new, layout, chunk, now: from_ms(1_000) };
    let added = tx.add_jobs(&[file]).await.unwrap().pop().unwrap();
    let Ok(Inserted::Created(job)) = added else { panic!("{added:?}") };
    let call = NewCall {
        instance: "default".into(),
        sharing: vec!["default".into(), "eu".into()],
        window: Duration::from_secs(20),
        may_take: Duration::from_secs(60),
        day: QuotaDay { by_clock: from_ms(0), is_clock_steady: false },
        daily: Some(50_000),
        at: from_ms(1_000),
        up: Uptime { boot: "one".into(), ms: 5 },
    };
    let CallAdmission::Call(call) = tx.begin_call(call).await.unwrap() else { panic!("the day is new") };
    let key = BatchKey { job: job.id, part: 1 };
    let limits = PackLimits { max_jobs: 10, max_bytes: u64::MAX, latest_not_before: from_ms(9_000) };
    tx.begin_upload(UploadBegin { key, limits, now: from_ms(2_000) }).await.unwrap();
    tx.end_call(call, from_ms(2_000), Uptime { boot: "one".into(), ms: 9 }).await.unwrap();
    let importing =
        Event::Polled { status: RemoteStatus::Importing, counts: Counts::default(), waited: Duration::ZERO };
    for (at, event) in [(2_100, accepted("7")), (2_200, importing), (2_300, ended(1, 0)), (2_400, Event::Collected)] {
        tx.record_event(key, event, None, from_ms(at)).await.unwrap();
    }
    tx.run_command(job.id, JobCommand::Cancel, from_ms(3_000)).await.unwrap();
}

/// Runs the reads of a plan, of an outlook and of a status.
async fn read(conn: &mut SqliteConnection) {
    let mut tx = ReadTx::new(conn);
    let queue =
        SnapshotQuery { instance: "default", now: from_ms(4_000), parts: 10, longest: Duration::from_secs(3_600) };
    let snapshot = tx.snapshot(queue).await.unwrap();
    assert_eq!(snapshot.candidates.len(), 3);
    // The other order of the candidates.
    let failing = crate::store::InstanceState { service_failures: 1, ..snapshot.instance };
    tx.candidates(&queue, &failing).await.unwrap();
    // Only a snapshot without candidates runs this query.
    tx.has_untried_batch(&queue).await.unwrap();
    tx.outlook(queue).await.unwrap();
    let sharing = ["default".to_owned(), "eu".to_owned()];
    let day = QuotaDay { by_clock: from_ms(0), is_clock_steady: true };
    let query = |instance| StatusQuery { instance, longest: queue.longest, sharing: &sharing, day };
    tx.status_rows(&[query("default"), query("eu")], queue.now).await.unwrap();
    tx.occupied_slots("default", from_ms(4_000)).await.unwrap();
    let scope = ActivityScope { instances: Some(vec!["default".into()]), client: Some("crm".into()) };
    let query = ActivityQuery { from: from_ms(0), to: from_ms(900_000), step: ACTIVITY_SPAN, scope };
    assert_eq!(tx.activity(&query).await.unwrap().len(), 1);
    tx.job(snapshot.candidates[0].key.job).await.unwrap();
}
