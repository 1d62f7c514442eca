//! Imports a file of leads over the daemon's socket and prints the rows that failed.
//!
//! `cargo run --example client -- SOCKET FILE`

use serde_json::Value;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, socket, file] = &arguments[..] else { anyhow::bail!("usage: client SOCKET FILE") };
    // The crate's client needs a TLS provider even where no TLS is spoken.
    drop(rustls::crypto::ring::default_provider().install_default());
    let http = reqwest::Client::builder().unix_socket(socket.as_str()).build()?;
    let jobs = "http://marqueue/v1/jobs";
    let query = [("target", "leads"), ("filename", file.rsplit('/').next().unwrap_or(file))];
    let answer = http.post(jobs).query(&query).body(tokio::fs::read(file).await?).send().await?;
    let mut job: Value = answer.error_for_status()?.json().await?;
    let path = format!("{jobs}/{}", job["id"]);
    while !["complete", "failed", "cancelled"].contains(&job["state"].as_str().unwrap_or_default()) {
        let answer = http.get(format!("{path}?wait=30s")).send().await?;
        job = answer.error_for_status()?.json().await?;
    }
    if job["rows"]["failed"].as_i64().is_some_and(|failed| failed > 0) {
        let answer = http.get(format!("{path}/failures")).send().await?;
        std::io::Write::write_all(&mut std::io::stdout(), &answer.error_for_status()?.bytes().await?)?;
    }
    Ok(())
}
