//! Tokens of the identity endpoint: how a client gets one, and how a wrong login is refused.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};

use crate::compat_env::{CRM, Program, WEB, code, env_with_clients, json as read};
use crate::support::{TestEnv, quick};

const TOKEN: &str = "/identity/oauth/token";

#[tokio::test]
async fn credentials_may_stand_in_a_basic_header() {
    const ODD: &str = "[[api.clients]]\nclient_id = \"an id: 1\"\nclient_secret = \"a+b c%41/:x\"\n";
    let env = env_with_clients(&format!("{CRM}{ODD}")).await;
    let program = Program::new(format!("http://{}", env.tcp_address().await));
    let grant = [("grant_type", "client_credentials")];
    // As RFC 6749 has it, and as programs do that don't encode.
    for (id, secret, scope) in [
        ("crm", "crm-secret-4711", "crm"),
        ("an+id%3A+1", "a%2Bb+c%2541%2F%3Ax", "an id: 1"),
        ("an%20id%3a%201", "a%2bb%20c%2541/:x", "an id: 1"),
    ] {
        let post = program.call(Method::POST, TOKEN).basic_auth(id, Some(secret)).form(&grant);
        let get = program.call(Method::GET, &format!("{TOKEN}?grant_type=client_credentials"));
        for request in [post, get.basic_auth(id, Some(secret))] {
            let (http, token) = read(request.send().await.expect("an answer")).await;
            assert_eq!((http, &token["scope"]), (200, &json!(scope)), "{id}: {token}");
        }
    }
    let wrong = program.call(Method::POST, TOKEN).basic_auth("crm", Some("wrong")).form(&grant);
    let wrong = wrong.send().await.expect("an answer");
    assert_eq!((wrong.status().as_u16(), &wrong.headers()["www-authenticate"]), (401, &"Basic".parse().unwrap()));
    for header in ["Basic", "Basic !", "Basic Y3Jt", "Bearer x"] {
        let request = program.call(Method::POST, TOKEN).header("authorization", header).form(&grant);
        assert_eq!(request.send().await.expect("an answer").status(), 401, "{header}");
    }
    let log = env.log();
    assert!(!log.contains("Y3Jt") && !log.contains("wrong\""), "no header is in the log");
}

#[tokio::test]
async fn a_secret_with_a_percent_sign_may_be_sent_as_it_is() {
    let env = env_with_clients("[[api.clients]]\nclient_id = \"crm\"\nclient_secret = \"50%+x\"\n").await;
    let program = Program::new(format!("http://{}", env.tcp_address().await));
    let request = program.call(Method::POST, TOKEN).basic_auth("crm", Some("50%+x"));
    let request = request.form(&[("grant_type", "client_credentials")]);
    assert_eq!(request.send().await.expect("an answer").status(), 200);
}

#[tokio::test]
async fn get_and_post_return_the_same_token_for_an_hour() {
    let env = env_with_clients(&format!("{CRM}{WEB}")).await;
    let program = Program::new(format!("http://{}", env.tcp_address().await));
    let query = "grant_type=client_credentials&client_id=crm&client_secret=crm-secret-4711";
    let got = program.call(Method::GET, &format!("{TOKEN}?{query}")).send().await.expect("an answer");
    assert_eq!(
        (&got.headers()["cache-control"], &got.headers()["pragma"]),
        (&"no-store".parse().unwrap(), &"no-cache".parse().unwrap())
    );
    let (http, first) = read(got).await;
    assert_eq!((http, &first["token_type"], &first["scope"]), (200, &json!("bearer"), &json!("crm")), "{first}");
    let (http, second) = program.login("crm", "crm-secret-4711").await;
    assert_eq!((http, &second["access_token"]), (200, &first["access_token"]));
    let left = |token: &Value| token["expires_in"].as_u64().expect("a number");
    assert!(left(&first) <= 3600 && left(&second) <= left(&first) && left(&second) > 3400, "{first} {second}");
    let (_, other) = program.login("web", "web-secret-4712").await;
    assert_ne!(other["access_token"], first["access_token"]);
    assert!(first["access_token"].as_str().expect("text").len() >= 32);
}

