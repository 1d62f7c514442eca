//! One scenario: a daemon that is killed again and again, its clients, the faults, and the trace of it all.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;
use std::time::Duration;

use marqueue::api::dto::JobDto;
use marqueue::client::{Client, ClientError, FileView, JobFile, JobQuery};
use marqueue::domain::{JobId, ReportKind};
use marqueue::simulator::Settings;
use rand::RngExt;
use rand::rngs::Xoshiro256PlusPlus;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions, Connection};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::clients::{Counter, POLL_PAUSE, at_the_folder, at_the_socket};
use super::files::{LARGE, PACKED};
use super::kill_points::{Before, KillPoint};
use super::operator;
use super::oracle::{Oracle, Shared, most_queued};
use super::test_env::TestEnv;
use super::trace::{DaemonRun, FinalJob, Limits, Reply, Trace};
use super::{fault_injection, rng};

/// Statistics of a scenario, for its output.
#[derive(Default)]
pub struct Stats {
    pub kills: u32,
    pub kill_points: BTreeMap<String, u32>,
    pub faults: fault_injection::Stats,
    pub files: usize,
    pub acknowledged: usize,
    pub rows: usize,
    pub uploads: usize,
    pub imports: usize,
    pub sent_again: usize,
    pub shared: Shared,
    pub full: u64,
    pub most_queued: usize,
}

impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Stats { kills, files, acknowledged, rows, uploads, imports, sent_again, shared, full, most_queued, .. } =
            self;
        let Shared { imports: shared, jobs, failed, divided } = shared;
        write!(
            f,
            "{kills} kills, {files} files ({acknowledged} acknowledged, {rows} rows), {uploads} uploads, {imports} \
             imports ({sent_again} uploads of what Marketo had), {shared} of them shared by {jobs} jobs ({failed} \
             failed, {divided} jobs in uploads that were too large), queue up to {most_queued}, 1016 {full} times"
        )
    }
}

/// Purpose of the numbers that choose a scenario's settings. The seeds in `main.rs` were chosen with this text.
const SETTINGS: &str = "house";

pub struct Scenario {
    env: TestEnv,
    seed: u64,
    rng: Xoshiro256PlusPlus,
    /// None where the database is tampered with: an outage would leave too little to tamper with.
    outages: Option<Xoshiro256PlusPlus>,
    /// The time at which Marketo ends the imports that are stuck.
    stuck: Xoshiro256PlusPlus,
    /// How many files are submitted that may share an import.
    packing: Xoshiro256PlusPlus,
    /// Other integrations' imports come and go, and Marketo refuses what is over its own limit.
    other_integrations: bool,
    trace: Trace,
    stats: Stats,
}

impl Scenario {
    /// Sets up the scenario of this seed. Without other integrations the simulator accepts everything, so that only the
    /// daemon itself keeps the limits.
    pub async fn new(seed: u64) -> Scenario {
        let mut rng = rng(seed, SETTINGS);
        let other_integrations = rng.random_bool(0.25);
        let hold = rng.random_bool(0.2);
        let importing = if rng.random_bool(0.15) { 1 } else { 2 };
        let queued = [10, 10, rng.random_range(2..10)][rng.random_range(0..3)];
        let limits = Limits {
            in_flight: if importing < 2 { importing } else { queued },
            calls: rng.random_range(20..60),
            calls_at_once: rng.random_range(2..=5),
            hold,
            // Drawn on its own, so that the other settings stay what they are.
            pack: super::rng(seed, "pack").random_bool(0.5),
        };
        let window = Duration::from_millis(rng.random_range(250..500));
        let wide = if other_integrations { 1 } else { 100 };
        let settings = Settings {
            queued: 10 * wide,
            calls: 10_000,
            window,
            concurrent_calls: 100,
            daily_calls: u64::MAX,
            max_body: if rng.random_bool(0.3) { 50_000 } else { 10_000_000 },
            import_base: Duration::from_millis(rng.random_range(20..200)),
            import_per_row: Duration::from_millis(1),
            counts_while_importing: rng.random_bool(0.5),
            no_file_is_404: rng.random_bool(0.5),
            drop_empty_columns: false,
            keep_uploads: true,
            ..Settings::default()
        };
        let mut env = TestEnv::new(settings).await;
        let policy = if hold { "hold" } else { "resubmit" };
        let Limits { calls, calls_at_once, pack, .. } = limits;
        // What is under way at a kill counts at once for as long as a call may take.
        // An unconfirmed import counts for ten of the longest polling pauses: longer than a full queue takes here.
        env.config = format!(
            "pack = {pack}\nunknown_outcome = \"{policy}\"\nmax_attempts = 100000\nrequest_timeout = \"2s\"\n\
             max_import_time = \"1s\"\nbackoff_max = \"150ms\"\n\
             polling = {{ min = \"15ms\", max = \"400ms\" }}\n\
             limits = {{ importing = {importing}, queued = {queued}, calls = {calls}, window = \"{}ms\", \
             concurrent_calls = {calls_at_once}, upload_bytes = 90000 }}\n[drop]\npath = {:?}\nsettle = \"10ms\"\n",
            window.as_millis(),
            env.folder.path().join("drop"),
        );
        let (files, runs, jobs, call_log) = (Vec::new(), Vec::new(), Vec::new(), env.simulator.call_log());
        let trace = Trace { limits, files, runs, jobs, incomplete: 0, call_log };
        let outages = Some(super::rng(seed, "outages"));
        let stuck = super::rng(seed, "stuck");
        let packing = super::rng(seed, "packing");
        Scenario { env, seed, rng, outages, stuck, packing, other_integrations, trace, stats: Stats::default() }
    }

