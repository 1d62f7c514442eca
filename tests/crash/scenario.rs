//! How does a daemon live that is killed again and again? One house, its clients, its weather, and the story of it all.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;
use std::time::Duration;

use marqueue::client::{Client, ClientError, JobFile};
use marqueue::domain::JobId;
use marqueue::simulator::Settings;
use marqueue::store::Job;
use rand::RngExt;
use rand::rngs::Xoshiro256PlusPlus;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions, Connection};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::clients::{Counter, LOOK, at_the_folder, at_the_socket};
use super::files::LARGE;
use super::kill_points::{Before, Moment};
use super::operator;
use super::oracle::{Judge, most_queued};
use super::test_env::TestEnv;
use super::trace::{Found, Heard, Life, Limits, Story};
use super::{dice, fault_injection};

/// Numbers for those who read them.
#[derive(Default)]
pub struct Count {
    pub kills: u32,
    pub moments: BTreeMap<String, u32>,
    pub faults: fault_injection::Count,
    pub files: usize,
    pub acknowledged: usize,
    pub rows: usize,
    pub uploads: usize,
    pub imports: usize,
    pub sent_again: usize,
    pub full: u64,
    pub most_queued: usize,
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Count { kills, files, acknowledged, rows, uploads, imports, sent_again, full, most_queued, .. } = self;
        write!(
            f,
            "{kills} kills, {files} files ({acknowledged} acknowledged, {rows} rows), {uploads} uploads, {imports} \
             imports ({sent_again} uploads of what Marketo had), queue up to {most_queued}, 1016 {full} times"
        )
    }
}

pub struct Episode {
    env: TestEnv,
    seed: u64,
    dice: Xoshiro256PlusPlus,
    /// None where the database is lied about: an outage would leave too little to lie about.
    outages: Option<Xoshiro256PlusPlus>,
    /// Says when Marketo ends the imports that are stuck.
    stuck: Xoshiro256PlusPlus,
    /// Other integrations' imports come and go, and Marketo refuses what is over its own limit.
    foreigners: bool,
    story: Story,
    pub count: Count,
}

impl Episode {
    /// A house of this seed. Where nobody else is at Marketo, that takes whatever comes: then the daemon's limits are
    /// kept by the daemon alone.
    pub async fn new(seed: u64) -> Episode {
        let mut dice = dice(seed, "house");
        let foreigners = dice.random_bool(0.25);
        let hold = dice.random_bool(0.2);
        let importing = if dice.random_bool(0.15) { 1 } else { 2 };
        let queued = [10, 10, dice.random_range(2..10)][dice.random_range(0..3)];
        let limits = Limits {
            in_flight: if importing < 2 { importing } else { queued },
            calls: dice.random_range(20..60),
            calls_at_once: dice.random_range(2..=5),
            hold,
        };
        let window = Duration::from_millis(dice.random_range(250..500));
        let wide = if foreigners { 1 } else { 100 };
        let settings = Settings {
            queued: 10 * wide,
            calls: 10_000,
            window,
            concurrent_calls: 100,
            daily_calls: u64::MAX,
            max_body: if dice.random_bool(0.3) { 50_000 } else { 10_000_000 },
            import_base: Duration::from_millis(dice.random_range(20..200)),
            import_per_row: Duration::from_millis(1),
            counts_while_importing: dice.random_bool(0.5),
            no_file_is_404: dice.random_bool(0.5),
            drop_empty_columns: false,
            ..Settings::default()
        };
        let mut env = TestEnv::new(settings).await;
        let policy = if hold { "hold" } else { "resubmit" };
        let Limits { calls, calls_at_once, .. } = limits;
        // What is under way at a kill counts at once for as long as a call may take.
        // A ghost counts for ten of the longest polling pauses: longer than a full queue takes here.
        env.config = format!(
            "unknown_outcome = \"{policy}\"\nmax_attempts = 100000\nrequest_timeout = \"2s\"\nmax_import_time = \"1s\"\nbackoff_max = \"150ms\"\n\
             polling = {{ min = \"15ms\", max = \"400ms\" }}\n\
             limits = {{ importing = {importing}, queued = {queued}, calls = {calls}, window = \"{}ms\", \
             concurrent_calls = {calls_at_once}, upload_bytes = 90000 }}\n[drop]\npath = {:?}\nsettle = \"10ms\"\n",
            window.as_millis(),
            env.folder.path().join("drop"),
        );
        let (files, lives, jobs, ledger) = (Vec::new(), Vec::new(), Vec::new(), env.simulator.call_log());
        let story = Story { limits, files, lives, jobs, halves: 0, ledger };
        let outages = Some(super::dice(seed, "outages"));
        let stuck = super::dice(seed, "stuck");
        Episode { env, seed, dice, outages, stuck, foreigners, story, count: Count::default() }
    }

