//! Idempotency keys: finds the job that an earlier submission with the same key created.

use std::collections::HashMap;

use sqlx::Row;

use crate::domain::JobId;
use crate::store::engine::transaction::ReadTx;
use crate::store::error::StoreError;
use crate::store::models::Job;
use crate::store::new_job::{JobLayout, NewJob};

impl ReadTx<'_> {
    /// Returns the jobs that earlier submissions with these keys created.
    pub(crate) async fn jobs_by_key(&mut self, keys: Vec<FileKey>) -> Result<HashMap<FileKey, KeyedJob>, StoreError> {
        if keys.is_empty() {
            return Ok(HashMap::new());
        }
        let asked: Vec<[&str; 2]> = keys.iter().map(|key| [key.key.as_str(), key.client.as_str()]).collect();
        let asked = serde_json::to_string(&asked).expect("text is JSON");
        // CROSS JOIN fixes the order: the index of the keys is searched once for each of them.
        let rows = sqlx::query(
            "SELECT asked.key AS number, job.id, job.content_sha256 FROM json_each(?) AS asked
             CROSS JOIN job ON job.idempotency_key = asked.value ->> 0
                 AND iif(job.source = 'client', job.source_name, '') = asked.value ->> 1",
        )
        .bind(asked)
        .fetch_all(&mut *self.conn)
        .await?;
        let mut known = HashMap::new();
        for row in rows {
            let number: i64 = row.try_get("number")?;
            let key =
                usize::try_from(number).ok().and_then(|number| keys.get(number)).ok_or(sqlx::Error::RowNotFound)?;
            let job = KeyedJob { id: JobId(row.try_get("id")?), sha256: row.try_get("content_sha256")? };
            known.insert(key.clone(), job);
        }
        Ok(known)
    }

    /// Returns the job that an earlier submission with the same key created, if there is one.
    ///
    /// # Errors
    /// [`StoreError::KeyReused`] if the file, its parameters or the retried job differ.
    pub(crate) async fn find_by_idempotency_key(
        &mut self,
        new: &NewJob,
        layout: &JobLayout,
    ) -> Result<Option<Job>, StoreError> {
        let Some(earlier) = self.jobs_by_key(FileKey::of(new).into_iter().collect()).await?.into_values().next() else {
            return Ok(None);
        };
        let job = self.job(earlier.id).await?;
        earlier.check(job, new, layout).map(Some)
    }
}

/// An idempotency key and the client that it belongs to; empty for all that is no client.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct FileKey {
    /// The key.
    pub key: String,
    /// The client's id.
    pub client: String,
}

impl FileKey {
    /// Returns the key of a file, if it has one.
    pub(crate) fn of(new: &NewJob) -> Option<FileKey> {
        let key = new.idempotency_key.clone()?;
        Some(FileKey { key, client: new.source.client_id().unwrap_or_default().to_owned() })
    }
}

/// A job that has an idempotency key.
pub(crate) struct KeyedJob {
    /// Its id.
    pub id: JobId,
    /// The hash of its content.
    pub sha256: Option<Vec<u8>>,
}

impl KeyedJob {
    /// Returns the job for a second file with its key.
    ///
    /// # Errors
    /// [`StoreError::KeyReused`] if the file, its parameters or the retried job differ.
    pub(crate) fn check(&self, job: Job, new: &NewJob, layout: &JobLayout) -> Result<Job, StoreError> {
        let same = self.sha256.as_deref() == layout.sha256.as_ref().map(<[u8; 32]>::as_slice)
            && job.instance == new.instance
            && job.target == new.target
            && job.format == new.format
            // The failed rows of two jobs can be the same bytes, and each of the two is to be sent again.
            && job.retry_of == new.retry_of;
        if same { Ok(job) } else { Err(StoreError::KeyReused(new.idempotency_key.clone().unwrap_or_default())) }
    }
}