    /// Kills the daemon so many times, lets it finish all work, and returns the trace. With `tampering`, that statement
    /// changes the database after each kill.
    pub async fn run(mut self, kills: u32, tampering: Option<&'static str>) -> (Trace, Stats) {
        let counter = Counter::new(self.seed);
        self.outages = self.outages.filter(|_| tampering.is_none());
        let mut clients = JoinSet::new();
        for name in ["ann", "bob", "eve", LARGE].into_iter().chain(PACKED) {
            clients.spawn(at_the_socket(counter.clone(), self.env.socket(), name.to_owned()));
        }
        clients.spawn(at_the_folder(counter.clone(), self.env.folder.path().join("drop")));
        let mut tampered = 0;
        // A start may have to wait for calls of the one before, and then a kill finds nothing to tamper with yet.
        let most = if tampering.is_some() { 10 * kills } else { kills };
        for kill in 0..most {
            if kill >= kills && tampered > 0 {
                break;
            }
            // As many as can be imported meanwhile, or nearly.
            let most = if self.trace.limits.in_flight > 2 { 9 } else { 4 };
            counter.allowance.add_permits(self.rng.random_range(1..most));
            counter.packed.add_permits(self.packing.random_range(0..10));
            self.run_once(&counter).await;
            if let Some(statement) = tampering {
                tampered += tamper(&self.env.database(), statement).await;
            }
        }
        assert_eq!(tampering.is_some(), tampered > 0, "there was nothing to tamper with");
        self.drain(&counter, clients).await;
        self.finish(&counter).await
    }

    /// One run of the daemon, up to its kill.
    async fn run_once(&mut self, counter: &Counter) {
        let kill_point = KillPoint::any(&mut self.rng);
        fault_injection::change(&self.env.simulator, &mut self.rng, &mut self.stats.faults);
        if let Some(rng) = &mut self.outages {
            fault_injection::outage(&self.env.simulator, rng, &mut self.stats.faults);
        }
        if self.stuck.random_bool(0.5) {
            self.env.simulator.end_stuck_imports();
        }
        kill_point.prepare(&self.env.simulator, counter);
        if self.other_integrations {
            self.env.simulator.set_other_imports(self.rng.random_range(0..10));
        }
        // Drawn whether or not they are used, so that what follows does not depend on what happens.
        let (has_operator, is_queried) = (self.rng.random_bool(0.3), self.rng.random_bool(0.5));
        let before = Before::now(&self.env.simulator, counter);
        self.env.spawn();
        let mut run = DaemonRun::default();
        if !matches!(kill_point, KillPoint::Starting(_)) {
            if let Err(status) = self.env.wait_until_ready().await {
                panic!("the daemon ended with {status}:\n{}", self.env.log());
            }
            if has_operator {
                operator::look(&self.env, || self.trace_so_far(counter)).await;
            }
        }
        kill_point.come(&self.env.simulator, counter, &before).await;
        if is_queried && !matches!(kill_point, KillPoint::Starting(_)) {
            run.known = self.known_imports().await;
        }
        if let KillPoint::Leaving(..) = kill_point {
            self.env.signal("TERM");
            let ended = async { self.env.until("it leaves", async |env| env.exited()).await };
            run.left = timeout(kill_point.leaves(), ended).await.is_ok_and(|status| status.success());
        }
        self.env.kill();
        self.stats.kills += 1;
        *self.stats.kill_points.entry(kill_point.name()).or_default() += 1;
        self.wait_until_quiet().await;
        run.creates = self.env.simulator.call_log().creates.len();
        self.trace.runs.push(run);
    }

    /// Waits until no call of the killed daemon is under way, so that each call belongs to one run.
    async fn wait_until_quiet(&self) {
        let address = self.env.simulator.base_url().trim_start_matches("http://");
        let mut stream = TcpStream::connect(address).await.expect("the simulator listens");
        let request = b"GET /simulator/foreign HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        stream.write_all(request).await.expect("it is sent");
        stream.read_to_end(&mut Vec::new()).await.expect("it is answered");
        drop(stream);
        // Connections that came before this one were accepted before it.
        let patience = Instant::now() + Duration::from_secs(60);
        while self.env.simulator.connections() > 0 {
            assert!(Instant::now() < patience, "a call of the killed daemon does not end");
            sleep(POLL_PAUSE).await;
        }
    }