#[tokio::test]
async fn a_refused_login_has_marketos_json_shape() {
    let env = env_with_clients(CRM).await;
    let program = Program::new(format!("http://{}", env.tcp_address().await));
    for (query, http, error) in [
        ("grant_type=client_credentials&client_id=crm&client_secret=wrong", 401, "invalid_client"),
        ("grant_type=client_credentials&client_id=nobody&client_secret=crm-secret-4711", 401, "invalid_client"),
        ("grant_type=client_credentials", 401, "invalid_client"),
        ("grant_type=password&client_id=crm&client_secret=crm-secret-4711", 400, "unsupported_grant_type"),
        ("client_id=crm&client_secret=crm-secret-4711", 400, "invalid_request"),
    ] {
        let (status, answer) = read(program.call(Method::GET, &format!("{TOKEN}?{query}")).send().await.unwrap()).await;
        assert_eq!((status, &answer["error"]), (http, &json!(error)), "{query}: {answer}");
        assert!(answer["error_description"].is_string() && answer["success"].is_null(), "{answer}");
        let form = program.call(Method::POST, TOKEN).header("content-type", "application/x-www-form-urlencoded");
        assert_eq!(form.body(query).send().await.unwrap().status(), http, "{query}");
    }
    assert_eq!(program.call(Method::PUT, TOKEN).send().await.unwrap().status(), 405);
    let long = program.call(Method::POST, TOKEN).body("x".repeat(100_000)).send().await.unwrap();
    assert_eq!(long.status(), 413);
}

#[tokio::test]
async fn wrong_logins_never_delay_a_right_one_of_their_address() {
    let env = env_with_clients(&format!("{CRM}{WEB}")).await;
    let program = Program::new(format!("http://{}", env.tcp_address().await));
    // As behind a proxy: one address for all, and the attacker knows the id.
    let failed_logins = (0..60).map(|n| {
        let program = program.clone();
        let id = if n % 2 == 0 { "crm".to_owned() } else { format!("made-up-{n}") };
        async move { program.login(&id, &format!("guess-{n}")).await.0 }
    });
    let failed_logins = tokio::spawn(futures_util::future::join_all(failed_logins));
    for _ in 0..20 {
        assert_eq!(program.login("crm", "crm-secret-4711").await.0, 200);
        assert_eq!(program.login("web", "web-secret-4712").await.0, 200);
    }
    assert!(!failed_logins.is_finished(), "the last wrong one of crm waits for seconds");
    let answers = failed_logins.await.expect("no panic");
    assert!(answers.iter().all(|status| [401, 429].contains(status)), "{answers:?}");
}

