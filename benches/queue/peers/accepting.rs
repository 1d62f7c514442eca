//! Durable accepts: beanstalkd with fsync after every put, and the command line of pueue.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use marqueue::simulator::Settings;

use super::{MISSING, installed, timed};
use crate::accepts::{PATH, body, counted, round};
use crate::bench_daemon::BenchDaemon;
use crate::{Report, median};

const CLIENTS: [usize; 2] = [1, 16];
const JOBS: usize = 500;
const ROUNDS: usize = 5;
const COMMANDS: usize = 30;
const PATIENCE: Duration = Duration::from_secs(30);

pub async fn measure(report: &mut Report) {
    report.part(&format!("peers: accepts a second over TCP, jobs of 1 KB, {ROUNDS} rounds by turns"));
    let daemon = BenchDaemon::start_with_tcp(Settings::default()).await;
    daemon.pause();
    let beanstalkd = installed("bin/beanstalkd").map(|program| Beanstalkd::start(&program));
    let bodies: Vec<String> = (0..JOBS).map(body).collect();
    for count in CLIENTS {
        let mut clients = daemon.tcp_clients(count);
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            ours.push(round(&mut clients, &bodies, PATH).0);
            theirs.extend(beanstalkd.as_ref().map(|beanstalkd| beanstalkd.puts(count, &bodies)));
        }
        let ours = median(ours);
        report.figure(&format!("marqueue, {}", counted(count)), &format!("{ours:.0}"));
        let value = match theirs.len() {
            0 => MISSING.into(),
            _ => format!("{:.0} ({:.2})", median(theirs.clone()), median(theirs) / ours),
        };
        report.figure(&format!("beanstalkd -f 0, {} (to marqueue's)", counted(count)), &value);
    }
    commands(report, &daemon);
}

/// A command for each job, one after another.
fn commands(report: &Report, daemon: &BenchDaemon) {
    report.part(&format!("peers: {COMMANDS} commands one after another, each adds a job; commands a second"));
    let file = daemon.folder.path().join("leads.csv");
    fs::write(&file, body(0)).expect("there is room");
    let ours = a_second(|| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_marqueue"));
        command.arg("--socket").arg(daemon.socket()).args(["add", "leads"]).arg(&file);
        command
    });
    report.figure("marqueue add", &format!("{ours:.0}"));
    let value = match (installed("bin/pueue"), installed("bin/pueued")) {
        (Some(client), Some(server)) => {
            let pueue = Pueue::start(&client, &server);
            let theirs = a_second(|| {
                let mut command = pueue.command(&client);
                command.args(["add", "--", "true"]);
                command
            });
            format!("{theirs:.0} ({:.2})", theirs / ours)
        }
        _ => MISSING.into(),
    };
    report.figure("pueue add (to marqueue's)", &value);
}

fn a_second(command: impl Fn() -> Command) -> f64 {
    timed(&mut command());
    median((0..COMMANDS).map(|_| 1.0 / timed(&mut command()).as_secs_f64()).collect())
}

struct Beanstalkd {
    process: Child,
    address: SocketAddr,
    _folder: tempfile::TempDir,
}

impl Beanstalkd {
    fn start(program: &Path) -> Beanstalkd {
        let folder = tempfile::tempdir().expect("a temporary folder");
        // Free until a moment ago: it takes no 0.
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("its address");
        drop(listener);
        let process = Command::new(program)
            .args(["-l", "127.0.0.1", "-f", "0", "-p", &address.port().to_string(), "-b"])
            .arg(folder.path())
            .stdout(Stdio::null())
            .spawn()
            .expect("beanstalkd starts");
        let started = Instant::now();
        while TcpStream::connect(address).is_err() {
            assert!(started.elapsed() < PATIENCE, "beanstalkd does not answer");
            thread::yield_now();
        }
        Beanstalkd { process, address, _folder: folder }
    }

    /// Puts all bodies from so many connections, and returns how many a second.
    fn puts(&self, clients: usize, bodies: &[String]) -> f64 {
        let connect = || {
            let stream = TcpStream::connect(self.address).expect("beanstalkd accepts connections");
            stream.set_nodelay(true).expect("an option");
            BufReader::new(stream)
        };
        let streams: Vec<_> = (0..clients).map(|_| connect()).collect();
        let began = Instant::now();
        thread::scope(|scope| {
            for (first, mut stream) in streams.into_iter().enumerate() {
                scope.spawn(move || {
                    let mut line = String::new();
                    for body in bodies.iter().skip(first).step_by(clients) {
                        let put = format!("put 0 0 120 {}\r\n{body}\r\n", body.len());
                        stream.get_mut().write_all(put.as_bytes()).expect("beanstalkd reads");
                        line.clear();
                        stream.read_line(&mut line).expect("beanstalkd answers");
                        assert!(line.starts_with("INSERTED"), "{line}");
                    }
                });
            }
        });
        bodies.len() as f64 / began.elapsed().as_secs_f64()
    }
}

impl Drop for Beanstalkd {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// pueue's daemon, paused.
struct Pueue {
    process: Child,
    folder: tempfile::TempDir,
}

impl Pueue {
    fn start(client: &Path, server: &Path) -> Pueue {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let config = format!(
            "shared:\n  pueue_directory: {0:?}\n  runtime_directory: {0:?}\n  use_unix_socket: true\n\
             client: {{}}\ndaemon: {{}}\n",
            folder.path()
        );
        fs::write(folder.path().join("pueue.yml"), config).expect("there is room");
        let mut command = Command::new(server);
        command.arg("--config").arg(folder.path().join("pueue.yml")).stdout(Stdio::null()).stderr(Stdio::null());
        let pueue = Pueue { process: command.spawn().expect("pueued starts"), folder };
        let started = Instant::now();
        let is_paused = || {
            let mut command = pueue.command(client);
            command.arg("pause").stdout(Stdio::null()).stderr(Stdio::null()).status().expect("pueue starts").success()
        };
        while !is_paused() {
            assert!(started.elapsed() < PATIENCE, "pueued does not answer");
        }
        pueue
    }

    fn command(&self, client: &Path) -> Command {
        let mut command = Command::new(client);
        command.arg("--config").arg(self.folder.path().join("pueue.yml"));
        command
    }
}

impl Drop for Pueue {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
