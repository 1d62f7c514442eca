//! `marqueue doctor`: it finds each fault, gives advice, and changes nothing. With the real binary.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use marqueue::simulator::Settings;
use serde_json::Value;

use crate::cli_env::Ran;
use crate::support::{TestEnv, leads, quick};

const SECRET: &str = "hunter2-and-more";

/// The user `nobody`, and its group.
const OTHER: u32 = 65_534;

/// A folder with all that a service needs, and a simulator. No daemon.
struct Place {
    env: TestEnv,
    config: String,
}

impl Place {
    async fn new() -> Place {
        let env = TestEnv::new(Settings { client_secret: SECRET.into(), ..quick() }).await;
        let folder = env.folder.path().display();
        let config = format!(
            "[store]\npath = '{folder}/data/q.db'\n[api]\nsocket = '{folder}/run/m.sock'\n[drop]\npath = '{folder}/drop'\n\
             [instances.default]\nbase_url = '{}'\nclient_id = 'simulator'\nclient_secret_file = '{folder}/secret'\n",
            env.simulator.base_url(),
        );
        let place = Place { env, config };
        for folder in ["data", "run", "drop"] {
            fs::create_dir(place.path(folder)).expect("a folder");
        }
        place.file("secret", SECRET, 0o600);
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.env.folder.path().join(name)
    }

    fn file(&self, name: &str, content: impl AsRef<[u8]>, mode: u32) {
        fs::write(self.path(name), content).expect("a file");
        fs::set_permissions(self.path(name), Permissions::from_mode(mode)).expect("its rights");
    }

    /// In the configuration `old` becomes `new`, with the folder's path for FOLDER.
    fn change(&mut self, old: &str, new: &str) {
        assert!(self.config.contains(old), "{old}");
        let folder = self.env.folder.path().display().to_string();
        self.config = self.config.replace(old, &new.replace("FOLDER", &folder));
    }

    fn command(&self, binary: &Path, words: &[&str]) -> Command {
        self.file("m.toml", &self.config, 0o644);
        let mut command = Command::new(binary);
        command.arg("doctor").arg("--config").arg(self.path("m.toml")).args(words);
        command.env_remove("MARQUEUE_CONFIG").env("MARQUEUE_SOCKET", self.path("run/m.sock"));
        command.current_dir(self.env.folder.path());
        command
    }

    /// What is found, as JSON and as text; what is there stays as it is, and no secret is shown.
    fn ask(&self, status: i32) -> Vec<Value> {
        self.ask_with(status, |words| self.command(crate::support::binary(), words))
    }

    #[track_caller]
    fn ask_with(&self, status: i32, command: impl Fn(&[&str]) -> Command) -> Vec<Value> {
        let (text, json) = (command(&[]), command(&["--json"]));
        let before = all_of(self.env.folder.path());
        let text = crate::cli_env::run(text, "").expect(status);
        let json = crate::cli_env::run(json, "").expect(status);
        assert!(all_of(self.env.folder.path()) == before, "something was written");
        for Ran { out, err, .. } in [&text, &json] {
            assert!(!out.contains(SECRET) && err.is_empty(), "{out}{err}");
        }
        let found = json.json().as_array().expect("a list").clone();
        for found in &found {
            let (detail, advice) = (found["detail"].as_str().expect("a detail"), found["advice"].as_str());
            // Times and free space change between the two runs.
            if ["daemon", "space", "clock"].iter().all(|check| found["check"] != **check) {
                assert!(text.out.lines().any(|line| line.ends_with(detail)), "{detail}\n{}", text.out);
                let below = advice.map(|advice| format!(" -> {advice}"));
                let is_below = |below: &String| text.out.lines().any(|line| line.ends_with(below));
                assert!(below.as_ref().is_none_or(is_below), "{below:?}\n{}", text.out);
            }
        }
        found
    }
}

/// Every file below a folder, with its rights, its time of change and its content.
fn all_of(folder: &Path) -> BTreeMap<PathBuf, (u32, i64, Vec<u8>)> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        let file = fs::symlink_metadata(&path).expect("its rights");
        let content = if file.is_file() { fs::read(&path).expect("its content") } else { Vec::new() };
        if file.is_dir() {
            all.extend(all_of(&path));
        }
        all.insert(path, (file.mode(), file.mtime_nsec(), content));
    }
    all
}

