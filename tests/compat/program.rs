//! The same program against Marketo and against the daemon: equal responses.

use marqueue::simulator::Settings;
use reqwest::Method;
use serde_json::{Value, json};

use crate::compat_env::{CRM, FORM, Program, env_with_clients, form};
use crate::support::{TestEnv, quick};

/// One kind of import: where it is created, what it is asked by, and a file with rows that fail and rows with warnings.
struct Way {
    create: &'static str,
    about: fn(i64, &str) -> String,
    file: &'static str,
}

const WAYS: [Way; 3] = [
    Way {
        create: "/bulk/v1/leads.json?format=csv&lookupField=email&listId=7&partitionName=EU",
        about: |id, what| match what {
            "status" => format!("/bulk/v1/leads/batch/{id}.json"),
            file => format!("/bulk/v1/leads/batch/{id}/{file}.json"),
        },
        file: "email,firstName\nann@example.com,Ann\nb@example.com,!fail:No such person\nc@example.com,!warn:Odd name\n",
    },
    Way {
        create: "/bulk/v1/customobjects/car_c/import.json?format=ssv",
        about: |id, what| format!("/bulk/v1/customobjects/car_c/import/{id}/{what}.json"),
        file: "vin;color\n1;red\n2;!fail:No such color\n3;!warn:Odd color\n",
    },
    Way {
        create: "/bulk/v1/program/1044/members/import.json?format=tsv&programMemberStatus=On%20List",
        about: |id, what| format!("/bulk/v1/program/members/import/{id}/{what}.json"),
        file: "email\tfirstName\nann@example.com\tAnn\nb@example.com\t!fail:No such member\nc@example.com\t!warn:Odd\n",
    },
];

/// Everything that a program reads of an import, but for the ids and how long it took.
async fn read(program: &Program, way: &Way, file: &str) -> Value {
    let mask = |mut answer: Value| {
        let result = &mut answer["result"][0];
        assert_eq!(
            result["importId"],
            result["batchId"].as_i64().map_or(Value::Null, |id| {
                if result["objectApiName"].is_null() { json!(id.to_string()) } else { Value::Null }
            })
        );
        for (key, masked) in [("batchId", json!(0)), ("importId", json!("0")), ("importTime", json!("0 second(s)"))] {
            if !result[key].is_null() {
                result[key] = masked;
            }
        }
        let id = answer["requestId"].take();
        assert!(id.as_str().is_some_and(|id| id.contains('#')), "{id}");
        answer
    };
    let (http, mut created) = program.upload(way.create, form(&[], file, &[])).await;
    assert_eq!(http, 200, "{created}");
    let id = created["result"][0]["batchId"].as_i64().expect("a number");
    // An idle Marketo may have begun already.
    created["result"][0]["status"] = json!("Queued");
    let ended = program.ended(&(way.about)(id, "status")).await;
    let failures = program.file(&(way.about)(id, "failures")).await;
    let warnings = program.file(&(way.about)(id, "warnings")).await;
    // What stands in the body of a bare status is not documented.
    let of_file =
        |(http, kind, text): (u16, String, String)| if http == 200 { json!([kind, text]) } else { json!(http) };
    json!({
        "created": mask(created),
        "ended": mask(ended),
        "failures": of_file(failures),
        "warnings": of_file(warnings),
    })
}

#[tokio::test]
async fn responses_equal_marketos_over_tcp_and_the_socket() {
    let env = env_with_clients(CRM).await;
    let marketo = Program::new(env.simulator.base_url()).logged_in("simulator", "secret").await;
    let over_tcp = Program::of(&env, "crm").await;
    let on_socket = Program::on_socket(&env).logged_in("crm", "crm-secret-4711").await;
    for way in &WAYS {
        // Once with rows that fail and are warned of, once without, where there are no such files.
        let fine = way.file.lines().take(2).map(|line| format!("{line}\n")).collect::<String>();
        for file in [way.file, &fine] {
            let real = read(&marketo, way, file).await;
            assert_eq!(real["ended"]["result"][0]["status"], "Complete");
            assert_eq!(read(&over_tcp, way, file).await, real, "{} over TCP", way.create);
            assert_eq!(read(&on_socket, way, file).await, real, "{} over the socket", way.create);
        }
    }
}

