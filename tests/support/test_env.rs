//! Test environment: a simulator in this process, and the real binary as its daemon.

use std::collections::HashSet;
use std::fmt::{self, Write as _};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use marqueue::simulator::{Settings, Simulator};
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;
use tempfile::TempDir;

/// Far beyond what anything here takes, even on a loaded machine: a test that reaches it has failed. The longest wait
/// took 100 seconds beside five other tests, a release build and three busy loops on two processors.
pub const PATIENCE: Duration = Duration::from_secs(300);

pub struct TestEnv {
    pub folder: TempDir,
    pub simulator: Simulator,
    /// More lines for `[instances.default]` and below.
    pub config: String,
    /// Where the database is, unless it is with everything else.
    pub disk: Option<PathBuf>,
    /// `store.reserve_bytes`
    pub reserve: u64,
    /// What the daemon finds in its environment, besides ours.
    pub environment: Vec<(&'static str, String)>,
    /// More lines for `[api]`.
    pub api: String,
    /// More arguments of `serve`.
    pub arguments: Vec<String>,
    /// The terminal of which the next daemon's process is the session leader.
    pub terminal: Option<File>,
    daemon: Option<Child>,
    http: reqwest::Client,
}

impl TestEnv {
    /// Starts a simulator; there is no daemon yet.
    pub async fn new(settings: Settings) -> TestEnv {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let simulator = Simulator::start(listener, settings).expect("the simulator starts");
        let folder = tempfile::tempdir().expect("a temporary folder");
        let socket = folder.path().join("m.sock");
        let http =
            reqwest::Client::builder().unix_socket(socket).no_proxy().tls_certs_only([]).build().expect("a client");
        TestEnv {
            folder,
            simulator,
            config: String::new(),
            api: String::new(),
            arguments: Vec::new(),
            terminal: None,
            disk: None,
            reserve: 1 << 20,
            environment: Vec::new(),
            daemon: None,
            http,
        }
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("m.sock")
    }

    pub fn database(&self) -> PathBuf {
        self.disk.as_deref().unwrap_or(self.folder.path()).join("q.db")
    }

    pub fn config_file(&self) -> PathBuf {
        self.folder.path().join("marqueue.toml")
    }

    pub fn write_config(&self) {
        let mut text = String::new();
        write!(
            text,
            "[store]\npath = {:?}\nreserve_bytes = {}\n[api]\nsocket = {:?}\n{}\n[instances.default]\nbase_url = {:?}\n\
             client_id = \"simulator\"\nclient_secret = \"secret\"\n",
            self.database(),
            self.reserve,
            self.socket(),
            self.api,
            self.simulator.base_url(),
        )
        .expect("writing to text");
        // A test's own lines go over these.
        for line in [
            "backoff_min = \"20ms\"",
            "backoff_max = \"200ms\"",
            "polling = { min = \"10ms\", max = \"200ms\" }",
            "limits = { calls = 5000, window = \"1s\" }",
        ] {
            let key = line.split(' ').next().expect("a key");
            let of_default = self.config.split("\n[").next().unwrap_or_default();
            if !of_default.lines().any(|own| own.starts_with(key)) {
                text += line;
                text += "\n";
            }
        }
        text += &self.config;
        fs::write(self.config_file(), text).expect("the configuration is written");
    }

    /// Starts the daemon; on return it answers.
    pub async fn start(&mut self) {
        if let Err(status) = self.try_start().await {
            panic!("the daemon ended with {status}:\n{}", self.log());
        }
    }

    /// Starts the daemon; on return it answers, or has ended.
    pub async fn try_start(&mut self) -> Result<(), ExitStatus> {
        self.spawn();
        self.wait_until_ready().await
    }

    /// Starts the daemon's process, and no more.
    pub fn spawn(&mut self) {
        self.write_config();
        let log = File::options().create(true).append(true).open(self.folder.path().join("log")).expect("a log");
        let (mut command, stdin) = match self.terminal.take() {
            Some(terminal) => {
                let mut setsid = Command::new("setsid");
                setsid.arg("--ctty").arg(binary());
                (setsid, Stdio::from(terminal))
            }
            None => (Command::new(binary()), Stdio::null()),
        };
        let child = command
            .args(["serve", "--config"])
            .arg(self.config_file())
            .args(&self.arguments)
            .env("RUST_LOG", "marqueue=debug")
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(stdin)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("the binary starts");
        self.daemon = Some(child);
    }

