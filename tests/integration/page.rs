//! The page for browsers: its documents and files, the headers that protect them, and the path prefix.

use serde_json::Value;

use crate::browser::{Answer, Browser};
use crate::support::{TestEnv, quick};

/// One GET over the socket.
async fn get(env: &TestEnv, path: &str, headers: &[(&str, &str)]) -> Answer {
    Browser::over_socket(env).get(path, headers).await
}

#[tokio::test]
async fn socket_serves_the_page_with_a_strict_policy() {
    let env = TestEnv::with_daemon(quick()).await;
    let page = get(&env, "/", &[]).await;
    assert_eq!((page.status, page.header("content-type")), (200, "text/html; charset=utf-8"));
    let policy = page.header("content-security-policy");
    for directive in [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'sha256-",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    ] {
        assert!(policy.contains(directive), "{directive}: {policy}");
    }
    assert!(!policy.contains("unsafe"), "{policy}");
    assert_eq!(page.header("x-content-type-options"), "nosniff");
    assert_eq!(page.header("cache-control"), "no-store");
    let session = get(&env, "/ui/session", &[]).await.json();
    assert_eq!((&session["client"], &session["version"]), (&Value::Null, &env!("CARGO_PKG_VERSION").into()));
}

#[tokio::test]
async fn files_of_the_page_are_revalidated_by_their_etag() {
    let env = TestEnv::with_daemon(quick()).await;
    let script = get(&env, "/ui/app.js", &[]).await;
    assert_eq!((script.status, script.header("content-type")), (200, "text/javascript; charset=utf-8"));
    assert_eq!(script.header("cache-control"), "no-cache");
    let etag = script.header("etag");
    let again = get(&env, "/ui/app.js", &[("if-none-match", etag)]).await;
    assert_eq!((again.status, again.text.as_str(), again.header("etag")), (304, "", etag));
    assert_eq!(get(&env, "/ui/app.js", &[("if-none-match", "\"other\"")]).await.status, 200);
    assert_eq!(get(&env, "/ui/none.js", &[]).await.status, 404);
    let http = reqwest::Client::builder().unix_socket(env.socket()).no_proxy().build().expect("a client");
    let posted = http.post("http://localhost/ui/app.js").send().await.expect("an answer");
    assert_eq!(posted.status(), 405);
}

#[tokio::test]
async fn page_and_files_are_compressed_where_the_browser_takes_it() {
    let env = TestEnv::with_daemon(quick()).await;
    let http = reqwest::Client::builder().unix_socket(env.socket()).no_proxy().build().expect("a client");
    for path in ["/", "/ui/app.js"] {
        let plain = get(&env, path, &[]).await;
        assert_eq!((plain.header("content-encoding"), plain.header("vary")), ("", "accept-encoding"), "{path}");
        let packed = http.get(format!("http://localhost{path}")).header("accept-encoding", "gzip").send().await;
        let packed = packed.expect("an answer");
        assert_eq!(
            (&packed.headers()["content-encoding"], &packed.headers()["vary"]),
            (&"gzip".parse().unwrap(), &"accept-encoding".parse().unwrap())
        );
        assert_ne!(
            packed.headers().get("etag").map(|tag| tag.as_bytes()),
            Some(plain.header("etag").as_bytes()),
            "{path}"
        );
        assert_eq!(packed.headers()["content-type"], plain.headers["content-type"]);
        let bytes = packed.bytes().await.expect("whole");
        assert!(bytes.starts_with(&[0x1f, 0x8b]) && bytes.len() < plain.text.len(), "{path}");
    }
    let etag =
        http.get("http://localhost/ui/app.js").header("accept-encoding", "gzip").send().await.expect("an answer");
    let etag = etag.headers()["etag"].to_str().expect("text").to_owned();
    let again = get(&env, "/ui/app.js", &[("accept-encoding", "gzip"), ("if-none-match", &etag)]).await;
    assert_eq!((again.status, again.header("etag")), (304, etag.as_str()));
}

#[tokio::test]
async fn page_and_api_are_served_below_the_prefix_and_without_it() {
    let mut env = TestEnv::new(quick()).await;
    env.api = "ui_prefix = \"/tools/queue\"".into();
    env.start().await;
    for path in ["/", "/ui/app.js", "/v1/status", "/healthz"] {
        for prefix in ["", "/tools/queue"] {
            assert_eq!(get(&env, &format!("{prefix}{path}"), &[]).await.status, 200, "{prefix}{path}");
        }
    }
    let page = get(&env, "/tools/queue?state=failed", &[]).await;
    assert_eq!((page.status, page.header("location")), (303, "/tools/queue/?state=failed"));
    assert_eq!(get(&env, "/tools/queues/v1/status", &[]).await.status, 404);
}

#[tokio::test]
async fn a_page_that_is_switched_off_is_not_served() {
    let mut env = TestEnv::new(quick()).await;
    env.api = "ui = false".into();
    env.start().await;
    for path in ["/", "/ui/app.js", "/ui/session"] {
        assert_eq!(get(&env, path, &[]).await.status, 404, "{path}");
    }
    assert_eq!(get(&env, "/v1/status", &[]).await.status, 200);
}
