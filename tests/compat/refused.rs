//! Refused calls: they have Marketo's shapes and store nothing.

use reqwest::Method;
use serde_json::json;

use crate::compat_env::{CRM, FORM, Program, code, env_with_clients, form, json as read};

const LEADS: &str = "/bulk/v1/leads.json";
const MEMBERS: &str = "/bulk/v1/program/1044/members/import.json";
const FILE: &str = "email,firstName\nann@example.com,Ann\n";

#[tokio::test]
async fn a_bad_upload_has_its_code_and_leaves_nothing() {
    let mut env = crate::support::TestEnv::new(crate::support::quick()).await;
    env.api = format!("listen = \"127.0.0.1:0\"\nmax_file_bytes = 1000000\n{CRM}");
    env.start().await;
    let program = Program::of(&env, "crm").await;
    let good = form(&[], FILE, &[]);
    let two = format!("{}{good}", good.strip_suffix("--a-boundary--\r\n").expect("its end"));
    let cut = good[..good.len() - 6].to_owned();
    let unnamed = good.replace("name=\"file\"", "name=\"upload\"");
    let many = (0..101).map(|_| ("x", "y")).collect::<Vec<_>>();
    let long = "v".repeat(5000);
    for (path, body, expected) in [
        (LEADS, two, "1003"),
        (LEADS, cut, "613"),
        (LEADS, "nothing of a form".into(), "613"),
        (LEADS, good.replace("Content-Disposition", "Disposition"), "1003"),
        (LEADS, unnamed, "1003"),
        (LEADS, form(&many, FILE, &[]), "1003"),
        (LEADS, form(&[("x", &long)], FILE, &[]), "1003"),
        (LEADS, form(&[], "", &[]), "1003"),
        (LEADS, form(&[], "email,firstName\n", &[]), "1003"),
        (LEADS, form(&[("format", "xml")], FILE, &[]), "1001"),
        (LEADS, form(&[], FILE, &[("format", "xml")]), "1001"),
        (LEADS, form(&[("format", "csv")], FILE, &[("format", "tsv")]), "1003"),
        (LEADS, form(&[], FILE, &[("listId", "x")]), "1001"),
        (LEADS, form(&[], FILE, &[("lookupField", "id")]), "1006"),
        (MEMBERS, form(&[], FILE, &[]), "1002"),
        (MEMBERS, form(&[("programMemberStatus", "Member")], "id,x\n1,2\n", &[]), "1006"),
        (MEMBERS, form(&[("programMemberStatus", "a\tb")], FILE, &[]), "1003"),
        ("/bulk/v1/customobjects/car%20c/import.json", good.clone(), "1013"),
        ("/bulk/v1/program/x/members/import.json", good.clone(), "610"),
        ("/bulk/v1/leads", good.clone(), "610"),
        ("/rest/v1/leads.json", good.clone(), "610"),
    ] {
        let (http, answer) = program.upload(path, body.clone()).await;
        assert_eq!((http, code(&answer)), (200, expected), "{path}: {body}: {answer}");
    }
    let plain = program.call(Method::POST, LEADS).header("content-type", "text/csv").body(FILE).send().await;
    let (http, answer) = read(plain.expect("an answer")).await;
    assert_eq!((http, code(&answer)), (200, "612"));
    let nameless = program.call(Method::POST, LEADS).header("content-type", "multipart/form-data").body(good.clone());
    assert_eq!(code(&read(nameless.send().await.expect("an answer")).await.1), "613");
    // Both with a Content-Length and in chunks.
    let large = form(&[], &format!("{FILE}{}", "b@example.com,Bob\n".repeat(200_000)), &[]);
    let (http, answer) = program.upload(LEADS, large.clone()).await;
    assert_eq!((http, code(&answer)), (413, "413"));
    let pieces: Vec<Result<String, std::io::Error>> = vec![Ok(large)];
    let (http, _) = program.upload(LEADS, reqwest::Body::wrap_stream(futures_util::stream::iter(pieces))).await;
    assert_eq!(http, 413);

    assert_eq!(env.json("GET", "/v1/jobs").await.1["jobs"], json!([]));
    let (http, answer) = program.upload(LEADS, good).await;
    assert_eq!((http, &answer["success"]), (200, &json!(true)), "and a good one is taken after all that");
}

