//! Measures what a browser waits for: the first load of the page, and the list of jobs with 100,000 of them. The browser's
//! own time is in `tests/system/browser.sh`.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use marqueue::simulator::Settings;

use crate::accepts::body;
use crate::bench_daemon::BenchDaemon;
use crate::client::Client;
use crate::scale::fill::copy_job;
use crate::{Report, median};

const JOBS: u64 = 100_000;
const ROUNDS: usize = 15;
const FIRST_LOAD_BYTES: usize = 100_000;
/// The target of a request that somebody waits for.
const LIST: Duration = Duration::from_millis(50);

/// Requests for the list, as the page makes them.
const LISTS: [(&str, &str); 5] = [
    ("all", "/v1/jobs?limit=50"),
    ("one state, which none has", "/v1/jobs?limit=50&state=failed"),
    ("a part of the file's name, which all have", "/v1/jobs?limit=50&q=leads"),
    ("a part of the file's name, which none has", "/v1/jobs?limit=50&q=nothing"),
    ("one instance and target", "/v1/jobs?limit=50&instance=default&target=leads"),
];

pub async fn measure(report: &mut Report) {
    report.part(&format!("page: {JOBS} ended jobs"));
    let settings = Settings { import_base: Duration::ZERO, import_per_row: Duration::ZERO, ..Settings::default() };
    let mut daemon = BenchDaemon::start(settings, "polling = { min = \"100ms\", max = \"1s\" }\n").await;
    let (status, _) = daemon.client().ask("POST", "/v1/jobs?target=leads&filename=leads.csv", body(0).as_bytes());
    assert_eq!(status, 201);
    crate::packing::wait_for_end(&daemon).await;
    daemon.pause();
    daemon.stop();
    copy_job(&daemon.database(), "complete", JOBS - 1).await;
    daemon.start_again();

    let mut client = daemon.client();
    let (document, files) = first_load(&mut client);
    let bytes = files.iter().map(|file| file.1).sum::<usize>() + document.1;
    let figure = format!("{bytes} bytes in {} requests", files.len() + 1);
    report.target("first load", &figure, "< 100000 bytes", bytes < FIRST_LOAD_BYTES);
    report.figure("until the first paint", &format!("{} bytes in 1 request", document.1));
    let loads = (0..ROUNDS).map(|_| timed(|| drop(first_load(&mut client)))).collect();
    report.figure("first load, one request after the other", &format!("{:.1} ms", median(loads)));
    for (what, path) in LISTS {
        let mut bytes = 0;
        let times = (0..ROUNDS).map(|_| {
            timed(|| {
                let (status, answer) = client.ask("GET", path, b"");
                assert_eq!(status, 200);
                bytes = answer.len();
            })
        });
        let time = median(times.collect());
        let reached = time < LIST.as_secs_f64() * 1e3;
        report.target(&format!("list: {what}"), &format!("{time:.1} ms, {bytes} bytes"), "< 50 ms", reached);
    }
    for (what, path) in [("status", "/v1/status"), ("statistics of a day", "/v1/stats?window=24h&step=15m")] {
        let times = (0..ROUNDS).map(|_| timed(|| assert_eq!(client.ask("GET", path, b"").0, 200))).collect();
        report.figure(what, &format!("{:.1} ms", median(times)));
    }
}

/// Loads the document and each file that it names, compressed. Returns the path and the bytes of each.
fn first_load(client: &mut Client) -> ((String, usize), Vec<(String, usize)>) {
    let get = |client: &mut Client, path: &str, encoding: &str| {
        let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\naccept-encoding: {encoding}\r\n\r\n");
        let (status, answer) = client.send(request.as_bytes());
        assert_eq!(status, 200, "{path}");
        answer
    };
    let document = get(client, "/", "identity");
    let text = String::from_utf8(document).expect("a document of text");
    let named = text.split("\"ui/").skip(1).filter_map(|rest| rest.split('"').next());
    let files: BTreeSet<String> = named.map(|name| format!("/ui/{name}")).collect();
    assert!(!files.is_empty(), "the document names its scripts");
    let compressed = get(client, "/", "gzip").len();
    let files = files.into_iter().map(|path| {
        let bytes = get(client, &path, "gzip").len();
        (path, bytes)
    });
    (("/".to_owned(), compressed), files.collect())
}

/// Returns the milliseconds that it takes.
fn timed(run: impl FnOnce()) -> f64 {
    let began = Instant::now();
    run();
    began.elapsed().as_secs_f64() * 1e3
}
