//! Derived job: the parameters of a new job of rows of an ended one.

use crate::api::auth::identity::Identity;
use crate::domain::Format;
use crate::store::{Job, NewJob};
use crate::untrusted_text::file_name;

/// Returns a new job of rows of `job`, with its target and options. `suffix` goes into the file's name.
pub(super) fn derived_job(job: &Job, caller: &Identity, suffix: &str, format: Format) -> NewJob {
    NewJob {
        instance: job.instance.clone(),
        target: job.target.clone(),
        filename: derived_filename(&job.filename, suffix, format),
        format,
        priority: job.priority,
        group: job.group.clone(),
        not_before: None,
        in_order: job.batch_rules.in_order,
        canary: Some(job.batch_rules.canary.unwrap_or(0)),
        max_failed_percent: Some(job.batch_rules.max_failed_percent.unwrap_or(100)),
        pack: Some(job.packing.is_some()),
        idempotency_key: None,
        retry_of: Some(job.id),
        source: caller.source(),
    }
}

/// Makes `leads-failed-rows.csv` of `leads.csv` and `failed-rows`, shortened to the longest allowed name.
fn derived_filename(filename: &str, suffix: &str, format: Format) -> String {
    let stem = match Format::from_filename(filename) {
        Some(_) => filename.rsplit_once('.').map_or(filename, |(stem, _)| stem),
        None => filename,
    };
    file_name(stem, &format!("-{suffix}.{format}"))
}
