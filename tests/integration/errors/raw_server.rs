//! Raw server: answers byte for byte as a test says, also what the simulator, which keeps to HTTP, never does.

use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// In place of a status: no answer at all, on an open connection.
const NEVER: u16 = 1;

pub struct Fake {
    base_url: String,
    accepting: JoinHandle<()>,
}

/// The head of a request.
pub struct Request {
    pub head: String,
    pub content_length: usize,
}

impl Request {
    /// With its query.
    pub fn path(&self) -> &str {
        self.head.split(' ').nth(1).unwrap_or_default()
    }
}

pub struct Answer {
    pub status: u16,
    pub content_type: &'static str,
    pub body: String,
    /// It leaves as soon as the request's head has come, and the connection is closed on the body.
    pub after_head: bool,
    /// This follows the body again and again, until the client stops reading.
    pub endless: Option<&'static str>,
}

impl Answer {
    pub fn plain(status: u16, content_type: &'static str, body: impl Into<String>) -> Answer {
        Answer { status, content_type, body: body.into(), after_head: false, endless: None }
    }

    /// The connection is closed without a word.
    pub fn nothing() -> Answer {
        Answer::plain(0, "", "")
    }

    /// The request is read, and nothing ever comes.
    pub fn never() -> Answer {
        Answer::plain(NEVER, "", "")
    }

    pub fn json(body: impl Into<String>) -> Answer {
        Answer::plain(200, "application/json;charset=UTF-8", body)
    }

    pub fn token() -> Answer {
        Answer::json(r#"{"access_token":"t","token_type":"bearer","expires_in":3600,"scope":"s"}"#)
    }

    /// Each import has a number of its own.
    pub fn created() -> Answer {
        static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(1);
        let id = NEXT.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        Answer::json(format!(r#"{{"requestId":"r","success":true,"result":[{{"batchId":{id},"status":"Queued"}}]}}"#))
    }

    pub fn complete(failed: u32) -> Answer {
        Answer::json(format!(
            r#"{{"success":true,"result":[{{"batchId":1,"status":"Complete","numOfLeadsProcessed":1,
                "numOfRowsFailed":{failed},"numOfRowsWithWarning":0,"message":"done"}}]}}"#
        ))
    }
}

impl Fake {
    pub async fn start(answers: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Fake {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let base_url = format!("http://{}", listener.local_addr().expect("its address"));
        let answers = Arc::new(answers);
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let answers = answers.clone();
                // A connection that breaks is the other side's matter.
                tokio::spawn(async move { converse(stream, &*answers).await.ok() });
            }
        });
        Fake { base_url, accepting }
    }

    /// An instance of this name, for the configuration of an environment.
    pub fn instance(&self, name: &str) -> String {
        format!(
            "[instances.{name}]\nbase_url = {:?}\nclient_id = \"i\"\nclient_secret = \"s\"\nbackoff_min = \"20ms\"\n\
             backoff_max = \"100ms\"\npolling = {{ min = \"10ms\", max = \"100ms\" }}\n\
             limits = {{ calls = 5000, window = \"1s\" }}\n",
            self.base_url
        )
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn converse(mut stream: TcpStream, answers: &(dyn Fn(&Request) -> Answer + Sync)) -> std::io::Result<()> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).await?;
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let length = head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
    let request = Request { head, content_length: length.unwrap_or(0) };
    let answer = answers(&request);
    if !answer.after_head {
        let mut body = vec![0; request.content_length];
        stream.read_exact(&mut body).await?;
    }
    let Answer { status, content_type, body, endless, .. } = answer;
    if status == 0 {
        return Ok(());
    }
    if status == NEVER {
        // The client closes the connection when it has waited for long enough.
        return stream.read(&mut [0]).await.map(drop);
    }
    let length = if endless.is_none() { format!("Content-Length: {}\r\n", body.len()) } else { String::new() };
    let text =
        format!("HTTP/1.1 {status} S\r\nContent-Type: {content_type}\r\n{length}Connection: close\r\n\r\n{body}");
    stream.write_all(text.as_bytes()).await?;
    let more = endless.map(|text| text.repeat(1_000));
    while let Some(more) = &more {
        stream.write_all(more.as_bytes()).await?;
    }
    Ok(())
}
