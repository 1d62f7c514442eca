//! Failing database writes while the reports of a shared import are stored: one write after the other, with the library of
//! `io_faults`. Nothing is lost, and the reports are fetched again.

use std::fs;
use std::ops::RangeInclusive;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use marqueue::domain::{BatchState, JobId, JobState};
use marqueue::simulator::{Call, Fault, FaultEffect};

use crate::io_faults::{AT_ONCE, COUNTS, EIO, ENOSPC, Fault as WriteFault, Start, calls};
use crate::shared_imports::{add_all, all_ended, counts, file, pause, resume};
use crate::support::TestEnv;

/// Two jobs whose import Marketo has begun, and a daemon that is killed. The environment has no faults yet.
async fn importing(start: &Start) -> (TestEnv, Vec<JobId>) {
    let mut env = start.start_env(None).await;
    let faulty = std::mem::take(&mut env.environment);
    env.config = "pack = true\nlimits = { calls = 5000, window = \"1s\" }\n".to_owned();
    env.start().await;
    pause(&env).await;
    let jobs = add_all(&env, &[file(&["a@b.c,!stuck", "b@b.c,!fail:Bad b"]), file(&["c@b.c,!fail:Bad c"])]).await;
    resume(&env).await;
    for &id in &jobs {
        env.until("Marketo has it", async |env| {
            (env.job(id).await.batches[0].state == BatchState::Importing).then_some(())
        })
        .await;
    }
    env.kill();
    env.environment = faulty;
    (env, jobs)
}

fn set(env: &mut TestEnv, fault: WriteFault) {
    let WriteFault { at, on, errno } = fault;
    for (name, value) in
        [("FAULT_AT", at.to_string()), ("FAULT_ON", u8::from(on).to_string()), ("FAULT_ERRNO", errno.to_string())]
    {
        env.environment.retain(|(other, _)| *other != name);
        env.environment.push((name, value));
    }
}

/// Both jobs are complete, each with its own counts and reports, and were sent once.
async fn check(env: &mut TestEnv, jobs: &[JobId], what: &str) {
    let ended = all_ended(env, jobs).await;
    let found: Vec<_> = ended.iter().map(|job| (job.state, counts(job), job.batches[0].shared_with)).collect();
    let complete = |processed| (JobState::Complete, [Some(processed), Some(1), Some(0)], 1);
    assert_eq!(found, [complete(1), complete(0)], "{what}");
    for (id, row) in jobs.iter().zip(["b@b.c,!fail:Bad b,Bad b", "c@b.c,!fail:Bad c,Bad c"]) {
        let failures = env.get(&format!("/v1/jobs/{id}/failures")).await;
        assert_eq!(failures, format!("email,note,Import Failure Reason\n{row}\n"), "{what}");
    }
    assert_eq!(env.simulator.call_log().accepted().count(), 1, "nothing is sent again");
}

/// True if the fault was reached.
async fn journey(start: &Start, fault: WriteFault) -> bool {
    let (mut env, jobs) = importing(start).await;
    set(&mut env, fault);
    let started = env.try_start().await.is_ok();
    env.simulator.end_stuck_imports();
    if started {
        // Until all jobs have ended, or the fault was reached.
        loop {
            let met = fault.on && calls(&env) >= fault.at;
            let mut ended = true;
            for &id in &jobs {
                ended &= env.job(id).await.state.is_terminal();
            }
            if met || ended {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        env.kill();
    }
    let met = calls(&env) >= fault.at;
    env.environment.clear();
    env.start().await;
    check(&mut env, &jobs, &format!("{fault:?}")).await;
    met
}

/// The writes from the end of the import to the end of the jobs where none fails, by their numbers since the start. A
/// start has the faults of `io_faults`.
async fn count(start: &Start) -> RangeInclusive<u64> {
    let (mut env, jobs) = importing(start).await;
    env.start().await;
    let from = calls(&env);
    env.simulator.end_stuck_imports();
    check(&mut env, &jobs, "without a fault").await;
    from..=calls(&env)
}

/// Journeys with a fault at every second write, some at a time. How often Marketo is asked is a matter of time, and
/// each answer is recorded: so the writes are those of the journey with the fewest, and even of those the last few may
/// not come.
async fn journeys(on: bool) {
    let start = &Start::new().await;
    let counts = stream::iter(0..COUNTS).map(|_| count(start)).buffer_unordered(COUNTS).collect::<Vec<_>>().await;
    let all = counts.into_iter().min_by_key(|writes| *writes.end()).expect("it is counted");
    let all = all.step_by(2).collect::<Vec<_>>();
    let errno = |at| if at / 2 % 2 == 0 { EIO } else { ENOSPC };
    let number = all.len();
    let journeys = stream::iter(all).map(|at| journey(start, WriteFault { at, on, errno: errno(at) }));
    let met = journeys.buffer_unordered(AT_ONCE).filter(|met| std::future::ready(*met)).count().await;
    assert!(number > 20 && met >= number * 3 / 4, "of {number} faults only {met} were met");
}

#[tokio::test]
async fn a_failing_write_of_shared_reports_is_repeated() {
    journeys(false).await;
}

#[tokio::test]
async fn failing_all_writes_of_shared_reports_loses_nothing() {
    journeys(true).await;
}

#[tokio::test]
async fn reports_are_fetched_again_when_writes_succeed_again() {
    let start = Start::new().await;
    let (mut env, jobs) = importing(&start).await;
    set(&mut env, WriteFault { at: 0, on: false, errno: ENOSPC });
    let failing = env.folder.path().join("failing");
    env.environment.push(("FAULT_WHILE", failing.display().to_string()));
    env.start().await;
    // The writes fail from the time on at which the report is on its way.
    env.simulator.push_fault(Fault::on(Call::Failures, FaultEffect::delay(Duration::from_secs(4))));
    env.simulator.end_stuck_imports();
    let asked = |env: &TestEnv| env.simulator.call_log().calls_of(Call::Failures);
    env.until("a report is asked for", async |env| (asked(env) == 1).then_some(())).await;
    fs::write(&failing, "").expect("a file");
    env.until("storing it fails", async |env| env.log().contains("step failed; retrying").then_some(())).await;
    let before = calls(&env);
    env.until("it is tried some times more", async |env| (calls(env) > before + 4).then_some(())).await;
    assert_eq!(asked(&env), 1, "{}", env.log());
    fs::remove_file(&failing).expect("it was there");
    check(&mut env, &jobs, "after the fault").await;
    assert_eq!(asked(&env), 2);
}
