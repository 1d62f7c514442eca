//! `GET /metrics`: what is there to watch? Counters grow by the facts that the store tells after each commit; all else is
//! read when it is asked for.

use std::time::Duration;

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use prometheus::{
    Encoder, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};
use tokio::sync::{Mutex, mpsc};

use super::types::{InstanceStatus, Problem};
use super::{Daemon, Shared, status};
use crate::marketo::Trial;
use crate::store::{Fact, PauseKind};

/// From a batch of three rows to one that waited for a day.
const JOB_SECONDS: [f64; 11] = [1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 1_800.0, 3_600.0, 14_400.0, 43_200.0, 86_400.0];
/// From a disk with a cache of its own to one in trouble.
const COMMIT_SECONDS: [f64; 10] = [0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.1, 0.25, 1.0, 5.0];

const PAUSES: [PauseKind; 3] = [PauseKind::Person, PauseKind::Credentials, PauseKind::Quota];

/// All that is exported. Counters count from the daemon's start.
pub struct Metrics {
    registry: Registry,
    counted: Counted,
    seen: Seen,
    /// One scrape at a time: they share the gauges.
    scrapes: Mutex<()>,
}

struct Counted {
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

struct Seen {
    started: IntGauge,
    jobs: IntGaugeVec,
    batches: IntGaugeVec,
    held: IntGaugeVec,
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
}

/// Makes each metric and registers it. Names and texts are of this file, so none of it can go wrong.
struct Maker(Registry);

impl Maker {
    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        let made = IntCounterVec::new(Opts::new(name, help), labels).expect("the names of this file are good");
        self.keep(made)
    }

    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
        let made = IntGaugeVec::new(Opts::new(name, help), labels).expect("the names of this file are good");
        self.keep(made)
    }

    fn gauge(&self, name: &str, help: &str) -> IntGauge {
        self.keep(IntGauge::new(name, help).expect("the names of this file are good"))
    }

    fn keep<C: prometheus::core::Collector + Clone + 'static>(&self, made: C) -> C {
        self.0.register(Box::new(made.clone())).expect("each name of this file is there once");
        made
    }
}

impl Default for Metrics {
    fn default() -> Metrics {
        let maker = Maker(Registry::new());
        let build = maker.gauges("marqueue_build_info", "1, with the version of the program.", &["version"]);
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let buckets =
            |name: &str, help: &str, buckets: &[f64]| HistogramOpts::new(name, help).buckets(buckets.to_vec());
        let duration = buckets(
            "marqueue_job_duration_seconds",
            "From a job's acceptance to its end, of jobs that are complete.",
            &JOB_SECONDS,
        );
        let commits = buckets(
            "marqueue_commit_duration_seconds",
            "How long a transaction took from its begin until it was on the disk; many writes share one.",
            &COMMIT_SECONDS,
        );
        const I: &[&str] = &["instance"];
        let counted = Counted {
            accepted: maker.counters("marqueue_jobs_accepted_total", "Files that became jobs.", I),
            accepted_bytes: maker.counters("marqueue_accepted_bytes_total", "Bytes of the files that became jobs.", I),
            events: maker.counters(
                "marqueue_batch_events_total",
                "Events of batches, as in a job's history.",
                &["instance", "event"],
            ),
            uploads: maker.counters("marqueue_uploads_total", "Uploads begun.", I),
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
                "Rows of imports that ended, as Marketo counted them.",
                &["instance", "result"],
            ),
            warned: maker.counters(
                "marqueue_rows_warned_total",
                "Rows among the processed ones that have a warning.",
                I,
            ),
            ended: maker.counters("marqueue_jobs_ended_total", "Jobs that ended.", &["instance", "state"]),
            duration: maker.keep(HistogramVec::new(duration, I).expect("the names of this file are good")),
            calls: maker.counters("marqueue_calls_total", "Calls to Marketo, those for tokens left out.", I),
            commits: maker.keep(Histogram::with_opts(commits).expect("the names of this file are good")),
            drop_refused: maker.keep(
                IntCounter::new("marqueue_drop_refused_total", "Files of the drop folder that were refused.")
                    .expect("the names of this file are good"),
            ),
            notices: maker.counters("marqueue_notices_total", "Attempts to tell somebody of a job's end.", &["result"]),
        };
        let seen = Seen {
            started: maker.gauge("marqueue_start_time_seconds", "When the daemon started, since 1970."),
            jobs: maker.gauges("marqueue_queue_jobs", "Jobs that have not ended.", &["instance", "state"]),
            batches: maker.gauges("marqueue_queue_batches", "Batches that wait to be uploaded.", I),
            held: maker.gauges("marqueue_held_jobs", "Jobs of which a person has to say what to do.", I),
            oldest: maker.gauges(
                "marqueue_oldest_pending_age_seconds",
                "Age of the oldest pending job; 0 where there is none.",
                I,
            ),
            slots: maker.gauges(
                "marqueue_slots_used",
                "Places on Marketo that are taken by us.",
                &["instance", "state"],
            ),
            slots_limit: maker.gauges("marqueue_slots_limit", "The most places on Marketo that we take.", I),
            calls_left: maker.gauges("marqueue_window_calls_left", "Calls that may still leave in the window.", I),
            calls_today: maker.gauges("marqueue_day_calls_used", "Calls since the quota's day began.", I),
            day_left: maker.gauges(
                "marqueue_day_calls_left",
                "Calls left of limits.daily_calls, where there is such a limit.",
                I,
            ),
            paused: maker.gauges(
                "marqueue_instance_paused",
                "1 where uploads are paused, by what paused them.",
                &["instance", "kind"],
            ),
            quiet: maker.gauges("marqueue_instance_quiet", "1 while Marketo as a whole does not answer.", I),
            credentials: maker.gauges(
                "marqueue_credentials_ok",
                "1 where the last request for a token worked, 0 where not; absent before the first.",
                I,
            ),
            database: maker.gauge("marqueue_database_size_bytes", "Bytes of the database's file."),
            log: maker.gauge("marqueue_database_log_bytes", "Bytes of the database's write-ahead log."),
            free: maker.gauge("marqueue_database_free_bytes", "Bytes of the database's file that nothing stands in."),
            notices: maker.gauge("marqueue_notices_owed", "Ends of jobs of which somebody is still to be told."),
        };
        Metrics { registry: maker.0, counted, seen, scrapes: Mutex::default() }
    }
}

