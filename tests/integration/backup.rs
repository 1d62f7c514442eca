//! Backups: the copy is checked, files arrive meanwhile, and a restored copy works. With the real binary.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use marqueue::domain::instance::PauseKind;
use marqueue::domain::{BatchState, JobId, JobState};
use serde_json::json;

use crate::cli_env::{CliEnv, at};
use crate::support::{TestEnv, leads, quick};

#[test]
fn a_copy_is_checked_and_only_its_owner_may_read_it() {
    let cli = CliEnv::new();
    cli.file("people.csv", "email\na@example.com\n");
    cli.run("add leads people.csv --wait").expect(0);
    let copied = cli.run("backup copy.db --json").expect(0).json();
    let file = fs::metadata(cli.path("copy.db")).unwrap();
    assert_eq!(copied["file"], "copy.db");
    assert_eq!((&copied["bytes"], &copied["jobs"]), (&json!(file.len()), &json!(1)));
    assert_eq!(file.permissions().mode() & 0o777, 0o600);
    let output = cli.run("backup other.db").expect(0).out;
    assert_eq!(output, format!("other.db: {} bytes with 1 job, verified\n", file.len()));
    let left = fs::read_dir(cli.env.folder.path()).unwrap().map(|file| file.unwrap().file_name());
    let left: Vec<_> =
        left.map(|name| name.into_string().unwrap()).filter(|name| name.starts_with(".marqueue-")).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn an_existing_file_is_replaced_only_with_force() {
    let cli = CliEnv::new();
    cli.file("precious.db", "mine");
    let ran = cli.run("backup precious.db").expect(1);
    assert_eq!(ran.err, "error: precious.db exists already: name another file, or replace it with --force\n");
    assert_eq!(fs::read_to_string(cli.path("precious.db")).unwrap(), "mine");
    cli.run("backup precious.db --force").expect(0);
    assert!(fs::read(cli.path("precious.db")).unwrap().starts_with(b"SQLite format 3\0"));
    assert!(cli.run("backup .").expect(1).err.contains("is a folder"));
    assert!(cli.run("backup nowhere/copy.db").expect(1).err.contains("can't be written"));
    at(&cli.path("none.sock"), "backup copy2.db").expect(3);
}

#[tokio::test]
async fn backup_blocks_no_files_and_a_second_backup_waits() {
    let mut env = TestEnv::with_daemon(quick()).await;
    env.json("POST", "/v1/instances/default/pause").await;
    let large: String = (0..600_000).map(|row| format!("{:x}@example.com,Ann\n", row * 7_919_u64)).collect();
    env.add("target=leads&filename=large.csv", format!("email,firstName\n{large}")).await;
    let path = format!("{}/v1/backup", "http://daemon");
    let ask = |socket| {
        let client = reqwest::Client::builder().unix_socket(socket).no_proxy().build().unwrap();
        let request = client.get(&path);
        tokio::spawn(async move { request.send().await.unwrap().bytes().await.unwrap() })
    };
    let copying = ask(env.socket());
    let mut added = 0;
    while !copying.is_finished() || added == 0 {
        env.add("target=leads&filename=small.csv", leads(&["a@example.com"])).await;
        added += 1;
    }
    assert!(copying.await.unwrap().starts_with(b"SQLite format 3\0"));
    env.until("a second one is made", async |env| {
        let (status, _) = env.request("GET", "/v1/backup", "").await;
        assert!(status == 200 || status == 409, "{status}");
        (status == 200).then_some(())
    })
    .await;
}

/// Puts a copy where the database was, as `docs/operations.md` says.
fn restore(env: &TestEnv, copy: &[u8]) {
    for ending in ["", "-wal", "-shm"] {
        let _ = fs::remove_file(env.folder.path().join(format!("q.db{ending}")));
    }
    fs::write(env.database(), copy).expect("the copy is put in place");
}

fn uploads_of(env: &TestEnv, job: &str) -> usize {
    let ledger = env.simulator.call_log();
    let name = format!("{job}.csv");
    ledger.creates.iter().filter(|create| create.file.as_ref().is_some_and(|file| file.name == name)).count()
}

#[tokio::test]
async fn restored_daemon_resends_nothing_known_to_the_backup() {
    let mut env = TestEnv::with_daemon(quick()).await;
    let add = async |env: &TestEnv, name: &str, cell: &str| {
        let file = format!("email,firstName\n{name}@example.com,{cell}\n");
        env.add(&format!("target=leads&filename={name}.csv"), file).await.id
    };
    let done = add(&env, "done", "Ann").await;
    env.ended(done).await;
    let flying = add(&env, "flying", "!stuck").await;
    env.in_state(flying, BatchState::Importing).await;
    env.json("POST", "/v1/instances/default/pause").await;
    let waiting = add(&env, "waiting", "!stuck").await;

    let (status, copy) = env.request("GET", "/v1/backup", "").await;
    assert_eq!(status, 200);
    // The copy does not have this upload, nor this job.
    env.json("POST", "/v1/instances/default/resume").await;
    env.in_state(waiting, BatchState::Importing).await;
    // These two end now.
    env.simulator.end_stuck_imports();
    let late = add(&env, "late", "Ann").await;
    env.ended(late).await;
    env.kill();
    restore(&env, &copy);
    env.start().await;

    for (id, state) in [(done, JobState::Complete), (flying, JobState::Complete)] {
        assert_eq!(env.ended(id).await.state, state);
    }
    assert_eq!(
        (uploads_of(&env, "done"), uploads_of(&env, "flying")),
        (1, 1),
        "no upload that the backup holds is repeated"
    );
    assert_eq!(
        env.json("GET", &format!("/v1/jobs/{late}")).await.0,
        404,
        "a job that came after the copy is not in it"
    );
    // It was paused when the copy was made, and so it is now: an operator may look at Marketo first.
    assert_eq!(env.job(waiting).await.state, JobState::Pending);
    env.json("POST", "/v1/instances/default/resume").await;
    env.in_state(waiting, BatchState::Importing).await;
    env.simulator.end_stuck_imports();
    assert_eq!(env.ended(waiting).await.state, JobState::Complete);
    assert_eq!(uploads_of(&env, "waiting"), 2, "what came after the copy is sent once more");
}

#[tokio::test]
async fn a_daemon_can_start_with_its_uploads_paused() {
    let mut env = TestEnv::new(quick()).await;
    env.arguments = vec!["--paused".into()];
    env.start().await;
    let (_, status) = env.json("GET", "/v1/status").await;
    let pause = &status["instances"]["default"]["pause"];
    assert_eq!(pause["kind"], json!(PauseKind::Operator));
    assert_eq!(pause["reason"], "the daemon was started with --paused");
    env.add("target=leads&filename=a.csv", leads(&["a@example.com"])).await;
    env.json("POST", "/v1/instances/default/resume").await;
    env.ended(JobId(1)).await;
}
