//! The page's safety: login and session over TCP, the token against cross-site requests, hosts and origins.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::browser::{Browser, CLIENTS, GOOD_LOGIN, client};
use crate::support::{TestEnv, leads, quick};

async fn env_with_clients() -> TestEnv {
    let mut env = TestEnv::new(quick()).await;
    env.api = format!("listen = \"127.0.0.1:0\"\n{CLIENTS}");
    env.start().await;
    env
}

#[tokio::test]
async fn a_login_opens_a_session_and_a_logout_ends_it() {
    let env = env_with_clients().await;
    let browser = Browser::over_tcp(&env).await;
    let refused = browser.get("/?state=failed", &[]).await;
    assert_eq!((refused.status, refused.header("location")), (303, "/ui/login?state=failed"));
    let form = browser.get("/ui/login", &[]).await;
    assert_eq!((form.status, form.header("content-type")), (200, "text/html; charset=utf-8"));
    assert!(form.header("content-security-policy").contains("form-action 'self'"));
    assert_eq!(browser.get("/ui/session", &[]).await.status, 401);

    for wrong in ["client_id=crm&client_secret=wrong", "client_id=crm", "", "client_id=&client_secret="] {
        let answer = browser.post("/ui/login", &[("origin", &browser.base)], wrong).await;
        assert_eq!((answer.status, answer.header("set-cookie")), (401, ""), "{wrong}");
        assert!(answer.text.contains("is wrong"), "{}", answer.text);
    }
    let answer = browser.post("/ui/login?state=failed", &[("origin", &browser.base)], GOOD_LOGIN).await;
    assert_eq!((answer.status, answer.header("location")), (303, "/?state=failed"));
    let given = answer.header("set-cookie");
    let (cookie, attributes) = given.split_once("; ").expect("attributes");
    assert_eq!(attributes, "Path=/; Max-Age=43200; HttpOnly; SameSite=Strict");

    assert_eq!(browser.get("/", &[("cookie", cookie)]).await.status, 200);
    let session = browser.get("/ui/session", &[("cookie", cookie)]).await.json();
    assert_eq!(session["client"], "crm");
    let token = session["csrf_token"].as_str().expect("a token");
    assert_eq!(browser.get("/ui/login", &[("cookie", cookie)]).await.status, 303);
    for path in ["/v1/jobs", "/v1/status", "/metrics"] {
        let answer = browser.get(path, &[("cookie", cookie)]).await;
        assert_eq!((answer.status, answer.header("cache-control")), (200, "no-store"), "{path}");
        assert_eq!(browser.get(path, &[]).await.status, 401, "{path}");
    }
    for wrong in ["marqueue_session=", "marqueue_session=00", "other=1"] {
        assert_eq!(browser.get("/v1/jobs", &[("cookie", wrong)]).await.status, 401, "{wrong}");
    }
    // The Marketo-compatible API needs a token.
    let status = browser.get("/bulk/v1/leads/batch/1.json", &[("cookie", cookie)]).await;
    assert!(status.text.contains("\"601\""), "{}", status.text);

    assert_eq!(browser.post("/ui/logout", &[("cookie", cookie)], "").await.status, 403);
    let out = browser.post("/ui/logout", &[("cookie", cookie), ("x-csrf-token", token)], "").await;
    assert_eq!((out.status, out.header("location")), (303, "/ui/login"));
    assert_eq!(out.header("set-cookie"), "marqueue_session=; Path=/; Max-Age=0; HttpOnly; SameSite=Strict");
    assert_eq!(browser.get("/v1/jobs", &[("cookie", cookie)]).await.status, 401);
    let log = env.log();
    assert!(log.contains("a browser logged in"), "{log}");
    let value = cookie.split('=').nth(1).expect("a value");
    for secret in ["right secret", "right+secret", value, token] {
        assert!(!log.contains(secret), "{secret}");
    }
}

