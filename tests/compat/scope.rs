//! Scope of a client: its own jobs, on the instances that it may use, in both APIs.

use marqueue::domain::JobId;
use reqwest::Method;
use serde_json::{Value, json};

use crate::compat_env::{CRM, Program, WEB, code, env_with_clients, form, json as read};
use crate::support::{TestEnv, quick};

const LEADS: &str = "/bulk/v1/leads.json";
const FILE: &str = "email,x\na@example.com,1\n";

#[tokio::test]
async fn another_clients_import_is_not_found() {
    let env = env_with_clients(&format!("{CRM}{WEB}")).await;
    let (crm, web) = (Program::of(&env, "crm").await, Program::of(&env, "web").await);
    let id = crm.import(LEADS, "email,x\na@example.com,!fail:No\n").await;
    crm.ended(&format!("/bulk/v1/leads/batch/{id}.json")).await;
    let own = env.add("target=leads&format=csv", FILE).await.id;
    let (_, unknown) = web.get("/bulk/v1/leads/batch/999.json").await;
    for id in [id, own.0] {
        for about in [format!("{id}.json"), format!("{id}/failures.json"), format!("{id}/warnings.json")] {
            let (http, answer) = web.get(&format!("/bulk/v1/leads/batch/{about}")).await;
            assert_eq!((http, code(&answer)), (200, "1013"), "{about}");
            let message = answer["errors"][0]["message"].as_str().expect("a message");
            assert_eq!(message.replace(&id.to_string(), "999"), unknown["errors"][0]["message"]);
        }
    }
    // The socket gives access to all jobs.
    assert_eq!(Program::on_socket(&env).get(&format!("/bulk/v1/leads/batch/{id}.json")).await.1["success"], true);
}

#[tokio::test]
async fn native_api_over_tcp_shows_a_client_only_its_jobs() {
    let env = env_with_clients(&format!("{CRM}{WEB}")).await;
    let (crm, web) = (Program::of(&env, "crm").await, Program::of(&env, "web").await);
    let unauthenticated = Program { token: String::new(), ..crm.clone() };
    for path in ["/v1/jobs", "/v1/jobs/1", "/v1/status", "/v1/events", "/v1/nothing"] {
        let answer = unauthenticated.call(Method::GET, path).send().await.expect("an answer");
        assert_eq!(
            (answer.status().as_u16(), &answer.headers()["www-authenticate"]),
            (401, &"Bearer".parse().unwrap())
        );
        assert_eq!(answer.headers()["content-type"], "application/problem+json", "{path}");
    }
    for path in ["/healthz", "/readyz"] {
        assert_eq!(unauthenticated.file(path).await.0, 200, "{path}");
    }

    let create = |program: &Program| {
        program.call(Method::POST, "/v1/jobs?target=leads&format=csv").header("idempotency-key", "k").body(FILE)
    };
    let mut events = web.call(Method::GET, "/v1/events").send().await.expect("an answer");
    let (http, job) = read(create(&crm).send().await.expect("an answer")).await;
    assert_eq!((http, &job["source"]), (201, &json!({"type": "client", "client_id": "crm"})));
    let id = job["id"].as_i64().expect("an id");
    assert_eq!(read(create(&crm).send().await.expect("an answer")).await.0, 200, "its own key is known");
    for (method, path) in [
        (Method::GET, ""),
        (Method::GET, "/history"),
        (Method::GET, "/explain"),
        (Method::GET, "/file"),
        (Method::GET, "/failures"),
        (Method::GET, "/warnings"),
        (Method::POST, "/cancel"),
        (Method::POST, "/retry"),
    ] {
        let path = format!("/v1/jobs/{id}{path}");
        let (http, answer) = read(web.call(method.clone(), &path).send().await.expect("an answer")).await;
        assert_eq!((http, &answer["detail"]), (404, &json!(format!("there is no job {id}"))), "{method} {path}");
    }
    // What binds an import to a job is no client's, not even for a job of its own: Marketo has the imports of all.
    for path in [&format!("/v1/jobs/{id}/settle?part=1&marketo_batch_id=1"), "/v1/retention"] {
        for client in [&crm, &web] {
            let (http, answer) = read(client.call(Method::POST, path).send().await.expect("an answer")).await;
            assert_eq!(http, 403, "{path}: {answer}");
        }
    }
    assert_eq!(crm.get(&format!("/v1/jobs/{id}?wait=60s")).await.1["state"], "complete");
    let (http, own) = read(create(&web).send().await.expect("an answer")).await;
    assert_eq!(http, 201, "another client's key is not its own: {own}");
    let listed =
        |page: Value| page["jobs"].as_array().expect("jobs").iter().map(|job| job["id"].clone()).collect::<Vec<_>>();
    assert_eq!(listed(crm.get("/v1/jobs").await.1), [json!(id)]);
    assert_eq!(listed(web.get("/v1/jobs").await.1), [own["id"].clone()]);
    assert_eq!(listed(env.json("GET", "/v1/jobs").await.1).len(), 2);
    assert_eq!(crm.get("/v1/status").await.1["instances"]["default"]["queue"]["held"], json!([]));
    // The first event that web receives is about its own job, though crm's was over before.
    let mut received = String::new();
    while !received.contains("\n\n") {
        received += &String::from_utf8_lossy(&events.chunk().await.expect("more").expect("more"));
    }
    let data = received.lines().find_map(|line| line.strip_prefix("data: ")).expect("data");
    assert_eq!(serde_json::from_str::<Value>(data).expect("JSON")["job"]["id"], own["id"]);
}

