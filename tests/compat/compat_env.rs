//! An environment with clients over TCP, and a program that was written for Marketo.

use std::time::Duration;

use reqwest::{Method, RequestBuilder, Response};
use serde_json::Value;

use crate::support::{TestEnv, quick};

pub const CRM: &str = "[[api.clients]]\nclient_id = \"crm\"\nclient_secret = \"crm-secret-4711\"\n";
pub const WEB: &str = "[[api.clients]]\nclient_id = \"web\"\nclient_secret = \"web-secret-4712\"\n";

pub const FORM: &str = "multipart/form-data; boundary=a-boundary";

/// An environment whose daemon listens on TCP too, with these entries for clients.
pub async fn env_with_clients(clients: &str) -> TestEnv {
    let mut env = TestEnv::new(quick()).await;
    env.api = format!("listen = \"127.0.0.1:0\"\n{clients}");
    env.start().await;
    env
}

/// A program that was made for Marketo.
#[derive(Clone)]
pub struct Program {
    pub base: String,
    pub http: reqwest::Client,
    pub token: String,
}

impl Program {
    /// Over TCP, without a token yet.
    pub fn new(base: impl Into<String>) -> Program {
        let http = reqwest::Client::builder().no_proxy().build().expect("a client");
        Program { base: base.into(), http, token: String::new() }
    }

    /// Over TCP, with the token of this client.
    pub async fn of(env: &TestEnv, id: &str) -> Program {
        let secret = if id == "crm" { "crm-secret-4711" } else { "web-secret-4712" };
        Program::new(format!("http://{}", env.tcp_address().await)).logged_in(id, secret).await
    }

    /// Over the Unix socket, without a token yet.
    pub fn on_socket(env: &TestEnv) -> Program {
        let http = reqwest::Client::builder().unix_socket(env.socket()).no_proxy().build().expect("a client");
        Program { base: "http://marqueue".into(), http, token: String::new() }
    }

    pub async fn logged_in(mut self, id: &str, secret: &str) -> Program {
        let (status, token) = self.login(id, secret).await;
        assert_eq!(status, 200, "{token}");
        self.token = token["access_token"].as_str().expect("a token").to_owned();
        self
    }

    pub async fn login(&self, id: &str, secret: &str) -> (u16, Value) {
        let form = [("grant_type", "client_credentials"), ("client_id", id), ("client_secret", secret)];
        json(self.http.post(format!("{}/identity/oauth/token", self.base)).form(&form).send().await.expect("an answer"))
            .await
    }

    /// A call with the token, if there is one.
    pub fn call(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.base));
        if self.token.is_empty() { request } else { request.bearer_auth(&self.token) }
    }

    pub async fn get(&self, path: &str) -> (u16, Value) {
        json(self.call(Method::GET, path).send().await.expect("an answer")).await
    }

    pub async fn post(&self, path: &str) -> (u16, Value) {
        json(self.call(Method::POST, path).send().await.expect("an answer")).await
    }

    /// Status, type and bytes of a file.
    pub async fn file(&self, path: &str) -> (u16, String, String) {
        let answer = self.call(Method::GET, path).send().await.expect("an answer");
        let kind = answer.headers().get("content-type").map_or("", |kind| kind.to_str().expect("text")).to_owned();
        (answer.status().as_u16(), kind, answer.text().await.expect("text"))
    }

    /// Uploads a form.
    pub async fn upload(&self, path: &str, form: impl Into<reqwest::Body>) -> (u16, Value) {
        let request = self.call(Method::POST, path).header("content-type", FORM).body(form);
        json(request.send().await.expect("an answer")).await
    }

    /// Uploads a file alone and gives its batch id.
    pub async fn import(&self, path: &str, file: &str) -> i64 {
        let (_, answer) = self.upload(path, form(&[], file, &[])).await;
        answer["result"][0]["batchId"].as_i64().unwrap_or_else(|| panic!("{path}: {answer}"))
    }

    /// The status when it is `Complete` or `Failed`.
    pub async fn ended(&self, path: &str) -> Value {
        let patience = tokio::time::Instant::now() + Duration::from_secs(120);
        loop {
            let (_, answer) = self.get(path).await;
            let status = answer["result"][0]["status"].as_str().unwrap_or_else(|| panic!("{path}: {answer}"));
            if matches!(status, "Complete" | "Failed") {
                return answer;
            }
            assert!(matches!(status, "Queued" | "Importing"), "{answer}");
            assert!(tokio::time::Instant::now() < patience, "in vain: {path}: {answer}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

pub async fn json(answer: Response) -> (u16, Value) {
    let status = answer.status().as_u16();
    (status, serde_json::from_slice(&answer.bytes().await.expect("whole")).unwrap_or(Value::Null))
}

/// A form of fields, a file, and fields.
pub fn form(before: &[(&str, &str)], file: &str, behind: &[(&str, &str)]) -> String {
    let field = |(name, value): &(&str, &str)| {
        format!("--a-boundary\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
    };
    let fields = |fields: &[(&str, &str)]| fields.iter().map(field).collect::<String>();
    let file = format!(
        "--a-boundary\r\nContent-Disposition: form-data; name=\"file\"; filename=\"people.csv\"\r\n\
         Content-Type: text/csv\r\n\r\n{file}\r\n"
    );
    format!("{}{file}{}--a-boundary--\r\n", fields(before), fields(behind))
}

/// The code of a refusal in Marketo's shape.
pub fn code(answer: &Value) -> &str {
    assert_eq!(answer["success"], false, "{answer}");
    assert!(answer["result"].is_null(), "{answer}");
    let id = answer["requestId"].as_str().expect("a requestId");
    let (short, long) = id.split_once('#').expect("Marketo's shape");
    assert!([short, long].iter().all(|part| part.bytes().all(|byte| byte.is_ascii_hexdigit())), "{id}");
    answer["errors"][0]["code"].as_str().expect("a code that is text")
}
