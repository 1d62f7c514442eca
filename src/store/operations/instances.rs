//! Instances: pauses, snapshots for the scheduler, and the ledger of calls.

use std::time::Duration;

use jiff::Timestamp;

use crate::clock::Uptime;
use crate::domain::BatchKey;
use crate::domain::instance::{InstanceState, Pause, PauseKind};
use crate::store::engine::transaction::ReadTx;
use crate::store::error::StoreError;
use crate::store::handle::Store;
use crate::store::tables::call_ledger::{CallAdmission, EarlierCalls, NewCall};
use crate::store::tables::candidates::SnapshotQuery;
use crate::store::tables::occupied_slots::OccupiedSlots;
use crate::store::tables::outlook::QueueOutlook;
use crate::store::tables::snapshot::{Snapshot, UploadCheck};
use crate::store::tables::status_rows::{StatusQuery, StatusRows};

impl Store {
    /// Returns the state of an instance; the default for one that has no row.
    ///
    /// # Errors
    /// An error of reading the database.
    pub async fn instance(&self, name: &str) -> Result<InstanceState, StoreError> {
        let mut conn = self.reader().await?;
        ReadTx::new(&mut conn).instance(name).await
    }

    /// Pauses an instance; see [`InstanceState::with_pause`].
    ///
    /// # Errors
    /// An error of writing the database.
    pub async fn pause(&self, name: &str, pause: Pause) -> Result<(), StoreError> {
        let name = name.to_owned();
        self.write("pause", move |tx| Box::pin(tx.pause_instance(name, pause))).await
    }

    /// Ends a pause; see [`InstanceState::without_pause`].
    ///
    /// # Errors
    /// An error of writing the database.
    pub async fn resume(&self, name: &str, kind: Option<PauseKind>) -> Result<(), StoreError> {
        let name = name.to_owned();
        self.write("resume", move |tx| Box::pin(tx.resume_instance(name, kind))).await
    }

    /// Records that Marketo is not reachable, not even for a token: no upload before `until`.
    ///
    /// # Errors
    /// An error of writing the database.
    pub async fn record_service_failure(&self, name: &str, until: Timestamp, now: Timestamp) -> Result<(), StoreError> {
        let name = name.to_owned();
        self.write("record_service_failure", move |tx| Box::pin(tx.record_service_failure(name, until, now))).await
    }

    /// Reads the snapshot of instance `name` at `now`. `parts` is the largest number of batches of one job that a plan
    /// uses.
    /// `longest` is the longest delay of a batch: a longer one began before the clock was set back, and counts as over.
    ///
    /// # Errors
    /// [`StoreError::Moved`], or another error of reading the database.
    pub async fn snapshot(
        &self,
        name: &str,
        now: Timestamp,
        parts: u32,
        longest: Duration,
    ) -> Result<Snapshot, StoreError> {
        let query = SnapshotQuery { instance: name, now, parts, longest };
        self.verified(async {
            let mut conn = self.read_transaction().await?;
            ReadTx::new(&mut conn).snapshot(query).await
        })
        .await
    }

    /// Reads what decides whether the upload of a batch of the instance `name` may begin at `now`.
    ///
    /// # Errors
    /// [`StoreError::NoJob`], [`StoreError::NoBatch`], [`StoreError::Moved`], or another error of reading the database.
    pub async fn upload_check(&self, name: &str, key: BatchKey, now: Timestamp) -> Result<UploadCheck, StoreError> {
        self.verified(async {
            let mut conn = self.read_transaction().await?;
            ReadTx::new(&mut conn).upload_check(name, key, now).await
        })
        .await
    }

    /// Reads what the waiting and the estimates of the jobs of instance `name` are derived from. `longest` is that of
    /// [`Store::snapshot`].
    ///
    /// # Errors
    /// [`StoreError::Moved`], or another error of reading the database.
    pub async fn outlook(&self, name: &str, now: Timestamp, longest: Duration) -> Result<QueueOutlook, StoreError> {
        let query = SnapshotQuery { instance: name, now, parts: 0, longest };
        self.verified(async {
            let mut conn = self.read_transaction().await?;
            ReadTx::new(&mut conn).outlook(query).await
        })
        .await
    }

    /// Reads what the status of each of these instances is derived from, in their order.
    ///
    /// # Errors
    /// [`StoreError::Moved`], or another error of reading the database.
    pub async fn status_rows(
        &self,
        queries: &[StatusQuery<'_>],
        now: Timestamp,
    ) -> Result<Vec<StatusRows>, StoreError> {
        self.verified(async {
            let mut conn = self.read_transaction().await?;
            ReadTx::new(&mut conn).status_rows(queries, now).await
        })
        .await
    }

    /// Returns the slots that an instance occupies at `now`.
    ///
    /// # Errors
    /// [`StoreError::Moved`], or another error of reading the database.
    pub async fn occupied_slots(&self, name: &str, now: Timestamp) -> Result<OccupiedSlots, StoreError> {
        self.verified(async {
            let mut conn = self.read_transaction().await?;
            ReadTx::new(&mut conn).occupied_slots(name, now).await
        })
        .await
    }

    /// Returns the number of unended jobs of each instance that has any, instances that were removed from the
    /// configuration included.
    ///
    /// # Errors
    /// An error of reading the database.
    pub async fn unended_by_instance(&self) -> Result<Vec<(String, u64)>, StoreError> {
        let mut conn = self.reader().await?;
        Ok(ReadTx::new(&mut conn).unended_by_instance().await?)
    }

    /// Records a call before it is sent, unless the day's calls are used up.
    ///
    /// # Errors
    /// An error of writing the database. The call must not be sent then.
    pub async fn begin_call(&self, call: NewCall) -> Result<CallAdmission, StoreError> {
        self.write("begin_call", move |tx| Box::pin(tx.begin_call(call))).await
    }

    /// Records the end of a call. A call without one counts as in progress for as long as it may take.
    ///
    /// # Errors
    /// An error of writing the database.
    pub async fn end_call(&self, call: i64, now: Timestamp, up: Uptime) -> Result<(), StoreError> {
        self.write("end_call", move |tx| Box::pin(tx.end_call(call, now, up))).await
    }

    /// Takes over the calls of earlier processes when the daemon starts. The age of calls of another boot is unknown,
    /// so they are dated to now. Also deletes the counts of days before `day`, except for the newest day, which
    /// continues while the clock is not steady.
    ///
    /// # Errors
    /// An error of writing the database.
    pub async fn adopt_calls(&self, day: Timestamp, up: Uptime) -> Result<(), StoreError> {
        self.write("adopt_calls", move |tx| Box::pin(tx.adopt_calls(day, up))).await
    }

    /// Returns the calls of an instance that may still count. [`Store::adopt_calls`] has to be called before.
    ///
    /// # Errors
    /// An error of reading the database.
    pub async fn earlier_calls(&self, instance: &str, up: &Uptime) -> Result<EarlierCalls, StoreError> {
        let mut conn = self.reader().await?;
        ReadTx::new(&mut conn).earlier_calls(instance, up).await
    }
}
