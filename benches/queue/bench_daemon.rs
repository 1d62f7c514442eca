//! The release binary as a daemon in a temporary folder, and what the kernel reports of it.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use marqueue::clock::Clock;
use marqueue::simulator::{Settings, Simulator};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::client::Client;

/// Far beyond what a start takes on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// The unit of the processor times in `/proc`, whatever the kernel's own clock is.
const TICKS_A_SECOND: f64 = 100.0;

/// A daemon and the simulator that it sends to.
pub struct BenchDaemon {
    pub folder: TempDir,
    pub simulator: Simulator,
    /// When the time of the simulator's log begins.
    pub simulated_since: Timestamp,
    /// Those of further instances.
    others: Vec<Simulator>,
    /// What the simulators and the configuration took before the daemon was started.
    pub prepared: Duration,
    daemon: Child,
    spawned: Instant,
}

impl BenchDaemon {
    /// `instance` are lines of configuration for the one instance.
    pub async fn start(settings: Settings, instance: &str) -> BenchDaemon {
        BenchDaemon::start_named(settings, &["default".into()], instance, "").await
    }

    /// As [`BenchDaemon::start`], and it listens on TCP: see [`BenchDaemon::tcp_clients`].
    pub async fn start_with_tcp(settings: Settings) -> BenchDaemon {
        let api = "listen = \"127.0.0.1:0\"\n[[api.clients]]\nclient_id = \"crm\"\nclient_secret = \"crm-secret\"\n";
        BenchDaemon::start_named(settings, &["default".into()], "", api).await
    }

    /// As [`BenchDaemon::start`], with the instances `n0`, `n1` and so on, and a simulator for each.
    pub async fn start_many(settings: Settings, instances: usize, instance: &str) -> BenchDaemon {
        let names: Vec<String> = (0..instances).map(|number| format!("n{number}")).collect();
        BenchDaemon::start_named(settings, &names, instance, "").await
    }

    async fn start_named(settings: Settings, names: &[String], instance: &str, api: &str) -> BenchDaemon {
        let preparing = Instant::now();
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = |name: &str| folder.path().join(name);
        let mut config = format!(
            "[store]\npath = {:?}\n[api]\nsocket = {:?}\nmax_file_bytes = 5_000_000_000\n{api}",
            path("q.db"),
            path("m.sock"),
        );
        let mut simulators = Vec::new();
        let simulated_since = Clock::System.now();
        for name in names {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
            let simulator = Simulator::start(listener, settings.clone()).expect("the simulator starts");
            config += &format!(
                "[instances.{name}]\nbase_url = {:?}\nclient_id = \"simulator\"\nclient_secret = \"secret\"\n{instance}",
                simulator.base_url(),
            );
            simulators.push(simulator);
        }
        let simulator = simulators.remove(0);
        fs::write(path("marqueue.toml"), config).expect("the configuration is written");
        let prepared = preparing.elapsed();
        let (spawned, daemon) = (Instant::now(), spawn(&folder));
        let daemon = BenchDaemon { folder, simulator, simulated_since, others: simulators, prepared, daemon, spawned };
        while !daemon.is_open() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        daemon
    }

    /// Returns whether the socket is open.
    ///
    /// # Panics
    /// Where it ought to be by now.
    fn is_open(&self) -> bool {
        let late = self.spawned.elapsed() > PATIENCE;
        assert!(!late, "the daemon does not answer:\n{}", self.log());
        Client::connect(&self.socket()).is_ok()
    }

    /// Stops the daemon in order. [`BenchDaemon::start_again`] has to follow.
    pub fn stop(&mut self) {
        let pid = Pid::from_child(&self.daemon);
        kill_process(pid, Signal::TERM).expect("the daemon runs");
        let status = self.daemon.wait().expect("it ends");
        assert!(status.success(), "the daemon stops in order:\n{}", self.log());
    }

    /// Starts a stopped daemon on the same database. Returns the milliseconds of processor time until it answers.
    pub fn start_again(&mut self) -> f64 {
        self.spawned = Instant::now();
        self.daemon = spawn(&self.folder);
        while !self.is_open() {
            thread::yield_now();
        }
        // The socket is open before the database is.
        let (status, _) = self.client().ask("GET", "/healthz", b"");
        assert_eq!(status, 200);
        self.spent_ms()
    }

    pub fn database(&self) -> PathBuf {
        self.folder.path().join("q.db")
    }

    /// Processor time of the threads that it has now, in milliseconds. It is more exact than [`BenchDaemon::cpu`].
    pub fn spent_ms(&self) -> f64 {
        self.exact_cpu() * 1e3
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("m.sock")
    }

