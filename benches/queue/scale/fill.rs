//! Copies of a job that a daemon made: so a database of a million jobs is filled in seconds, with rows as they are.

use std::path::Path;
use std::str::FromStr;

use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Row, SqliteConnection};

/// The tables that a job has rows in. The content of ended jobs is left out: it is erased before their records are.
const TABLES: [&str; 4] = ["job", "batch", "chunk", "history"];
/// Each copy is so many milliseconds younger than the one before.
const APART_MS: u64 = 100;

/// Adds so many copies of the last job in this state to the database of a stopped daemon.
pub async fn copy_job(database: &Path, state: &str, count: u64) {
    if count == 0 {
        return;
    }
    let url = format!("sqlite://{}", database.display());
    let options = SqliteConnectOptions::from_str(&url)
        .expect("a path")
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Off);
    let mut conn = options.connect().await.expect("the database opens");
    let row = sqlx::query(
        "SELECT id, (SELECT max(id) FROM job) AS last, finished_at IS NOT NULL AS ended
         FROM job WHERE state = ? ORDER BY id DESC LIMIT 1",
    )
    .bind(state)
    .fetch_one(&mut conn)
    .await
    .expect("a job in this state");
    let (job, last, ended): (i64, i64, bool) = (row.get("id"), row.get("last"), row.get("ended"));
    let mut transaction = conn.begin().await.expect("a transaction");
    for table in TABLES {
        if table == "chunk" && ended {
            continue;
        }
        copy_rows(&mut transaction, table, job, last, count).await;
    }
    if ended {
        let sql = "UPDATE job SET content_erased_at = finished_at WHERE id > ?";
        sqlx::query(sql).bind(last).execute(&mut *transaction).await.expect("the jobs change");
    }
    transaction.commit().await.expect("the copies are committed");
    // What a daemon does in the background from time to time.
    for sql in ["PRAGMA wal_checkpoint(TRUNCATE)", "PRAGMA optimize"] {
        sqlx::query(sql).execute(&mut conn).await.expect("maintenance");
    }
    conn.close().await.expect("the database closes");
}

/// Copies the rows of a job in one table to the jobs behind `last`.
async fn copy_rows(conn: &mut SqliteConnection, table: &str, job: i64, last: i64, count: u64) {
    let of_job = if table == "job" { "id" } else { "job_id" };
    let columns = sqlx::query("SELECT name FROM pragma_table_info(?)").bind(table).fetch_all(&mut *conn).await;
    let columns: Vec<String> = columns.expect("the table").iter().map(|row| row.get("name")).collect();
    // The numbers of history are given by the database.
    let columns: Vec<String> = columns.into_iter().filter(|name| !(table == "history" && name == "id")).collect();
    let values: Vec<String> = columns
        .iter()
        .map(|name| match name.as_str() {
            name if name == of_job => format!("{last} + copies.n"),
            "marketo_batch_id" => "iif(marketo_batch_id IS NULL, NULL, CAST(1000000 + copies.n AS TEXT))".into(),
            "message" if table == "history" => {
                "iif(event = 'accepted', CAST(1000000 + copies.n AS TEXT), message)".into()
            }
            name if name == "at" || name.ends_with("_at") => format!("{name} - ({count} - copies.n) * {APART_MS}"),
            name => name.into(),
        })
        .collect();
    let sql = format!(
        "WITH RECURSIVE copies (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM copies WHERE n < {count})
         INSERT INTO {table} ({}) SELECT {} FROM copies CROSS JOIN {table} WHERE {table}.{of_job} = {job}",
        columns.join(", "),
        values.join(", "),
    );
    sqlx::query(AssertSqlSafe(sql)).execute(conn).await.expect("the rows are copied");
}
