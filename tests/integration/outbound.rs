//! Outgoing connections: proxies of the environment, and responses without an end.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use marqueue::simulator::Call;

use crate::support::{TestEnv, quick};

const FILE: &str = "email,firstName\nann@example.com,Ann\n";

/// Accepts connections on a thread of its own, which ends with the process.
fn listen(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("its address");
    let serve = Arc::new(serve);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let serve = serve.clone();
            thread::spawn(move || serve(stream));
        }
    });
    address.to_string()
}

/// A proxy that refuses everything, and the first lines that it received.
fn proxy() -> (String, Arc<Mutex<Vec<String>>>) {
    let received = Arc::new(Mutex::new(Vec::new()));
    let lines = received.clone();
    let address = listen(move |mut stream| {
        let mut line = String::new();
        BufReader::new(&stream).read_line(&mut line).ok();
        lines.lock().expect("not poisoned").push(line.trim_end().to_owned());
        stream.write_all(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").ok();
    });
    (address, received)
}

#[tokio::test]
async fn only_https_uses_the_proxy_of_the_environment() {
    let (address, received) = proxy();
    let (delivered, hook) = (Arc::new(Mutex::new(0)), TcpListener::bind("127.0.0.1:0").expect("a free port"));
    let hook_url = format!("http://{}/ended", hook.local_addr().expect("its address"));
    let counted = delivered.clone();
    thread::spawn(move || {
        for mut stream in hook.incoming().flatten() {
            BufReader::new(&stream).read_line(&mut String::new()).ok();
            *counted.lock().expect("not poisoned") += 1;
            stream.write_all(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n").ok();
        }
    });
    let mut env = TestEnv::new(quick()).await;
    for name in ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"] {
        env.environment.push((name, format!("http://{address}")));
    }
    // Its identity is on this machine, and the rest of it is not.
    env.config = format!(
        "[instances.eu]\nbase_url = \"https://marketo.invalid\"\nidentity_url = \"{}/identity\"\n\
         client_id = \"simulator\"\nclient_secret = \"secret\"\nbackoff_min = \"20ms\"\nbackoff_max = \"50ms\"\n\
         [notify]\nurl = \"{hook_url}\"\n",
        env.simulator.base_url()
    );
    env.start().await;
    let here = env.add("target=leads&format=csv", FILE).await.id;
    env.add("target=leads&format=csv&instance=eu", FILE).await;
    env.ended(here).await;
    env.until("the upload goes to the proxy", async |_| {
        (!received.lock().expect("not poisoned").is_empty()).then_some(())
    })
    .await;
    env.until("the webhook gets the notification", async |_| {
        (*delivered.lock().expect("not poisoned") > 0).then_some(())
    })
    .await;
    // One token for each of the two instances, from the simulator itself.
    assert!(env.simulator.call_log().calls_of(Call::Token) >= 2);
    let mut doctor = std::process::Command::new(crate::support::binary());
    doctor.args(["doctor", "--json", "--config"]).arg(env.config_file());
    doctor.envs(env.environment.iter().map(|(name, value)| (name, value)));
    let ran = tokio::task::spawn_blocking(move || doctor.output()).await;
    let output = ran.expect("it does not panic").expect("the doctor runs");
    let found = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(found.matches("issued a token for them").count(), 2, "{found}");
    let received = received.lock().expect("not poisoned").clone();
    assert!(received.iter().all(|line| line == "CONNECT marketo.invalid:443 HTTP/1.1"), "{received:?}");
}

#[tokio::test]
async fn an_endless_identity_response_is_cut_off() {
    let sent = Arc::new(Mutex::new(Vec::new()));
    let ends = sent.clone();
    let address = listen(move |mut stream| {
        BufReader::new(&stream).read_line(&mut String::new()).ok();
        let mut bytes = 0_u64;
        let mut piece = &b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{\"access_token\":\""[..];
        // A gigabyte is as good as no end.
        while stream.write_all(piece).is_ok() && bytes < 1 << 30 {
            bytes += piece.len() as u64;
            piece = &[b'a'; 65_536];
        }
        ends.lock().expect("not poisoned").push(bytes);
    });
    let mut env = TestEnv::new(quick()).await;
    env.config = format!(
        "[instances.eu]\nbase_url = \"http://{address}\"\nclient_id = \"i\"\nclient_secret = \"s\"\n\
         backoff_min = \"20ms\"\nbackoff_max = \"50ms\"\n"
    );
    env.start().await;
    env.add("target=leads&format=csv&instance=eu", FILE).await;
    let most = env
        .until("two answers are cut off", async |_| {
            let sent = sent.lock().expect("not poisoned");
            (sent.len() >= 2).then(|| *sent.iter().max().expect("some"))
        })
        .await;
    // What the sockets' own buffers hold comes on top of what is read.
    assert!(most < 64 << 20, "{most} bytes were taken");
    assert!(env.most_memory() < 200 << 20, "{} bytes", env.most_memory());
    let status = env.json("GET", "/v1/status").await.1;
    assert!(status["instances"]["eu"]["pause"].is_null());
}
