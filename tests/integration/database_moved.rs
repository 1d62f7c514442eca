//! A database that is deleted, replaced or damaged under the running daemon: nothing is accepted any more, and the
//! accepted jobs can be recovered as `docs/operations.md` says.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use marqueue::domain::JobState;

use crate::support::{TestEnv, leads, quick};

const ADD: &str = "/v1/jobs?target=leads&filename=a.csv";

fn file() -> String {
    leads(&["a@example.com"])
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    format!("{}{ending}", path.display()).into()
}

/// The next file is refused, and the probe too, with these words; the daemon stays.
async fn refuses(env: &mut TestEnv, words: &str) {
    for (method, path, body) in [("POST", ADD, file()), ("GET", "/readyz", String::new())] {
        let (status, output) = env.request(method, path, body).await;
        let output = String::from_utf8_lossy(&output);
        assert!(status == 503 && output.contains(words), "{path}: {status} {output}");
    }
    assert!(env.exited().is_none(), "what it holds open would be gone with it");
}

/// A daemon that holds back a job.
async fn env_with_job() -> (TestEnv, marqueue::domain::JobId) {
    let env = TestEnv::with_daemon(quick()).await;
    assert_eq!(env.request("GET", "/readyz", "").await.0, 200);
    assert_eq!(env.request("POST", "/v1/instances/default/pause", "").await.0, 200);
    let id = env.add("target=leads&filename=a.csv", file()).await.id;
    (env, id)
}

/// What an operator does with `cp /proc/PID/fd/N`.
fn rescue(env: &TestEnv, ending: &str) -> PathBuf {
    let gone = format!("{} (deleted)", beside(&env.database(), ending).display());
    let open = fs::read_dir(format!("/proc/{}/fd", env.pid())).expect("its files");
    let found = open.map(|entry| entry.expect("an entry").path());
    let found = found.into_iter().find(|path| fs::read_link(path).is_ok_and(|to| to == Path::new(&gone)));
    let copy = env.folder.path().join(format!("rescued{ending}"));
    fs::copy(found.expect("it is open"), &copy).expect("a copy");
    copy
}

#[tokio::test]
async fn deleted_database_takes_no_files_and_can_be_recovered() {
    let (mut env, id) = env_with_job().await;
    let path = env.database();
    for ending in ["", "-wal", "-shm"] {
        fs::remove_file(beside(&path, ending)).expect("it was there");
    }
    refuses(&mut env, "was taken away or replaced").await;
    let (database, log) = (rescue(&env, ""), rescue(&env, "-wal"));
    env.kill();
    fs::rename(database, &path).expect("renamed");
    fs::rename(log, beside(&path, "-wal")).expect("renamed");
    env.start().await;
    assert_eq!(env.request("POST", "/v1/instances/default/resume", "").await.0, 200);
    assert_eq!(env.ended(id).await.state, JobState::Complete);
}

#[tokio::test]
async fn each_missing_database_file_is_noticed_and_may_return() {
    let (mut env, id) = env_with_job().await;
    for ending in ["", "-wal", "-shm"] {
        let (path, aside) = (beside(&env.database(), ending), env.folder.path().join("aside"));
        fs::rename(&path, &aside).expect("it was there");
        refuses(&mut env, &format!("q.db{ending} was taken away")).await;
        fs::rename(&aside, &path).expect("it was there");
        assert_eq!(env.request("GET", "/readyz", "").await.0, 200, "{ending}");
    }
    assert_eq!(env.request("POST", "/v1/instances/default/resume", "").await.0, 200);
    assert_eq!(env.ended(id).await.state, JobState::Complete);
    let jobs = env.json("GET", "/v1/jobs").await.1;
    assert_eq!(jobs["jobs"].as_array().map(Vec::len), Some(1), "what was refused is not there: {jobs}");
}

#[tokio::test]
async fn another_database_at_the_path_is_not_used() {
    let (mut env, id) = env_with_job().await;
    let (path, aside) = (env.database(), env.folder.path().join("aside"));
    fs::copy(&path, &aside).expect("a copy");
    fs::rename(&aside, &path).expect("renamed");
    assert_eq!(env.request("POST", "/v1/instances/default/resume", "").await.0, 503);
    refuses(&mut env, "was taken away or replaced").await;
    assert_eq!(env.job(id).await.state, JobState::Pending);
    assert_eq!(env.simulator.call_log().accepted().count(), 0, "nothing is sent that can't be written down");
}

