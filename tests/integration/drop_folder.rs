//! Drop folder: each file becomes one job, and nothing else is touched. The real binary, real folders, and kills.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use crate::support::{TestEnv, leads, quick};
use marqueue::api::dto::JobDto;
use marqueue::domain::{Format, Target};

/// An environment with a drop folder, and no daemon yet. Its instance is paused by none; its imports take no time.
async fn env_with_drop_folder() -> TestEnv {
    let mut env = TestEnv::new(quick()).await;
    settle_in(&mut env, "500ms");
    env
}

/// What of other users' programs can't be seen here is waited for by time; that need not be long in most tests.
fn settle_in(env: &mut TestEnv, settle: &str) {
    env.config = format!(
        "limits = {{ calls = 5000, window = \"1s\" }}\n[drop]\npath = {:?}\nsettle = {settle:?}\n",
        env.folder.path().join("drop")
    );
}

async fn running_env() -> TestEnv {
    let mut env = env_with_drop_folder().await;
    env.start().await;
    env
}

/// Where a file is in the drop folder.
fn at(env: &TestEnv, path: &str) -> PathBuf {
    env.folder.path().join("drop").join(path)
}

/// Puts a file in as it should be done: written elsewhere, and renamed.
fn rename_in(env: &TestEnv, path: &str, content: impl AsRef<[u8]>) {
    let draft = at(env, path).with_extension("part");
    fs::create_dir_all(draft.parent().expect("a folder")).expect("its folder");
    fs::write(&draft, content).expect("a draft");
    fs::rename(draft, at(env, path)).expect("it is renamed");
}

async fn jobs(env: &TestEnv) -> Vec<JobDto> {
    let page: marqueue::api::dto::JobsPage =
        serde_json::from_str(&env.get("/v1/jobs?limit=10000").await).expect("a page of jobs");
    assert_eq!(page.next_before, None);
    page.jobs
}

/// The job of the file of this name, when there is one.
async fn job_of(env: &mut TestEnv, filename: &str) -> JobDto {
    let look = async |env: &mut TestEnv| jobs(env).await.into_iter().find(|job| job.filename == filename);
    env.until(&format!("{filename} becomes a job"), look).await
}

async fn gone(env: &mut TestEnv, path: &str) {
    let look = async |env: &mut TestEnv| (!at(env, path).exists()).then_some(());
    env.until(&format!("{path} is gone"), look).await;
}

async fn there(env: &mut TestEnv, path: &str) -> String {
    // A pipe of its name would be waited for.
    let is_file = |path: &Path| path.symlink_metadata().is_ok_and(|found| found.is_file());
    let look = async |env: &mut TestEnv| {
        let path = at(env, path);
        is_file(&path).then(|| fs::read_to_string(path).ok()).flatten()
    };
    env.until(&format!("{path} is there"), look).await
}

#[tokio::test]
async fn files_of_each_target_are_imported_and_removed() {
    let mut env = running_env().await;
    assert!(there(&mut env, "README.txt").await.contains("drop folder"));
    for folder in ["default/leads", "default/custom-objects", "default/program-members", "rejected"] {
        assert!(at(&env, folder).is_dir(), "{folder}");
    }
    let members = Target::ProgramMembers { program_id: 1044, status: "On List".into() };
    let leads_target = Target::Leads { lookup_field: None, list_id: None, partition: None };
    for (path, format, target, content) in [
        ("default/leads/a.csv", Format::Csv, leads_target, "email,firstName\na@example.com,Ann\n"),
        ("default/custom-objects/car_c/b.tsv", Format::Tsv, Target::CustomObject { name: "car_c".into() }, "vin\n1\n"),
        ("default/program-members/1044/On List/c.SSV", Format::Ssv, members, "email;x\nc@example.com;y\n"),
    ] {
        rename_in(&env, path, content);
        gone(&mut env, path).await;
        let name = path.rsplit('/').next().expect("a name");
        let job = job_of(&mut env, name).await;
        assert_eq!((job.target.clone(), job.format, job.rows.total), (target, format, 1));
        assert_eq!(env.get(&format!("/v1/jobs/{}/file", job.id)).await, content);
    }
    let lead = job_of(&mut env, "a.csv").await;
    assert_eq!(env.ended(lead.id).await.rows.processed, Some(1));
    assert!(env.terminate().await.success(), "the folder's watch ends with the daemon");
}

