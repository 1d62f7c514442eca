//! Browser: requests to the page and the API as a browser makes them, with what was answered.

use reqwest::header::HeaderMap;
use reqwest::{Client, ClientBuilder, Method, redirect};
use serde_json::Value;

use crate::support::TestEnv;

/// An entry of `api.clients` that [`GOOD_LOGIN`] fits.
pub const CLIENTS: &str = "[[api.clients]]\nclient_id = \"crm\"\nclient_secret = \"right secret\"\n";
/// The form of a login that succeeds.
pub const GOOD_LOGIN: &str = "client_id=crm&client_secret=right+secret";

/// A browser that follows nothing and adds no header of its own.
pub struct Browser {
    pub http: Client,
    pub base: String,
}

/// What was answered.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub text: String,
}

impl Answer {
    /// The value of a header; empty where it is missing.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("text"))
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }
}

pub fn client() -> ClientBuilder {
    Client::builder().no_proxy().redirect(redirect::Policy::none())
}

impl Browser {
    pub async fn over_tcp(env: &TestEnv) -> Browser {
        let http = client().build().expect("a client");
        Browser { http, base: format!("http://{}", env.tcp_address().await) }
    }

    pub fn over_socket(env: &TestEnv) -> Browser {
        let http = client().unix_socket(env.socket()).build().expect("a client");
        Browser { http, base: "http://localhost:8437".into() }
    }

    async fn send(&self, method: Method, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let mut request = self.http.request(method, format!("{}{path}", self.base)).body(body.to_owned());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = request.send().await.expect("an answer");
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        Answer { status, headers, text: answer.text().await.expect("text") }
    }

    pub async fn get(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.send(Method::GET, path, headers, "").await
    }

    pub async fn post(&self, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        self.send(Method::POST, path, headers, body).await
    }

    /// Logs in, and returns the cookie as a browser sends it, with the session's token.
    pub async fn log_in(&self) -> (String, String) {
        let answer = self.post("/ui/login", &[("origin", &self.base)], GOOD_LOGIN).await;
        assert_eq!(answer.status, 303, "{answer:?}");
        let cookie = answer.header("set-cookie").split(';').next().expect("a cookie").to_owned();
        let session = self.get("/ui/session", &[("cookie", &cookie)]).await;
        let token = session.json()["csrf_token"].as_str().expect("a token").to_owned();
        (cookie, token)
    }
}
