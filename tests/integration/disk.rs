//! Full and read-only disks: accepted jobs go on to their end, new files are refused, and the daemon recovers by
//! itself. Needs a small disk of its own: `tests/system/disk.sh` runs it.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use marqueue::domain::JobState;
use marqueue::simulator::{Call, Settings};

use crate::notification::Receiver;
use crate::support::{TestEnv, binary, leads, quick};

/// Of the disk, and of it what is kept for accepted jobs.
const DISK: u64 = 64 << 20;
const RESERVE: u64 = 16 << 20;

/// A disk that goes with the test.
struct Disk(PathBuf);

impl Disk {
    fn mount(at: PathBuf) -> Disk {
        fs::create_dir(&at).expect("a folder");
        let size = format!("size={DISK}");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(&at).status();
        assert!(mounted.expect("mount runs").success(), "only root can mount a disk: see tests/system/disk.sh");
        Disk(at)
    }

    /// Another program writes until nothing more goes in. The daemon is stopped meanwhile: the program would also take
    /// what the daemon releases of its reserve.
    fn fill(&self, env: &TestEnv) -> PathBuf {
        env.signal("STOP");
        // A thread that is in a system call stops after it.
        while threads(env.pid()).any(|stat| !stat.contains(") T ")) {
            std::thread::yield_now();
        }
        let path = self.0.join("filler");
        let mut file = File::options().create(true).append(true).open(&path).expect("a file");
        for size in [1 << 16, 1] {
            while file.write_all(&vec![b'x'; size]).is_ok() {}
        }
        env.signal("CONT");
        path
    }
}

/// What the kernel says of each thread of a process.
fn threads(pid: u32) -> impl Iterator<Item = String> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).expect("its threads");
    // One that has ended meanwhile has no file.
    threads.filter_map(|thread| fs::read_to_string(thread.ok()?.path().join("stat")).ok())
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

/// A daemon whose database is on a disk of its own.
async fn env_on_small_disk() -> (Disk, TestEnv) {
    let mut env = TestEnv::new(Settings { import_per_row: Duration::ZERO, ..quick() }).await;
    let disk = Disk::mount(env.folder.path().join("disk"));
    env.disk = Some(disk.0.clone());
    env.reserve = RESERVE;
    env.start().await;
    (disk, env)
}

fn reserve(disk: &Disk) -> u64 {
    fs::metadata(disk.0.join("q.db-reserve")).expect("the reserve").len()
}

/// Rows that can hardly be compressed. Each has this name.
fn noise(rows: u32, name: &str) -> String {
    let digits = |row: u32, salt: u64| (u64::from(row) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15 ^ salt).rotate_left(29);
    let row = |row| format!("{:016x}{:016x}@example.com,{name}\n", digits(row, 1), digits(row, 7_919));
    "email,firstName\n".chars().chain((0..rows).map(row).collect::<String>().chars()).collect()
}

fn add_by_hand(env: &TestEnv, file: &Path) -> (Option<i32>, String) {
    let add = Command::new(binary()).arg("--socket").arg(env.socket()).args(["add", "leads"]).arg(file).output();
    let add = add.expect("the binary runs");
    (add.status.code(), String::from_utf8(add.stderr).expect("text"))
}

#[tokio::test]
#[ignore = "mounts a disk: tests/system/disk.sh runs it"]
async fn accepted_jobs_end_on_a_disk_filled_by_another_program() {
    let (disk, mut env) = env_on_small_disk().await;
    assert_eq!(reserve(&disk), RESERVE);
    assert_eq!(env.request("POST", "/v1/instances/default/pause", "").await.0, 200);
    let mut jobs = Vec::new();
    for n in 0..20 {
        jobs.push(env.add("target=leads&filename=a.csv", leads(&[&format!("{n}@example.com")])).await.id);
    }
    jobs.push(env.add("target=leads&filename=failing.csv", noise(20_000, "!fail:no")).await.id);
    let filler = disk.fill(&env);

    // Tokens are still issued.
    let (http, token) = env.json("GET", "/identity/oauth/token?grant_type=client_credentials&client_id=any").await;
    assert_eq!(http, 200, "{token}");

    // The next file is refused, on the command line too, and the probe gives the reason.
    let file = env.folder.path().join("late.csv");
    fs::write(&file, leads(&["late@example.com"])).expect("a file");
    let (status, printed) = add_by_hand(&env, &file);
    assert!(status == Some(1) && printed.contains("the disk of the database is full"), "{status:?} {printed}");
    let (status, body) = env.request("POST", "/v1/jobs?target=leads&filename=b.csv", noise(20_000, "!fail:no")).await;
    assert_eq!(status, 507, "{}", String::from_utf8_lossy(&body));
    let (status, body) = env.request("GET", "/readyz", "").await;
    assert!(status == 503 && String::from_utf8_lossy(&body).contains("full"));

    // After a kill and a start on the full disk, all goes on.
    env.kill();
    env.start().await;
    disk.fill(&env);
    assert_eq!(env.request("POST", "/v1/instances/default/resume", "").await.0, 200);
    for id in &jobs {
        let job = env.ended(*id).await;
        assert_eq!(job.state, JobState::Complete, "{job:?}");
    }
    let failures = env.get(&format!("/v1/jobs/{}/failures", jobs[20])).await;
    assert_eq!(failures.lines().count(), 20_001);
    assert_eq!(env.simulator.call_log().accepted().count(), jobs.len(), "nothing was sent twice");
    assert!(reserve(&disk) < RESERVE);
    assert_eq!(env.request("POST", "/v1/jobs?target=leads&filename=b.csv", leads(&["x@example.com"])).await.0, 507);

    // There is room again.
    fs::remove_file(filler).expect("it was there");
    env.until("the daemon is ready by itself", async |env| {
        (env.request("GET", "/readyz", "").await.0 == 200).then_some(())
    })
    .await;
    assert_eq!(reserve(&disk), RESERVE);
    let (status, printed) = add_by_hand(&env, &file);
    assert_eq!(status, Some(0), "{printed}");
    let lines = env.log().lines().filter(|line| line.contains("\"ERROR\"")).count();
    assert!(lines < 20, "a full disk is logged now and then, not {lines} times");
}