#[tokio::test]
async fn a_file_is_waited_for_while_its_writer_has_it_open() {
    let mut env = running_env().await;
    let mut growing = File::create(at(&env, "default/leads/growing.csv")).expect("a file");
    let _thinking = File::create(at(&env, "default/leads/thinking.csv")).expect("a file");
    growing.write_all(b"email\n1@example.com\n").expect("half of it");
    // What is written later and closed has to be unchanged for a while first; what is only linked has to settle, which
    // takes longest.
    fs::write(at(&env, "default/leads/closed.csv"), leads(&["a@example.com"])).expect("a file");
    fs::write(env.folder.path().join("aside.csv"), leads(&["a@example.com"])).expect("a file");
    fs::hard_link(env.folder.path().join("aside.csv"), at(&env, "default/leads/linked.csv")).expect("a link");
    job_of(&mut env, "closed.csv").await;
    growing.write_all(b"2@example.com\n").expect("more of it");
    job_of(&mut env, "linked.csv").await;
    assert_eq!(jobs(&env).await.len(), 2);
    growing.write_all(b"3@example.com\n").expect("the rest of it");
    drop(growing);
    assert_eq!(job_of(&mut env, "growing.csv").await.rows.total, 3);
    gone(&mut env, "default/leads/growing.csv").await;
    assert!(at(&env, "default/leads/thinking.csv").exists());
    assert!(env.folder.path().join("aside.csv").exists());
}

/// Drops a second file and waits until it is taken, so that the folder was scanned often enough since.
async fn another_is_taken(env: &mut TestEnv, name: &str) {
    fs::write(at(env, &format!("default/leads/{name}")), leads(&["other@example.com"])).expect("a file");
    job_of(env, name).await;
    gone(env, &format!("default/leads/{name}")).await;
}

#[tokio::test]
async fn a_file_renamed_in_while_open_waits_for_its_writer() {
    let mut env = running_env().await;
    // Made beside its place, as most programs do it, and outside of the drop folder, where no event reports it.
    let drafts = [at(&env, "default/leads/inside.csv.part"), env.folder.path().join("outside.csv")];
    let mut writers = drafts.map(|draft| {
        let mut writer = File::create(&draft).expect("a file");
        writer.write_all(leads(&["1@example.com"]).as_bytes()).expect("its first row");
        let name = draft.file_name().and_then(|name| name.to_str()).expect("a name").trim_end_matches(".part");
        fs::rename(&draft, at(&env, &format!("default/leads/{name}"))).expect("it is renamed");
        writer
    });
    another_is_taken(&mut env, "a.csv").await;
    another_is_taken(&mut env, "b.csv").await;
    assert_eq!(jobs(&env).await.len(), 2);
    for writer in &mut writers {
        writer.write_all(b"2@example.com,Ann\n").expect("its second row");
    }
    drop(writers);
    for name in ["inside.csv", "outside.csv"] {
        assert_eq!(job_of(&mut env, name).await.rows.total, 2, "{name}");
        gone(&mut env, &format!("default/leads/{name}")).await;
    }
    assert_eq!(jobs(&env).await.len(), 4);
}

#[tokio::test]
async fn a_file_waits_until_both_writers_close() {
    let mut env = running_env().await;
    let path = at(&env, "default/leads/two.csv");
    let mut first = File::create(&path).expect("a file");
    first.write_all(leads(&["1@example.com"]).as_bytes()).expect("a row");
    drop(File::options().append(true).open(&path).expect("a second writer"));
    another_is_taken(&mut env, "a.csv").await;
    another_is_taken(&mut env, "b.csv").await;
    assert_eq!(jobs(&env).await.len(), 2);
    first.write_all(b"2@example.com,Ann\n").expect("another row");
    drop(first);
    assert_eq!(job_of(&mut env, "two.csv").await.rows.total, 2);
}

