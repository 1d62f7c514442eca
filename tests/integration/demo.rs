//! `marqueue demo`: its output, its clean-up, and the commands that it prints.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

/// The demonstration with a folder of its own for temporary files, where all can be seen that it leaves.
fn demo(temporary: &Path, words: &[&str]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_marqueue"));
    command.arg("demo").args(words).env("TMPDIR", temporary).stdin(Stdio::null());
    // What was set for another daemon must not matter.
    command.env("MARQUEUE_STORE__PATH", "/nowhere/at/all").env("MARQUEUE_SOCKET", "/nowhere");
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the demonstration starts")
}

fn left_in(folder: &TempDir) -> Vec<String> {
    let names = fs::read_dir(folder.path()).expect("the folder can be listed");
    names.map(|entry| entry.expect("the folder can be listed").file_name().to_string_lossy().into_owned()).collect()
}

/// A free port below those that the system assigns by itself, so that no other test is given it meanwhile.
fn free_port() -> u16 {
    let first = 20_000 + u16::try_from(std::process::id() % 10_000).expect("it is small");
    let is_free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    (first..first + 1_000).find(is_free).expect("a port is free")
}

/// Types the commands into a shell, with a free port instead of the usual one, and returns when all that they started
/// has ended.
fn typed(commands: &str, temporary: &Path) -> String {
    let commands = format!("{}\nwait\n", commands.replace("8438", &free_port().to_string()));
    let ran = Command::new("sh").args(["-c", &commands]).env("TMPDIR", temporary).stdin(Stdio::null()).output();
    String::from_utf8(ran.expect("there is a shell").stdout).expect("it is text")
}

#[test]
fn demo_runs_every_target_cleans_up_and_prints_commands() {
    let temporary = tempfile::tempdir().unwrap();
    let ran = demo(temporary.path(), &[]).wait_with_output().unwrap();
    let (out, err) = (String::from_utf8(ran.stdout).unwrap(), String::from_utf8(ran.stderr).unwrap());
    assert_eq!((ran.status.code(), err.as_str()), (Some(0), ""), "{out}");
    assert_eq!(left_in(&temporary), Vec::<String>::new());

    assert!(!out.contains('\x1b'), "{out}");
    assert!(out.lines().filter(|line| line.contains(" is complete")).count() >= 12, "{out}");
    for text in [
        " for leads: ",
        " for leads (list 1001): ",
        " for custom-object order_c: ",
        " for program-members 1044 (Registered): ",
        "guests.csv is refused: the header has 5 fields, but line 13 has 6\n",
        "imports in its queue         10         10         10\n",
        "imports worked on at once     2          2          2\n",
        "\nemail,firstName,lastName,company,country,Import Failure Reason\n",
        ",Value for lookup field 'email' not found\n",
        " is removed.\n",
    ] {
        assert!(out.contains(text), "{text} in: {out}");
    }

    let (_, by_hand) = out.split_once("To repeat this by hand in a new folder:\n\n").unwrap();
    let (commands, _) = by_hand.rsplit_once("\n\n").unwrap();
    let printed = typed(commands, temporary.path());
    assert!(printed.contains("job 1: people.csv is complete, 1 row failed: 2 rows, 1 processed\n"), "{printed}");
    assert!(
        printed.ends_with("email,note,Import Failure Reason\nalan@example.com,!fail:Blocked,Blocked\n"),
        "{printed}"
    );
}

#[test]
fn json_output_is_one_document() {
    let temporary = tempfile::tempdir().unwrap();
    let ran = demo(temporary.path(), &["--json"]).wait_with_output().unwrap();
    let json: serde_json::Value = serde_json::from_slice(&ran.stdout).unwrap();
    assert_eq!((ran.status.code(), json["jobs"].as_array().unwrap().len()), (Some(0), 15), "{json}");
    assert_eq!((&json["refused"][0]["file"], &json["call_log"]["max_queued"]), (&"guests.csv".into(), &10.into()));
    assert_eq!(left_in(&temporary), Vec::<String>::new());
}

#[test]
fn a_stopped_demo_leaves_no_folder() {
    for signal in ["INT", "TERM", "HUP"] {
        let temporary = tempfile::tempdir().unwrap();
        let mut child = demo(temporary.path(), &[]);
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.by_ref().map_while(Result::ok).any(|line| line.contains("running")));
        let reader = std::thread::spawn(move || lines.for_each(drop));
        assert_eq!(left_in(&temporary).len(), 1);
        let id = child.id().to_string();
        assert!(Command::new("kill").args(["-s", signal, &id]).status().unwrap().success());
        let mut err = String::new();
        child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(130), "{signal}: {err}");
        reader.join().unwrap();
        assert!(err.starts_with("stopped; ") && err.lines().count() == 1, "{signal}: {err}");
        assert_eq!(left_in(&temporary), Vec::<String>::new(), "{signal}");
    }
}

/// The page's address and its login, as `demo --ui --json` prints them.
#[derive(serde::Deserialize)]
struct PageLogin {
    url: String,
    client_id: String,
    client_secret: String,
}

#[tokio::test]
async fn demo_keeps_its_page_until_it_is_stopped() {
    let temporary = tempfile::tempdir().unwrap();
    let mut child = demo(temporary.path(), &["--ui", "--json"]);
    let printed = serde_json::Deserializer::from_reader(child.stdout.take().unwrap());
    let PageLogin { url, client_id, client_secret } = printed.into_iter().next().unwrap().unwrap();
    // reqwest needs one even for plain HTTP.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let http = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    assert_eq!(http.get(&url).send().await.unwrap().status(), 303);

    let form = [("client_id", &client_id), ("client_secret", &client_secret)];
    let login = http.post(format!("{url}ui/login")).form(&form).send().await.unwrap();
    assert_eq!(login.status(), 303);
    let cookie = login.headers()["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned();
    assert_eq!(http.get(&url).header("cookie", &cookie).send().await.unwrap().status(), 200);
    // The sample files belong to this client: the page shows nothing of others.
    loop {
        let jobs = http.get(format!("{url}v1/jobs")).header("cookie", &cookie).send().await.unwrap();
        let jobs: serde_json::Value = jobs.json().await.unwrap();
        if jobs["jobs"].as_array().is_some_and(|jobs| jobs.len() > 1) {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }

    assert!(Command::new("kill").args(["-s", "INT", &child.id().to_string()]).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(left_in(&temporary), Vec::<String>::new());
}

#[test]
fn demo_reports_a_folder_that_cannot_be_made() {
    let ran = demo(Path::new("/nowhere/at/all"), &[]).wait_with_output().unwrap();
    let err = String::from_utf8(ran.stderr).unwrap();
    assert_eq!((ran.status.code(), ran.stdout.len(), err.lines().count()), (Some(1), 0, 1), "{err}");
    assert!(err.starts_with("error: no folder can be created in /nowhere/at/all: "), "{err}");
}
