//! Counters and histograms: grow by the store's metric events.

use prometheus::{Histogram, HistogramVec, IntCounter, IntCounterVec};

use crate::api::metrics::registry::{INSTANCE, MetricsBuilder};
use crate::domain::JobState;
use crate::domain::row_counts::RowCounts;
use crate::store::MetricEvent;

/// Buckets from a batch of three rows to one that waited for a day, in seconds.
const JOB_SECONDS: [f64; 11] = [1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 1_800.0, 3_600.0, 14_400.0, 43_200.0, 86_400.0];
/// Buckets from a disk with a write cache to a failing one, in seconds.
const COMMIT_SECONDS: [f64; 10] = [0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.1, 0.25, 1.0, 5.0];

/// All counters and histograms.
pub(super) struct Counters {
    accepted: IntCounterVec,
    accepted_bytes: IntCounterVec,
    events: IntCounterVec,
    uploads: IntCounterVec,
    polls: IntCounterVec,
    errors: IntCounterVec,
    rows: IntCounterVec,
    warned: IntCounterVec,
    ended: IntCounterVec,
    duration: HistogramVec,
    calls: IntCounterVec,
    commits: Histogram,
    drop_refused: IntCounter,
    notifications: IntCounterVec,
}

/// Returns the rows of an ended import by the label `result`. Every result is present, so that each series starts at 0.
fn rows_by_result(rows: &RowCounts) -> [(&'static str, u64); 5] {
    let difference = rows.unaccounted.unwrap_or(0);
    let (missing, surplus) =
        if difference < 0 { (0, difference.unsigned_abs()) } else { (difference.unsigned_abs(), 0) };
    let unknown = if rows.unaccounted.is_none() {
        rows.total.saturating_sub(rows.processed.unwrap_or(0)).saturating_sub(rows.failed.unwrap_or(0))
    } else {
        0
    };
    [
        ("processed", rows.processed.unwrap_or(0)),
        ("failed", rows.failed.unwrap_or(0)),
        ("unaccounted", missing),
        ("surplus", surplus),
        ("unknown", unknown),
    ]
}

impl Counters {
    /// Registers all counters.
    pub fn new(builder: &MetricsBuilder) -> Counters {
        Counters {
            accepted: builder.counters("marqueue_jobs_accepted_total", "Files that became jobs.", INSTANCE),
            accepted_bytes: builder.counters(
                "marqueue_accepted_bytes_total",
                "Bytes of the files that became jobs.",
                INSTANCE,
            ),
            events: builder.counters(
                "marqueue_batch_events_total",
                "Events of batches, as in a job's history.",
                &["instance", "event"],
            ),
            uploads: builder.counters("marqueue_uploads_total", "Started uploads.", INSTANCE),
            polls: builder.counters(
                "marqueue_polls_total",
                "Status polls of imports, by result.",
                &["instance", "result"],
            ),
            errors: builder.counters(
                "marqueue_errors_total",
                "Errors of calls to Marketo: Marketo's error code, http-STATUS, or other.",
                &["instance", "code"],
            ),
            rows: builder.counters(
                "marqueue_rows_total",
                "Rows of ended imports, as Marketo counted them: processed, failed, unaccounted (sent, and in neither \
                 count), surplus (counted beyond those sent), unknown (sent, and Marketo returned no count).",
                &["instance", "result"],
            ),
            warned: builder.counters("marqueue_rows_warned_total", "Processed rows with a warning.", INSTANCE),
            ended: builder.counters("marqueue_jobs_ended_total", "Jobs that ended.", &["instance", "state"]),
            duration: builder.histograms(
                "marqueue_job_duration_seconds",
                "Time from a job's acceptance to its end, of complete jobs.",
                &JOB_SECONDS,
                INSTANCE,
            ),
            calls: builder.counters("marqueue_calls_total", "Calls to Marketo, without those for tokens.", INSTANCE),
            commits: builder.histogram(
                "marqueue_commit_duration_seconds",
                "Time from a transaction's begin until it was on the disk; many writes share one.",
                &COMMIT_SECONDS,
            ),
            drop_refused: builder.counter("marqueue_drop_refused_total", "Refused files of the drop folder."),
            notifications: builder.counters(
                "marqueue_notifications_total",
                "Attempts to deliver a notification or an alert.",
                &["result"],
            ),
        }
    }

    /// Adds an event.
    pub fn add(&self, event: MetricEvent) {
        match event {
            MetricEvent::Accepted { instance, bytes } => {
                self.accepted.with_label_values(&[&instance]).inc();
                self.accepted_bytes.with_label_values(&[&instance]).inc_by(bytes);
            }
            MetricEvent::Event { instance, event, code } => {
                match event {
                    "upload-began" => self.uploads.with_label_values(&[&instance]).inc(),
                    "polled" | "import-ended" | "import-lost" => {
                        self.polls.with_label_values(&[instance.as_str(), "answered"]).inc();
                    }
                    "query-failed" => self.polls.with_label_values(&[instance.as_str(), "failed"]).inc(),
                    _ => {}
                }
                if let Some(code) = code {
                    self.errors.with_label_values(&[&instance, &code]).inc();
                }
                self.events.with_label_values(&[instance.as_str(), event]).inc();
            }
            MetricEvent::Rows { instance, rows } => {
                for (result, number) in rows_by_result(&rows) {
                    self.rows.with_label_values(&[instance.as_str(), result]).inc_by(number);
                }
                self.warned.with_label_values(&[&instance]).inc_by(rows.warned.unwrap_or(0));
            }
            MetricEvent::Ended { instance, state, took } => {
                self.ended.with_label_values(&[instance.as_str(), state.as_str()]).inc();
                if state == JobState::Complete {
                    self.duration.with_label_values(&[&instance]).observe(took.as_secs_f64());
                }
            }
            MetricEvent::Call { instance } => self.calls.with_label_values(&[&instance]).inc(),
            MetricEvent::Commit { took } => self.commits.observe(took.as_secs_f64()),
            MetricEvent::DropRefused => self.drop_refused.inc(),
            MetricEvent::NotificationAttempt { is_delivered } => {
                self.notifications.with_label_values(&[if is_delivered { "delivered" } else { "failed" }]).inc()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Counts;

    #[test]
    fn rows_are_counted_by_what_marketo_reported() {
        for (total, processed, failed, expected) in [
            (3, Some(2), Some(1), [2, 1, 0, 0, 0]),
            (3, Some(1), Some(1), [1, 1, 1, 0, 0]),
            (3, Some(4), Some(1), [4, 1, 0, 2, 0]),
            (3, Some(1), None, [1, 0, 0, 0, 2]),
            (3, None, None, [0, 0, 0, 0, 3]),
        ] {
            let rows = RowCounts::complete(total, Counts { processed, failed, warned: None });
            assert_eq!(rows_by_result(&rows).map(|(_, number)| number), expected, "{rows:?}");
        }
    }
}