#[tokio::test]
async fn an_empty_placeholder_waits_for_its_content() {
    let mut env = running_env().await;
    let path = at(&env, "default/leads/placeholder.csv");
    drop(File::create(&path).expect("a placeholder"));
    another_is_taken(&mut env, "a.csv").await;
    another_is_taken(&mut env, "b.csv").await;
    assert!(path.exists());
    fs::write(&path, leads(&["1@example.com", "2@example.com"])).expect("its content");
    assert_eq!(job_of(&mut env, "placeholder.csv").await.rows.total, 2);
    assert_eq!(fs::read_dir(at(&env, "rejected")).expect("a folder").count(), 0);
}

/// Makes a pipe, which blocks a program that opens it as a file.
fn pipe(path: &Path) {
    let made = std::process::Command::new("mkfifo").arg(path).status().expect("mkfifo runs");
    assert!(made.success(), "{}", path.display());
}

#[tokio::test]
async fn pipes_and_links_in_the_folder_do_not_block_it() {
    let mut env = env_with_drop_folder().await;
    let secret = env.folder.path().join("secret");
    fs::write(&secret, "theirs").expect("a file");
    for folder in ["default/leads", "default/custom-objects/car_c", "default/custom-objects/bus_c", "rejected"] {
        fs::create_dir_all(at(&env, folder)).expect("a folder");
    }
    for path in [
        "default/leads/.job.toml.reason.txt",
        "default/leads/job.toml.reason.txt",
        "default/leads/.draft.txt",
        "default/leads/pipe.csv",
        "default/custom-objects/car_c/job.toml",
        "rejected/.x.csv.reason.txt",
        "rejected/x.csv.reason.txt",
        "rejected/.copy",
    ] {
        pipe(&at(&env, path));
    }
    symlink(&secret, at(&env, "default/custom-objects/bus_c/.job.toml.reason.txt")).expect("a link");
    symlink(&secret, at(&env, "default/custom-objects/bus_c/job.toml.reason.txt")).expect("a link");
    symlink(&secret, at(&env, "rejected/.y.csv.reason.txt")).expect("a link");
    fs::write(at(&env, "default/leads/job.toml"), "gruop = 1").expect("a wrong job.toml");
    fs::write(at(&env, "default/custom-objects/bus_c/job.toml"), "gruop = 1").expect("a wrong job.toml");
    for _ in 0..2 {
        env.start().await;
        for folder in ["default/leads", "default/custom-objects/bus_c"] {
            let printed = there(&mut env, &format!("{folder}/job.toml.reason.txt")).await;
            assert!(printed.contains("unknown field `gruop`"), "{printed}");
        }
        assert!(there(&mut env, "default/custom-objects/car_c/job.toml.reason.txt").await.contains("it is not a file"));
        for name in ["x.csv", "y.csv"] {
            rename_in(&env, &format!("eu/leads/{name}"), "email\n");
            gone(&mut env, &format!("eu/leads/{name}")).await;
        }
        rename_in(&env, "default/custom-objects/van_c/a.csv", "vin\n1\n");
        gone(&mut env, "default/custom-objects/van_c/a.csv").await;
        env.kill();
    }
    env.start().await;
    assert_eq!(jobs(&env).await.len(), 2);
    for name in ["x.csv", "x-2.csv", "y.csv", "y-2.csv"] {
        assert!(there(&mut env, &format!("rejected/{name}.reason.txt")).await.contains("no instance \"eu\""));
    }
    assert_eq!(fs::read_to_string(&secret).expect("a file"), "theirs");
}