    /// The simulators of its instances, in their order.
    pub fn simulators(&self) -> impl Iterator<Item = &Simulator> {
        std::iter::once(&self.simulator).chain(&self.others)
    }

    pub fn client(&self) -> Client {
        Client::connect(&self.socket()).expect("the daemon accepts connections")
    }

    /// So many connections over TCP, logged in.
    pub fn tcp_clients(&self, count: usize) -> Vec<Client> {
        let (_, status) = self.client().ask("GET", "/v1/status", b"");
        let status: serde_json::Value = serde_json::from_slice(&status).expect("JSON");
        let address = status["listen"].as_str().and_then(|address| address.parse().ok()).expect("it listens on TCP");
        let first = Client::connect_tcp(address, "crm", "crm-secret").expect("the daemon accepts connections");
        let token = first.token().to_owned();
        let more = (1..count).map(|_| Client::connect_with_token(address, &token).expect("it accepts connections"));
        std::iter::once(first).chain(more).collect()
    }

    /// Uploads wait from now on.
    pub fn pause(&self) {
        self.command("pause");
    }

    /// Uploads go on.
    pub fn resume(&self) {
        self.command("resume");
    }

    fn command(&self, name: &str) {
        let (status, _) = self.client().ask("POST", &format!("/v1/instances/default/{name}"), b"");
        assert_eq!(status, 200);
    }

    /// Processor time of the daemon so far, in seconds.
    pub fn cpu(&self) -> f64 {
        cpu(&self.daemon.id().to_string())
    }

    /// Processor time of the daemon's threads so far, in seconds, more exactly than [`BenchDaemon::cpu`]. Threads that
    /// have ended since do not count.
    pub fn exact_cpu(&self) -> f64 {
        let threads = fs::read_dir(format!("/proc/{}/task", self.daemon.id())).expect("the daemon runs");
        let times = threads.filter_map(|thread| fs::read_to_string(thread.ok()?.path().join("schedstat")).ok());
        let spent = |time: String| time.split(' ').next().and_then(|ns| ns.parse::<f64>().ok()).expect("nanoseconds");
        times.map(spent).sum::<f64>() / 1e9
    }

    /// Resident memory now (`VmRSS`) or at its highest (`VmHWM`), in MB (of 1,000,000 bytes).
    pub fn memory(&self, what: &str) -> f64 {
        self.counted("status", what) * 1024.0 / 1e6
    }

    /// Makes the highest memory so far that of now.
    pub fn reset_peak(&self) {
        fs::write(format!("/proc/{}/clear_refs", self.daemon.id()), "5").expect("the kernel resets its own figure");
    }

    /// What it has had the kernel write to disks so far, in MB.
    pub fn written(&self) -> f64 {
        self.counted("io", "write_bytes") / 1e6
    }

    /// A line's number in one of the kernel's files on the daemon, whatever its unit.
    fn counted(&self, file: &str, what: &str) -> f64 {
        let text = fs::read_to_string(format!("/proc/{}/{file}", self.daemon.id())).expect("the daemon runs");
        let line =
            text.lines().find_map(|line| line.strip_prefix(what)?.strip_prefix(':')).expect("the kernel's words");
        line.trim().trim_end_matches(" kB").parse().expect("a number")
    }

    /// Size of one of the files in the folder, in MB.
    pub fn size(&self, name: &str) -> f64 {
        fs::metadata(self.folder.path().join(name)).map_or(0, |file| file.len()) as f64 / 1e6
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

fn spawn(folder: &TempDir) -> Child {
    // Another build, to set two side by side in one run.
    let other = std::env::var_os("MARQUEUE_BENCH_BINARY");
    Command::new(other.unwrap_or_else(|| env!("CARGO_BIN_EXE_marqueue").into()))
        .args(["serve", "--config"])
        .arg(folder.path().join("marqueue.toml"))
        // As a service has it: no terminal, no variables, the log as JSON.
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(File::create(folder.path().join("log")).expect("a log"))
        .spawn()
        .expect("the binary starts")
}

impl Drop for BenchDaemon {
    fn drop(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

/// Processor time of a process so far, in seconds: user and system together.
pub fn cpu(process: &str) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).expect("the process runs");
    // The name, in brackets, may hold spaces. Behind it, fields 12 and 13 are the times.
    let (_, fields) = stat.rsplit_once(')').expect("a name");
    let ticks = fields.split_whitespace().skip(11).take(2).map(|field| field.parse::<f64>().expect("ticks"));
    ticks.sum::<f64>() / TICKS_A_SECOND
}
