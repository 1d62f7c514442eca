//! Tests of migrations: a database of each earlier version opens with all its rows, and its jobs continue.
//!
//! `tests/schema/` has rows for each version: for all tables, and all states of jobs and batches. A new migration needs
//! a file there, with rows in its new tables and columns; copy the last one.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::time::Duration;

use sqlx::{AssertSqlSafe, ConnectOptions, Connection, SqliteConnection};

use crate::clock::{Uptime, from_ms};
use crate::domain::{BatchKey, JobId, JobState};
use crate::scheduler::{SchedulingRules, Step, plan};
use crate::store::engine::connection::writer_options;
use crate::store::engine::schema::{MIGRATIONS, migrator_to};
use crate::store::error::StoreError;
use crate::store::test_util::{StatusAt, status};
use crate::store::{Pause, PauseKind, QueryFailures, QuotaDay, Store, StoredFile};

/// A moment at which only the shortest delays of the rows are over.
const NOW: i64 = 2_800;

/// Tables that a later migration renamed, old name first.
const RENAMED_TABLES: [(&str, &str); 5] = [
    ("erasing", "pending_erasure"),
    ("notice", "pending_notification"),
    ("notify", "notification_enabled"),
    ("call", "api_call"),
    ("call_day", "api_call_day"),
];

/// History events that a later migration renamed, old name first.
const RENAMED_EVENTS: [(&str, &str); 5] = [
    ("put-back", "requeued"),
    ("ask-failed", "query-failed"),
    ("given-up", "attempts-exhausted"),
    ("halved", "split"),
    ("polled", "polled"),
];

/// Creates a database of version `version` with the rows of that version.
async fn made(path: &Path, version: i64) {
    let mut conn = writer_options(path).create_if_missing(true).connect().await.unwrap();
    migrator_to(version).run(&mut conn).await.unwrap();
    let rows = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/schema/{version:04}.sql"));
    let rows = std::fs::read_to_string(&rows)
        .unwrap_or_else(|error| panic!("{}: {error}: each version of the schema needs one", rows.display()));
    sqlx::raw_sql(AssertSqlSafe(rows)).execute(&mut conn).await.unwrap();
    conn.close().await.unwrap();
}

/// Returns the number of rows of each table.
async fn counts(conn: &mut SqliteConnection) -> BTreeMap<String, i64> {
    let tables: Vec<String> =
        sqlx::query_scalar("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE '%sqlite%' AND name NOT LIKE '\\_sqlx%' ESCAPE '\\'")
            .fetch_all(&mut *conn)
            .await
            .unwrap();
    let mut counts = BTreeMap::new();
    for table in tables {
        let sql = format!("SELECT count(*) FROM {table}");
        let count = sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(&mut *conn).await.unwrap();
        counts.insert(table, count);
    }
    counts
}

/// Returns the values that a `CHECK` allows for a column and that no row has, as `table.column=value`.
async fn unused(conn: &mut SqliteConnection) -> BTreeSet<String> {
    let tables: Vec<(String, String)> =
        sqlx::query_as("SELECT name, sql FROM sqlite_schema WHERE type = 'table'").fetch_all(&mut *conn).await.unwrap();
    let mut unused = BTreeSet::new();
    for (table, text) in tables {
        // Such as `CHECK (state IN ('pending', 'running'))`, a whole clause and not a part of one.
        for check in text.split("CHECK (").skip(1) {
            let Some((column, values)) = check.split_once(" IN (") else { continue };
            let Some((values, _)) = values.split_once("))").filter(|_| !column.contains([' ', '('])) else { continue };
            let sql = format!("SELECT DISTINCT {column} FROM {table}");
            let used: Vec<Option<String>> = sqlx::query_scalar(AssertSqlSafe(sql)).fetch_all(&mut *conn).await.unwrap();
            let values =
                values.split('\'').skip(1).step_by(2).filter(|value| !used.contains(&Some((*value).to_owned())));
            unused.extend(values.map(|value| format!("{table}.{column}={value}")));
        }
    }
    unused
}