#[tokio::test]
async fn a_failing_folder_stops_no_other_instance() {
    let mut env = env_with_drop_folder().await;
    let other = format!(
        "[instances.eu]\nbase_url = {:?}\nclient_id = \"simulator\"\nclient_secret = \"secret\"\n",
        env.simulator.base_url()
    );
    env.config += &other;
    fs::create_dir_all(at(&env, "eu")).expect("a folder");
    pipe(&at(&env, "eu/leads"));
    env.start().await;
    rename_in(&env, "default/leads/a.csv", leads(&["a@example.com"]));
    gone(&mut env, "default/leads/a.csv").await;
    let (status, ready) = env.json("GET", "/readyz").await;
    assert_eq!(
        (status, &ready["drop"]["default"]["state"], &ready["drop"]["."]["state"], &ready["drop"]["eu"]["state"]),
        (200, &"fine".into(), &"fine".into(), &"failed".into()),
        "{ready}"
    );
    let reason = "something that is no folder is in a folder's way";
    assert_eq!(ready["drop"]["eu"]["reason"], reason);
    assert_eq!(env.log().lines().filter(|line| line.contains(reason)).count(), 1, "{}", env.log());
    fs::remove_file(at(&env, "eu/leads")).expect("it is taken away");
    let look = async |env: &mut TestEnv| at(env, "eu/leads").is_dir().then_some(());
    env.until("the folder is made", look).await;
    rename_in(&env, "eu/leads/b.csv", leads(&["b@example.com"]));
    assert_eq!(job_of(&mut env, "b.csv").await.instance, "eu");
    assert_eq!(env.json("GET", "/readyz").await.1["drop"]["eu"]["state"], "fine");
}

#[tokio::test]
async fn a_file_of_another_ending_is_reported_once() {
    let mut env = running_env().await;
    let names = [
        "people.csv.gz",
        "people.zip",
        "people.xlsx",
        "people.txt",
        "people.csv.txt",
        "people",
        "people.csv ",
        "people.csv.crdownload",
    ];
    let silent = [".people.zip", "people.csv.part", "people.TMP", "people.csv.filepart"];
    for name in names.into_iter().chain(silent) {
        fs::write(at(&env, &format!("default/leads/{name}")), leads(&["a@example.com"])).expect("a file");
    }
    let reported = async |env: &mut TestEnv| {
        let (_, status) = env.json("GET", "/v1/status").await;
        (status["drop"]["left_alone"] == names.len()).then_some(status)
    };
    let status = env.until("all are reported", reported).await;
    let files = status["drop"]["files"].as_array().expect("a list");
    let listed: BTreeSet<&str> = files.iter().filter_map(|file| file["path"].as_str()).collect();
    let expected: Vec<String> = names.iter().map(|name| format!("default/leads/{name}")).collect();
    assert_eq!(listed, expected.iter().map(String::as_str).collect());
    let shown = std::process::Command::new(crate::support::binary())
        .args(["status", "--socket"])
        .arg(env.socket())
        .output()
        .expect("the command runs");
    let shown = String::from_utf8(shown.stdout).expect("text");
    assert!(shown.contains("\"default/leads/people.csv.gz\": its name ends in none of"), "{shown}");
    assert!(env.get("/metrics").await.lines().any(|line| line == "marqueue_drop_left_alone_files 8"));
    another_is_taken(&mut env, "A.CSV").await;
    another_is_taken(&mut env, "b.csv").await;
    for name in names {
        let is_of_it = |line: &&str| line.contains("file ignored") && line.contains(&format!("leads/{name}"));
        assert!(env.log().lines().any(|line| is_of_it(&line)), "{name} is in the log:\n{}", env.log());
    }
    assert_eq!(env.log().lines().filter(|line| line.contains("file ignored")).count(), names.len(), "each once");
    for path in &expected {
        fs::remove_file(at(&env, path)).expect("it is taken away");
    }
    let none = async |env: &mut TestEnv| {
        let (_, status) = env.json("GET", "/v1/status").await;
        (status["drop"]["left_alone"] == 0).then_some(())
    };
    env.until("none is left", none).await;
}

#[tokio::test]
async fn a_file_written_during_a_restart_is_waited_for() {
    let mut env = running_env().await;
    let mut growing = File::create(at(&env, "default/leads/growing.csv")).expect("a file");
    growing.write_all(b"email\n1@example.com\n").expect("half of it");
    fs::write(at(&env, "default/leads/settled.csv"), leads(&["a@example.com"])).expect("a file");
    env.kill();
    env.start().await;
    job_of(&mut env, "settled.csv").await;
    assert_eq!(jobs(&env).await.len(), 1);
    growing.write_all(b"2@example.com\n").expect("the rest of it");
    drop(growing);
    assert_eq!(job_of(&mut env, "growing.csv").await.rows.total, 2);
    assert_eq!(jobs(&env).await.len(), 2);
}