#[tokio::test]
async fn wrong_logins_one_after_the_other_are_slowed() {
    let env = env_with_clients(CRM).await;
    let program = Program::new(format!("http://{}", env.tcp_address().await));
    let began = Instant::now();
    for n in 0..4 {
        assert_eq!(program.login("crm", &format!("guess-{n}")).await.0, 401);
    }
    // 100, 200, 400 and 800 ms.
    assert!(began.elapsed() >= Duration::from_millis(1500), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_flood_of_wrong_logins_is_bounded() {
    let mut env = env_with_clients(CRM).await;
    let program = Program::new(format!("http://{}", env.tcp_address().await));
    let flood = (0..300).map(|n| {
        let program = program.clone();
        async move { program.login(&format!("made-up-{n}"), "guess").await.0 }
    });
    let answers = futures_util::future::join_all(flood).await;
    let refused_at_once = answers.iter().filter(|status| **status == 429).count();
    assert!(answers.iter().all(|status| [401, 429].contains(status)), "{answers:?}");
    assert!(refused_at_once > 0, "{answers:?}");
    let lines = env.log().matches("login refused").count();
    let slowed = answers.len() - refused_at_once;
    assert!(lines <= slowed + 2, "{lines} lines for {slowed} that waited");
    env.until("a right one gets in", async |_| (program.login("crm", "crm-secret-4711").await.0 == 200).then_some(()))
        .await;
}

#[tokio::test]
async fn socket_needs_no_token_and_checks_one_that_is_sent() {
    let mut env = TestEnv::with_daemon(quick()).await;
    let file = "email,x\na@example.com,1\n";
    let without = Program::on_socket(&env);
    let id = without.import("/bulk/v1/leads.json", file).await;
    let with = Program::on_socket(&env).logged_in("whatever", "it has").await;
    // Both identify a client of the socket.
    assert_eq!(with.get(&format!("/bulk/v1/leads/batch/{id}.json")).await.1["success"], true);
    with.import("/bulk/v1/leads.json", file).await;
    let wrong = Program { token: "made-up".into(), ..with.clone() };
    assert_eq!(code(&wrong.get(&format!("/bulk/v1/leads/batch/{id}.json")).await.1), "601");
    assert_eq!(wrong.get("/v1/jobs").await.0, 401);

    // Where there are clients, their secrets count here too.
    env.terminate().await;
    env.api = CRM.to_owned();
    env.start().await;
    let program = Program::on_socket(&env);
    assert_eq!(program.login("whatever", "it has").await.0, 401);
    assert_eq!(program.login("crm", "wrong").await.0, 401);
    let crm = program.logged_in("crm", "crm-secret-4711").await;
    assert_eq!(code(&crm.get(&format!("/bulk/v1/leads/batch/{id}.json")).await.1), "1013", "it is not crm's");
}

#[tokio::test]
async fn no_secret_and_no_token_is_ever_in_the_log() {
    let env = env_with_clients(&format!("{CRM}{WEB}")).await;
    let program = Program::of(&env, "crm").await;
    let query = "grant_type=client_credentials&client_id=leaked-id&client_secret=leaked-secret";
    program.call(Method::GET, &format!("{TOKEN}?{query}")).send().await.expect("an answer");
    program.login("web", "leaked-guess").await;
    program.import("/bulk/v1/leads.json", "email,x\nrow@example.com,1\n").await;
    let shown = Program { token: "leaked-token".into(), ..program.clone() };
    shown.get("/bulk/v1/leads/batch/1.json?access_token=leaked-too").await;
    shown.get("/v1/jobs").await;
    assert!(env.log().contains("login refused"));
    let log = env.log();
    for secret in ["crm-secret-4711", "web-secret-4712", "leaked", "row@example.com", &program.token] {
        assert!(!log.contains(secret), "{secret}");
    }
}

#[tokio::test]
async fn tokens_survive_a_restart_and_a_kill() {
    let mut env = env_with_clients(&format!("{CRM}{WEB}")).await;
    let id = Program::of(&env, "crm").await.import("/bulk/v1/leads.json", "email,x\na@example.com,1\n").await;
    let status = format!("/bulk/v1/leads/batch/{id}.json");
    let mut tokens = vec![Program::of(&env, "crm").await.token];
    for kill in [false, true] {
        if kill {
            env.kill();
        } else {
            assert!(env.terminate().await.success());
        }
        env.start().await;
        let program = Program::new(format!("http://{}", env.tcp_address().await));
        for token in &tokens {
            let program = Program { token: token.clone(), ..program.clone() };
            assert_eq!(program.get(&status).await.1["success"], true, "after a kill: {kill}");
        }
        // A login gives a new one beside them.
        let next = program.logged_in("crm", "crm-secret-4711").await;
        assert!(!tokens.contains(&next.token));
        assert_eq!(next.get(&status).await.1["success"], true);
        tokens.push(next.token);
    }
    env.terminate().await;
    // Neither a token nor a secret is in the database.
    for file in std::fs::read_dir(env.folder.path()).expect("a folder") {
        let path = file.expect("a file").path();
        if path.to_string_lossy().contains("q.db") {
            let bytes = std::fs::read(&path).expect("its bytes");
            for text in tokens.iter().map(String::as_str).chain(["crm-secret-4711"]) {
                assert!(memchr::memmem::find(&bytes, text.as_bytes()).is_none(), "{}", path.display());
            }
        }
    }
    // It ends when the secret changes, and others do not.
    let web = "web-secret-4712";
    for (clients, crm_is_good) in [
        (format!("{CRM}{WEB}"), true),
        (format!("{}{WEB}", CRM.replace("4711", "4713")), false),
        (WEB.to_owned(), false),
    ] {
        env.api = format!("listen = \"127.0.0.1:0\"\n{clients}");
        env.start().await;
        let program = Program::new(format!("http://{}", env.tcp_address().await));
        for token in &tokens {
            let program = Program { token: token.clone(), ..program.clone() };
            let (_, answer) = program.get(&status).await;
            match crm_is_good {
                true => assert_eq!(answer["success"], true, "{answer}"),
                false => assert_eq!(code(&answer), "601"),
            }
        }
        let other = program.logged_in("web", web).await;
        assert_eq!(code(&other.get(&status).await.1), "1013", "it is known, and the import is not its own");
        env.terminate().await;
    }
    // A client that is configured again has to log in again.
    env.api = format!("listen = \"127.0.0.1:0\"\n{CRM}{WEB}");
    env.start().await;
    let program = Program { token: tokens[0].clone(), ..Program::new(format!("http://{}", env.tcp_address().await)) };
    assert_eq!(code(&program.get(&status).await.1), "601");
}

#[tokio::test]
async fn a_login_works_while_the_database_can_not_be_written() {
    let mut env = env_with_clients(CRM).await;
    let base = format!("http://{}", env.tcp_address().await);
    let login = || Program::new(&base).logged_in("crm", "crm-secret-4711");
    let (database, away) = (env.database(), env.folder.path().join("away.db"));
    std::fs::rename(&database, &away).expect("moved away");
    let program = login().await;
    assert_eq!(code(&program.get("/bulk/v1/leads/batch/7.json").await.1), "1013", "the token is good");
    assert!(env.log().contains("token can't be stored"));
    assert_eq!(login().await.token, program.token);
    // Once it can be written, a login keeps the token.
    std::fs::rename(&away, &database).expect("put back");
    env.until("the token is kept", async |env| {
        let lines = env.log().matches("in memory only").count();
        assert_eq!(login().await.token, program.token);
        (env.log().matches("in memory only").count() == lines).then_some(())
    })
    .await;
    env.kill();
    env.start().await;
    let program = Program { base: format!("http://{}", env.tcp_address().await), ..program };
    assert_eq!(code(&program.get("/bulk/v1/leads/batch/7.json").await.1), "1013");
}
