//! Counts that Marketo leaves out, that do not add up, or that its files contradict: such a job is not simply complete.

use std::process::Command;

use marqueue::domain::{JobId, JobState};
use marqueue::simulator::{Call, Fault, FaultEffect};
use serde_json::{Value, json};

use super::LEADS;
use crate::support::{TestEnv, binary, quick};

const THREE: &str = "email,firstName\na@example.com,Ann\nb@example.com,!fail:No such person\nc@example.com,Cid\n";

impl TestEnv {
    /// The exit status of a command, and what it says.
    pub fn command(&self, arguments: &[&str]) -> (i32, String) {
        let ran = Command::new(binary()).arg("--socket").arg(self.socket()).args(arguments).output().expect("it runs");
        let printed = [ran.stdout, ran.stderr].map(|bytes| String::from_utf8(bytes).expect("text")).concat();
        (ran.status.code().expect("an exit status"), printed)
    }

    /// A complete job of [`THREE`] of whose import every status says `edit`.
    async fn counted(&mut self, edit: Value) -> JobId {
        let fault = Fault::on(Call::Status, FaultEffect::edit(edit)).times(u32::MAX);
        self.simulator.push_fault(fault);
        let id = self.add(LEADS, THREE).await.id;
        let job = self.ended(id).await;
        assert_eq!(job.state, JobState::Complete, "{job:?}");
        id
    }

    async fn rows(&self, id: JobId) -> Value {
        self.json("GET", &format!("/v1/jobs/{id}")).await.1["rows"].take()
    }
}

#[tokio::test]
async fn unaccounted_rows_are_shown_everywhere() {
    for (edit, rows, words) in [
        (
            json!({"numOfLeadsProcessed": 1}),
            json!({"total": 3, "processed": 1, "failed": 1, "warned": 0, "unaccounted": 1}),
            "1 row of 3 is unaccounted for: Marketo counted 1 processed and 1 failed",
        ),
        (
            json!({"numOfLeadsProcessed": 4}),
            json!({"total": 3, "processed": 4, "failed": 1, "warned": 0, "unaccounted": -2}),
            "Marketo counted 2 rows more than the 3 sent: 4 processed and 1 failed",
        ),
    ] {
        let mut env = TestEnv::with_daemon(quick()).await;
        let id = env.counted(edit).await;
        assert_eq!(env.rows(id).await, rows);
        let history = env.get(&format!("/v1/jobs/{id}/history")).await;
        assert_eq!(history.matches(words).count(), 1, "{history}");
        let id = &id.to_string();
        for command in [&["wait", id][..], &["failures", id]] {
            let (exit, printed) = env.command(command);
            assert_eq!((exit, printed.contains(words)), (4, true), "{command:?}: {printed}");
        }
        let unaccounted = rows["unaccounted"].to_string();
        for command in [&["list"][..], &["show", id]] {
            let (_, printed) = env.command(command);
            assert!(printed.contains("UNACCOUNTED") && printed.contains(&unaccounted), "{command:?}: {printed}");
        }
    }
}

#[tokio::test]
async fn a_count_that_marketo_leaves_out_is_unknown_everywhere() {
    for (edit, rows) in [
        (
            json!({"numOfLeadsProcessed": null, "numOfRowsFailed": null, "numOfRowsWithWarning": null}),
            json!({"total": 3, "processed": null, "failed": null, "warned": null, "unaccounted": null}),
        ),
        (
            json!({"numOfRowsFailed": null}),
            json!({"total": 3, "processed": 2, "failed": null, "warned": 0, "unaccounted": null}),
        ),
    ] {
        let mut env = TestEnv::with_daemon(quick()).await;
        let id = env.counted(edit.clone()).await;
        assert_eq!(env.rows(id).await, rows);
        let (exit, printed) = env.command(&["wait", &id.to_string()]);
        // Their file shows that rows failed, and no count says how many.
        assert!(exit == 4 && printed.contains("some rows failed"), "{exit} {printed}");
        // A file that was not counted is there all the same.
        let (_, failures) = env.request("GET", &format!("/v1/jobs/{id}/failures"), "").await;
        assert!(String::from_utf8_lossy(&failures).contains("No such person"));
        let (_, compat) = env.json("GET", &format!("/bulk/v1/leads/batch/{id}.json")).await;
        let import = &compat["result"][0];
        assert_eq!(import["status"], "Complete");
        assert_eq!(import.get("numOfRowsFailed"), None, "{compat}");
        assert_eq!(import.get("numOfLeadsProcessed").is_some(), !rows["processed"].is_null(), "{compat}");
        let (status, file) = env.request("GET", &format!("/bulk/v1/leads/batch/{id}/failures.json"), "").await;
        assert!(status == 200 && String::from_utf8_lossy(&file).contains("No such person"));
        let unknown = 3 - rows["processed"].as_u64().unwrap_or(0);
        let line = format!("marqueue_rows_total{{instance=\"default\",result=\"unknown\"}} {unknown}");
        // Counted shortly after the commit.
        env.until(&line, async |env| env.get("/metrics").await.contains(&line).then_some(())).await;
        let (status, problem) = env.json("POST", &format!("/v1/jobs/{id}/retry?rows=failed")).await;
        assert_eq!(status, 201, "the file has the failed row: {problem}");
    }
}

#[tokio::test]
async fn a_failure_count_without_its_file_is_reported() {
    for (effect, edit, exit, words) in [
        (Some(FaultEffect::http(404)), json!({}), 4, "Marketo counted 1 row as failed and gave no file of them"),
        (None, json!({"numOfRowsFailed": 2, "numOfLeadsProcessed": 1}), 4, "2 rows as failed, and its file has 1"),
        (
            Some(FaultEffect::http(404)),
            json!({"numOfRowsFailed": null}),
            4,
            "unknown: Marketo gave neither a count nor a file of rows",
        ),
        (
            Some(FaultEffect::http(404)),
            json!({"numOfRowsFailed": 0, "numOfLeadsProcessed": 2}),
            4,
            "Marketo counted no row as failed, but 1 row of 3 is unaccounted for",
        ),
        (
            Some(FaultEffect::http(404)),
            json!({"numOfRowsFailed": 0, "numOfLeadsProcessed": 3}),
            0,
            "no row of job 1 has failed",
        ),
    ] {
        let mut env = TestEnv::new(quick()).await;
        env.config = "max_attempts = 1\n".into();
        env.start().await;
        if let Some(effect) = effect {
            env.simulator.push_fault(Fault::on(Call::Failures, effect).times(u32::MAX));
        }
        let id = env.counted(edit.clone()).await.to_string();
        let (found, printed) = env.command(&["failures", &id]);
        assert!(found == exit && printed.contains(words), "{edit}: {found} {printed}");
        let (waited, _) = env.command(&["wait", &id]);
        assert_eq!(waited, exit, "{edit}");
    }
}

#[tokio::test]
async fn a_warning_count_without_its_file_is_reported() {
    for (edit, exit, words) in [
        (json!({}), 0, "no row of job 1 has a warning"),
        (json!({"numOfRowsWithWarning": 2}), 4, "Marketo counted 2 rows as with a warning and gave no file of them"),
        (json!({"numOfRowsWithWarning": null}), 4, "unknown: Marketo gave neither a count nor a file of rows"),
    ] {
        let mut env = TestEnv::new(quick()).await;
        env.config = "max_attempts = 1\n".into();
        env.start().await;
        let id = env.counted(edit.clone()).await.to_string();
        let (found, printed) = env.command(&["warnings", &id]);
        assert!(found == exit && printed.contains(words), "{edit}: {found} {printed}");
    }
}