#[tokio::test]
async fn other_names_and_links_are_left_alone() {
    let mut env = env_with_drop_folder().await;
    let outside = env.folder.path().join("outside");
    fs::create_dir_all(&outside).expect("a folder");
    fs::write(outside.join("secret.csv"), leads(&["secret@example.com"])).expect("a file");
    fs::create_dir_all(at(&env, "default/leads/.old")).expect("a folder");
    fs::create_dir_all(at(&env, "default/custom-objects")).expect("a folder");
    let left = ["default/leads/.a.csv", "default/leads/b.csv.part", "default/leads/c.tmp", "default/leads/notes.txt"];
    for path in left.into_iter().chain(["default/leads/.old/d.csv"]) {
        fs::write(at(&env, path), leads(&["a@example.com"])).expect("a file");
    }
    symlink(outside.join("secret.csv"), at(&env, "default/leads/link.csv")).expect("a link to a file");
    symlink(&outside, at(&env, "default/custom-objects/car_c")).expect("a link to a folder");
    // What was there before the daemon is taken when it has settled: then the rest was looked at often enough.
    fs::write(at(&env, "default/leads/before.csv"), leads(&["b@example.com"])).expect("a file");
    env.start().await;
    job_of(&mut env, "before.csv").await;
    assert_eq!(jobs(&env).await.len(), 1);
    for path in left.into_iter().chain(["default/leads/.old/d.csv", "default/leads/link.csv"]) {
        assert!(at(&env, path).symlink_metadata().is_ok(), "{path}");
    }
    assert!(outside.join("secret.csv").exists());
    let lines = env.log().lines().filter(|line| line.contains("link.csv")).count();
    assert_eq!(lines, 1, "it is logged once, and not at every scan:\n{}", env.log());
}

#[tokio::test]
async fn a_refused_file_is_kept_with_its_reason_under_a_free_name() {
    let mut env = running_env().await;
    for (path, kept, content, reason) in [
        ("default/leads/a.csv", "a.csv", "email\n", "the file has a header and no rows"),
        ("default/leads/a.csv", "a-2.csv", "", "the file is empty"),
        ("eu/leads/b.csv", "b.csv", "email\nx\n", "there is no instance \"eu\" in the configuration: it has default"),
        ("default/program-members/x/Member/c.csv", "c.csv", "email\nx\n", "is a whole number, not \"x\""),
        ("default/d.csv", "d.csv", "email\nx\n", "default is not a folder for files"),
        ("e.csv", "e.csv", "email\nx\n", "it is in no instance's folder"),
        ("default/program-members/7/Member/f.csv", "f.csv", "name\nx\n", "the header has no column \"email\""),
        (
            "default/leads/g.csv",
            "g.csv",
            "email;x\na@b.c;1\n",
            "say that the format is ssv (format = \"ssv\" in job.toml)",
        ),
    ] {
        rename_in(&env, path, content);
        let printed = there(&mut env, &format!("rejected/{kept}.reason.txt")).await;
        assert!(printed.contains(reason) && printed.contains(path), "{path}: {printed}");
        gone(&mut env, path).await;
        assert_eq!(there(&mut env, &format!("rejected/{kept}")).await, content);
    }
    assert_eq!(jobs(&env).await.len(), 0);
    let log = env.log();
    let rejections: Vec<_> = log.lines().filter(|line| line.contains("dropped file rejected")).collect();
    assert!(rejections.iter().any(|line| line.contains("f.csv") && line.contains("the header has no column")), "{log}");
}