#[tokio::test]
async fn databases_of_all_versions_open_and_jobs_continue() {
    let folder = tempfile::tempdir().unwrap();
    for &(version, ..) in MIGRATIONS {
        let path = folder.path().join(format!("{version}.db"));
        made(&path, version).await;
        let mut conn = writer_options(&path).connect().await.unwrap();
        let before = counts(&mut conn).await;
        let empty: Vec<_> = before.iter().filter(|(_, rows)| **rows == 0).collect();
        assert!(empty.is_empty(), "version {version}: its rows leave out {empty:?}");
        assert_eq!(unused(&mut conn).await, BTreeSet::new(), "version {version}: its rows leave out values");
        conn.close().await.unwrap();

        let store = Store::open(&path).await.unwrap();
        let mut conn = writer_options(&path).connect().await.unwrap();
        let after = counts(&mut conn).await;
        for (table, rows) in &before {
            // An incomplete submission is deleted at each start.
            let deleted = i64::from(matches!(table.as_str(), "job" | "chunk"));
            let renamed = RENAMED_TABLES.iter().find(|(old, _)| *old == table).map_or(table.as_str(), |(_, new)| new);
            assert_eq!(after.get(renamed), Some(&(rows - deleted)), "version {version}: {table}");
        }
        let whole: String = sqlx::query_scalar("PRAGMA integrity_check").fetch_one(&mut conn).await.unwrap();
        assert_eq!(whole, "ok", "version {version}");
        conn.close().await.unwrap();
        reads(&store, version).await;
        goes_on(&store, version).await;
        store.close().await;
    }
}

/// Reads all rows.
async fn reads(store: &Store, version: i64) {
    let jobs = store.jobs(None, 100, None).await.unwrap();
    let states: Vec<_> = jobs.iter().rev().map(|job| (job.id.0, job.state, job.batches.len())).collect();
    use JobState::{Cancelled, Complete, Failed, Pending, Running};
    assert_eq!(
        states,
        [
            (100, Pending, 1),
            (101, Pending, 1),
            (102, Pending, 4),
            (200, Running, 5),
            (300, Complete, 1),
            (301, Failed, 1),
            (302, Cancelled, 1)
        ],
        "version {version}"
    );
    let mut content = store.content(StoredFile::submitted(JobId(100)), 0..22);
    assert_eq!(content.next().await.unwrap().unwrap(), b"email\na1@example.com.\n", "version {version}");
    assert_eq!(store.history(JobId(301)).await.unwrap()[0].request_id.as_deref(), Some("r#1"));
    assert!(matches!(store.job(JobId(90)).await, Err(StoreError::NoJob(_))));
    for (name, paused) in [("default", false), ("eu", true), ("us", true), ("ap", true)] {
        let instance = store.instance(name).await.unwrap();
        assert_eq!(instance.pause.is_some(), paused, "version {version}: {name}");
    }
    let default = store.instance("default").await.unwrap();
    assert_eq!(
        (default.observed_slot_limit, default.slot_probe_at, default.service_failures, default.backoff_until),
        (Some(3), Some(from_ms(2_600)), 1, Some(from_ms(2_700))),
        "version {version}"
    );
    let kind = |pause: Option<Pause>| pause.map(|pause| pause.kind);
    assert_eq!(kind(store.instance("us").await.unwrap().pause), Some(PauseKind::Operator), "version {version}");
    let eu = store.instance("eu").await.unwrap();
    let suspended = (version > 1).then_some(PauseKind::Operator);
    assert_eq!((kind(eu.pause), kind(eu.suspended_pause)), (Some(PauseKind::Quota), suspended), "version {version}");
    let importing = store.batch(BatchKey { job: JobId(200), part: 3 }).await.unwrap().1;
    let rejections = u32::from(version > 4);
    assert_eq!(importing.query_failures, QueryFailures { all: 2, refusals: rejections }, "version {version}");
    let day = QuotaDay { by_clock: from_ms(0), is_clock_steady: true };
    assert_eq!(status(store, StatusAt { day, ..StatusAt::of("default") }).await.calls_today, 17);
    let up = Uptime { boot: "another".into(), ms: 5 };
    store.adopt_calls(from_ms(0), up.clone()).await.unwrap();
    let calls = store.earlier_calls("default", &up).await.unwrap();
    assert_eq!((calls.ended_ago.len(), calls.may_last.len()), (1, 1), "version {version}");
}

