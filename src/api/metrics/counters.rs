//! What has happened since the start? Counters that grow by the store's facts.

use prometheus::{Histogram, HistogramVec, IntCounter, IntCounterVec};

use crate::api::metrics::registry::{INSTANCE, MetricsBuilder};
use crate::domain::JobState;
use crate::domain::row_counts::RowCounts;
use crate::store::MetricEvent;

/// From a batch of three rows to one that waited for a day.
const JOB_SECONDS: [f64; 11] = [1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 1_800.0, 3_600.0, 14_400.0, 43_200.0, 86_400.0];
/// From a disk with a cache of its own to one in trouble.
const COMMIT_SECONDS: [f64; 10] = [0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.1, 0.25, 1.0, 5.0];

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
    notices: IntCounterVec,
}

/// The rows of an import that ended, by the label `result`. Each result is there, so that it can be watched from 0 on.
fn by_result(rows: &RowCounts) -> [(&'static str, u64); 5] {
    let difference = rows.unaccounted.unwrap_or(0);
    let (less, more) = if difference < 0 { (0, difference.unsigned_abs()) } else { (difference.unsigned_abs(), 0) };
    let unknown = if rows.unaccounted.is_none() {
        rows.total.saturating_sub(rows.processed.unwrap_or(0)).saturating_sub(rows.failed.unwrap_or(0))
    } else {
        0
    };
    [
        ("processed", rows.processed.unwrap_or(0)),
        ("failed", rows.failed.unwrap_or(0)),
        ("unaccounted", less),
        ("surplus", more),
        ("unknown", unknown),
    ]
}

impl Counters {
    pub fn new(maker: &MetricsBuilder) -> Counters {
        Counters {
            accepted: maker.counters("marqueue_jobs_accepted_total", "Files that became jobs.", INSTANCE),
            accepted_bytes: maker.counters(
                "marqueue_accepted_bytes_total",
                "Bytes of the files that became jobs.",
                INSTANCE,
            ),
            events: maker.counters(
                "marqueue_batch_events_total",
                "Events of batches, as in a job's history.",
                &["instance", "event"],
            ),
            uploads: maker.counters("marqueue_uploads_total", "Uploads begun.", INSTANCE),
            polls: maker.counters(
                "marqueue_polls_total",
                "Questions about imports that had an end.",
                &["instance", "result"],
            ),
            errors: maker.counters(
                "marqueue_errors_total",
                "Refusals and failures by Marketo's code, by http-STATUS, or other.",
                &["instance", "code"],
            ),
            rows: maker.counters(
                "marqueue_rows_total",
                "Rows of imports that ended, as Marketo counted them: processed, failed, unaccounted (sent, and in neither \
                 count), surplus (counted beyond those sent), unknown (sent, and a count was left out).",
                &["instance", "result"],
            ),
            warned: maker.counters(
                "marqueue_rows_warned_total",
                "Rows among the processed ones that have a warning.",
                INSTANCE,
            ),
            ended: maker.counters("marqueue_jobs_ended_total", "Jobs that ended.", &["instance", "state"]),
            duration: maker.histograms(
                "marqueue_job_duration_seconds",
                "From a job's acceptance to its end, of jobs that are complete.",
                &JOB_SECONDS,
                INSTANCE,
            ),
            calls: maker.counters("marqueue_calls_total", "Calls to Marketo, those for tokens left out.", INSTANCE),
            commits: maker.histogram(
                "marqueue_commit_duration_seconds",
                "How long a transaction took from its begin until it was on the disk; many writes share one.",
                &COMMIT_SECONDS,
            ),
            drop_refused: maker.counter("marqueue_drop_refused_total", "Files of the drop folder that were refused."),
            notices: maker.counters("marqueue_notices_total", "Attempts to tell somebody of a job's end.", &["result"]),
        }
    }

    pub fn add(&self, fact: MetricEvent) {
        match fact {
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
                for (result, number) in by_result(&rows) {
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
            MetricEvent::Notice { told } => {
                self.notices.with_label_values(&[if told { "told" } else { "failed" }]).inc()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Counts;

    #[test]
    fn rows_in_no_count_are_metered_by_what_is_known_of_them() {
        for (total, processed, failed, expected) in [
            (3, Some(2), Some(1), [2, 1, 0, 0, 0]),
            (3, Some(1), Some(1), [1, 1, 1, 0, 0]),
            (3, Some(4), Some(1), [4, 1, 0, 2, 0]),
            (3, Some(1), None, [1, 0, 0, 0, 2]),
            (3, None, None, [0, 0, 0, 0, 3]),
        ] {
            let rows = RowCounts::complete(total, Counts { processed, failed, warned: None });
            assert_eq!(by_result(&rows).map(|(_, number)| number), expected, "{rows:?}");
        }
    }
}