#[tokio::test]
async fn job_toml_applies_and_a_wrong_one_makes_its_files_wait() {
    let mut env = running_env().await;
    rename_in(&env, "default/leads/job.toml", "priority = 7\ngruop = \"nightly\"\n");
    rename_in(&env, "default/leads/a.csv", leads(&["a@example.com"]));
    let printed = there(&mut env, "default/leads/job.toml.reason.txt").await;
    assert!(printed.starts_with("line 2: unknown field `gruop`"), "{printed}");
    let (_, status) = env.json("GET", "/v1/status").await;
    let fault = status["drop"]["faults"]["default/leads"].as_str().unwrap_or_default();
    assert_eq!(fault, "its job.toml is not valid: see job.toml.reason.txt there", "{status}");
    // Files of another folder are taken meanwhile.
    rename_in(&env, "default/custom-objects/car_c/b.csv", "vin\n1\n");
    job_of(&mut env, "b.csv").await;
    assert_eq!(jobs(&env).await.len(), 1);
    assert!(at(&env, "default/leads/a.csv").exists());
    let options =
        "priority = 7\ngroup = \"nightly\"\nlist_id = 12\nformat = \"csv\"\nnot_before = \"2020-01-01T00:00:00Z\"\n";
    rename_in(&env, "default/leads/job.toml", options);
    let job = job_of(&mut env, "a.csv").await;
    assert_eq!(job.not_before.map(|at| at.to_string()).as_deref(), Some("2020-01-01T00:00:00Z"));
    assert_eq!((job.priority, job.group.as_deref(), job.target.list_id()), (7, Some("nightly"), Some(12)));
    gone(&mut env, "default/leads/job.toml.reason.txt").await;
    assert!(at(&env, "default/leads/job.toml").exists());
    let (_, status) = env.json("GET", "/v1/status").await;
    assert_eq!(status["drop"]["faults"], serde_json::json!({}), "{status}");
    // No files are taken from the top level, so it has no effect there.
    rename_in(&env, "job.toml", "priority = 7\n");
    env.until("the top level is named", async |env| {
        let (_, status) = env.json("GET", "/v1/status").await;
        status["drop"]["faults"].get(".").cloned()
    })
    .await;
}

#[tokio::test]
async fn same_file_dropped_again_is_a_second_job() {
    let mut env = running_env().await;
    let aside = env.folder.path().join("aside.csv");
    fs::write(&aside, leads(&["a@example.com"])).expect("a file");
    let modified = aside.metadata().and_then(|found| found.modified()).expect("its time");
    for dropped in 1..=6 {
        match dropped {
            // The same inode again.
            1 | 2 => fs::hard_link(&aside, at(&env, "default/leads/a.csv")).expect("a link"),
            // As `cp -p` and `rsync -t` do it; the number of the last inode may well be used again.
            _ => {
                let draft = at(&env, "default/leads/a.part");
                fs::copy(&aside, &draft).expect("a copy");
                File::options().write(true).open(&draft).and_then(|file| file.set_modified(modified)).expect("a time");
                fs::rename(&draft, at(&env, "default/leads/a.csv")).expect("it is renamed");
            }
        }
        gone(&mut env, "default/leads/a.csv").await;
        assert_eq!(jobs(&env).await.len(), dropped);
    }
}

/// A file of leads over several pieces of the store.
fn large(name: &str, rows: usize) -> String {
    let mut file = String::from("email,firstName\n");
    for row in 0..rows {
        writeln!(file, "{name}-{row}@example.com,Ann{row:0>40}").expect("writing to text");
    }
    file
}

/// Waits until nothing is left, and holds that each of `expected` is one job, with all its bytes.
async fn each_is_one_job(env: &mut TestEnv, expected: &BTreeMap<String, String>) {
    for name in expected.keys() {
        gone(env, &format!("default/leads/{name}")).await;
    }
    env.until("none is left set aside", async |env| (set_aside(env) == 0).then_some(())).await;
    let mut found = BTreeSet::new();
    for job in jobs(env).await {
        assert!(found.insert(job.filename.clone()), "{} became two jobs\n{}", job.filename, env.log());
        let content = env.get(&format!("/v1/jobs/{}/file", job.id)).await;
        assert!(expected[&job.filename] == content, "{} is not as it was dropped", job.filename);
    }
    assert_eq!(found, expected.keys().cloned().collect(), "each file became a job");
    assert_eq!(fs::read_dir(at(env, "rejected")).expect("a folder").count(), 0);
}

