//! Oracle, the part about shared imports: which jobs share one, and what each of them says of it.

use std::collections::BTreeSet;

use marqueue::domain::RemoteStatus;
use marqueue::simulator::call_log::Outcome;

use super::files::File;
use super::oracle::{Invariant, Oracle};
use super::trace::{FinalJob, Trace};
use super::uploads::Upload;

impl Oracle<'_> {
    /// Whether several files were in it and Marketo ended it as failed. It has imported no row of any of them.
    pub(super) fn has_failed_shared(&self, upload: &Upload) -> bool {
        upload.shared_with > 0 && self.import(upload).is_some_and(|import| import.status == RemoteStatus::Failed)
    }

    /// The uploads that the file shared with others, and what its job says of them.
    pub(super) fn sharing(&mut self, file: &File) {
        let sent: Vec<Upload> = self.sent_of(file).cloned().collect();
        let mut faults = Vec::new();
        let shared = || sent.iter().filter(|upload| upload.shared_with > 0);
        let may_share = file.group.is_none() && file.pack.unwrap_or(self.trace.limits.pack);
        if !may_share && shared().next().is_some() {
            faults.push("it was sent with others, and it may not be".to_owned());
        }
        let was_asked = |upload: &&Upload| self.import(upload).is_some_and(|import| import.asked.is_some());
        let failed: BTreeSet<_> = shared()
            .filter(|upload| self.has_failed_shared(upload))
            .filter(was_asked)
            .map(|upload| upload.import)
            .collect();
        for found in self.jobs_of(file) {
            let unpacked = found.history.iter().filter(|entry| entry.event == "unpacked").count();
            if unpacked != failed.len() {
                let text = format!("its history has {unpacked} failed shared imports, and Marketo has {failed:?}");
                faults.push(text);
            }
            faults.extend(wrong_divisions(found, &sent, self.trace));
            faults.extend(wrong_imports(found, &sent));
        }
        faults.into_iter().for_each(|text| self.fault(Invariant::Sharing, format!("{}: {text}", file.name)));
    }
}

/// The sizes of the shared imports of a job that Marketo found too large, by its history.
pub fn divisions(found: &FinalJob) -> impl Iterator<Item = u64> {
    let splits = found.history.iter().filter(|entry| entry.event == "split").filter_map(|entry| entry.message.as_ref());
    splits.filter_map(|text| {
        let bytes = text.strip_prefix("Marketo found ")?.split(' ').next()?;
        text.contains("jobs are sent in smaller imports").then(|| bytes.parse().ok())?
    })
}

/// Uploads that were divided although Marketo refused none, and shared imports that are no smaller after a division.
fn wrong_divisions(found: &FinalJob, sent: &[Upload], trace: &Trace) -> Vec<String> {
    let Some(smallest) = divisions(found).min() else { return Vec::new() };
    let mut faults = Vec::new();
    // The simulator does not read a body that is too large, so its files are unknown.
    let refused = |bytes: u64| {
        let too_large = |outcome: &Outcome| matches!(outcome, Outcome::Refused { code, .. } if code == "http 413");
        trace.call_log.creates.iter().any(|create| too_large(&create.outcome) && create.body_bytes > bytes)
    };
    faults.extend(
        divisions(found)
            .filter(|&bytes| !refused(bytes))
            .map(|bytes| format!("it was divided at {bytes} bytes, and Marketo has refused no such upload")),
    );
    let last = sent.iter().rfind(|upload| upload.import.is_some());
    if let Some(last) = last.filter(|last| last.shared_with > 0 && last.bytes > smallest / 2) {
        faults.push(format!("it shared {} bytes after {smallest} were too large", last.bytes));
    }
    faults
}

/// Batches that name an import without rows of their job, or a wrong number of jobs in it.
fn wrong_imports(found: &FinalJob, sent: &[Upload]) -> Vec<String> {
    let mut faults = Vec::new();
    for batch in &found.job.batches {
        let Some(id) = &batch.marketo_batch_id else { continue };
        let upload = sent.iter().find(|upload| upload.import.is_some_and(|import| import.to_string() == *id));
        match upload.map(|upload| upload.shared_with) {
            Some(others) if others == batch.shared_with as usize => {}
            Some(others) => {
                let text = format!("import {id} has {others} other jobs, and its batch says {}", batch.shared_with);
                faults.push(text);
            }
            None => faults.push(format!("its batch names the import {id}, which has none of its rows")),
        }
    }
    faults
}
