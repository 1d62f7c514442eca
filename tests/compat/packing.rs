//! Programs whose uploads share an import: each gets the answers that Marketo gives to an import of its own.

use marqueue::simulator::Settings;
use reqwest::Method;
use serde_json::{Value, json};

use crate::compat_env::{CRM, FORM, Program, WEB, form, json as read};
use crate::support::{TestEnv, quick};

const LEADS: &str = "/bulk/v1/leads.json";

/// A daemon that lets jobs share imports and is paused, so that uploads gather.
async fn packing_env() -> TestEnv {
    let mut env = TestEnv::new(Settings { keep_uploads: true, ..quick() }).await;
    env.api = format!("listen = \"127.0.0.1:0\"\n{CRM}{WEB}");
    env.config = "pack = true\n".to_owned();
    env.start().await;
    assert_eq!(env.request("POST", "/v1/instances/default/pause", "").await.0, 200);
    env
}

async fn resume(env: &TestEnv) {
    assert_eq!(env.request("POST", "/v1/instances/default/resume", "").await.0, 200);
}

/// The rows of each import, fewest first: two uploads may arrive in any order.
fn imported_rows(env: &TestEnv) -> Vec<u64> {
    let mut rows: Vec<u64> = env.simulator.call_log().imports.iter().map(|import| import.rows).collect();
    rows.sort_unstable();
    rows
}

/// What a program reads of an ended import, without what differs from one to another.
async fn outcome(program: &Program, id: i64) -> Value {
    let mut ended = program.ended(&format!("/bulk/v1/leads/batch/{id}.json")).await;
    assert_eq!((&ended["success"], &ended["result"][0]["batchId"]), (&json!(true), &json!(id)), "{ended}");
    ended["result"][0]["batchId"] = json!(0);
    ended["result"][0]["importId"] = json!("0");
    ended["result"][0]["importTime"] = json!("");
    let failures = program.file(&format!("/bulk/v1/leads/batch/{id}/failures.json")).await;
    let warnings = program.file(&format!("/bulk/v1/leads/batch/{id}/warnings.json")).await;
    json!({ "result": ended["result"], "failures": failures, "warnings": warnings })
}

#[tokio::test]
async fn uploads_that_share_an_import_answer_as_imports_of_their_own() {
    let mut env = packing_env().await;
    let files = [
        "email,x\na@example.com,1\nb@example.com,!fail:No b\n",
        "email,x\nc@example.com,1\n",
        "email,x\nd@example.com,!warn:Odd d\ne@example.com,!fail:No e\nf@example.com,!fail:No f",
        "\u{feff}email,x\r\ng@example.com,1\r\n",
    ];
    let program = Program::of(&env, "crm").await;
    let mut ids = Vec::new();
    for file in files {
        ids.push(program.import(LEADS, file).await);
    }
    let status = program.get(&format!("/bulk/v1/leads/batch/{}.json", ids[0])).await;
    assert_eq!(status.1["result"][0]["status"], "Queued", "{status:?}");
    resume(&env).await;
    let mut shared = Vec::new();
    for &id in &ids {
        shared.push(outcome(&program, id).await);
    }
    // The last one has another line end, and goes alone.
    assert_eq!(imported_rows(&env), [1, 6]);

    // The same files, each in an import of its own.
    env.kill();
    env.config.clear();
    env.start().await;
    let program = Program::of(&env, "crm").await;
    let mut alone = Vec::new();
    for file in &files[..3] {
        let id = program.import(LEADS, file).await;
        alone.push(outcome(&program, id).await);
    }
    assert_eq!(shared[..3], alone);
}

#[tokio::test]
async fn two_clients_never_share_an_import() {
    let env = packing_env().await;
    let (crm, web) = (Program::of(&env, "crm").await, Program::of(&env, "web").await);
    let mut uploads = Vec::new();
    for n in 0..3 {
        for (program, name) in [(&crm, "crm"), (&web, "web")] {
            let file = format!("email,x\n{name}{n}@example.com,!fail:No {name}{n}\n");
            uploads.push((program, program.import(LEADS, &file).await, format!("{name}{n}")));
        }
    }
    // A file of the socket has another client too.
    let native = env.add("target=leads&format=csv", "email,x\nnative@example.com,1\n").await;
    assert!(native.pack);
    resume(&env).await;
    for (program, id, name) in &uploads {
        let ended = outcome(program, *id).await;
        assert_eq!(
            ended["failures"][2],
            format!("email,x,Import Failure Reason\n{name}@example.com,!fail:No {name},No {name}\n")
        );
        // The other client does not see it.
        let other = if std::ptr::eq(*program, &crm) { &web } else { &crm };
        let (_, refused) =
            read(other.call(Method::GET, &format!("/bulk/v1/leads/batch/{id}.json")).send().await.expect("an answer"))
                .await;
        assert_eq!(refused["success"], false, "{refused}");
    }
    let log = env.simulator.call_log();
    assert_eq!(imported_rows(&env), [1, 3, 3]);
    for create in &log.creates {
        let content = create.file.as_ref().and_then(|file| file.content.as_ref()).expect("it is kept");
        let content = String::from_utf8_lossy(content);
        let of = ["crm", "web", "native"].iter().filter(|name| content.contains(*name)).count();
        assert_eq!(of, 1, "{content}");
    }
}

#[tokio::test]
async fn upload_with_a_fault_goes_alone() {
    let env = packing_env().await;
    let program = Program::of(&env, "crm").await;
    let mut ids = Vec::new();
    // The second has a row with a field too many, and Marketo fails that row.
    for file in ["email,x\na@example.com,1\n", "email,x\nb@example.com,1,2\n", "email,x\nc@example.com,1\n"] {
        let request = program.call(Method::POST, LEADS).header("content-type", FORM).body(form(&[], file, &[]));
        let (status, answer) = read(request.send().await.expect("an answer")).await;
        assert_eq!((status, &answer["success"]), (200, &json!(true)), "{answer}");
        ids.push(answer["result"][0]["batchId"].as_i64().expect("a number"));
    }
    resume(&env).await;
    let mut failed = Vec::new();
    for id in ids {
        failed.push(outcome(&program, id).await["result"][0]["numOfRowsFailed"].clone());
    }
    assert_eq!(failed, [0, 1, 0]);
    assert_eq!(imported_rows(&env), [1, 2]);
}