#[tokio::test]
#[ignore = "mounts a disk: tests/system/disk.sh runs it"]
async fn files_that_fill_the_disk_leave_the_reserve_for_their_end() {
    let (disk, mut env) = env_on_small_disk().await;
    assert_eq!(env.request("POST", "/v1/instances/default/pause", "").await.0, 200);
    let file = noise(20_000, "Ann");
    let mut jobs = Vec::new();
    loop {
        let (status, body) = env.request("POST", "/v1/jobs?target=leads&filename=a.csv", file.clone()).await;
        if status != 201 {
            assert_eq!(status, 507, "{}", String::from_utf8_lossy(&body));
            break;
        }
        jobs.push(serde_json::from_slice::<marqueue::api::dto::JobDto>(&body).expect("a job").id);
    }
    assert!(jobs.len() > 2, "the disk has room for some: {}", jobs.len());
    assert_eq!(reserve(&disk), RESERVE, "new files keep off the reserve");
    assert_eq!(env.request("POST", "/v1/instances/default/resume", "").await.0, 200);
    for id in &jobs {
        assert_eq!(env.ended(*id).await.state, JobState::Complete);
    }
}

#[tokio::test]
#[ignore = "mounts a disk: tests/system/disk.sh runs it"]
async fn a_read_only_disk_is_reported_and_recovered_from() {
    let (disk, mut env) = env_on_small_disk().await;
    let id = env.add("target=leads&filename=a.csv", leads(&["a@example.com"])).await.id;
    env.ended(id).await;
    let remount = |how: &str| {
        let done = Command::new("mount").args(["-o", &format!("remount,{how}")]).arg(&disk.0).status();
        done.expect("mount runs").success()
    };
    env.kill();
    assert!(remount("ro"));
    let status = env.try_start().await.expect_err("it can't work there");
    assert_eq!(status.code(), Some(1));
    let log = env.log();
    let printed = log.lines().filter(|line| line.contains("q.db") && line.contains("Read-only file system"));
    assert_eq!(printed.count(), 1, "{log}");
    assert!(remount("rw"));
    env.start().await;
    assert_eq!(env.job(id).await.state, JobState::Complete);
}

#[tokio::test]
#[ignore = "mounts a disk: tests/system/disk.sh runs it"]
async fn a_full_disk_is_reported_again_after_it_had_room() {
    let receiver = Receiver::default();
    let mut env = TestEnv::new(quick()).await;
    let disk = Disk::mount(env.folder.path().join("disk"));
    env.disk = Some(disk.0.clone());
    env.reserve = RESERVE;
    env.config = format!("\n[notify]\nurl = {:?}", receiver.open().await);
    env.start().await;
    for occurrence in 1..=2 {
        let filler = disk.fill(&env);
        for _ in 0..3 {
            let (status, _) =
                env.request("POST", "/v1/jobs?target=leads&filename=a.csv", leads(&["a@example.com"])).await;
            assert_eq!(status, 507);
        }
        env.until("it is reported", async |_| (receiver.of_event("disk-full").len() >= occurrence).then_some(())).await;
        assert_eq!(receiver.of_event("disk-full").len(), occurrence);
        fs::remove_file(filler).expect("it was there");
        env.until("the daemon is ready by itself", async |env| {
            (env.request("GET", "/readyz", "").await.0 == 200).then_some(())
        })
        .await;
    }
    let alerts = receiver.of_event("disk-full");
    assert_ne!(alerts[0]["at"], alerts[1]["at"]);
}

#[tokio::test]
#[ignore = "mounts a disk: tests/system/disk.sh runs it"]
async fn reports_of_a_shared_import_wait_for_room_without_a_call() {
    let (disk, mut env) = env_on_small_disk().await;
    env.kill();
    env.config = "pack = true\n".to_owned();
    env.start().await;
    assert_eq!(env.request("POST", "/v1/instances/default/pause", "").await.0, 200);
    let mut jobs = Vec::new();
    for n in 0..20 {
        let file = noise(4_000, &format!("!fail:no {n}"));
        jobs.push(env.add("target=leads&format=csv", file).await.id);
    }
    let filler = disk.fill(&env);
    assert_eq!(env.request("POST", "/v1/instances/default/resume", "").await.0, 200);
    env.until("there is no room for the reports", async |env| {
        env.log().contains("step failed; retrying").then_some(())
    })
    .await;
    assert_eq!(env.simulator.call_log().imports.len(), 1, "one import");
    // The daemon tries it again each second.
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(env.simulator.call_log().calls_of(Call::Failures), 0);
    assert!(!env.job(jobs[0]).await.state.is_terminal());

    fs::remove_file(filler).expect("it was there");
    for (n, id) in jobs.into_iter().enumerate() {
        let job = env.ended(id).await;
        assert_eq!((job.state, job.rows.failed), (JobState::Complete, Some(4_000)));
        let failures = env.get(&format!("/v1/jobs/{id}/failures")).await;
        let reason = format!(",no {n}");
        assert_eq!(failures.lines().skip(1).filter(|line| line.ends_with(&reason)).count(), 4_000);
    }
    assert_eq!(env.simulator.call_log().calls_of(Call::Failures), 1);
}