    /// Kills the daemon so many times, lets it come to rest, and tells the story. With `tampering` the database is lied
    /// to after each kill.
    pub async fn live(mut self, kills: u32, tampering: Option<&'static str>) -> (Story, Count) {
        let counter = Counter::new(self.seed);
        self.outages = self.outages.filter(|_| tampering.is_none());
        let mut clients = JoinSet::new();
        for name in ["ann", "bob", "eve", LARGE] {
            clients.spawn(at_the_socket(counter.clone(), self.env.socket(), name.to_owned()));
        }
        clients.spawn(at_the_folder(counter.clone(), self.env.folder.path().join("drop")));
        let mut tampered = 0;
        // A start may have to wait for calls of the one before, and then a kill finds nothing to lie about yet.
        let most = if tampering.is_some() { 10 * kills } else { kills };
        for kill in 0..most {
            if kill >= kills && tampered > 0 {
                break;
            }
            // As many as can be imported meanwhile, or nearly.
            let most = if self.story.limits.in_flight > 2 { 9 } else { 4 };
            counter.allowance.add_permits(self.dice.random_range(1..most));
            self.life(&counter).await;
            if let Some(statement) = tampering {
                tampered += tamper(&self.env.database(), statement).await;
            }
        }
        assert_eq!(tampering.is_some(), tampered > 0, "there was nothing to tamper with");
        self.rest(&counter, clients).await;
        self.tell(&counter).await
    }

    /// One life of the daemon.
    async fn life(&mut self, counter: &Counter) {
        let moment = Moment::any(&mut self.dice);
        fault_injection::change(&self.env.simulator, &mut self.dice, &mut self.count.faults);
        if let Some(dice) = &mut self.outages {
            fault_injection::outage(&self.env.simulator, dice, &mut self.count.faults);
        }
        if self.stuck.random_bool(0.5) {
            self.env.simulator.end_stuck_imports();
        }
        moment.prepare(&self.env.simulator, counter);
        if self.foreigners {
            self.env.simulator.set_other_imports(self.dice.random_range(0..10));
        }
        // Drawn whether or not they are used, so that what follows does not hang on what happens.
        let (sees_a_person, is_questioned) = (self.dice.random_bool(0.3), self.dice.random_bool(0.5));
        let before = Before::now(&self.env.simulator, counter);
        self.env.spawn();
        let mut life = Life::default();
        if !matches!(moment, Moment::Starting(_)) {
            if let Err(status) = self.env.wait_until_ready().await {
                panic!("the daemon ended with {status}:\n{}", self.env.log());
            }
            if sees_a_person {
                operator::look(&self.env, &self.story_so_far(counter)).await;
            }
        }
        moment.come(&self.env.simulator, counter, &before).await;
        if is_questioned && !matches!(moment, Moment::Starting(_)) {
            life.known = self.known().await;
        }
        if let Moment::Leaving(..) = moment {
            self.env.signal("TERM");
            let ended = async { self.env.until("it leaves", async |env| env.exited()).await };
            life.left = timeout(moment.leaves(), ended).await.is_ok_and(|status| status.success());
        }
        self.env.kill();
        self.count.kills += 1;
        *self.count.moments.entry(moment.name()).or_default() += 1;
        self.silence().await;
        life.creates = self.env.simulator.call_log().creates.len();
        self.story.lives.push(life);
    }

