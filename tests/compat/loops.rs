//! Instances whose address points back to the daemon.

use std::net::TcpListener;

use serde_json::{Value, json};
use tokio::process::Command;

use crate::compat_env::{CRM, Program};
use crate::support::{TestEnv, binary, leads, quick};

/// Returns the state and the detail of doctor's check of the address of this instance.
async fn doctor(env: &TestEnv, instance: &str) -> Option<(String, String)> {
    let doctor = Command::new(binary()).args(["doctor", "--json", "--config"]).arg(env.config_file()).output();
    // It asks the simulator, which is in this process.
    let found: Value = serde_json::from_slice(&doctor.await.expect("it runs").stdout).expect("JSON");
    let check = json!(format!("address of {instance}"));
    let finding = found.as_array().expect("findings").iter().find(|finding| finding["check"] == check)?;
    let text = |key: &str| finding[key].as_str().expect("text").to_owned();
    Some((text("state"), text("detail")))
}

#[tokio::test]
async fn instance_that_points_back_pauses_and_makes_no_jobs() {
    let mut env = TestEnv::new(quick()).await;
    // A port that is free, since the configuration has to name it twice.
    let port = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a free port").port();
    let back = format!("http://127.0.0.1:{port}");
    env.api = format!("listen = \"127.0.0.1:{port}\"\n{CRM}instances = [\"eu\", \"us\"]\ninstance = \"eu\"\n");
    let instance = |name: &str, urls: &str, credentials: &str| {
        format!("[instances.{name}]\n{urls}\n{credentials}\nbackoff_min = \"20ms\"\nbackoff_max = \"200ms\"\n")
    };
    let crm = "client_id = \"crm\"\nclient_secret = \"crm-secret-4711\"";
    let simulator = "client_id = \"simulator\"\nclient_secret = \"secret\"";
    // The one gets its token here as well, the other from Marketo; a path does not hide it.
    let eu = instance("eu", &format!("base_url = \"{back}/instances/us\""), crm);
    let half = format!("base_url = \"{back}\"\nidentity_url = \"{}/identity\"", env.simulator.base_url());
    env.config = format!("limits = {{ calls = 5000, window = \"1s\" }}\n{eu}{}", instance("us", &half, simulator));
    env.start().await;
    for name in ["eu", "us"] {
        let job = env.add(&format!("target=leads&format=csv&instance={name}"), leads(&["a@example.com"])).await;
        let reason = env
            .until("instance paused", async |env| {
                let pause = env.json("GET", "/v1/status").await.1["instances"][name]["pause"].clone();
                (pause["kind"] == "credentials").then(|| pause["reason"].as_str().expect("a reason").to_owned())
            })
            .await;
        assert!(reason.contains("leads back to the marqueue daemon"), "{reason}");
        let job = env.job(job.id).await;
        assert_eq!((job.state.as_str(), job.batches[0].attempts), ("pending", 0), "{job:?}");
        let (state, detail) = doctor(&env, name).await.expect("a finding");
        assert!(state == "fault" && detail.contains("leads back to this daemon"), "{state}: {detail}");
    }
    assert_eq!(env.json("GET", "/v1/jobs").await.1["jobs"].as_array().map(Vec::len), Some(2));
    assert_eq!(doctor(&env, "default").await, None, "Marketo's own address is fine");
    assert_eq!(Program::new(back).login("crm", "crm-secret-4711").await.0, 200, "clients come in as before");
    // And before it is started.
    env.terminate().await;
    for name in ["eu", "us"] {
        assert_eq!(doctor(&env, name).await.expect("a finding").0, "fault");
    }
    assert_eq!(doctor(&env, "default").await, None);
}

#[tokio::test]
async fn another_daemon_in_the_place_of_marketo_is_named() {
    let behind = crate::compat_env::env_with_clients(CRM).await;
    let mut env = TestEnv::new(quick()).await;
    env.config = format!(
        "limits = {{ calls = 5000, window = \"1s\" }}\n[instances.eu]\nbase_url = \"http://{}\"\nclient_id = \"crm\"\n\
         client_secret = \"crm-secret-4711\"\n",
        behind.tcp_address().await
    );
    env.start().await;
    let (state, detail) = doctor(&env, "eu").await.expect("a finding");
    assert!(state == "warning" && detail.contains("a marqueue daemon answers"), "{state}: {detail}");
    // It is served as any client is.
    let job = env.add("target=leads&format=csv&instance=eu", leads(&["a@example.com"])).await;
    assert_eq!(env.ended(job.id).await.rows.processed, Some(1));
}
