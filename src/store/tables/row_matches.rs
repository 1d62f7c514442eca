//! Table `row_match`: for each row of a report, the row that was sent. A match is small and read at once. The rows that
//! no match tells of stand in `batch.unknown_rows`.

use sqlx::{QueryBuilder, Row, Sqlite};

use crate::domain::{BatchKey, JobId, ReportKind};
use crate::store::batch_changes::PackedRowMatch;
use crate::store::engine::transaction::{ReadTx, StoreTx};
use crate::store::error::StoreError;
use crate::store::tables::chunks::ROWS_IN_STATEMENT;
use crate::store::tables::row_mapping::size_column;

/// A match of a report's rows, as it was encoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredRowMatch {
    /// The line on which the batch's first row begins in the submitted file, counted from 1.
    pub first_line: u64,
    /// The encoded match.
    pub encoded: Vec<u8>,
}

impl StoreTx<'_> {
    /// Replaces the matches of a batch's reports.
    pub(crate) async fn replace_row_matches(
        &mut self,
        key: BatchKey,
        matches: Vec<PackedRowMatch>,
    ) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM row_match WHERE job_id = ? AND part = ?")
            .bind(key.job.0)
            .bind(key.part)
            .execute(&mut *self.conn)
            .await?;
        let matches: Vec<_> = matches.into_iter().map(|found| (key, found)).collect();
        self.insert_row_matches(&matches).await
    }

    /// Stores matches of batches that have none, many in a statement: each statement delays all other writes.
    pub(crate) async fn insert_row_matches(
        &mut self,
        matches: &[(BatchKey, PackedRowMatch)],
    ) -> Result<(), StoreError> {
        for matches in matches.chunks(ROWS_IN_STATEMENT) {
            self.budget.reserve_for_report(matches.iter().map(|(_, found)| found.packed.len() as u64).sum())?;
            let mut insert: QueryBuilder<Sqlite> =
                QueryBuilder::new("INSERT INTO row_match (job_id, part, kind, first_line, bytes, packed) ");
            insert.push_values(matches, |mut row, (key, found)| {
                row.push_bind(key.job.0).push_bind(key.part).push_bind(found.kind.as_str());
                row.push_bind(found.first_line.cast_signed());
                row.push_bind(i64::try_from(found.bytes).unwrap_or(i64::MAX)).push_bind(found.packed.as_slice());
            });
            insert.build().persistent(false).execute(&mut *self.conn).await?;
        }
        Ok(())
    }

    /// Deletes at most `limit` matches of a job, and returns how many it deleted.
    pub(crate) async fn delete_row_matches(&mut self, job: JobId, limit: u32) -> Result<u32, StoreError> {
        let deleted =
            sqlx::query("DELETE FROM row_match WHERE rowid IN (SELECT rowid FROM row_match WHERE job_id = ? LIMIT ?)")
                .bind(job.0)
                .bind(limit)
                .execute(&mut *self.conn)
                .await?;
        Ok(u32::try_from(deleted.rows_affected()).unwrap_or(limit))
    }
}

