//! Sharing: which jobs may be in one import, and that they stay together in it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use marqueue::domain::shared_import::MAX_PACKED_JOBS;
use marqueue::domain::{BatchKey, BatchState, JobId};

use super::{Checker, hold};
use crate::invariants::{CheckResult, Invariant};
use crate::model_store::{ModelStore, PackedRows};

impl Checker {
    /// The jobs of an import are each to be sent alone from now on.
    pub fn goes_alone(&mut self, keys: &[BatchKey]) {
        self.alone.extend(keys.iter().map(|key| key.job));
    }

    /// An upload is about to begin. `store` is from before it.
    pub fn upload_begins(&self, store: &ModelStore, packed: &[PackedRows], now: Timestamp) -> CheckResult {
        let Some(lead) = packed.first() else { return Ok(()) };
        let most = MAX_PACKED_JOBS as usize;
        hold(Invariant::Sharing, packed.len() <= most, || format!("{} jobs share an import", packed.len()))?;
        for PackedRows { key, rows } in packed.iter().filter(|_| packed.len() > 1) {
            let (job, batch) = (&store.jobs[&key.job], store.batch(*key));
            let shapes = (self.shapes.get(&lead.key.job), self.shapes.get(&key.job));
            hold(Invariant::Sharing, shapes.0.is_some() && shapes.0 == shapes.1, || {
                format!("{key} is to share an import with {}, and their shapes are {shapes:?}", lead.key)
            })?;
            hold(Invariant::Sharing, job.group.is_none() && job.batches.len() == 1, || {
                format!("{key} is to share an import, and its job has a group or further batches")
            })?;
            hold(
                Invariant::Sharing,
                batch.progress.state == BatchState::Pending && batch.progress.attempts == 0,
                || {
                    format!(
                        "{key} is to share an import: {:?}, {} attempts",
                        batch.progress.state, batch.progress.attempts
                    )
                },
            )?;
            hold(Invariant::Sharing, *rows == (batch.from..batch.to), || format!("{key}: {rows:?} are sent"))?;
            hold(Invariant::Sharing, !self.alone.contains(&key.job), || {
                format!("{key} is to share an import, and one that it shared was refused or failed")
            })?;
            // That of the first was checked when it was planned. The clock may have been set back since.
            hold(Invariant::NotBefore, *key == lead.key || !job.is_early(now), || {
                format!("{key} is to go at {now}, and not before {:?}", job.not_before)
            })?;
        }
        Ok(())
    }

    /// A job came in that may share imports with others of this shape.
    pub fn shape_added(&mut self, id: JobId, shape: u8) {
        self.shapes.insert(id, shape);
    }

    /// Batches that share an import have one state, and one of them stands for it.
    pub(super) fn shared_states(&self, store: &ModelStore) -> CheckResult {
        let mut imports: BTreeMap<u32, (BatchKey, BatchState, u32)> = BTreeMap::new();
        for (key, _, batch) in store.batches() {
            let Some(import) = batch.sharing.import else { continue };
            let (first, state, leads) = imports.entry(import).or_insert((key, batch.progress.state, 0));
            *leads += u32::from(batch.sharing.leads);
            hold(Invariant::Sharing, *state == batch.progress.state, || {
                format!("{first} is {state}, and {key}, which shares its import, is {}", batch.progress.state)
            })?;
        }
        for (first, _, leads) in imports.values() {
            hold(Invariant::Sharing, *leads == 1, || format!("{leads} batches stand for the import of {first}"))?;
        }
        Ok(())
    }
}