#[tokio::test]
async fn kills_neither_lose_nor_duplicate_dropped_files() {
    let mut env = env_with_drop_folder().await;
    // The kills have to happen while files are being taken.
    settle_in(&mut env, "10ms");
    let mut expected = BTreeMap::new();
    // Fixed delays after a start and a drop; where in the work they fall depends on the machine.
    let mut moment = 1_u64;
    for round in 0..24 {
        env.start().await;
        for n in 0..4 {
            let name = format!("{round}-{n}.csv");
            let content = large(&name, if n == 0 { 20_000 } else { 3 });
            rename_in(&env, &format!("default/leads/{name}"), &content);
            expected.insert(name, content);
        }
        moment = moment * 48_271 % 0x7fff_ffff;
        tokio::time::sleep(std::time::Duration::from_micros(moment % 150_000)).await;
        env.kill();
    }
    env.start().await;
    each_is_one_job(&mut env, &expected).await;
}

/// Starts the daemon under `strace`, which injects `inject` into its calls, or only to those about `only`.
fn traced(env: &TestEnv, only: Option<&Path>, inject: &str) -> std::process::Child {
    env.write_config();
    let mut command = std::process::Command::new("strace");
    // With `-D` the child is the daemon itself, and the tracer one beside it.
    command.args(["-D", "-f", "-qq", "-o", "/dev/null"]);
    if let Some(path) = only {
        command.arg("-P").arg(path);
    }
    let log = File::options().create(true).append(true).open(env.folder.path().join("log")).expect("a log");
    let (calls, _) = inject.split_once(':').expect("calls and what befalls them");
    command.args(["-e", &format!("trace={calls}"), "-e", &format!("inject={inject}")]).arg(crate::support::binary());
    command.args(["serve", "--config"]).arg(env.config_file()).stderr(log);
    let _ = fs::remove_file(env.socket());
    command.spawn().expect("strace starts")
}

/// Taken files that are on the way to their removal.
fn set_aside(env: &TestEnv) -> usize {
    let entries = fs::read_dir(at(env, "default/leads")).expect("a folder");
    let names = entries.map(|entry| entry.expect("an entry").file_name());
    names.filter(|name| name.to_string_lossy().contains(".taken-")).count()
}

/// Runs the daemon under `strace` until the call that `inject` names kills it, or the file is gone; says whether it was
/// killed with the file still there, under its name or the one that it has before its removal.
async fn killed_at(env: &mut TestEnv, only: Option<&Path>, inject: &str) -> bool {
    let mut traced = traced(env, only, inject);
    let socket = env.socket();
    let mut dropped = false;
    let is_there = |env: &TestEnv| at(env, "default/leads/a.csv").exists() || set_aside(env) > 0;
    let killed = env
        .until("the daemon is killed or has taken the file", async |env| {
            if traced.try_wait().expect("its state").is_some() {
                return Some(true);
            }
            if !dropped && std::os::unix::net::UnixStream::connect(&socket).is_ok() {
                dropped = true;
                rename_in(env, "default/leads/a.csv", large("a", 30_000));
            }
            (dropped && !is_there(env)).then_some(false)
        })
        .await;
    let _ = traced.kill();
    let _ = traced.wait();
    dropped && killed && is_there(env)
}