#[tokio::test]
async fn a_browsers_change_needs_the_sessions_token() {
    let env = env_with_clients().await;
    let browser = Browser::over_tcp(&env).await;
    let (cookie, token) = browser.log_in().await;
    let (_, token_of_another) = browser.log_in().await;
    let file = leads(&["a@example.com"]);
    let add = "/v1/jobs?target=leads&filename=people.csv";
    for wrong in [None, Some(""), Some("wrong"), Some(token_of_another.as_str())] {
        let mut headers = vec![("cookie", cookie.as_str())];
        headers.extend(wrong.map(|token| ("x-csrf-token", token)));
        for path in [add, "/v1/jobs/1/cancel", "/v1/instances/default/pause", "/v1/none"] {
            let answer = browser.post(path, &headers, &file).await;
            assert_eq!(answer.status, 403, "{path} {wrong:?}");
            assert_eq!(answer.json()["type"], "urn:marqueue:problem:csrf-token-invalid");
        }
    }
    let headers = [("cookie", cookie.as_str()), ("x-csrf-token", token.as_str()), ("origin", browser.base.as_str())];
    let added = browser.post(add, &headers, &file).await;
    assert_eq!(added.status, 201, "{added:?}");
    assert_eq!(added.json()["source"]["client_id"], "crm");
    // Without a session the authentication refuses, whatever the token is.
    let without = [("x-csrf-token", token.as_str()), ("origin", browser.base.as_str())];
    assert_eq!(browser.post(add, &without, &file).await.status, 401);
}

#[tokio::test]
async fn a_session_names_the_instance_of_its_client() {
    let mut env = TestEnv::new(quick()).await;
    env.api = format!("listen = \"127.0.0.1:0\"\n{CLIENTS}instance = \"eu\"\n");
    env.config += &format!(
        "[instances.eu]\nbase_url = {:?}\nclient_id = \"simulator\"\nclient_secret = \"secret\"\n",
        env.simulator.base_url()
    );
    env.start().await;
    let browser = Browser::over_tcp(&env).await;
    let (cookie, _) = browser.log_in().await;
    assert_eq!(browser.get("/ui/session", &[("cookie", &cookie)]).await.json()["instance"], "eu");
    assert_eq!(Browser::over_socket(&env).get("/ui/session", &[]).await.json()["instance"], "default");
}

#[tokio::test]
async fn the_socket_needs_a_token_of_browsers_only() {
    let env = TestEnv::with_daemon(quick()).await;
    let browser = Browser::over_socket(&env);
    let pause = "/v1/instances/default/pause";
    assert_eq!(browser.post(pause, &[], "").await.status, 200);
    let session = browser.get("/ui/session", &[]).await.json();
    assert_eq!(session["client"], Value::Null);
    let token = session["csrf_token"].as_str().expect("a token");
    for sign in [
        ("origin", browser.base.as_str()),
        ("sec-fetch-site", "same-origin"),
        ("cookie", "marqueue_session=of-another"),
    ] {
        assert_eq!(browser.post(pause, &[sign], "").await.status, 403, "{sign:?}");
        assert_eq!(browser.post(pause, &[sign, ("x-csrf-token", token)], "").await.status, 200, "{sign:?}");
        assert_eq!(browser.get("/v1/status", &[sign]).await.status, 200, "{sign:?}");
    }
    for path in ["/ui/login", "/ui/login?state=failed"] {
        assert_eq!(browser.get(path, &[]).await.header("location"), path.replace("ui/login", ""));
    }
}

/// Paths of all kinds of routes.
const PATHS: [&str; 9] = [
    "/",
    "/ui/login",
    "/ui/app.js",
    "/v1/jobs",
    "/metrics",
    "/healthz",
    "/identity/oauth/token",
    "/bulk/v1/leads/batch/1.json",
    "/none",
];

#[tokio::test]
async fn no_other_site_reaches_any_route() {
    let env = env_with_clients().await;
    for browser in [Browser::over_tcp(&env).await, Browser::over_socket(&env)] {
        let own = browser.base.as_str();
        let host = own.trim_start_matches("http://");
        for path in PATHS {
            for headers in [
                &[("origin", "https://evil.example")][..],
                &[("origin", "null")],
                &[("origin", "http://127.0.0.1:1")],
                &[("origin", own), ("host", "evil.example")],
                &[("origin", "http://evil.example"), ("host", "evil.example")],
                &[("sec-fetch-site", "same-origin"), ("host", "evil.example")],
                &[("cookie", "marqueue_session=x"), ("host", "evil.example")],
                &[("sec-fetch-site", "same-site"), ("origin", "https://evil.example")],
            ] {
                let answer = browser.get(path, headers).await;
                assert_eq!(answer.status, 403, "{path} {headers:?}");
                assert_eq!(
                    (answer.header("x-content-type-options"), answer.header("cache-control")),
                    ("nosniff", "no-store")
                );
                assert!(answer.text.contains("-not-allowed") || answer.text.contains("cross-site"), "{}", answer.text);
            }
            let is_page = matches!(path, "/" | "/ui/login");
            for site in ["cross-site", "same-site"] {
                let answer = browser.get(path, &[("sec-fetch-site", site)]).await;
                assert_eq!(answer.status == 403, !is_page, "{path} {site}");
            }
            for headers in [&[("origin", own)][..], &[("sec-fetch-site", "same-origin")], &[("sec-fetch-site", "none")]]
            {
                assert_ne!(browser.get(path, headers).await.status, 403, "{path} {headers:?} at {host}");
            }
        }
    }
}