/// The first plan continues what was in progress.
async fn goes_on(store: &Store, version: i64) {
    let text = "[instances.default]\nbase_url = 'http://127.0.0.1:1'\nclient_id = 'a'\nclient_secret = 'b'";
    let config = crate::config::Config::read(Some((Path::new("m.toml"), text)), Vec::new()).unwrap();
    let rules = SchedulingRules::from_instance(&config.instances["default"]);
    let snapshot =
        store.snapshot("default", from_ms(NOW), rules.max_in_flight, Duration::from_secs(3600)).await.unwrap();
    let flights: Vec<_> = snapshot.in_flight.iter().map(|flight| (flight.key.part, flight.state.as_str())).collect();
    assert_eq!(
        flights,
        [(1, "uploading"), (2, "queued"), (3, "importing"), (4, "collecting"), (5, "held")],
        "version {version}"
    );
    assert!(
        snapshot.unconfirmed_until.len() >= 2,
        "version {version}: each lost answer counts: {:?}",
        snapshot.unconfirmed_until
    );
    let steps = plan(&snapshot, &HashMap::new(), &rules, from_ms(1_000_000)).steps;
    let key = |part| BatchKey { job: JobId(200), part };
    for step in [Step::Recover(key(1)), Step::Poll(key(2)), Step::Poll(key(3)), Step::Collect(key(4))] {
        assert!(steps.contains(&step), "version {version}: {step:?} is not in {steps:?}");
    }
}

#[tokio::test]
async fn history_of_version_12_gets_the_new_event_names() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("q.db");
    made(&path, 12).await;
    let mut conn = writer_options(&path).connect().await.unwrap();
    sqlx::query("DELETE FROM history WHERE job_id = 200").execute(&mut conn).await.unwrap();
    for (old, _) in RENAMED_EVENTS {
        sqlx::query(
            "INSERT INTO history (job_id, part, at, event, state, message) VALUES (200, 1, 7, ?1, 'pending', ?1)",
        )
        .bind(old)
        .execute(&mut conn)
        .await
        .unwrap();
    }
    conn.close().await.unwrap();
    let store = Store::open(&path).await.unwrap();
    let history = store.history(JobId(200)).await.unwrap();
    let found: Vec<_> = history.iter().map(|line| (line.message.as_deref().unwrap(), line.event.as_str())).collect();
    assert_eq!(found, RENAMED_EVENTS);
    store.close().await;
}

#[tokio::test]
async fn jobs_without_a_source_keep_their_keys() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("q.db");
    let mut connection = writer_options(&path).create_if_missing(true).connect().await.unwrap();
    migrator_to(2).run(&mut connection).await.unwrap();
    let job = "INSERT INTO job (instance, state, target, filename, format, created_at, idempotency_key)
               VALUES ('default', 'pending', 'leads', 'a.csv', 'csv', 1, 'k')";
    sqlx::query(job).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    let store = Store::open(&path).await.unwrap();
    assert_eq!(store.job(JobId(1)).await.unwrap().source, None);
    store.close().await;
    drop(store);
    let mut connection = writer_options(&path).connect().await.unwrap();
    let again = sqlx::query(job).execute(&mut connection).await.unwrap_err();
    assert!(again.as_database_error().is_some_and(|error| error.is_unique_violation()), "{again}");
}
