//! Requests that the tests make of a daemon's API, and the files that they submit.

use std::fmt::Write as _;
use std::fs;
use std::time::Duration;

use marqueue::api::dto::JobDto;
use marqueue::domain::JobId;
use marqueue::simulator::Settings;

use super::test_env::TestEnv;

/// Marketo's limits with imports that take hardly any time.
pub fn quick() -> Settings {
    Settings {
        import_base: Duration::from_millis(20),
        import_per_row: Duration::from_millis(1),
        calls: 10_000,
        window: Duration::from_secs(1),
        ..Settings::default()
    }
}

impl TestEnv {
    /// Starts a simulator and a daemon that sends to it.
    pub async fn with_daemon(settings: Settings) -> TestEnv {
        let mut env = TestEnv::new(settings).await;
        env.start().await;
        env
    }

    /// The most memory that the daemon has had so far, in bytes.
    pub fn most_memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("the daemon's status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("its peak");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
    }

    pub async fn get(&self, path: &str) -> String {
        let (status, body) = self.request("GET", path, "").await;
        let body = String::from_utf8(body).expect("text");
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    /// The address at which the daemon listens on TCP, from its status.
    pub async fn tcp_address(&self) -> String {
        let (_, status) = self.json("GET", "/v1/status").await;
        status["listen"].as_str().unwrap_or_else(|| panic!("it listens on TCP: {status}")).to_owned()
    }

    /// Submits a file with the parameters of `query`. Returns the job.
    pub async fn add(&self, query: &str, file: impl Into<reqwest::Body>) -> JobDto {
        let (status, body) = self.request("POST", &format!("/v1/jobs?{query}"), file).await;
        assert_eq!(status, 201, "{query}: {}", String::from_utf8_lossy(&body));
        serde_json::from_slice(&body).expect("a job")
    }

    pub async fn job(&self, id: JobId) -> JobDto {
        serde_json::from_str(&self.get(&format!("/v1/jobs/{id}")).await).expect("a job")
    }

    /// The job when it has ended.
    pub async fn ended(&mut self, id: JobId) -> JobDto {
        self.until(&format!("job {id} ends"), async |env| {
            let job = env.job(id).await;
            job.state.is_terminal().then_some(job)
        })
        .await
    }
}

/// A file of leads, one row for each e-mail address.
pub fn leads(addresses: &[&str]) -> String {
    let mut file = String::from("email,firstName\n");
    for address in addresses {
        writeln!(file, "{address},Ann").expect("writing to text");
    }
    file
}