#[tokio::test]
async fn the_page_is_refused_at_unknown_hosts_without_any_header() {
    let mut env = TestEnv::new(quick()).await;
    env.api = format!("listen = \"127.0.0.1:0\"\nhosts = [\"Queue.example.com\", \"one.example:8437\"]\n{CLIENTS}");
    env.start().await;
    for browser in [Browser::over_tcp(&env).await, Browser::over_socket(&env)] {
        for (host, is_allowed) in [
            ("queue.example.com", true),
            ("queue.example.com:9000", true),
            ("one.example:8437", true),
            ("one.example:8438", false),
            ("[::1]:8437", true),
            ("127.0.0.1", true),
            ("evil.example", false),
            ("marqueue", false),
        ] {
            for path in ["/", "/ui/login", "/ui/app.js"] {
                let answer = browser.get(path, &[("host", host)]).await;
                assert_eq!(answer.status != 403, is_allowed, "{host}{path}");
            }
        }
    }
}

#[tokio::test]
async fn programs_are_served_under_any_host_name() {
    let env = env_with_clients().await;
    let programs = [Browser::over_tcp(&env).await, Browser::over_socket(&env)];
    let form = "grant_type=client_credentials&client_id=crm&client_secret=right+secret";
    for program in &programs {
        let login = program.post("/identity/oauth/token", &[("host", "daemon")], form).await;
        let token = format!("Bearer {}", login.json()["access_token"].as_str().expect("a token"));
        for headers in [
            &[("host", "queue.example.com")][..],
            &[("host", "queue.example.com"), ("origin", "https://app.example.com")],
            &[("origin", "null"), ("sec-fetch-site", "cross-site")],
        ] {
            let headers: Vec<_> = headers.iter().copied().chain([("authorization", token.as_str())]).collect();
            assert_eq!(program.get("/v1/jobs", &headers).await.status, 200, "{headers:?}");
            assert_eq!(program.post("/v1/instances/default/resume", &headers, "").await.status, 200, "{headers:?}");
        }
    }
    // Over the socket a program needs no token; a name that a site could have made is refused.
    assert_eq!(programs[1].get("/v1/jobs", &[("host", "marqueue")]).await.status, 200);
    assert_eq!(programs[1].get("/v1/jobs", &[("host", "evil.example:8437")]).await.status, 403);
    assert_eq!(programs[0].get("/healthz", &[("host", "queue.example.com")]).await.status, 200);
}

#[tokio::test]
async fn a_cross_site_link_opens_the_page_without_the_session() {
    let env = env_with_clients().await;
    let browser = Browser::over_tcp(&env).await;
    let (cookie, token) = browser.log_in().await;
    let cross = ("sec-fetch-site", "cross-site");
    // The browser sends no cookie here; one that did would not be let in by it.
    for headers in [&[cross][..], &[("cookie", &cookie), cross]] {
        let opened = browser.get("/?state=failed", headers).await;
        assert_eq!((opened.status, opened.header("refresh")), (200, "0; url=/ui/open?state=failed"), "{headers:?}");
        assert!(!opened.text.contains("script"), "{}", opened.text);
        let open = browser.get("/ui/open?state=failed", headers).await;
        assert_eq!((open.status, open.header("location")), (303, "/ui/login?state=failed"), "{headers:?}");
    }
    let own = ("sec-fetch-site", "same-origin");
    for (headers, location) in [(&[own][..], "/ui/login?state=failed"), (&[("cookie", &cookie), own], "/?state=failed")]
    {
        let open = browser.get("/ui/open?state=failed", headers).await;
        assert_eq!((open.status, open.header("location")), (303, location), "{headers:?}");
    }
    assert_eq!(browser.get("/v1/jobs", &[("cookie", &cookie), cross]).await.status, 403);
    let headers = [("cookie", cookie.as_str()), ("x-csrf-token", token.as_str()), cross];
    assert_eq!(browser.post("/v1/instances/default/pause", &headers, "").await.status, 403);
}