/// `strace` kills the daemon at an exact call: at each read of the file, at each time that the database is brought to
/// the disk, and at both steps of the file's removal, when the job is there already.
#[tokio::test]
#[ignore = "it needs strace: tests/system/drop.sh installs that and runs it"]
async fn a_kill_between_any_two_steps_leaves_one_job() {
    let mut cases = vec![("renameat2", None, 1), ("unlinkat", None, 1)];
    cases.extend((1..=4).map(|when| ("read", Some("drop/default/leads/a.csv"), when)));
    cases.extend((1..=12).map(|when| ("fdatasync,fsync", Some("q.db-wal"), when)));
    let cases = cases.into_iter().map(|(calls, only, when)| async move {
        let mut env = env_with_drop_folder().await;
        // The database is made first, so that the calls that are counted are those of the work.
        env.start().await;
        assert!(env.terminate().await.success());
        let only = only.map(|path| env.folder.path().join(path));
        let killed = killed_at(&mut env, only.as_deref(), &format!("{calls}:signal=KILL:when={when}")).await;
        env.start().await;
        if !killed && jobs(&env).await.is_empty() && !at(&env, "default/leads/a.csv").exists() {
            // It was killed before it was ready, and nothing was dropped.
            return (calls, false);
        }
        if ["renameat2", "unlinkat"].contains(&calls) {
            assert!(killed && jobs(&env).await.len() == 1, "the job and the file were both there\n{}", env.log());
        }
        each_is_one_job(&mut env, &BTreeMap::from([("a.csv".to_owned(), large("a", 30_000))])).await;
        (calls, killed)
    });
    let outcomes = futures_util::future::join_all(cases).await;
    for calls in ["renameat2", "unlinkat", "read", "fdatasync,fsync"] {
        let killed = outcomes.iter().filter(|outcome| **outcome == (calls, true)).count();
        assert!(killed > 0, "no kill fell on {calls}: {outcomes:?}");
    }
}

#[tokio::test]
async fn a_dropped_file_without_a_header_is_refused_by_its_line() {
    let mut env = running_env().await;
    rename_in(&env, "default/leads/people.csv", "ana@example.com,Ana\nbob@example.com,Bob\n");
    let look = async |env: &mut TestEnv| {
        let found = fs::read_dir(at(env, "rejected")).ok()?.filter_map(Result::ok);
        found.map(|entry| entry.path()).find(|path| path.to_string_lossy().ends_with(".reason.txt"))
    };
    let reason = env.until("the reason is there", look).await;
    let reason = fs::read_to_string(reason).expect("a reason");
    assert!(reason.contains("column 1 of line 1 holds an \"@\"") && !reason.contains("ana@"), "{reason}");
    assert!(!env.log().contains("ana@"));
}

/// `strace` holds the first listing of one instance's folder up, as a share does that does not answer.
#[tokio::test]
#[ignore = "it needs strace: tests/system/drop.sh installs that and runs it"]
async fn a_hanging_folder_is_reported_and_stops_no_other() {
    let mut env = env_with_drop_folder().await;
    env.config += &format!(
        "[instances.eu]\nbase_url = {:?}\nclient_id = \"simulator\"\nclient_secret = \"secret\"\n",
        env.simulator.base_url()
    );
    fs::create_dir_all(at(&env, "eu/leads")).expect("a folder");
    let folder = at(&env, "eu");
    let mut traced = traced(&env, Some(&folder), "getdents64:delay_enter=50s:when=1");
    env.until("the daemon answers", async |env| {
        std::os::unix::net::UnixStream::connect(env.socket()).is_ok().then_some(())
    })
    .await;
    rename_in(&env, "eu/leads/b.csv", leads(&["b@example.com"]));
    rename_in(&env, "default/leads/a.csv", leads(&["a@example.com"]));
    gone(&mut env, "default/leads/a.csv").await;
    assert!(at(&env, "eu/leads/b.csv").exists());
    let state = async |env: &mut TestEnv| {
        let (status, ready) = env.json("GET", "/readyz").await;
        assert_eq!((status, &ready["drop"]["default"]["state"]), (200, &"fine".into()), "{ready}");
        ready["drop"]["eu"]["state"].as_str().map(str::to_owned)
    };
    env.until("it is stuck", async |env| (state(env).await? == "stuck").then_some(())).await;
    assert_eq!(env.log().matches("drop folder scan stuck; its files wait").count(), 1, "{}", env.log());
    env.until("it goes on", async |env| (state(env).await? == "fine").then_some(())).await;
    gone(&mut env, "eu/leads/b.csv").await;
    assert!(env.log().contains("stuck drop folder scan ended"));
    let _ = traced.kill();
    let _ = traced.wait();
}
