//! Daily quota: 607 and our own limit of a day's calls stop all calls until the end of the day.

use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::Offset;
use marqueue::clock::Clock;
use marqueue::domain::JobState;
use marqueue::simulator::{Call, Fault, FaultEffect};

use super::{FILE, LEADS, outcomes};
use crate::support::{TestEnv, quick};

/// Far enough for a daemon on a loaded machine to start, meet the quota and start again before.
const AHEAD: Duration = Duration::from_secs(20);

fn now() -> Timestamp {
    Clock::System.now()
}

/// An environment whose quota day ends soon, and when.
async fn at_the_end_of_a_day(limits: &str) -> (TestEnv, Timestamp) {
    let mut env = TestEnv::new(quick()).await;
    let reset = Timestamp::from_second((now() + AHEAD).as_second()).expect("a time");
    let time = Offset::UTC.to_datetime(reset).time();
    env.config = format!("limits = {{ daily_reset = \"{time}\", calls = 5000, window = \"1s\"{limits} }}\n");
    env.start().await;
    (env, reset)
}

#[tokio::test]
async fn used_up_daily_quota_stops_calls_over_restarts_then_ends() {
    let (mut env, reset) = at_the_end_of_a_day("").await;
    env.simulator.push_fault(Fault::on(Call::Create, FaultEffect::error(607, "Daily quota reached")));
    let id = env.add(LEADS, FILE).await.id;
    let pause = env.paused().await;
    let until = reset.to_string();
    assert_eq!((pause["kind"].as_str(), pause["until"].as_str()), (Some("quota"), Some(until.as_str())));
    env.kill();
    env.start().await;
    let text = env.explained(id, "quota", true).await;
    assert!(text.contains("makes no calls until the quota day is over: 607: Daily quota reached"), "{text}");
    let waiting = env.job(id).await;
    assert_eq!((waiting.state, waiting.batches[0].attempts), (JobState::Pending, 0));
    assert_eq!(outcomes(&env.simulator.call_log()), ["607"]);
    env.complete(id, 1).await;
    assert!(now() >= reset);
    assert_eq!(outcomes(&env.simulator.call_log()), ["607", "ok"]);
    assert!(env.instance().await["pause"].is_null());
}

#[tokio::test]
async fn own_daily_limit_ends_with_the_day() {
    let (mut env, reset) = at_the_end_of_a_day(", daily_calls = 1").await;
    let id = env.add(LEADS, FILE).await.id;
    let pause = env.paused().await;
    let until = reset.to_string();
    assert_eq!((pause["kind"].as_str(), pause["until"].as_str()), (Some("quota"), Some(until.as_str())));
    let text = env.explained(id, "quota", true).await;
    assert!(text.contains("the 1 calls of the day are used up (limits.daily_calls)"), "{text}");
    // An operator may resume, and the limit pauses the instance again.
    env.resume().await;
    env.paused().await;
    assert_eq!(env.instance().await["limits"]["calls_today"], 1);
    env.complete(id, 1).await;
    assert!(now() >= reset);
    let ledger = env.simulator.call_log();
    assert_eq!((ledger.calls_of(Call::Create), ledger.calls_of(Call::Status)), (1, 1));
}

#[tokio::test]
async fn resume_ends_a_quota_pause_before_the_end_of_the_day() {
    let mut env = TestEnv::with_daemon(quick()).await;
    env.simulator.push_fault(Fault::on(Call::Status, FaultEffect::error(607, "Daily quota reached")));
    let id = env.add(LEADS, FILE).await.id;
    let until = env.paused().await["until"].take();
    assert!(until.as_str().is_some_and(|until| until.ends_with("T06:00:00Z")), "{until}");
    env.resume().await;
    env.complete(id, 1).await;
    assert_eq!(outcomes(&env.simulator.call_log()), ["ok"], "a poll that met the quota is no second upload");
}
