//! `demo --ui`: keeps the daemon running with sample files for the page, and says how to open it.

use std::env;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::Context;
use serde_json::json;

use crate::cli::demo::environment::DemoEnv;
use crate::cli::demo::page_login::PageLogin;
use crate::cli::demo::samples::samples;
use crate::cli::global::GlobalArgs;
use crate::cli::output;
use crate::client::ClientError;

/// Time between two sample files, so that the slots fill while one looks.
const BETWEEN_FILES: Duration = Duration::from_secs(1);

/// Time between two rounds of all sample files.
const BETWEEN_ROUNDS: Duration = Duration::from_secs(30);

/// Says how to open the page, and adds the sample files in rounds. It returns only with an error.
pub async fn serve(env: &DemoEnv, login: &PageLogin, global: &GlobalArgs) -> anyhow::Result<()> {
    for sample in &samples() {
        env.write(sample)?;
    }
    let listen = env.client.status().await?.listen.context("the daemon does not listen on TCP")?;
    let url = format!("http://{listen}/");
    let PageLogin { client_id, client_secret } = login;
    if global.json {
        output::print_json(&json!({"url": url, "client_id": client_id, "client_secret": client_secret}))?;
    } else {
        output::print(&how_to_open(env, &url, login))?;
        open_in_browser(&url);
    }
    loop {
        // A token is valid for an hour, so each round gets its own.
        let client = env.client.log_in(client_id, client_secret).await?;
        for sample in &samples() {
            match env.add_as(&client, sample).await {
                Err(ClientError::Refused(_)) if sample.refused => {}
                added => drop(added.context(sample.filename)?),
            }
            tokio::time::sleep(BETWEEN_FILES).await;
        }
        tokio::time::sleep(BETWEEN_ROUNDS).await;
    }
}

fn how_to_open(env: &DemoEnv, url: &str, login: &PageLogin) -> String {
    format!(
        "A daemon and a Marketo simulator, in {}.\nNothing leaves this machine.\n\
         \n\
         Open           {url}\n\
         Client id      {}\n\
         Client secret  {}\n\
         \n\
         Sample files are added while it runs. Drop files of your own onto the page: a cell \"!fail:REASON\" makes its row fail.\n\
         Ctrl-C stops it and removes the folder.\n",
        env.path().display(),
        login.client_id,
        login.client_secret
    )
}

/// Opens the address with the desktop's program, if there is a desktop. The address is printed, so a failure needs no
/// report.
fn open_in_browser(url: &str) {
    let has_desktop =
        ["WAYLAND_DISPLAY", "DISPLAY"].iter().any(|name| env::var_os(name).is_some_and(|v| !v.is_empty()));
    if !has_desktop {
        return;
    }
    let opener = if cfg!(target_os = "macos") { "open" } else { "xdg-open" };
    let spawned =
        Command::new(opener).arg(url).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    if let Ok(mut child) = spawned {
        // The thread takes its exit status, and ends with it.
        std::thread::spawn(move || drop(child.wait()));
    }
}
