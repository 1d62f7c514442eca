//! Errors 1016 and 1019: other integrations share the import queue and fill the same lists.

use std::time::Duration;

use marqueue::domain::BatchState;
use marqueue::simulator::{Call, Fault, FaultEffect, Settings};

use super::{FILE, LEADS};
use crate::support::{TestEnv, leads, quick};

/// Slots that hold one of ours now.
async fn in_flight(env: &TestEnv) -> u64 {
    let slots = env.instance().await["slots"].take();
    ["uploading", "queued", "importing"].iter().filter_map(|state| slots[*state].as_u64()).sum()
}

#[tokio::test]
async fn three_free_slots_are_used_beside_other_imports() {
    const JOBS: usize = 24;
    // Two imports last as long as the pause between two tries, and far longer than an upload on a loaded machine.
    const IMPORT_TIME: Duration = Duration::from_secs(1);
    const PAUSE: Duration = Duration::from_secs(1);
    let mut env = TestEnv::new(Settings { import_base: IMPORT_TIME, ..quick() }).await;
    env.config = format!("polling = {{ min = \"10ms\", max = \"{}s\" }}\n", PAUSE.as_secs());
    env.start().await;
    env.simulator.set_other_imports(7);
    let mut ids = Vec::new();
    for n in 0..JOBS {
        ids.push(env.add(LEADS, leads(&[&format!("{n}@example.com")])).await.id);
    }
    let text = env.explained(ids[JOBS - 1], "slot", true).await;
    assert!(text.contains("Marketo's queue is full"), "{text}");
    for id in ids {
        env.complete(id, 1).await;
    }
    let ledger = env.simulator.call_log();
    assert_eq!(ledger.imports.len(), JOBS);
    assert_eq!(ledger.max_queued, 10);
    let refused = ledger.errors_of("1016") as usize;
    // At the start all ten slots may be tried at once, and seven of them are taken. After that it is one try a pause,
    // however long this machine takes for the whole.
    let took = ledger.creates[ledger.creates.len() - 1].at - ledger.creates[0].at;
    let pauses = took.as_secs_f64() / PAUSE.as_secs_f64();
    assert!(refused <= 7 + pauses.ceil() as usize, "{refused} of {} uploads in {took:?}", ledger.creates.len());
    // Ours went on all the while: the two that are worked on at once were ours.
    let idle = ledger.imports.iter().map(|import| import.ended.unwrap_or_default()).max().unwrap_or_default() * 2
        - ledger.busy;
    assert!(ledger.busy >= IMPORT_TIME * JOBS as u32 && idle < ledger.busy, "{:?} {idle:?}", ledger.busy);
}

#[tokio::test]
async fn all_ten_slots_are_used_after_other_imports_have_ended() {
    let mut env = TestEnv::new(quick()).await;
    // The pause between two tries.
    env.config = "polling = { min = \"10ms\", max = \"2s\" }\n".into();
    env.start().await;
    env.simulator.set_other_imports(7);
    let mut ids = Vec::new();
    for n in 0..12 {
        let file = format!("email,firstName\n{n}@example.com,!lasts:60s\n");
        ids.push(env.add(LEADS, file).await.id);
    }
    env.explained(ids[11], "slot", true).await;
    env.until("the tries have found three slots", async |env| (in_flight(env).await == 3).then_some(())).await;
    env.until("some more tries were refused", async |env| {
        (env.simulator.call_log().errors_of("1016") >= 4).then_some(())
    })
    .await;
    let before = env.simulator.call_log().creates.len();
    env.simulator.set_other_imports(0);
    env.until("ten of ours are in flight", async |env| {
        (in_flight(env).await == 10 && env.simulator.call_log().imports.len() == 10).then_some(())
    })
    .await;
    let ledger = env.simulator.call_log();
    let took = ledger.imports[9].accepted - ledger.imports[3].accepted;
    assert!(took < Duration::from_secs(6), "each try that succeeds is followed by the next at once: {took:?}");
    let refused = ledger.creates.len() - before - 7;
    assert!(refused <= 1, "{refused} refused on the way");
    assert!(ledger.max_queued <= 10);
}

#[tokio::test]
async fn a_full_queue_message_is_recognized_and_costs_no_attempt() {
    let mut env = TestEnv::new(quick()).await;
    // The pause between two tries is long enough to be seen on a loaded machine.
    env.config = "max_attempts = 1\npolling = { min = \"10ms\", max = \"1s\" }\n".into();
    env.start().await;
    let message = "There are 10 imports currently being processed. Please try again later".to_owned();
    env.simulator
        .push_fault(Fault::on(Call::Create, FaultEffect::Error { code: None, message, executed: false }).times(2));
    env.simulator.push_fault(Fault::on(Call::Create, FaultEffect::error(1016, "Too many imports queued")).times(2));
    let id = env.add(LEADS, FILE).await.id;
    let text = env.explained(id, "slot", true).await;
    assert!(text.contains("Marketo's queue is full"), "{text}");
    env.complete(id, 1).await;
    assert_eq!(env.simulator.call_log().creates.len(), 5);
}

#[tokio::test]
async fn busy_list_costs_one_upload_a_try_and_blocks_no_other_list() {
    let mut env = TestEnv::new(quick()).await;
    // The pause between two tries is long enough to be seen on a loaded machine.
    env.config = "max_attempts = 1\npolling = { min = \"10ms\", max = \"1s\" }\n".into();
    env.start().await;
    env.simulator.push_fault(Fault::on(Call::Create, FaultEffect::error(1019, "Import in progress")).times(3));
    let first = env.add(&format!("{LEADS}&list_id=7"), FILE).await.id;
    let text = env.explained(first, "list", true).await;
    assert!(text.contains("static list 7"), "{text}");
    let mut ids = vec![first];
    for _ in 0..5 {
        ids.push(env.add(&format!("{LEADS}&list_id=7"), FILE).await.id);
    }
    for id in ids {
        env.complete(id, 1).await;
    }
    let ledger = env.simulator.call_log();
    assert_eq!((ledger.errors_of("1019"), ledger.creates.len()), (3, 9));
    let wait = ledger.creates[2].at - ledger.creates[0].at;
    assert!(wait >= Duration::from_millis(1990), "three tries, two pauses of a second: {wait:?}");
}

#[tokio::test]
async fn a_job_for_another_list_does_not_wait_for_a_busy_one() {
    let mut env = TestEnv::new(quick()).await;
    env.config = "polling = { min = \"10ms\", max = \"60s\" }\n".into();
    env.start().await;
    env.simulator.push_fault(Fault::on(Call::Create, FaultEffect::error(1019, "Import in progress")));
    let first = env.add(&format!("{LEADS}&list_id=7"), FILE).await.id;
    env.explained(first, "list", true).await;
    let same = env.add(&format!("{LEADS}&list_id=7"), FILE).await.id;
    let other = env.add(&format!("{LEADS}&list_id=8"), FILE).await.id;
    env.complete(other, 1).await;
    env.explained(same, "list", true).await;
    let waiting = env.in_state(first, BatchState::Pending).await;
    assert_eq!(waiting.batches[0].attempts, 0);
    assert_eq!(env.simulator.call_log().creates.len(), 2);
}
