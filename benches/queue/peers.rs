//! Measures what people use instead, beside marqueue doing the same in the same run. `benches/peers` installs them below
//! `target/tools`; one that is not there is printed as not measured.

mod accepting;
mod cutting;
mod importing;

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::Report;

const MISSING: &str = "not measured: run benches/peers";

pub async fn measure(report: &mut Report) {
    importing::measure(report).await;
    accepting::measure(report).await;
    cutting::measure(report).await;
}

/// Returns a program that `benches/peers` installed.
fn installed(program: &str) -> Option<PathBuf> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/tools").join(program);
    path.exists().then_some(path)
}

/// Runs a command without output to its end, and returns how long it took.
fn timed(command: &mut Command) -> Duration {
    let began = Instant::now();
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).status().expect("it starts");
    assert!(status.success(), "{command:?}: {status}");
    began.elapsed()
}
