//! How does it all stand now? Gauges that are set when they are asked for.

use std::time::Duration;

use jiff::Timestamp;
use prometheus::{IntGauge, IntGaugeVec};

use crate::api::dto::{ComponentHealth, InstanceStatus};
use crate::api::metrics::registry::{INSTANCE, MetricsBuilder};
use crate::domain::instance::PauseKind;
use crate::drop_folder::{DropReport, PartState};
use crate::store::DatabaseSize;

const PAUSES: [PauseKind; 3] = [PauseKind::Operator, PauseKind::Credentials, PauseKind::Quota];

pub(super) struct Gauges {
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
    quiet: IntGaugeVec,
    credentials: IntGaugeVec,
    database: IntGauge,
    log: IntGauge,
    free: IntGauge,
    notices: IntGauge,
    drop_left_alone: IntGauge,
    drop_ok: IntGaugeVec,
}

impl Gauges {
    pub fn new(maker: &MetricsBuilder) -> Gauges {
        Gauges {
            started: maker.gauge("marqueue_start_time_seconds", "When the daemon started, since 1970."),
            jobs: maker.gauges("marqueue_queue_jobs", "Jobs that have not ended.", &["instance", "state"]),
            batches: maker.gauges("marqueue_queue_batches", "Batches that wait to be uploaded.", INSTANCE),
            held: maker.gauges("marqueue_held_jobs", "Jobs of which a person has to say what to do.", INSTANCE),
            given_up: maker.gauges(
                "marqueue_given_up_jobs",
                "Jobs that failed by their attempts and whose content waits for a person.",
                INSTANCE,
            ),
            oldest: maker.gauges(
                "marqueue_oldest_pending_age_seconds",
                "Age of the oldest pending job; 0 where there is none.",
                INSTANCE,
            ),
            slots: maker.gauges(
                "marqueue_slots_used",
                "Places on Marketo that are taken by us.",
                &["instance", "state"],
            ),
            slots_limit: maker.gauges("marqueue_slots_limit", "The most places on Marketo that we take.", INSTANCE),
            calls_left: maker.gauges(
                "marqueue_window_calls_left",
                "Calls that may still leave in the window.",
                INSTANCE,
            ),
            calls_today: maker.gauges("marqueue_day_calls_used", "Calls since the quota's day began.", INSTANCE),
            day_left: maker.gauges(
                "marqueue_day_calls_left",
                "Calls left of limits.daily_calls, where there is such a limit.",
                INSTANCE,
            ),
            paused: maker.gauges(
                "marqueue_instance_paused",
                "1 where uploads are paused, by what paused them.",
                &["instance", "kind"],
            ),
            quiet: maker.gauges("marqueue_instance_quiet", "1 while Marketo as a whole does not answer.", INSTANCE),
            credentials: maker.gauges(
                "marqueue_credentials_ok",
                "1 where the last request for a token worked and Marketo takes the credentials, 0 where not; absent before the first.",
                INSTANCE,
            ),
            database: maker.gauge("marqueue_database_size_bytes", "Bytes of the database's file."),
            log: maker.gauge("marqueue_database_log_bytes", "Bytes of the database's write-ahead log."),
            free: maker.gauge("marqueue_database_free_bytes", "Bytes of the database's file that nothing stands in."),
            notices: maker.gauge("marqueue_notices_owed", "Ends of jobs of which somebody is still to be told."),
            drop_left_alone: maker.gauge(
                "marqueue_drop_left_alone_files",
                "Files of the drop folder that are not taken because of their names.",
            ),
            drop_ok: maker.gauges(
                "marqueue_drop_folder_ok",
                "1 where a folder of the drop folder can be looked at, 0 where not; the top is \".\".",
                &["folder"],
            ),
        }
    }

    /// The daemon as a whole.
    pub fn whole(&self, started_at: Timestamp, space: DatabaseSize, notices_owed: u64) {
        self.started.set(started_at.as_second());
        self.database.set(space.database.cast_signed());
        self.log.set(space.log.cast_signed());
        self.free.set(space.free.cast_signed());
        self.notices.set(notices_owed.cast_signed());
    }

    /// What lies in the drop folder, and whether that can be seen.
    pub fn drop_folder(&self, report: &DropReport) {
        self.drop_left_alone.set((report.ignored_files().len() as u64).cast_signed());
        for (part, state) in report.states() {
            self.drop_ok.with_label_values(&[&part]).set((state == PartState::Fine).into());
        }
    }

    /// Whether an instance's credentials work; nothing where nobody has tried them.
    pub fn credentials(&self, name: &str, answers: &ComponentHealth) {
        if answers.state == "untried" {
            // It fails where there was none before either.
            drop(self.credentials.remove_label_values(&[name]));
        } else {
            self.credentials.with_label_values(&[name]).set(answers.ok.into());
        }
    }

    /// One instance.
    pub fn instance(&self, name: &str, status: &InstanceStatus, now: Timestamp) {
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
        for kind in PAUSES {
            let holds = status.pause.as_ref().is_some_and(|pause| pause.kind == kind);
            set(&self.paused, &[kind.as_str()], holds.into());
        }
        set(&self.quiet, &[], status.quiet_until.is_some().into());
    }
}
