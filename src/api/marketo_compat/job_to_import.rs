//! Mapping of a job to one of Marketo's imports: its counts are the sums of its batches' counts.

use crate::domain::{BatchState, JobState, Target};
use crate::marketo::types::Import;
use crate::store::{Batch, Job};

/// Returns the response to an upload.
pub(super) fn receipt(job: &Job) -> Import {
    let id = job.id.to_string();
    let object = object(job);
    Import {
        import_id: object.is_none().then(|| id.clone()),
        batch_id: Some(id),
        object_api_name: object.map(str::to_owned),
        status: "Queued".to_owned(),
        ..Import::default()
    }
}

/// Returns the response to a status request.
pub(super) fn status(job: &Job) -> Import {
    let of_object = object(job).is_some();
    // A count that Marketo did not return is left out here too.
    let processed = job.rows.processed;
    Import {
        status: import_status(job).to_owned(),
        num_of_leads_processed: processed.filter(|_| !of_object),
        num_of_objects_processed: processed.filter(|_| of_object),
        num_of_rows_failed: job.rows.failed,
        num_of_rows_with_warning: job.rows.warned,
        operation: of_object.then(|| "import".to_owned()),
        import_time: import_time(job).filter(|_| of_object),
        message: Some(message(job)),
        ..receipt(job)
    }
}

fn object(job: &Job) -> Option<&str> {
    match &job.target {
        Target::CustomObject { name } => Some(name),
        Target::Leads { .. } | Target::ProgramMembers { .. } => None,
    }
}

/// Returns Marketo's status of the job.
fn import_status(job: &Job) -> &'static str {
    match job.state {
        JobState::Complete => "Complete",
        JobState::Failed | JobState::Cancelled => "Failed",
        JobState::Receiving | JobState::Pending => "Queued",
        JobState::Running if job.batches.iter().any(has_begun) => "Importing",
        JobState::Running => "Queued",
    }
}

/// Returns whether Marketo has begun with the batch. A batch whose reports are still to be fetched counts as importing:
/// a program that reads `Complete` downloads them at once.
fn has_begun(batch: &Batch) -> bool {
    // An import beyond `max_import_time` is held here, and still runs on Marketo.
    batch.overdue_at.is_some()
        || matches!(
            batch.state,
            BatchState::Importing
                | BatchState::Collecting
                | BatchState::Complete
                | BatchState::Failed
                | BatchState::Cancelled
        )
}

fn message(job: &Job) -> String {
    match job.state {
        JobState::Failed => job.error.clone().unwrap_or_else(|| "Import failed".into()),
        JobState::Cancelled => "Import cancelled before it was done".into(),
        JobState::Complete => match job.batches.as_slice() {
            // Marketo's own message, where the job is one import and has it for itself.
            [only] if only.shared_with == 0 && only.message.is_some() => only.message.clone().unwrap_or_default(),
            _ if job.has_failed_rows() => format!("Import completed with errors, {}", counts(job)),
            _ if !job.rows.is_accounted_for() => format!("Import completed, {}", counts(job)),
            _ => format!("Import succeeded, {}", counts(job)),
        },
        _ if import_status(job) == "Importing" => format!("Import in progress, {}", counts(job)),
        _ => "Import queued".into(),
    }
}

/// Formats the counts as Marketo does.
fn counts(job: &Job) -> String {
    let rows = &job.rows;
    let mut text = match rows.processed {
        Some(processed) => format!("{processed} records imported ({processed} members)"),
        None => "records imported: unknown".to_owned(),
    };
    if let Some(failed) = rows.failed.filter(|&failed| failed > 0) {
        text += &format!(", {failed} failed");
    }
    if let Some(warned) = rows.warned.filter(|&warned| warned > 0) {
        text += &format!(", {warned} warning.");
    }
    if let Some(discrepancy) = rows.discrepancy() {
        text += &format!(" ({discrepancy})");
    }
    text
}