    /// Until nothing of a dead daemon is on its way any more, so that each call is of one life.
    async fn silence(&self) {
        let address = self.env.simulator.base_url().trim_start_matches("http://");
        let mut stream = TcpStream::connect(address).await.expect("the simulator listens");
        let request = b"GET /simulator/foreign HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        stream.write_all(request).await.expect("it is sent");
        stream.read_to_end(&mut Vec::new()).await.expect("it is answered");
        drop(stream);
        // What knocked before us has been let in before us.
        let patience = Instant::now() + Duration::from_secs(60);
        while self.env.simulator.connections() > 0 {
            assert!(Instant::now() < patience, "a call of the dead daemon does not end");
            sleep(LOOK).await;
        }
    }

    /// The imports that the daemon says it knows.
    async fn known(&self) -> BTreeSet<u64> {
        let ids = |job: Job| job.batches.into_iter().filter_map(|batch| batch.marketo_batch_id?.parse().ok());
        self.jobs().await.into_iter().flat_map(ids).collect()
    }

    async fn jobs(&self) -> Vec<Job> {
        let page = client(&self.env).list(None, Some(10_000), None).await.expect("a list of jobs");
        assert_eq!(page.next_before, None);
        page.jobs
    }

    fn story_so_far(&self, counter: &Counter) -> Story {
        Story { files: counter.files().clone(), ledger: self.env.simulator.call_log(), ..self.story.clone() }
    }

    /// The last life, in which nobody is killed and all that was begun comes to its end.
    async fn rest(&mut self, counter: &Counter, mut clients: JoinSet<()>) {
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
            operator::look(&self.env, &self.story_so_far(counter)).await;
            assert!(Instant::now() < patience, "it does not come to rest: {jobs:#?}\n{}", self.env.log());
            sleep(Duration::from_millis(100)).await;
        }
    }

    async fn tell(mut self, counter: &Counter) -> (Story, Count) {
        let Episode { env, mut story, mut count, .. } = {
            let jobs = self.jobs().await;
            for job in jobs {
                let found = self.found(job).await;
                self.story.jobs.push(found);
            }
            assert!(self.env.terminate().await.success(), "it ends as it should when it is told to");
            self
        };
        story.files = counter.files().clone();
        story.ledger = env.simulator.call_log();
        story.halves = halves(&env.database()).await;
        story.lives.push(Life { creates: story.ledger.creates.len(), ..Life::default() });
        count.files = story.files.len();
        count.acknowledged = story.files.iter().filter(|dropped| dropped.heard != Heard::Nothing).count();
        count.rows = story.files.iter().map(|dropped| dropped.file.rows().len()).sum();
        count.uploads = story.ledger.creates.len();
        count.imports = story.ledger.imports.len();
        count.sent_again = Judge::new(&story).sent_again();
        count.full = story.ledger.errors_of("1016");
        count.most_queued = most_queued(&story.ledger);
        (story, count)
    }

    async fn found(&self, job: Job) -> Found {
        let content = self.file(job.id, JobFile::File).await.unwrap_or_default();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
        let failures = self.file(job.id, JobFile::Failures).await.map(text);
        let warnings = self.file(job.id, JobFile::Warnings).await.map(text);
        Found { job, content, failures, warnings }
    }

    /// None where there is none.
    async fn file(&self, id: JobId, file: JobFile) -> Option<Vec<u8>> {
        let mut download = match client(&self.env).file(id, file, None).await {
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

/// Changes what a dead daemon has written down. Gives the number of rows.
async fn tamper(path: &Path, statement: &'static str) -> u64 {
    let mut connection = database(path).await;
    let done = sqlx::query(statement).execute(&mut connection).await;
    connection.close().await.expect("it closes");
    // Killed in its first moments, it may not have made its tables yet.
    done.map_or(0, |done| done.rows_affected())
}

/// Jobs that are none yet and will never be one.
async fn halves(path: &Path) -> u64 {
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