#[tokio::test]
async fn a_missing_report_of_an_object_is_404_without_a_body() {
    let env = env_with_clients(CRM).await;
    let program = Program::of(&env, "crm").await;
    let id = program.import("/bulk/v1/customobjects/car_c/import.json", "vin,x\n1,1\n").await;
    let import = format!("/bulk/v1/customobjects/car_c/import/{id}");
    // Neither while it runs nor when it has ended.
    for _ in 0..2 {
        for file in ["failures", "warnings"] {
            let answer = program.call(Method::GET, &format!("{import}/{file}.json")).send().await.expect("an answer");
            assert_eq!(answer.status(), 404);
            assert!(answer.headers().contains_key("x-request-id"));
            assert_eq!(answer.bytes().await.expect("whole"), "");
        }
        program.ended(&format!("{import}/status.json")).await;
    }
}

#[tokio::test]
async fn a_method_that_a_path_does_not_have_is_605() {
    let env = env_with_clients(CRM).await;
    let program = Program::of(&env, "crm").await;
    for (method, path) in [
        (Method::GET, LEADS),
        (Method::PUT, LEADS),
        (Method::POST, "/bulk/v1/leads/batch/1.json"),
        (Method::DELETE, "/bulk/v1/leads/batch/1/failures.json"),
    ] {
        let (http, answer) = read(program.call(method.clone(), path).send().await.expect("an answer")).await;
        assert_eq!((http, code(&answer)), (200, "605"), "{method} {path}");
        assert_eq!(answer["errors"][0]["message"], format!("Request method '{method}' not supported"));
    }
}

#[tokio::test]
async fn an_unknown_import_id_of_any_form_is_1013() {
    let env = env_with_clients(CRM).await;
    let program = Program::of(&env, "crm").await;
    let id = program.import(LEADS, FILE).await;
    assert_eq!(program.get(&format!("/bulk/v1/leads/batch/{id}.json")).await.1["success"], true);
    for id in
        ["0", "2", "-1", "+1", "1.0", "x", "%20", "9223372036854775807", "99999999999999999999", "1%2F2", "%22%3E"]
    {
        for path in [
            format!("/bulk/v1/leads/batch/{id}.json"),
            format!("/bulk/v1/leads/batch/{id}/failures.json"),
            format!("/bulk/v1/customobjects/car_c/import/{id}/status.json"),
            format!("/bulk/v1/program/members/import/{id}/warnings.json"),
        ] {
            let (http, answer) = program.get(&path).await;
            assert_eq!((http, code(&answer)), (200, "1013"), "{path}");
        }
    }
    // One kind's import is not another's.
    for path in [
        format!("/bulk/v1/customobjects/car_c/import/{id}/status.json"),
        format!("/bulk/v1/program/members/import/{id}/status.json"),
        format!("/bulk/v1/program/members/import/{id}/failures.json"),
    ] {
        assert_eq!(code(&program.get(&path).await.1), "1013", "{path}");
    }
}

#[tokio::test]
async fn a_call_without_a_valid_token_is_601_unread() {
    let env = env_with_clients(CRM).await;
    let program = Program::of(&env, "crm").await;
    let refused = Program { token: "made-up".into(), ..program.clone() };
    let unauthenticated = Program { token: String::new(), ..program.clone() };
    for (program, path) in [
        (&refused, LEADS.to_owned()),
        (&unauthenticated, LEADS.to_owned()),
        (&unauthenticated, "/bulk/v1/nothing.json".to_owned()),
        (&unauthenticated, "/instances/nowhere/bulk/v1/leads.json".to_owned()),
    ] {
        let (http, answer) = program.upload(&path, form(&[], FILE, &[])).await;
        assert_eq!((http, code(&answer)), (200, "601"), "{path}");
        assert_eq!(answer["errors"][0]["message"], "Access token invalid");
    }
    let basic = program.http.post(format!("{}{LEADS}", program.base)).basic_auth("crm", Some("crm-secret-4711"));
    let basic = basic.header("content-type", FORM).body(form(&[], FILE, &[])).send().await.expect("an answer");
    assert_eq!(code(&read(basic).await.1), "601");
    assert_eq!(env.json("GET", "/v1/jobs").await.1["jobs"], json!([]));
}