/// What was found of a check.
#[track_caller]
fn of<'a>(found: &'a [Value], check: &str) -> &'a Value {
    found.iter().find(|found| found["check"] == check).unwrap_or_else(|| panic!("no {check}: {found:#?}"))
}

/// Faults and warnings, but for those of the machine that the tests run on.
fn amiss(found: &[Value]) -> Vec<&Value> {
    const MACHINE: [&str; 4] = ["user", "file system", "space", "open files"];
    let here = |found: &&Value| MACHINE.iter().any(|check| found["check"] == *check);
    found.iter().filter(|found| !here(found) && found["state"] != "fine").collect()
}

/// Answers every request with a token and this `Date`.
fn identity_at(date: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}/identity", listener.local_addr().expect("its address"));
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            // To the end of the form, whose last word is the secret.
            asked(&mut stream, SECRET.as_bytes());
            let body = r#"{"access_token":"t","token_type":"bearer","expires_in":3599,"scope":"a"}"#;
            let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close";
            let length = body.len();
            let _ = write!(stream, "{head}\r\nDate: {date}\r\nContent-Length: {length}\r\n\r\n{body}");
        }
    });
    url
}

/// Reads a request to its `end`, so that the answer does not come before the question.
fn asked(stream: &mut impl Read, end: &[u8]) {
    let mut asked = Vec::new();
    let mut byte = [0];
    while !asked.ends_with(end) && stream.read(&mut byte).is_ok_and(|read| read == 1) {
        asked.push(byte[0]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_valid_setup_passes_before_the_first_start() {
    let mut place = Place::new().await;
    let tls = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tls");
    let tls = format!(
        "[api]\nlisten = '127.0.0.1:0'\ntls_cert = '{0}/one.pem'\ntls_key = 'FOLDER/key'\n\
         clients = [{{ client_id = 'crm', client_secret = 'x' }}]\n",
        tls.display()
    );
    place.change("[api]\n", &tls);
    place.file("key", include_str!("../tls/one.key"), 0o600);
    // The client's secret stands in the configuration itself.
    place.change("client_secret = 'x'", "client_secret_file = 'FOLDER/secret'");
    let found = place.ask(0);
    let amiss = amiss(&found);
    assert_eq!(amiss.len(), 1, "{amiss:#?}");
    assert_eq!((&amiss[0]["check"], &amiss[0]["state"]), (&"daemon".into(), &"warning".into()));
    let checks: Vec<_> =
        found.iter().map(|found| found["check"].as_str().unwrap()).filter(|check| *check != "user").collect();
    assert_eq!(
        checks,
        [
            "configuration",
            "database",
            "file system",
            "space",
            "socket",
            "daemon",
            "open files",
            "drop folder",
            "TLS files",
            "credentials of default",
            "clock",
            "limits of default",
            "retention"
        ]
    );
    assert!(!place.path("data/q.db").exists() && !place.path("drop/default").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn each_fault_is_reported_with_advice() {
    struct Broken {
        what: &'static str,
        /// In the configuration.
        change: (&'static str, String),
        breaks: fn(&Place),
        exit: i32,
        check: &'static str,
        state: &'static str,
        detail: &'static str,
        advice: &'static str,
    }
    let same = || ("", String::new());
    let date = identity_at("Sun, 06 Nov 1994 08:49:37 GMT");
    // No program listens at port 1, and the system never assigns it as a free port.
    let closed = "identity_url = 'http://127.0.0.1:1/identity'\nclient_id".to_owned();
    for Broken { what, change, breaks, exit, check, state, detail, advice } in [
        Broken {
            what: "the database's folder is missing",
            change: same(),
            breaks: |place| fs::remove_dir(place.path("data")).unwrap(),
            exit: 1,
            check: "database",
            state: "fault",
            detail: "the folder FOLDER/data can't be read: No such file or directory (os error 2)",
            advice: "make it, for the service's user (install -d -o marqueue FOLDER/data)",
        },
        Broken {
            what: "the socket's folder is missing",
            change: same(),
            breaks: |place| fs::remove_dir(place.path("run")).unwrap(),
            exit: 1,
            check: "socket",
            state: "fault",
            detail: "the folder FOLDER/run can't be read: No such file or directory (os error 2)",
            advice: "make it, for the service's user (install -d -o marqueue FOLDER/run)",
        },
        Broken {
            what: "a foreign file is where the socket belongs",
            change: same(),
            breaks: |place| place.file("run/m.sock", "mine", 0o600),
            exit: 1,
            check: "socket",
            state: "fault",
            detail: "FOLDER/run/m.sock exists and is no socket",
            advice: "move it away, or choose another api.socket",
        },
        Broken {
            what: "another program listens there",
            change: same(),
            breaks: |place| {
                let listener = UnixListener::bind(place.path("run/m.sock")).unwrap();
                std::thread::spawn(move || {
                    for stream in listener.incoming() {
                        let mut stream = stream.unwrap();
                        asked(&mut stream, b"\r\n\r\n");
                        let _ = stream.write_all(b"220 mail.example ESMTP\r\n");
                    }
                });
            },
            exit: 1,
            check: "socket",
            state: "fault",
            detail: "the process that listens at FOLDER/run/m.sock is no marqueue (",
            advice: "see what it is (ss -xlp), and stop it or choose another api.socket",
        },
        Broken {
            what: "the file at the database's place is none",
            change: same(),
            breaks: |place| place.file("data/q.db", "this is no database at all\n".repeat(500), 0o600),
            exit: 1,
            check: "database",
            state: "fault",
            detail: "FOLDER/data/q.db: it can't be read: error returned from database: (code: 26) file is not a database",
            advice: "stop the daemon, keep the file and those beside it, and restore a copy (docs/operations.md, Restore)",
        },
        Broken {
            what: "the secret is wrong",
            change: same(),
            breaks: |place| place.file("secret", format!("not {SECRET}"), 0o600),
            exit: 1,
            check: "credentials of default",
            state: "fault",
            detail: "Marketo's identity endpoint refused the credentials: HTTP 401 ",
            advice: "copy id and secret again from Admin > Integration > LaunchPoint into [instances.default]",
        },
        Broken {
            what: "the identity endpoint can't be reached",
            change: ("client_id", closed.clone()),
            breaks: |_| {},
            exit: 1,
            check: "credentials of default",
            state: "fault",
            detail: "no token from Marketo's identity endpoint: ",
            advice: "make sure that this machine reaches IDENTITY (name, firewall, proxy), and that it is the right address",
        },
        Broken {
            what: "no clock can be compared",
            change: ("client_id", closed.clone()),
            breaks: |_| {},
            exit: 1,
            check: "clock",
            state: "warning",
            detail: "no identity endpoint returned its time",
            advice: "make sure that the clock is synchronised (timedatectl)",
        },
        Broken {
            what: "the clock is wrong",
            change: ("client_id", format!("identity_url = '{date}'\nclient_id")),
            breaks: |_| {},
            exit: 1,
            check: "clock",
            state: "fault",
            detail: "it is ",
            advice: "synchronise it with NTP (timedatectl set-ntp true)",
        },
        Broken {
            what: "the certificate is another key's",
            change: (
                "[api]\n",
                "[api]\nlisten = '127.0.0.1:0'\ntls_cert = 'FOLDER/cert'\ntls_key = 'FOLDER/key'\n\
                 clients = [{ client_id = 'crm', client_secret_file = 'FOLDER/secret' }]\n"
                    .to_owned(),
            ),
            breaks: |place| {
                place.file("cert", include_str!("../tls/two.pem"), 0o644);
                place.file("key", include_str!("../tls/one.key"), 0o600);
            },
            exit: 1,
            check: "TLS files",
            state: "fault",
            detail: "api.tls_cert and api.tls_key can't be used together: ",
            advice: "name a certificate and its own key, both in PEM form, that this user may read",
        },
        Broken {
            what: "everyone can read the secret",
            change: same(),
            breaks: |place| place.file("secret", SECRET, 0o644),
            exit: 0,
            check: "configuration",
            state: "warning",
            detail: "instances.default.client_secret_file names FOLDER/secret, which every user of this machine can read",
            advice: "remove the permission (chmod o-r), and replace the secret if others use this machine",
        },
        Broken {
            what: "a file was refused",
            change: same(),
            breaks: |place| {
                fs::create_dir(place.path("drop/rejected")).unwrap();
                place.file("drop/rejected/a.csv", "x", 0o600);
                place.file("drop/rejected/a.csv.reason.txt", "why", 0o600);
            },
            exit: 0,
            check: "drop folder",
            state: "warning",
            detail: "1 file rejected in FOLDER/drop/rejected",
            advice: "read the .reason.txt beside each, correct it and drop it in again, or remove both",
        },
        Broken {
            what: "a job.toml is not valid",
            change: same(),
            breaks: |place| {
                fs::create_dir_all(place.path("drop/default/leads")).unwrap();
                place.file("drop/default/leads/job.toml", "gruop = 1", 0o600);
                place.file("drop/default/leads/job.toml.reason.txt", "why", 0o600);
                // One that was removed is no fault.
                fs::create_dir_all(place.path("drop/default/custom-objects/car_c")).unwrap();
                place.file("drop/default/custom-objects/car_c/job.toml.reason.txt", "why", 0o600);
            },
            exit: 0,
            check: "drop folder",
            state: "warning",
            detail: "job.toml of FOLDER/drop/default/leads was not valid when the daemon read it",
            advice: "read job.toml.reason.txt beside it and correct it",
        },
        Broken {
            what: "the disk has no room for the largest file",
            change: ("[api]\n", "[api]\nmax_file_bytes = 9223372036854775807\n".to_owned()),
            breaks: |_| {},
            exit: 0,
            check: "space",
            state: "warning",
            detail: "",
            advice: "make room, or lower api.max_file_bytes",
        },
        Broken {
            what: "everyone may use the socket",
            change: ("[api]\n", "[api]\nsocket_mode = '0666'\n".to_owned()),
            breaks: |_| {},
            exit: 0,
            check: "socket",
            state: "warning",
            detail: "api.socket_mode 0666 lets every user of this machine use the daemon",
            advice: "\"0660\" leaves it to the service's user and group",
        },
        Broken {
            what: "a key is unknown",
            change: ("[drop]\n", "[drop]\npaht = 'x'\n".to_owned()),
            breaks: |_| {},
            exit: 2,
            check: "configuration",
            state: "fault",
            detail: "drop.paht is not a known key: expected `path` or `settle` (in FOLDER/m.toml)",
            advice: "correct the key; config/marqueue.toml of the source explains every one",
        },
        Broken {
            what: "the secret's file is missing",
            change: same(),
            breaks: |place| fs::remove_file(place.path("secret")).unwrap(),
            exit: 2,
            check: "configuration",
            state: "fault",
            detail: "instances.default.client_secret_file names FOLDER/secret, which cannot be read: No such file",
            advice: "correct the key; config/marqueue.toml of the source explains every one",
        },
    ] {
        let mut place = Place::new().await;
        if !change.0.is_empty() {
            // Of several keys that end so, the first.
            let old = if change.0 == "client_id" { "client_id = 'simulator'" } else { change.0 };
            place.change(old, &change.1.replace("\nclient_id", "\nclient_id = 'simulator'"));
        }
        breaks(&place);
        let identity = place.config.lines().find_map(|line| line.strip_prefix("identity_url = ")).unwrap_or_default();
        let here = |text: &str| {
            let folder = place.env.folder.path().display().to_string();
            text.replace("FOLDER", &folder).replace("IDENTITY", identity.trim_matches('\''))
        };
        let all = place.ask(exit);
        let found = all
            .iter()
            .find(|found| found["check"] == check && found["state"] == state)
            .unwrap_or_else(|| panic!("{what}: {all:#?}"));
        assert!(found["detail"].as_str().unwrap().starts_with(&here(detail)), "{what}: {found}");
        assert_eq!(found["advice"], here(advice), "{what}");
        let others = amiss(&all).into_iter().filter(|other| *other != found && other["check"] != "daemon");
        // Without an answer there is no time either.
        let others: Vec<_> = others.filter(|_| change.1 != closed).collect();
        assert!(others.is_empty(), "{what} is all: {others:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn permissions_are_checked_for_the_calling_user() {
    let place = Place::new().await;
    fs::set_permissions(place.path("data"), Permissions::from_mode(0o500)).unwrap();
    let tools = tempfile::tempdir().unwrap();
    let binary = tools.path().join("marqueue");
    let root = fs::metadata("/proc/self").unwrap().uid() == 0;
    if root {
        // The binary's folder may be closed to other users.
        // By another process: a child of another test that begins meanwhile would hold ours open, and "text file busy"
        // follow.
        assert!(Command::new("cp").arg(crate::support::binary()).arg(&binary).status().unwrap().success());
        for open in [tools.path(), place.env.folder.path()] {
            fs::set_permissions(open, Permissions::from_mode(0o755)).unwrap();
        }
        for own in ["run", "drop", "secret"] {
            chown(place.path(own), Some(OTHER), Some(OTHER)).unwrap();
        }
    }
    let found = place.ask_with(1, |words| {
        if !root {
            return place.command(crate::support::binary(), words);
        }
        let mut command = place.command(&binary, words);
        command.uid(OTHER).gid(OTHER);
        command
    });
    assert!(found.iter().all(|found| found["check"] != "user"), "{found:#?}");
    let refused = of(&found, "database");
    let detail = refused["detail"].as_str().unwrap();
    assert!(detail.starts_with("user ") && detail.ends_with("/data: Permission denied (os error 13)"), "{detail}");
    assert_eq!(
        refused["advice"],
        "run the check as the service does (sudo marqueue-service doctor; without systemd: as its user), or give that user the rights (chown, chmod)"
    );
    fs::set_permissions(place.path("data"), Permissions::from_mode(0o700)).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_checks_a_running_and_a_killed_daemon_alike() {
    let mut env = TestEnv::new(quick()).await;
    env.config = "\n[instances.gone]\nbase_url = 'BASE'\nclient_id = 'simulator'\nclient_secret = 'secret'"
        .replace("BASE", env.simulator.base_url());
    env.start().await;
    env.json("POST", "/v1/instances/gone/pause").await;
    env.add("target=leads&filename=a.csv&instance=gone", leads(&["a@example.com"])).await;
    env.config.clear();
    env.write_config();
    fs::set_permissions(env.config_file(), Permissions::from_mode(0o600)).unwrap();
    let ask = |env: &TestEnv| {
        let mut command = crate::cli_env::binary();
        command.arg("doctor").arg("--config").arg(env.config_file()).arg("--json");
        command.env("MARQUEUE_SOCKET", env.socket());
        let found = crate::cli_env::run(command, "").expect(0).json();
        found.as_array().unwrap().clone()
    };
    let found = ask(&env);
    let detail = of(&found, "daemon")["detail"].as_str().unwrap();
    assert!(detail.starts_with(&format!("marqueue {} answers at ", env!("CARGO_PKG_VERSION"))), "{detail}");
    let checks: Vec<_> = amiss(&found).iter().map(|found| found["check"].as_str().unwrap()).collect();
    assert_eq!(checks, ["jobs", "uploads of gone"], "{found:#?}");
    let jobs = of(&found, "jobs");
    assert_eq!(jobs["detail"], "1 job waits for instance gone, which is not in the configuration");
    assert_eq!(jobs["advice"], "write [instances.gone] again, or cancel them (marqueue list, marqueue cancel ID)");

    env.kill();
    let before = all_of(env.folder.path());
    let found = ask(&env);
    assert!(all_of(env.folder.path()) == before, "something was written");
    assert_eq!(of(&found, "database")["state"], "fine");
    assert_eq!(of(&found, "jobs")["detail"], jobs["detail"]);
    assert_eq!(of(&found, "daemon")["advice"], "start one (systemctl start marqueue, or marqueue serve)");
}
