//! Cutting a file into parts of 10 MB: xsv alone, marqueue with its checks and on the disk, and `cp` with `sync`.

use std::fs::{self, File};
use std::process::Command;
use std::time::Instant;

use marqueue::simulator::Settings;

use super::{MISSING, installed, timed};
use crate::accepts::{PATH, file_of};
use crate::bench_daemon::BenchDaemon;
use crate::{Report, median};

const BYTES: usize = 100_000_000;
const PARTS: usize = 10;
const ROUNDS: usize = 5;
const TICKS_A_SECOND: f64 = 100.0;

pub async fn measure(report: &mut Report) {
    report.part(&format!("peers: a file of {} MB into parts of 10 MB, {ROUNDS} rounds by turns", BYTES / 1_000_000));
    let daemon = BenchDaemon::start(Settings::default(), "").await;
    daemon.pause();
    let folder = daemon.folder.path();
    let (source, copy, parts) = (folder.join("leads.csv"), folder.join("copy.csv"), folder.join("parts"));
    let text = file_of(0, BYTES);
    let rows = text.lines().count() / PARTS;
    fs::write(&source, &text).expect("there is room");
    drop(text);
    let xsv = installed("bin/xsv");
    let (mut ours, mut theirs, mut copies) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let before = daemon.cpu();
        let began = Instant::now();
        let mut file = File::open(&source).expect("the file");
        let (status, answer) = daemon.client().stream(PATH, fs::metadata(&source).expect("the file").len(), &mut file);
        assert_eq!(status, 201, "{}", String::from_utf8_lossy(&answer));
        ours.push(Cost { wall: began.elapsed().as_secs_f64(), cpu: daemon.cpu() - before });
        if let Some(xsv) = &xsv {
            let mut command = Command::new(xsv);
            theirs.push(Cost::of(command.args(["split", "-s", &rows.to_string()]).arg(&parts).arg(&source)));
        }
        let mut command = Command::new("cp");
        let mut copying = Cost::of(command.arg(&source).arg(&copy));
        let syncing = Cost::of(Command::new("sync").arg(&copy));
        copying.wall += syncing.wall;
        copying.cpu += syncing.cpu;
        copies.push(copying);
    }
    show(report, "marqueue: checked, cut, compressed, on the disk", &ours);
    if xsv.is_none() {
        report.figure("xsv split", MISSING);
    } else {
        show(report, "xsv split: cut, not checked, not synced", &theirs);
    }
    show(report, "cp and sync", &copies);
}

fn show(report: &Report, what: &str, costs: &[Cost]) {
    let middle = |of: fn(&Cost) -> f64| median(costs.iter().map(of).collect());
    report.figure(what, &format!("{:.2} s, {:.2} s CPU", middle(|cost| cost.wall), middle(|cost| cost.cpu)));
}

struct Cost {
    wall: f64,
    cpu: f64,
}

impl Cost {
    fn of(command: &mut Command) -> Cost {
        let before = children_cpu();
        let wall = timed(command).as_secs_f64();
        Cost { wall, cpu: children_cpu() - before }
    }
}

/// Processor time of this process's children that have ended, in seconds.
fn children_cpu() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").expect("this process runs");
    // The name, in brackets, may hold spaces. Behind it, fields 14 and 15 are the children's times.
    let (_, fields) = stat.rsplit_once(')').expect("a name");
    let ticks = fields.split_whitespace().skip(13).take(2).map(|field| field.parse::<f64>().expect("ticks"));
    ticks.sum::<f64>() / TICKS_A_SECOND
}