impl Metrics {
    /// Counts until the store closes.
    pub async fn count(&self, mut facts: mpsc::UnboundedReceiver<Fact>) {
        while let Some(fact) = facts.recv().await {
            self.counted.add(fact);
        }
    }

    async fn scrape(&self, daemon: &Daemon) -> Result<Vec<u8>, Problem> {
        let _one = self.scrapes.lock().await;
        self.seen.started.set(daemon.started_at.as_second());
        for lane in &daemon.lanes {
            let status = status::of_lane(daemon, lane).await?;
            self.seen.see(lane.name(), &status, daemon.clock.now());
            let credentials = self.seen.credentials.with_label_values(&[lane.name()]);
            match lane.credentials() {
                Trial::Worked => credentials.set(1),
                Trial::Refused(_) | Trial::Unreachable(_) => credentials.set(0),
                Trial::Untried => drop(self.seen.credentials.remove_label_values(&[lane.name()])),
            }
        }
        let space = daemon.store.space().await?;
        self.seen.database.set(space.database.cast_signed());
        self.seen.log.set(space.log.cast_signed());
        self.seen.free.set(space.free.cast_signed());
        self.seen.notices.set(daemon.store.notices_owed().await?.cast_signed());
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text).expect("memory takes text");
        Ok(text)
    }
}

impl Counted {
    fn add(&self, fact: Fact) {
        match fact {
            Fact::Accepted { instance, bytes } => {
                self.accepted.with_label_values(&[&instance]).inc();
                self.accepted_bytes.with_label_values(&[&instance]).inc_by(bytes);
            }
            Fact::Event { instance, event, code } => {
                match event {
                    "upload-began" => self.uploads.with_label_values(&[&instance]).inc(),
                    "polled" | "import-ended" | "import-lost" => {
                        self.polls.with_label_values(&[instance.as_str(), "answered"]).inc();
                    }
                    "ask-failed" => self.polls.with_label_values(&[instance.as_str(), "failed"]).inc(),
                    _ => {}
                }
                if let Some(code) = code {
                    self.errors.with_label_values(&[&instance, &code]).inc();
                }
                self.events.with_label_values(&[instance.as_str(), event]).inc();
            }
            Fact::Rows { instance, counts } => {
                for (result, rows) in [("processed", counts.processed), ("failed", counts.failed)] {
                    self.rows.with_label_values(&[instance.as_str(), result]).inc_by(rows.unwrap_or(0));
                }
                self.warned.with_label_values(&[&instance]).inc_by(counts.warned.unwrap_or(0));
            }
            Fact::Ended { instance, state, took } => {
                self.ended.with_label_values(&[instance.as_str(), state.as_str()]).inc();
                if state == crate::job::JobState::Complete {
                    self.duration.with_label_values(&[&instance]).observe(took.as_secs_f64());
                }
            }
            Fact::Call { instance } => self.calls.with_label_values(&[&instance]).inc(),
            Fact::Commit { took } => self.commits.observe(took.as_secs_f64()),
            Fact::DropRefused => self.drop_refused.inc(),
            Fact::Notice { told } => self.notices.with_label_values(&[if told { "told" } else { "failed" }]).inc(),
        }
    }
}

impl Seen {
    fn see(&self, name: &str, status: &InstanceStatus, now: jiff::Timestamp) {
        let set = |gauges: &IntGaugeVec, labels: &[&str], value: u64| {
            let labels: Vec<&str> = std::iter::once(name).chain(labels.iter().copied()).collect();
            gauges.with_label_values(&labels).set(value.cast_signed());
        };
        let (slots, queue, limits) = (&status.slots, &status.queue, &status.limits);
        set(&self.jobs, &["pending"], queue.pending_jobs);
        set(&self.jobs, &["running"], queue.running_jobs);
        set(&self.batches, &[], queue.pending_batches);
        set(&self.held, &[], queue.held.len() as u64);
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

pub(super) async fn metrics(State(daemon): State<Shared>) -> Result<Response, Problem> {
    let text = daemon.metrics.scrape(&daemon).await?;
    Ok(([(CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response())
}
