//! The blocks of docs/remote-access.md: run by a shell as the page prints them, with openssl and curl, against a
//! daemon.

use std::fs;
use std::path::Path;
use std::process::Command;

use marqueue::simulator::Settings;
use serde_json::Value;

use crate::support::{TestEnv, leads, quick};

/// The blocks of the section on another host, by their language, without the indentation of the list.
fn blocks(language: &str) -> Vec<String> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/remote-access.md");
    let page = fs::read_to_string(page).expect("the page");
    let section = page.split("\n## Use it from another host\n").nth(1).expect("the section");
    let section = section.split("\n## ").next().expect("its end");
    let begin = format!("   ```{language}\n");
    let blocks = section.split(begin.as_str()).skip(1).map(|rest| rest.split("   ```").next().expect("its end"));
    blocks.map(|block| block.lines().map(|line| format!("{}\n", line.trim_start_matches("   "))).collect()).collect()
}

/// Runs a block as a script that ends at its first error, and returns what it prints.
fn run_block(folder: &Path, script: &str) -> String {
    let output = Command::new("bash").args(["-euc", script]).current_dir(folder).output().expect("bash runs");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{script}\n{out}\n{err}");
    out.into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_of_the_page_work_from_another_host() {
    let settings: Settings = quick();
    let mut env = TestEnv::new(settings).await;
    let folder = env.folder.path().to_owned();
    let [certificate, secret, client] = &blocks("sh")[..] else { panic!("the page has three blocks for a shell") };
    let [config] = &blocks("toml")[..] else { panic!("the page has one block of configuration") };
    run_block(&folder, certificate);
    run_block(&folder, secret);
    // Only the port and the folder are changed, so that tests can run side by side.
    let mut config = config.replace("[api]\n", "").replace("0.0.0.0:8437", "127.0.0.1:0");
    for file in ["tls.pem", "tls.key", "crm.secret"] {
        config = config.replace(&format!("\"{file}\""), &format!("{:?}", folder.join(file)));
    }
    env.api = config;
    env.start().await;
    // The queue is in use, so the page's own job is not the first one.
    env.add("target=leads&filename=other.csv", leads(&["other@example.com"])).await;
    let address = env.tcp_address().await;
    let port = address.rsplit(':').next().expect("a port").to_owned();
    let script = format!(
        "resolve='--resolve queue.example.com:{port}:127.0.0.1'\n{}",
        client.replace(":8437", &format!(":{port}"))
    );
    let printed = tokio::task::spawn_blocking(move || run_block(&folder, &script)).await.expect("no panic");
    let job: Value = serde_json::from_str(&printed).expect("JSON");
    assert_eq!((&job["id"], &job["state"]), (&2.into(), &"complete".into()), "{printed}");
    assert_eq!(job["source"]["client_id"], "crm");
}