    /// The imports that the daemon lists.
    async fn known_imports(&self) -> BTreeSet<u64> {
        let ids = |job: JobDto| job.batches.into_iter().filter_map(|batch| batch.marketo_batch_id?.parse().ok());
        self.jobs().await.into_iter().flat_map(ids).collect()
    }

    async fn jobs(&self) -> Vec<JobDto> {
        let page = client(&self.env)
            .list(&JobQuery { limit: Some(10_000), ..JobQuery::default() })
            .await
            .expect("a list of jobs");
        assert_eq!(page.next_before, None);
        page.jobs
    }

    fn trace_so_far(&self, counter: &Counter) -> Trace {
        Trace { files: counter.files().clone(), call_log: self.env.simulator.call_log(), ..self.trace.clone() }
    }

    /// The last run, without a kill, in which all that was begun comes to its end.
    async fn drain(&mut self, counter: &Counter, mut clients: JoinSet<()>) {
        self.env.simulator.set_other_imports(0);
        counter.closing.cancel();
        self.env.start().await;
        let patience = Instant::now() + Duration::from_secs(180);
        let mut jobs = Vec::new();
        loop {
            while clients.try_join_next().is_some_and(|ended| ended.map(|()| true).expect("no client fails")) {}
            if clients.is_empty() {
                jobs = self.jobs().await;
                if jobs.iter().all(|job| job.state.is_terminal()) {
                    break;
                }
            }
            self.env.simulator.end_stuck_imports();
            operator::look(&self.env, || self.trace_so_far(counter)).await;
            assert!(Instant::now() < patience, "it does not come to rest: {jobs:#?}\n{}", self.env.log());
            sleep(Duration::from_millis(100)).await;
        }
    }

    async fn finish(mut self, counter: &Counter) -> (Trace, Stats) {
        let Scenario { env, mut trace, mut stats, .. } = {
            let jobs = self.jobs().await;
            for job in jobs {
                let found = self.found(job).await;
                self.trace.jobs.push(found);
            }
            assert!(self.env.terminate().await.success(), "it stops in order on SIGTERM");
            self
        };
        trace.files = counter.files().clone();
        trace.call_log = env.simulator.call_log();
        trace.incomplete = incomplete(&env.database()).await;
        trace.runs.push(DaemonRun { creates: trace.call_log.creates.len(), ..DaemonRun::default() });
        stats.files = trace.files.len();
        stats.acknowledged = trace.files.iter().filter(|submission| submission.reply != Reply::Nothing).count();
        stats.rows = trace.files.iter().map(|submission| submission.file.rows().len()).sum();
        stats.uploads = trace.call_log.creates.len();
        stats.imports = trace.call_log.imports.len();
        stats.sent_again = Oracle::new(&trace).sent_again();
        stats.shared = Oracle::new(&trace).shared();
        stats.full = trace.call_log.errors_of("1016");
        stats.most_queued = most_queued(&trace.call_log);
        (trace, stats)
    }

    async fn found(&self, job: JobDto) -> FinalJob {
        let content = self.file(job.id, JobFile::File).await.unwrap_or_default();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
        let failures = self.file(job.id, JobFile::Report(ReportKind::Failures)).await.map(text);
        let warnings = self.file(job.id, JobFile::Report(ReportKind::Warnings)).await.map(text);
        let history = client(&self.env).history(job.id).await.expect("its history");
        FinalJob { job, content, failures, warnings, history }
    }

    /// `None` where there is no such value.
    async fn file(&self, id: JobId, file: JobFile) -> Option<Vec<u8>> {
        let mut download = match client(&self.env).file(id, file, FileView::default()).await {
            Ok(download) => download,
            Err(ClientError::Refused(problem)) if problem.status == 404 => return None,
            Err(error) => panic!("the {file:?} of job {id}: {error}"),
        };
        let mut bytes = Vec::new();
        while let Some(piece) = download.next().await.expect("the file comes whole") {
            bytes.extend(piece);
        }
        Some(bytes)
    }
}

async fn database(path: &Path) -> SqliteConnection {
    SqliteConnectOptions::new().filename(path).connect().await.expect("the database opens")
}

/// Changes the database of a killed daemon. Returns the number of changed rows.
async fn tamper(path: &Path, statement: &'static str) -> u64 {
    let mut connection = database(path).await;
    let done = sqlx::query(statement).execute(&mut connection).await;
    connection.close().await.expect("it closes");
    // A daemon that was killed during its start may not have made its tables yet.
    done.map_or(0, |done| done.rows_affected())
}

/// Counts submissions that are incomplete and will never become jobs.
async fn incomplete(path: &Path) -> u64 {
    let mut connection = database(path).await;
    let count = sqlx::query_scalar::<_, i64>("SELECT count(*) FROM job WHERE state = 'receiving'")
        .fetch_one(&mut connection)
        .await
        .expect("a count");
    connection.close().await.expect("it closes");
    count.unsigned_abs()
}

pub fn client(env: &TestEnv) -> Client {
    Client::new(&env.socket(), Duration::from_secs(120)).expect("a client")
}
