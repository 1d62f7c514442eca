//! How large is the database, and how does it get smaller? The log is emptied, and free pages are given back.
//!
//! `secure_delete` writes zeros over what is deleted, and the log has the pages as they were until it is overwritten. So
//! what was erased is in no file only when the log was emptied too.

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection, Row};
use std::path::PathBuf;
use std::time::Duration;

use super::{Store, StoreError, options};

/// Bytes of the database's files, and of the pages in them that nothing stands in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Space {
    pub database: u64,
    pub log: u64,
    pub free: u64,
}

impl Store {
    /// The one file, as [`Store::open`] was told.
    pub fn path(&self) -> PathBuf {
        self.readers().connect_options().get_filename().to_owned()
    }

    pub async fn space(&self) -> Result<Space, StoreError> {
        let path = self.path();
        let mut log = path.clone().into_os_string();
        log.push("-wal");
        let size = |path: PathBuf| std::fs::metadata(path).map_or(0, |file| file.len());
        let free: i64 = sqlx::query_scalar(
            "SELECT (SELECT freelist_count FROM pragma_freelist_count) * (SELECT page_size FROM pragma_page_size)",
        )
        .fetch_one(self.readers())
        .await?;
        Ok(Space { database: size(path), log: size(log.into()), free: free.cast_unsigned() })
    }

    /// Writes all of the log into the database and makes it empty. False if a reader or a writer was in the way: then it
    /// is to be tried again. A connection of its own does it, which hardly waits, so that nobody waits for it.
    pub async fn scrub(&self) -> Result<bool, StoreError> {
        match empty_log(hasty(options(&self.path()))).await {
            Err(error) if is_busy(&error) => Ok(false),
            done => Ok(done?),
        }
    }

    /// Gives at most `pages` free pages back to the disk, and says how many are left.
    pub async fn reclaim(&self, pages: u32) -> Result<u64, StoreError> {
        self.shared
            .writer
            .write(move |w| {
                Box::pin(async move {
                    // A pragma takes no bound value; this one is a number of ours.
                    let sql = sqlx::AssertSqlSafe(format!("PRAGMA incremental_vacuum({pages})"));
                    sqlx::query(sql).fetch_all(&mut *w.conn).await?;
                    let left: i64 = sqlx::query_scalar("PRAGMA freelist_count").fetch_one(&mut *w.conn).await?;
                    Ok(left.cast_unsigned())
                })
            })
            .await
    }
}

/// How long the emptying waits for its turn; for as long it may hold the writer up.
const TURN: Duration = Duration::from_millis(50);

fn hasty(options: SqliteConnectOptions) -> SqliteConnectOptions {
    options.create_if_missing(false).busy_timeout(TURN)
}

async fn empty_log(options: SqliteConnectOptions) -> Result<bool, sqlx::Error> {
    let mut conn = options.connect().await?;
    // The bulk first, in a way that holds no writer up.
    sqlx::query("PRAGMA wal_checkpoint(PASSIVE)").fetch_one(&mut conn).await?;
    let busy: i64 = sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").fetch_one(&mut conn).await?.try_get(0)?;
    conn.close().await?;
    Ok(busy == 0)
}

fn is_busy(error: &sqlx::Error) -> bool {
    const SQLITE_BUSY: &str = "5";
    error.as_database_error().and_then(|error| error.code()).is_some_and(|code| code == SQLITE_BUSY)
}
