//! systemd's watchdog: the daemon sends its pings while a restart would not help.

use std::fs::{self, File};
use std::os::unix::net::UnixDatagram;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::support::{TestEnv, binary, quick};

/// Ends the daemon with the test, however that ends.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The next message to systemd's socket.
fn next_message(systemd: &UnixDatagram) -> String {
    let mut text = [0; 1024];
    let length = systemd.recv(&mut text).expect("the daemon sends a message");
    String::from_utf8_lossy(&text[..length]).into_owned()
}

#[tokio::test]
async fn watchdog_pings_go_on_with_a_deleted_database() {
    let env = TestEnv::new(quick()).await;
    env.write_config();
    let path = env.folder.path().join("notify");
    let systemd = UnixDatagram::bind(&path).expect("a socket");
    systemd.set_read_timeout(Some(Duration::from_secs(60))).expect("a last resort");
    let log = File::create(env.folder.path().join("log")).expect("a log");
    let mut command = Command::new(binary());
    command.args(["serve", "--config"]).arg(env.config_file());
    command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "200000");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    let _daemon = Running(command.spawn().expect("the binary starts"));
    while !next_message(&systemd).contains("READY=1") {}
    while !next_message(&systemd).contains("WATCHDOG=1") {}

    fs::remove_file(env.database()).expect("the database goes");
    let noticed = || env.log().contains("reading the queue failed");
    while !noticed() {
        next_message(&systemd);
    }
    for _ in 0..5 {
        assert!(next_message(&systemd).contains("WATCHDOG=1"));
    }
}