#[tokio::test]
async fn a_logout_ends_the_sessions_event_stream() {
    let env = env_with_clients().await;
    let browser = Browser::over_tcp(&env).await;
    let (cookie, token) = browser.log_in().await;
    let events = browser.http.get(format!("{}/v1/events", browser.base)).header("cookie", &cookie);
    let events = events.send().await.expect("a stream");
    assert_eq!(events.status(), 200);
    browser.post("/ui/logout", &[("cookie", &cookie), ("x-csrf-token", &token)], "").await;
    tokio::time::timeout(Duration::from_secs(30), events.text()).await.expect("the stream ends").expect("text");
}

#[tokio::test]
async fn wrong_logins_of_the_form_are_throttled() {
    let env = env_with_clients().await;
    let browser = Browser::over_tcp(&env).await;
    let bodies: Vec<String> = (0..24).map(|n| format!("client_id=guess-{n}&client_secret=x")).collect();
    let logins = bodies.iter().map(|body| browser.post("/ui/login", &[], body));
    let answers = futures_util::future::join_all(logins).await;
    let of_status = |status| answers.iter().filter(|answer| answer.status == status).count();
    assert!(of_status(429) > 0 && of_status(401) > 0, "{:?}", answers.iter().map(|a| a.status).collect::<Vec<_>>());
    assert_eq!(of_status(429) + of_status(401), answers.len());
}

#[tokio::test]
async fn a_restart_ends_the_sessions() {
    let mut env = env_with_clients().await;
    let browser = Browser::over_tcp(&env).await;
    let (cookie, _) = browser.log_in().await;
    env.terminate().await;
    env.start().await;
    let browser = Browser::over_tcp(&env).await;
    assert_eq!(browser.get("/v1/jobs", &[("cookie", &cookie)]).await.status, 401);
    let _again = browser.log_in().await;
}

#[tokio::test]
async fn the_cookie_is_secure_under_tls_and_has_the_prefix() {
    let mut env = TestEnv::new(quick()).await;
    let tls = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tls");
    let [cert, key] = ["one.pem", "one.key"].map(|name| tls.join(name));
    env.api =
        format!("listen = \"127.0.0.1:0\"\ntls_cert = {cert:?}\ntls_key = {key:?}\nui_prefix = \"/mq\"\n{CLIENTS}");
    env.start().await;
    let http = client().tls_danger_accept_invalid_certs(true).build().expect("a client");
    let browser = Browser { http, base: format!("https://{}", env.tcp_address().await) };
    for path in ["/ui/login", "/mq/ui/login"] {
        let answer = browser.post(path, &[("origin", &browser.base)], GOOD_LOGIN).await;
        assert_eq!((answer.status, answer.header("location")), (303, "/mq/"), "{path}");
        let attributes = "; Path=/mq; Max-Age=43200; HttpOnly; SameSite=Strict; Secure";
        assert!(answer.header("set-cookie").ends_with(attributes), "{}", answer.header("set-cookie"));
    }
    let plain = browser.base.replace("https:", "http:");
    assert_eq!(browser.post("/ui/login", &[("origin", &plain)], GOOD_LOGIN).await.status, 403);
}

#[tokio::test]
async fn a_proxy_with_tls_gets_a_secure_cookie() {
    let mut env = TestEnv::new(quick()).await;
    env.api = format!("listen = \"127.0.0.1:0\"\nhosts = [\"queue.example.com\"]\n{CLIENTS}");
    env.start().await;
    let browser = Browser::over_tcp(&env).await;
    let headers = [("host", "queue.example.com"), ("origin", "https://queue.example.com")];
    let answer = browser.post("/ui/login", &headers, GOOD_LOGIN).await;
    assert_eq!(answer.status, 303);
    assert!(answer.header("set-cookie").ends_with("; Secure"), "{}", answer.header("set-cookie"));
}