#[tokio::test]
async fn a_key_of_a_retry_belongs_to_its_client() {
    let mut env = env_with_clients(&format!("{CRM}{WEB}")).await;
    let (crm, web) = (Program::of(&env, "crm").await, Program::of(&env, "web").await);
    let file = "email,x\na@example.com,!fail:No\n";
    let [theirs, own] = [crm.import(LEADS, file).await, web.import(LEADS, file).await];
    for id in [theirs, own] {
        env.ended(JobId(id)).await;
    }
    let retry = async |program: &Program, id: i64| {
        let path = format!("/v1/jobs/{id}/retry?rows=failed");
        read(program.call(Method::POST, &path).header("idempotency-key", "k").send().await.expect("an answer")).await
    };
    let (http, made) = retry(&crm, theirs).await;
    assert_eq!((http, &made["retry_of"]), (201, &json!(theirs)));
    // The same key is another one for another client, and the other client's job stays out of reach.
    let (http, answer) = retry(&web, theirs).await;
    assert_eq!((http, &answer["detail"]), (404, &json!(format!("there is no job {theirs}"))));
    let (http, of_web) = retry(&web, own).await;
    assert_eq!((http, &of_web["retry_of"]), (201, &json!(own)));
    let (http, again) = retry(&crm, theirs).await;
    assert_eq!((http, &again["id"]), (200, &made["id"]));
    // A user of the socket reaches every job, and no client's key.
    let (http, by_socket) = retry(&Program::on_socket(&env), theirs).await;
    assert_eq!((http, &by_socket["source"]["type"]), (201, &json!("socket")), "{by_socket}");
}

