//! The OpenAPI description: a real daemon has exactly the operations that it names. `tests/system/openapi.sh` compares
//! the responses with it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::{TestEnv, leads, quick};

const METHODS: [&str; 5] = ["get", "post", "put", "patch", "delete"];

/// Every path with every method: whether it is described.
fn calls(document: &Value) -> Vec<(String, &'static str, bool)> {
    let paths = document["paths"].as_object().expect("paths");
    paths
        .iter()
        .flat_map(|(path, operations)| METHODS.map(|method| (path.clone(), method, operations.get(method).is_some())))
        .collect()
}

fn filled(path: &str) -> String {
    let values =
        [("{id}", "1"), ("{batchId}", "1"), ("{programId}", "1044"), ("{apiName}", "car_c"), ("{name}", "default")];
    values.iter().fold(path.to_owned(), |path, (name, value)| path.replace(name, value))
}

/// All objects of a document that hold this key, with what it holds.
fn all<'a>(value: &'a Value, key: &str, found: &mut Vec<&'a Value>) {
    match value {
        Value::Object(fields) => {
            found.extend(fields.get(key));
            fields.values().for_each(|value| all(value, key, found));
        }
        Value::Array(values) => values.iter().for_each(|value| all(value, key, found)),
        _ => {}
    }
}

#[tokio::test]
async fn described_operations_are_exactly_those_served() {
    let mut env = TestEnv::with_daemon(quick()).await;
    let job = env.add("target=leads&format=csv", leads(&["a@example.com"])).await;
    env.ended(job.id).await;
    let http = reqwest::Client::builder().unix_socket(env.socket()).no_proxy().build().expect("a client");
    let document: Value = serde_json::from_str(&env.get("/openapi.json").await).expect("JSON");
    let mut described = 0;
    for (path, method, expected) in calls(&document) {
        let address = format!("http://daemon{}", filled(&path));
        let method = method.to_ascii_uppercase();
        let request = http.request(method.parse().expect("a method"), address);
        let answer = request.send().await.expect("an answer");
        let status = answer.status().as_u16();
        let there = if path == "/v1/events" && status == 200 {
            true
        } else {
            let text = answer.text().await.expect("text");
            !(status == 405
                || text.contains("there is no route")
                || text.contains("\"code\":\"605\"")
                || text.contains("\"code\":\"610\""))
        };
        assert_eq!(there, expected, "{method} {path}: {status}");
        described += usize::from(expected);
    }
    // Marketo's twelve and its two of the token, with an instance before them and without, are 28 of these.
    assert_eq!(described, 55);
}

#[tokio::test]
async fn openapi_needs_no_token_and_has_no_dangling_references() {
    let mut env = TestEnv::new(quick()).await;
    env.api = "listen = \"127.0.0.1:0\"\n[[api.clients]]\nclient_id = \"crm\"\nclient_secret = \"s\"".into();
    env.start().await;
    let answer = reqwest::get(format!("http://{}/openapi.json", env.tcp_address().await)).await.expect("an answer");
    assert_eq!(
        (answer.status().as_u16(), &answer.headers()["content-type"]),
        (200, &"application/json".parse().unwrap())
    );
    let document: Value = serde_json::from_slice(&answer.bytes().await.expect("whole")).expect("JSON");
    assert_eq!(document["openapi"], "3.1.0");
    let mut references = Vec::new();
    all(&document, "$ref", &mut references);
    assert!(references.len() > 50, "{}", references.len());
    for reference in references {
        let pointer = reference.as_str().and_then(|text| text.strip_prefix('#')).expect("one of its own");
        assert!(document.pointer(pointer).is_some(), "{pointer}");
    }
    let mut ids = Vec::new();
    all(&document, "operationId", &mut ids);
    assert_eq!(ids.iter().map(|id| id.to_string()).collect::<BTreeSet<_>>().len(), ids.len(), "an id stands twice");
    for (path, operations) in document["paths"].as_object().expect("paths") {
        let in_path: BTreeSet<&str> = path.split('{').skip(1).filter_map(|rest| rest.split('}').next()).collect();
        for operation in operations.as_object().expect("operations").values() {
            let parameters = operation["parameters"].as_array().expect("parameters");
            let described = parameters.iter().filter(|parameter| parameter["in"] == "path");
            let described: BTreeSet<&str> = described.filter_map(|parameter| parameter["name"].as_str()).collect();
            assert_eq!(described, in_path, "{path}");
        }
    }
}

/// A route is in the description because there is one list. This is what a second one would need.
#[test]
fn routes_come_from_the_one_list() {
    fn files(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).expect("it can be listed") {
            let path = entry.expect("it can be listed").path();
            if path.is_dir() { files(&path, found) } else { found.push(path) }
        }
    }
    let mut found = Vec::new();
    files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut found);
    let mut adders = Vec::new();
    for file in found {
        let text = fs::read_to_string(&file).expect("text");
        let text = text.split("#[cfg(test)]").next().unwrap_or_default();
        for call in [".route(", ".route_service(", ".nest(", ".nest_service("] {
            let times = text.matches(call).count();
            adders.extend(std::iter::repeat_n((file.file_name().expect("a name").to_owned(), call), times));
        }
    }
    assert_eq!(adders, [("router.rs".into(), ".route(")]);
}
