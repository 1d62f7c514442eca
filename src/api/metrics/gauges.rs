//! Gauges: set at each scrape from the current state.

use std::time::Duration;

use jiff::Timestamp;
use prometheus::{IntGauge, IntGaugeVec};

use crate::api::dto::{ComponentHealth, InstanceStatus};
use crate::api::metrics::registry::{INSTANCE, MetricsBuilder};
use crate::domain::instance::PauseKind;
use crate::drop_folder::{DropReport, PartState};
use crate::store::DatabaseSize;

/// Values of the label `kind`.
const PAUSE_KINDS: [PauseKind; 3] = [PauseKind::Operator, PauseKind::Credentials, PauseKind::Quota];

/// All gauges.
pub(in crate::api) struct Gauges {
    started: IntGauge,
    jobs: IntGaugeVec,
    batches: IntGaugeVec,
    held: IntGaugeVec,
    given_up: IntGaugeVec,
    oldest: IntGaugeVec,
    slots: IntGaugeVec,
    slots_limit: IntGaugeVec,
    calls_left: IntGaugeVec,
    calls_today: IntGaugeVec,
    day_left: IntGaugeVec,
    paused: IntGaugeVec,
    backoff: IntGaugeVec,
    credentials: IntGaugeVec,
    database: IntGauge,
    log: IntGauge,
    free: IntGauge,
    notifications: IntGauge,
    drop_left_alone: IntGauge,
    drop_ok: IntGaugeVec,
}

impl Gauges {
    /// Registers all gauges.
    pub(super) fn new(builder: &MetricsBuilder) -> Gauges {
        Gauges {
            started: builder.gauge("marqueue_start_time_seconds", "When the daemon started, in seconds since 1970."),
            jobs: builder.gauges("marqueue_queue_jobs", "Jobs that have not ended.", &["instance", "state"]),
            batches: builder.gauges("marqueue_queue_batches", "Batches that wait to be uploaded.", INSTANCE),
            held: builder.gauges(
                "marqueue_held_jobs",
                "Jobs with a batch that needs an operator's decision.",
                INSTANCE,
            ),
            given_up: builder.gauges(
                "marqueue_given_up_jobs",
                "Jobs that failed after all attempts and whose content is kept for an operator.",
                INSTANCE,
            ),
            oldest: builder.gauges(
                "marqueue_oldest_pending_age_seconds",
                "Age of the oldest pending job; 0 where there is none.",
                INSTANCE,
            ),
            slots: builder.gauges(
                "marqueue_slots_used",
                "Slots of Marketo's import queue that the daemon occupies.",
                &["instance", "state"],
            ),
            slots_limit: builder.gauges("marqueue_slots_limit", "The most slots that the daemon occupies.", INSTANCE),
            calls_left: builder.gauges("marqueue_window_calls_left", "Calls left in the sliding window.", INSTANCE),
            calls_today: builder.gauges("marqueue_day_calls_used", "Calls since the quota's day began.", INSTANCE),
            day_left: builder.gauges(
                "marqueue_day_calls_left",
                "Calls left of limits.daily_calls, where there is such a limit.",
                INSTANCE,
            ),
            paused: builder.gauges(
                "marqueue_instance_paused",
                "1 where uploads are paused, by the kind of the pause.",
                &["instance", "kind"],
            ),
            backoff: builder.gauges(
                "marqueue_instance_backoff",
                "1 while the daemon backs off because Marketo does not answer.",
                INSTANCE,
            ),
            credentials: builder.gauges(
                "marqueue_credentials_ok",
                "1 where Marketo accepts the credentials, 0 where not; absent before the first request for a token.",
                INSTANCE,
            ),
            database: builder.gauge("marqueue_database_size_bytes", "Bytes of the database's file."),
            log: builder.gauge("marqueue_database_log_bytes", "Bytes of the database's write-ahead log."),
            free: builder.gauge("marqueue_database_free_bytes", "Unused bytes of the database's file."),
            notifications: builder
                .gauge("marqueue_notifications_pending", "Notifications that are still to be delivered."),
            drop_left_alone: builder.gauge(
                "marqueue_drop_left_alone_files",
                "Files of the drop folder that are ignored because of their names.",
            ),
            drop_ok: builder.gauges(
                "marqueue_drop_folder_ok",
                "1 where a folder of the drop folder can be read, 0 where not; the drop folder itself is \".\".",
                &["folder"],
            ),
        }
    }

    /// Sets the gauges of the daemon as a whole.
    pub fn set_daemon(&self, started_at: Timestamp, space: DatabaseSize, pending_notifications: u64) {
        self.started.set(started_at.as_second());
        self.database.set(space.database.cast_signed());
        self.log.set(space.log.cast_signed());
        self.free.set(space.free.cast_signed());
        self.notifications.set(pending_notifications.cast_signed());
    }

    /// Sets the gauges of the drop folder.
    pub fn set_drop_folder(&self, report: &DropReport) {
        self.drop_left_alone.set((report.ignored_files().len() as u64).cast_signed());
        for (part, state) in report.states() {
            self.drop_ok.with_label_values(&[&part]).set((state == PartState::Fine).into());
        }
    }

    /// Sets the gauge of an instance's credentials; removes it where they are untried.
    pub fn set_credentials(&self, name: &str, health: &ComponentHealth) {
        if health.state == "untried" {
            // The removal fails where the gauge was never set.
            drop(self.credentials.remove_label_values(&[name]));
        } else {
            self.credentials.with_label_values(&[name]).set(health.ok.into());
        }
    }

    /// Sets the gauges of one instance.
    pub fn set_instance(&self, name: &str, status: &InstanceStatus, now: Timestamp) {
        let set = |gauges: &IntGaugeVec, labels: &[&str], value: u64| {
            let labels: Vec<&str> = std::iter::once(name).chain(labels.iter().copied()).collect();
            gauges.with_label_values(&labels).set(value.cast_signed());
        };
        let (slots, queue, limits) = (&status.slots, &status.queue, &status.limits);
        set(&self.jobs, &["pending"], queue.pending_jobs);
        set(&self.jobs, &["running"], queue.running_jobs);
        set(&self.batches, &[], queue.pending_batches);
        set(&self.held, &[], queue.held.len() as u64);
        set(&self.given_up, &[], queue.given_up.jobs);
        let age = queue.oldest_pending_at.map(|at| Duration::try_from(now.duration_since(at)).unwrap_or_default());
        set(&self.oldest, &[], age.unwrap_or_default().as_secs());
        for (state, used) in [
            ("uploading", slots.uploading),
            ("queued", slots.queued),
            ("importing", slots.importing),
            ("unknown", slots.unknown),
        ] {
            set(&self.slots, &[state], used.into());
        }
        set(&self.slots_limit, &[], slots.limit.into());
        set(&self.calls_left, &[], limits.calls.saturating_sub(limits.calls_used).into());
        set(&self.calls_today, &[], limits.calls_today);
        if limits.daily_calls > 0 {
            set(&self.day_left, &[], limits.daily_calls.saturating_sub(limits.calls_today));
        }
        for kind in PAUSE_KINDS {
            let is_paused = status.pause.as_ref().is_some_and(|pause| pause.kind == kind);
            set(&self.paused, &[kind.as_str()], is_paused.into());
        }
        set(&self.backoff, &[], status.quiet_until.is_some().into());
    }
}