#[tokio::test]
async fn second_daemon_is_refused_however_it_names_the_database() {
    let (first, id) = env_with_job().await;
    let path = first.database();
    fs::remove_file(beside(&path, ".lock")).expect("it was there");
    type Name = fn(&Path, &Path);
    let names: [(&str, Name); 3] = [
        ("the same path", |_, _| {}),
        ("a hard link", |path, name| fs::hard_link(path, name).expect("a hard link")),
        ("a symbolic link", |path, name| std::os::unix::fs::symlink(path, name).expect("a symbolic link")),
    ];
    for (what, name) in names {
        let mut second = TestEnv::new(quick()).await;
        if what == "the same path" {
            second.disk = Some(first.folder.path().to_owned());
        }
        name(&path, &second.database());
        let status = second.try_start().await.expect_err(what);
        assert_eq!(status.code(), Some(1), "{what}");
        assert!(second.log().contains("another marqueue is at work on the database"), "{what}: {}", second.log());
    }
    // The one that was there goes on.
    assert_eq!(first.request("POST", "/v1/instances/default/resume", "").await.0, 200);
    let mut first = first;
    assert_eq!(first.ended(id).await.state, JobState::Complete);
}

#[tokio::test]
async fn store_path_may_be_a_symbolic_link() {
    let mut env = TestEnv::new(quick()).await;
    let target = env.folder.path().join("disk/data.db");
    fs::create_dir(target.parent().expect("a folder")).expect("made");
    std::os::unix::fs::symlink("disk/data.db", env.database()).expect("a link to what is not there yet");
    env.start().await;
    let id = env.add("target=leads&filename=a.csv", file()).await.id;
    env.ended(id).await;
    for ending in ["", "-wal", "-shm", "-reserve", ".lock"] {
        assert!(beside(&target, ending).exists(), "data.db{ending} is not beside the target");
        assert!(ending.is_empty() || !beside(&env.database(), ending).exists(), "q.db{ending} is beside the link");
    }
    env.kill();
    env.start().await;
    assert_eq!(env.job(id).await.state, JobState::Complete);
    // It was resolved once: where the link leads by now does not matter to a daemon at work.
    fs::remove_file(env.database()).expect("the link is removed");
    assert_eq!(env.request("GET", "/readyz", "").await.0, 200);
    assert_eq!(env.request("GET", "/v1/backup", "").await.0, 200);
}

/// Writes over the file from `at` on.
fn overwrite(path: &Path, at: u64, bytes: u64) {
    let file = fs::File::options().write(true).open(path).expect("the file");
    file.write_all_at(&vec![0xa5; usize::try_from(bytes).expect("small")], at).expect("written");
}

#[tokio::test]
async fn damaged_database_stops_the_start_with_instructions() {
    let mut env = TestEnv::with_daemon(quick()).await;
    for _ in 0..20 {
        env.add("target=leads&filename=a.csv", file()).await;
    }
    // So that all of it is in the one file.
    assert!(env.terminate().await.success());
    let whole = fs::read(env.database()).expect("the database");
    let half = whole.len() as u64 / 2 / 8192 * 8192;
    type Damage = fn(&Path, u64);
    let damages: [(&str, Damage); 4] = [
        ("the header", |path, _| overwrite(path, 0, 100)),
        ("the schema", |path, _| overwrite(path, 100, 8000)),
        ("all that follows", |path, half| overwrite(path, 8192, half)),
        ("the second half", |path, half| fs::File::options().write(true).open(path).unwrap().set_len(half).unwrap()),
    ];
    for (what, damage) in damages {
        fs::write(env.database(), &whole).expect("written");
        damage(&env.database(), half);
        let before = env.log().len();
        let status = env.try_start().await.expect_err(what);
        assert_eq!(status.code(), Some(1), "{what}");
        let log = env.log()[before..].to_owned();
        let output: Vec<_> = log.lines().filter(|line| line.contains("\"ERROR\"")).collect();
        let [output] = output[..] else { panic!("{what}: it is logged once: {log}") };
        assert!(output.contains("q.db") && output.contains("damaged") && output.contains("backup"), "{what}: {output}");
    }
    fs::write(env.database(), &whole).expect("written");
    env.start().await;
    assert_eq!(env.request("GET", "/readyz", "").await.0, 200);
}

#[tokio::test]
async fn damage_to_an_open_database_is_reported_and_stops_intake() {
    let (mut env, _) = env_with_job().await;
    assert!(env.terminate().await.success());
    env.start().await;
    let bytes = fs::metadata(env.database()).expect("the database").len();
    // All but the first page, which each look reads and which is in memory.
    overwrite(&env.database(), 8192, bytes - 8192);
    let status = env.until("the damage is found", async |env| {
        let (status, output) = env.request("GET", "/readyz", "").await;
        (status != 200).then(|| (status, String::from_utf8_lossy(&output).into_owned()))
    });
    let (status, output) = status.await;
    assert!(status == 503 && output.contains("damaged") && output.contains("backup"), "{status} {output}");
    let (status, output) = env.request("POST", ADD, file()).await;
    assert_eq!(status, 503, "{}", String::from_utf8_lossy(&output));
    let lines = env.log().lines().filter(|line| line.contains("\"ERROR\"")).count();
    assert!(lines < 20, "it is logged now and then, not {lines} times");
}