#[tokio::test]
async fn path_picks_an_instance_that_the_client_may_use() {
    let mut env = TestEnv::new(quick()).await;
    let other = TestEnv::new(quick()).await;
    env.api = format!("listen = \"127.0.0.1:0\"\n{CRM}{WEB}instances = [\"eu\"]\n");
    env.config = format!(
        "limits = {{ calls = 5000, window = \"1s\" }}\n[instances.eu]\nbase_url = {:?}\nclient_id = \"simulator\"\n\
         client_secret = \"secret\"\npolling = {{ min = \"10ms\", max = \"200ms\" }}\n",
        other.simulator.base_url()
    );
    env.start().await;
    let (crm, web) = (Program::of(&env, "crm").await, Program::of(&env, "web").await);
    // Its address is all that a program has to change.
    let base = format!("http://{}/instances/eu", env.tcp_address().await);
    let in_eu = Program::new(base).logged_in("web", "web-secret-4712").await;
    assert_eq!(in_eu.token, web.token);
    let id = in_eu.import(LEADS, FILE).await;
    assert_eq!(in_eu.ended(&format!("/bulk/v1/leads/batch/{id}.json")).await["result"][0]["status"], "Complete");
    assert_eq!((other.simulator.call_log().imports.len(), env.simulator.call_log().imports.len()), (1, 0));
    let theirs = crm.import("/instances/eu/bulk/v1/leads.json", FILE).await;
    assert_eq!(code(&crm.get(&format!("/bulk/v1/leads/batch/{theirs}.json")).await.1), "1013", "it is eu's");
    assert_eq!(crm.get(&format!("/instances/eu/bulk/v1/leads/batch/{theirs}.json")).await.1["success"], true);

    for path in ["/instances/default/bulk/v1/leads.json", "/instances/nowhere/bulk/v1/leads.json"] {
        assert_eq!(code(&web.upload(path, form(&[], FILE, &[])).await.1), "603", "{path}");
    }
    assert_eq!(code(&web.get(&format!("/instances/default/bulk/v1/leads/batch/{id}.json")).await.1), "603");
    // A program that keeps only the host of its address means the only instance that it may use.
    assert_eq!(web.get(&format!("/bulk/v1/leads/batch/{id}.json")).await.1["success"], true);
    let (_, answer) = crm.upload("/instances/nowhere/bulk/v1/leads.json", form(&[], FILE, &[])).await;
    assert_eq!(code(&answer), "610");
    for (instance, http) in [("eu", 200), ("default", 401), ("nowhere", 401)] {
        let program = Program::new(format!("http://{}/instances/{instance}", env.tcp_address().await));
        assert_eq!(program.login("web", "web-secret-4712").await.0, http, "{instance}");
    }

    // And so by the native API.
    let add = "/v1/jobs?target=leads&format=csv&instance";
    for (path, http) in [
        (format!("{add}=default"), 403),
        (format!("{add}=nowhere"), 403),
        ("/v1/instances/default/pause".into(), 403),
        ("/v1/instances/nowhere/resume".into(), 403),
        ("/v1/instances/eu/pause".into(), 200),
        ("/v1/instances/eu/resume".into(), 200),
    ] {
        let answer = web.call(Method::POST, &path).body(FILE).send().await.expect("an answer");
        assert_eq!(answer.status(), http, "{path}");
    }
    let instances = web.get("/v1/status").await.1["instances"].as_object().expect("instances").clone();
    assert_eq!(instances.keys().collect::<Vec<_>>(), ["eu"]);
}

#[tokio::test]
async fn client_without_a_path_uses_its_default_instance() {
    let mut env = TestEnv::new(quick()).await;
    let other = TestEnv::new(quick()).await;
    env.api = format!("listen = \"127.0.0.1:0\"\n{CRM}instance = \"eu\"\n{WEB}");
    env.config = format!(
        "limits = {{ calls = 5000, window = \"1s\" }}\n[instances.eu]\nbase_url = {:?}\nclient_id = \"simulator\"\n\
         client_secret = \"secret\"\npolling = {{ min = \"10ms\", max = \"200ms\" }}\n",
        other.simulator.base_url()
    );
    env.start().await;
    let crm = Program::of(&env, "crm").await;
    let id = crm.import(LEADS, FILE).await;
    let status = format!("/bulk/v1/leads/batch/{id}.json");
    assert_eq!(crm.ended(&status).await["result"][0]["status"], "Complete");
    assert_eq!((other.simulator.call_log().imports.len(), env.simulator.call_log().imports.len()), (1, 0));
    assert_eq!(crm.get(&format!("/instances/eu{status}")).await.1["success"], true);
    assert_eq!(code(&crm.get(&format!("/instances/default{status}")).await.1), "1013");
    // The token in a form says whose instance it is; the native API means the same one.
    let unauthenticated = Program { token: String::new(), ..crm.clone() };
    let (_, answer) = unauthenticated.upload(LEADS, form(&[], FILE, &[("access_token", &crm.token)])).await;
    let job = env.json("GET", &format!("/v1/jobs/{}", answer["result"][0]["batchId"])).await.1;
    assert_eq!(job["instance"], "eu");
    let native = crm.call(Method::POST, "/v1/jobs?target=leads&format=csv").body(FILE).send().await;
    assert_eq!(read(native.expect("an answer")).await.1["instance"], "eu");

    let log = env.log();
    let warned = |id: &str| log.contains(&format!("client {id} may use several instances (default, eu)"));
    assert_eq!((warned("crm"), warned("web")), (false, true));
    let mut doctor = tokio::process::Command::new(crate::support::binary());
    let doctor = doctor.args(["doctor", "--config"]).arg(env.config_file()).output().await.expect("it runs");
    let printed = String::from_utf8(doctor.stdout).expect("text");
    assert!(
        printed.contains("client web may use several instances (default, eu)") && !printed.contains("client crm may"),
        "{printed}"
    );
}