#[tokio::test]
async fn parameters_reach_marketo_unchanged() {
    let env = env_with_clients(CRM).await;
    let program = Program::of(&env, "crm").await;
    for way in &WAYS {
        let id = program.import(way.create, way.file).await;
        program.ended(&(way.about)(id, "status")).await;
    }
    let ledger = env.simulator.call_log();
    let sent: Vec<String> = ledger
        .accepted()
        .map(|create| {
            let query: Vec<String> = create.query.iter().map(|(name, value)| format!("{name}={value}")).collect();
            format!("{}?{}", create.path, query.join("&"))
        })
        .collect();
    assert_eq!(
        sent,
        [
            "/bulk/v1/leads.json?format=csv&listId=7&lookupField=email&partitionName=EU",
            "/bulk/v1/customobjects/car_c/import.json?format=ssv",
            "/bulk/v1/program/1044/members/import.json?format=tsv&programMemberStatus=On List",
        ]
    );
    let files: Vec<_> = ledger.accepted().filter_map(|create| create.file.as_ref()).map(|file| &file.name).collect();
    assert_eq!(files, ["people.csv"; 3]);
}

#[tokio::test]
async fn status_is_queued_then_importing_and_failed_if_cancelled() {
    let mut env = TestEnv::new(Settings { importing: 1, ..quick() }).await;
    env.start().await;
    let program = Program::on_socket(&env).logged_in("any", "thing").await;
    assert_eq!(env.json("POST", "/v1/instances/default/pause").await.0, 200);
    let stuck = "email,firstName\na@example.com,!stuck\n";
    let [first, second] =
        [program.import("/bulk/v1/leads.json", stuck).await, program.import("/bulk/v1/leads.json", stuck).await];
    let status = async |id| program.get(&format!("/bulk/v1/leads/batch/{id}.json")).await.1["result"][0].take();
    let waiting = status(first).await;
    assert_eq!((&waiting["status"], &waiting["numOfLeadsProcessed"]), (&json!("Queued"), &json!(0)));
    // There are no files yet: an empty one would mean that no row has failed.
    for file in ["failures", "warnings"] {
        let path = format!("/bulk/v1/leads/batch/{first}/{file}.json");
        assert_eq!(program.file(&path).await, (404, String::new(), String::new()));
    }
    assert_eq!(env.json("POST", &format!("/v1/jobs/{second}/cancel")).await.0, 200);
    let cancelled = status(second).await;
    assert_eq!(cancelled["status"], "Failed");
    assert_eq!(cancelled["message"], "Import cancelled before it was done");
    assert_eq!(env.json("POST", "/v1/instances/default/resume").await.0, 200);
    env.until("it is importing", async |_| (status(first).await["status"] == "Importing").then_some(())).await;
    env.simulator.end_stuck_imports();
    let ended = program.ended(&format!("/bulk/v1/leads/batch/{first}.json")).await;
    assert_eq!(ended["result"][0]["status"], "Complete");
    let failures = program.file(&format!("/bulk/v1/leads/batch/{first}/failures.json")).await;
    assert_eq!(failures, (200, "text/csv;charset=UTF-8".into(), String::new()));
}

#[tokio::test]
async fn failed_import_carries_marketos_message() {
    let env = env_with_clients(CRM).await;
    let program = Program::of(&env, "crm").await;
    let id = program.import("/bulk/v1/leads.json", "email,x\na@example.com,!batch-failed:Out of order\n").await;
    let ended = program.ended(&format!("/bulk/v1/leads/batch/{id}.json")).await;
    assert_eq!(ended["result"][0]["status"], "Failed");
    assert!(ended["result"][0]["message"].as_str().expect("a message").contains("Out of order"), "{ended}");
}

#[tokio::test]
async fn each_response_has_a_request_id_which_is_logged() {
    let env = env_with_clients(CRM).await;
    let program = Program::of(&env, "crm").await;
    let request = program.call(Method::POST, "/bulk/v1/leads.json").header("content-type", FORM);
    let request = request.header("x-request-id", "my-call-17").body(form(&[], "email,x\na@example.com,1\n", &[]));
    let answer = request.send().await.expect("an answer");
    assert_eq!(answer.headers()["x-request-id"], "my-call-17");
    let answer: Value = answer.json().await.expect("JSON");
    let log = env.log();
    let line = log.lines().find(|line| line.contains("file accepted")).expect("the line");
    for id in ["my-call-17", answer["requestId"].as_str().expect("an id"), "client crm"] {
        assert!(line.contains(id), "{id}: {line}");
    }
    // Without one of the program's, ours stands there: a file has no other place for it.
    let id = answer["result"][0]["batchId"].as_i64().expect("an id");
    let failures = program.call(Method::GET, &format!("/bulk/v1/leads/batch/{id}/failures.json")).send().await;
    assert!(failures.expect("an answer").headers()["x-request-id"].to_str().expect("text").contains('#'));
}