    /// Waits until the daemon answers, or has ended.
    pub async fn wait_until_ready(&mut self) -> Result<(), ExitStatus> {
        let started = self.until("the daemon answers", async |env| {
            if let Some(status) = env.exited() {
                return Some(Err(status));
            }
            env.http.get("http://daemon/healthz").send().await.is_ok().then_some(Ok(()))
        });
        let started = started.await;
        if started.is_err() {
            self.daemon = None;
        }
        started
    }

    /// kill -9
    pub fn kill(&mut self) {
        let mut child = self.daemon.take().expect("a daemon to kill");
        child.kill().expect("it can be killed");
        child.wait().expect("it ends");
    }

    /// SIGTERM, and how the daemon then ended.
    pub async fn terminate(&mut self) -> ExitStatus {
        self.signal("TERM");
        let status = self.until("the daemon ends", async |env| env.exited()).await;
        self.daemon = None;
        status
    }

    /// Sends a signal such as `TERM` to the daemon's process.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args(["-s", name, &self.pid().to_string()]).status().expect("kill runs");
        assert!(sent.success());
    }

    /// How the daemon ended, if it has.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        self.daemon.as_mut().and_then(|child| child.try_wait().expect("its state"))
    }

    /// The daemon's process.
    pub fn pid(&self) -> u32 {
        self.daemon.as_ref().expect("a daemon").id()
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Asks until there is an answer. A test that waits waits for a fact; the time is only its last resort.
    pub async fn until<T>(&mut self, what: &str, mut look: impl AsyncFnMut(&mut TestEnv) -> Option<T>) -> T {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            if let Some(found) = look(self).await {
                return found;
            }
            assert!(tokio::time::Instant::now() < deadline, "in vain: {what}\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// One request to the native API: status and body.
    pub async fn request(&self, method: &str, path: &str, body: impl Into<reqwest::Body>) -> (u16, Vec<u8>) {
        let method = method.parse().expect("a method");
        let request = self.http.request(method, format!("http://daemon{path}")).body(body);
        let answer = request.send().await.expect("the daemon answers");
        let status = answer.status().as_u16();
        (status, answer.bytes().await.expect("the answer is whole").to_vec())
    }

    pub async fn json(&self, method: &str, path: &str) -> (u16, Value) {
        let (status, body) = self.request(method, path, "").await;
        (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
    }
}

impl Drop for TestEnv {
    fn drop(&mut self) {
        if let Some(mut child) = self.daemon.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            // The end of the log is the most useful part.
            let log = self.log();
            let from = log.char_indices().rev().nth(6_000).map_or(0, |(at, _)| at);
            #[expect(clippy::print_stderr, reason = "it is for the one who reads the failed test")]
            {
                eprintln!("--- the daemon's log ends with ---\n{}", &log[from..]);
            }
        } else {
            // Programs that read the log keep one value of a key only.
            for line in self.log().lines().filter(|line| line.starts_with('{')) {
                if let Ok(LineKeys(keys)) = serde_json::from_str(line) {
                    let distinct: HashSet<&String> = keys.iter().collect();
                    assert_eq!(distinct.len(), keys.len(), "a key stands twice in a line of the log: {line}");
                }
            }
        }
    }
}

/// The keys of a JSON object, repeated ones too.
struct LineKeys(Vec<String>);

impl<'de> Deserialize<'de> for LineKeys {
    fn deserialize<D: Deserializer<'de>>(line: D) -> Result<LineKeys, D::Error> {
        struct Keys;
        impl<'de> Visitor<'de> for Keys {
            type Value = LineKeys;

            fn expecting(&self, text: &mut fmt::Formatter<'_>) -> fmt::Result {
                text.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<LineKeys, A::Error> {
                let mut keys = Vec::new();
                while let Some((key, IgnoredAny)) = map.next_entry()? {
                    keys.push(key);
                }
                Ok(LineKeys(keys))
            }
        }
        line.deserialize_map(Keys)
    }
}

pub fn binary() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_marqueue"))
}