impl ReadTx<'_> {
    /// Returns the match of a report; none where there is none.
    pub(crate) async fn row_match(
        &mut self,
        key: BatchKey,
        kind: ReportKind,
    ) -> Result<Option<StoredRowMatch>, StoreError> {
        let row =
            sqlx::query("SELECT first_line, bytes, packed FROM row_match WHERE job_id = ? AND part = ? AND kind = ?")
                .bind(key.job.0)
                .bind(key.part)
                .bind(kind.as_str())
                .fetch_optional(&mut *self.conn)
                .await?;
        let Some(row) = row else { return Ok(None) };
        let size = usize::try_from(row.try_get::<i64, _>("bytes")?).unwrap_or(0);
        let encoded = zstd::bulk::decompress(row.try_get::<&[u8], _>("packed")?, size).map_err(|error| {
            StoreError::Damaged(format!("the row match of job {}, part {}: {error}", key.job, key.part))
        })?;
        Ok(Some(StoredRowMatch { first_line: size_column(&row, "first_line")?, encoded }))
    }

    /// Returns the encoded numbers of the rows of a batch whose outcome is unknown; none where that follows from its
    /// counts and reports.
    pub(crate) async fn unknown_rows(&mut self, key: BatchKey) -> Result<Option<Vec<u8>>, StoreError> {
        let found: Option<Option<Vec<u8>>> =
            sqlx::query_scalar("SELECT unknown_rows FROM batch WHERE job_id = ? AND part = ?")
                .bind(key.job.0)
                .bind(key.part)
                .fetch_optional(&mut *self.conn)
                .await?;
        found.ok_or(StoreError::NoBatch(key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::from_ms;
    use crate::store::batch_changes::ReportSizes;
    use crate::store::models::ErasableData;
    use crate::store::test_util::{add, leads, store};

    async fn set(store: &crate::store::Store, key: BatchKey, matches: &[(ReportKind, &[u8])]) {
        let packed = |&(kind, encoded): &(ReportKind, &[u8])| PackedRowMatch::compress(kind, 7, encoded).unwrap();
        let sizes = ReportSizes { matches: matches.iter().map(packed).collect(), ..ReportSizes::default() };
        store.set_report_sizes(key, sizes, from_ms(1)).await.unwrap();
    }

    #[tokio::test]
    async fn a_stored_match_is_read_back_and_can_be_replaced() {
        use ReportKind::{Failures, Warnings};
        let store = store().await;
        let key = BatchKey { job: add(&store, leads(), 2).await, part: 2 };
        assert_eq!(store.row_match(key, Failures).await.unwrap(), None);
        let encoded: Vec<u8> = (0..5_000_u32).map(|n| (n % 7) as u8).collect();
        set(&store, key, &[(Failures, &encoded), (Warnings, b"w")]).await;
        let stored = |encoded: &[u8]| Some(StoredRowMatch { first_line: 7, encoded: encoded.to_vec() });
        assert_eq!(store.row_match(key, Failures).await.unwrap(), stored(&encoded));
        assert_eq!(store.row_match(key, Warnings).await.unwrap(), stored(b"w"));
        assert_eq!(store.row_match(BatchKey { part: 1, ..key }, Failures).await.unwrap(), None);
        // The reports are fetched again: there is no failure file any more.
        set(&store, key, &[(Warnings, b"v")]).await;
        assert_eq!(store.row_match(key, Failures).await.unwrap(), None);
        assert_eq!(store.row_match(key, Warnings).await.unwrap(), stored(b"v"));
    }

    #[tokio::test]
    async fn unknown_rows_are_those_of_one_batch() {
        let store = store().await;
        let key = BatchKey { job: add(&store, leads(), 2).await, part: 2 };
        assert_eq!(store.unknown_rows(key).await.unwrap(), None);
        let set = store.write("test", move |tx| {
            Box::pin(async move {
                let set = sqlx::query("UPDATE batch SET unknown_rows = x'0203' WHERE job_id = ? AND part = 2");
                set.bind(key.job.0).execute(&mut *tx.conn).await?;
                Ok(())
            })
        });
        set.await.unwrap();
        assert_eq!(store.unknown_rows(key).await.unwrap(), Some(vec![2, 3]));
        assert_eq!(store.unknown_rows(BatchKey { part: 1, ..key }).await.unwrap(), None);
        assert!(matches!(store.unknown_rows(BatchKey { part: 3, ..key }).await, Err(StoreError::NoBatch(_))));
    }

    #[tokio::test]
    async fn matches_are_erased_with_the_reports_and_not_before() {
        let store = store().await;
        let (erased, other) = (add(&store, leads(), 100).await, add(&store, leads(), 1).await);
        for (job, parts) in [(erased, 100), (other, 1)] {
            for part in 1..=parts {
                set(&store, BatchKey { job, part }, &[(ReportKind::Failures, b"m")]).await;
            }
            store.cancel(job, from_ms(2_000)).await.unwrap();
        }
        let left = async || {
            sqlx::query_scalar::<_, i64>("SELECT count(*) FROM row_match")
                .fetch_one(&store.shared.readers)
                .await
                .unwrap()
        };
        let erase = async |what: ErasableData| {
            let mark = store.write("test", move |tx| Box::pin(tx.mark_erased(erased, what, "test", from_ms(3_000))));
            assert!(mark.await.unwrap());
            while store.erase_chunks(None).await.unwrap() {}
        };
        erase(ErasableData::Content).await;
        assert_eq!(left().await, 101);
        erase(ErasableData::Reports).await;
        assert_eq!(left().await, 1);
    }
}