fn import_time(job: &Job) -> Option<String> {
    let took = job.finished_at?.duration_since(job.started_at?).as_secs().max(0);
    Some(format!("{took} second(s)"))
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use serde_json::{Value, json};

    use super::*;
    use crate::domain::batch_rules::BatchRules;
    use crate::domain::row_counts::RowCounts;
    use crate::domain::{Counts, Format, JobId, Source};

    fn job(target: Target, state: JobState, batches: &[BatchState]) -> Job {
        let at = |second| Timestamp::from_second(second).unwrap();
        let batch = |(part, &state): (u32, &BatchState)| Batch { state, ..Batch::new(part, 5, 0, 1) };
        Job {
            id: JobId(17),
            state,
            target,
            instance: "default".into(),
            filename: "a.csv".into(),
            format: Format::Csv,
            priority: 0,
            group: None,
            bytes: 1,
            rows: RowCounts::uncounted(10),
            batches: (1..).zip(batches).map(batch).collect(),
            retry_of: None,
            not_before: None,
            batch_rules: BatchRules::default(),
            packing: None,
            source: Some(Source::Socket { uid: Some(0) }),
            created_at: at(0),
            started_at: Some(at(1)),
            finished_at: state.is_terminal().then(|| at(4)),
            error: None,
            content_erased_at: None,
            reports_erased_at: None,
            header: (0, 1),
        }
    }

    fn leads(state: JobState, batches: &[BatchState]) -> Job {
        job(Target::Leads { lookup_field: None, list_id: None, partition: None }, state, batches)
    }

    fn rows(total: u64, processed: Option<u64>, failed: Option<u64>, warned: Option<u64>) -> RowCounts {
        RowCounts::complete(total, Counts { processed, failed, warned })
    }

    fn json_of(import: &Import) -> Value {
        serde_json::to_value(import).unwrap()
    }

    #[test]
    fn job_states_map_to_marketos_statuses() {
        use BatchState as B;
        use JobState::{Cancelled, Complete, Failed, Pending, Running};
        for (state, batches, expected) in [
            (Pending, vec![B::Pending], "Queued"),
            (Running, vec![B::Uploading], "Queued"),
            (Running, vec![B::Queued], "Queued"),
            (Running, vec![B::Held], "Queued"),
            (Running, vec![B::Queued, B::Pending], "Queued"),
            (Running, vec![B::Importing], "Importing"),
            (Running, vec![B::Collecting], "Importing"),
            (Running, vec![B::Complete, B::Pending], "Importing"),
            (Complete, vec![B::Complete, B::Complete], "Complete"),
            (Failed, vec![B::Complete, B::Failed], "Failed"),
            (Cancelled, vec![B::Cancelled], "Failed"),
        ] {
            assert_eq!(status(&leads(state, &batches)).status, expected, "{state} {batches:?}");
        }
    }

    #[test]
    fn a_receipt_has_the_jobs_id_in_marketos_types() {
        let pending = [BatchState::Pending];
        assert_eq!(
            json_of(&receipt(&leads(JobState::Pending, &pending))),
            json!({"batchId": 17, "importId": "17", "status": "Queued"})
        );
        let car = job(Target::CustomObject { name: "car_c".into() }, JobState::Pending, &pending);
        assert_eq!(json_of(&receipt(&car)), json!({"batchId": 17, "status": "Queued", "objectApiName": "car_c"}));
    }

    #[test]
    fn counts_are_sums_and_the_message_is_marketos() {
        let mut two = leads(JobState::Complete, &[BatchState::Complete, BatchState::Complete]);
        two.rows = rows(10, Some(8), Some(2), Some(1));
        assert_eq!(
            json_of(&status(&two)),
            json!({"batchId": 17, "importId": "17", "status": "Complete", "numOfLeadsProcessed": 8, "numOfRowsFailed": 2,
                "numOfRowsWithWarning": 1,
                "message": "Import completed with errors, 8 records imported (8 members), 2 failed, 1 warning."})
        );
        two.rows = rows(10, Some(10), Some(0), Some(0));
        let succeeded = "Import succeeded, 10 records imported (10 members)";
        assert_eq!(status(&two).message.as_deref(), Some(succeeded));
        let mut one = leads(JobState::Complete, &[BatchState::Complete]);
        one.batches[0].message = Some("Marketo's own message".into());
        assert_eq!(status(&one).message.as_deref(), Some("Marketo's own message"));
        one.batches[0].shared_with = 2;
        assert_eq!(
            status(&one).message,
            status(&leads(JobState::Complete, &[BatchState::Complete])).message,
            "by its counts"
        );
    }

    #[test]
    fn a_count_that_marketo_did_not_return_is_left_out() {
        let mut two = leads(JobState::Complete, &[BatchState::Complete, BatchState::Complete]);
        for (counted, json, message) in [
            (
                rows(10, Some(8), None, None),
                json!({"numOfLeadsProcessed": 8}),
                "Import completed, 8 records imported (8 members) (Marketo did not count all of the 10 rows sent: 8 \
                 processed and an unknown number failed)",
            ),
            (
                rows(10, None, Some(1), Some(0)),
                json!({"numOfRowsFailed": 1, "numOfRowsWithWarning": 0}),
                "Import completed with errors, records imported: unknown, 1 failed (Marketo did not count all of the \
                 10 rows sent: an unknown number processed and 1 failed)",
            ),
            (
                rows(2, Some(1), Some(0), Some(0)),
                json!({"numOfLeadsProcessed": 1, "numOfRowsFailed": 0, "numOfRowsWithWarning": 0}),
                "Import completed, 1 records imported (1 members) (1 row of 2 is unaccounted for: Marketo counted 1 \
                 processed and 0 failed)",
            ),
        ] {
            two.rows = counted;
            let mut expected = json!({"batchId": 17, "importId": "17", "status": "Complete", "message": message});
            expected.as_object_mut().unwrap().extend(json.as_object().unwrap().clone());
            assert_eq!(json_of(&status(&two)), expected);
        }
    }

    #[test]
    fn a_custom_object_has_its_own_count_and_a_time() {
        let mut car = job(Target::CustomObject { name: "car_c".into() }, JobState::Complete, &[BatchState::Complete]);
        car.rows.processed = Some(10);
        assert_eq!(
            json_of(&status(&car)),
            json!({"batchId": 17, "operation": "import", "status": "Complete", "objectApiName": "car_c",
                "numOfObjectsProcessed": 10, "numOfRowsFailed": 0, "numOfRowsWithWarning": 0,
                "importTime": "3 second(s)", "message": "Import succeeded, 10 records imported (10 members)"})
        );
    }

    #[test]
    fn failed_and_cancelled_jobs_have_a_reason() {
        let mut failed = leads(JobState::Failed, &[BatchState::Failed]);
        failed.error = Some("1006: Header field 'x' not found".into());
        assert_eq!(status(&failed).message, failed.error);
        let cancelled = leads(JobState::Cancelled, &[BatchState::Cancelled]);
        assert_eq!(status(&cancelled).message.as_deref(), Some("Import cancelled before it was done"));
    }
}
