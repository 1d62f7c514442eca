//! Outages of a minute to three days, of every kind, and single files that Marketo never takes: who ends how.

use std::time::Duration;

use marqueue::config::UnknownOutcome;
use marqueue::domain::{BatchState, JobState};

use super::driver::{Outage, World};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(24 * 3_600);

/// What must not happen, as a test says it.
fn held<T>(what: Result<T, super::invariants::Broken>, world: &World, case: &str) -> T {
    what.unwrap_or_else(|broken| panic!("{}\n{case}: {broken}", world.log.join("\n")))
}

#[test]
fn outages_of_every_kind_end_with_every_job_complete() {
    for (number, outage) in (0..).zip(Outage::ALL) {
        for span in [MINUTE, 15 * MINUTE, 4 * HOUR, DAY, 3 * DAY] {
            let slots: &[u32] = if span < DAY { &[1, 2] } else { &[2] };
            for &importing in slots {
                let case = format!("{outage:?} for {span:?}, importing {importing}");
                let mut world = World::plain(number, importing, UnknownOutcome::Resubmit);
                world.dozen();
                // Some are on Marketo when it begins, and one comes in the middle, where the daemon is killed too.
                let run = world.passes(Duration::from_secs(2)).and_then(|()| world.outage(outage, span / 2));
                held(run, &world, &case);
                world.restart();
                world.arrives(5, None, None, &[1]);
                let run = world.outage(outage, span / 2);
                held(run, &world, &case);
                assert!(world.most_attempts() <= 1, "{case}: {} attempts", world.most_attempts());
                let ended = world.until_all_have_ended();
                held(ended, &world, &case);
                let states = world.job_states();
                assert!(states.iter().all(|&state| state == JobState::Complete), "{case}: {states:?}");
            }
        }
    }
}

#[test]
fn under_hold_each_try_of_an_outage_holds_at_most_one_batch() {
    for (number, outage) in (0..).zip(Outage::ALL) {
        let case = format!("{outage:?}");
        let mut world = World::plain(number, 2, UnknownOutcome::Hold);
        world.dozen();
        let run = world.outage(outage, HOUR);
        held(run, &world, &case);
        let tries = world.count.uploads;
        assert!(world.held() as u64 <= tries, "{case}: {} held by {tries} uploads", world.held());
        assert_eq!(world.held() > 0, outage.leaves_outcome_unknown(), "{case}");
        let ended = world.until_all_have_ended();
        held(ended, &world, &case);
        assert!(world.job_states().iter().all(|&state| state == JobState::Complete), "{case}");
    }
}

#[test]
fn one_file_that_is_always_refused_fails_and_eleven_complete() {
    for priority in [0, 9] {
        let mut world = World::plain(7, 1, UnknownOutcome::Resubmit);
        world.config.backoff_max = Duration::from_secs(5);
        world.set_rules();
        let bad = world.refused_job(priority);
        let good: Vec<_> = (0..11).map(|_| world.arrives(0, None, None, &[2])).collect();
        let run = world.passes(HOUR);
        held(run, &world, "eleven");
        assert!(good.iter().all(|&id| world.job_state(id) == JobState::Complete));
        let batch = world.batch_of(bad);
        assert_eq!((world.job_state(bad), batch.attempts, batch.given_up), (JobState::Failed, 8, true));
    }
}

#[test]
fn a_file_that_is_always_refused_fails_as_others_come_in() {
    let mut world = World::plain(8, 2, UnknownOutcome::Resubmit);
    let bad = world.refused_job(9);
    let mut arrived = Vec::new();
    for _ in 0..11 {
        // Whatever the bad one waits for, a file that comes in is uploaded at once.
        let good = world.arrives(0, None, None, &[2]);
        let run = world.passes(Duration::from_secs(1));
        held(run, &world, "at once");
        assert_ne!(world.batch_of(good).state, BatchState::Pending, "job {good}");
        arrived.push(good);
        let run = world.passes(10 * MINUTE);
        held(run, &world, "ten minutes");
    }
    assert!(arrived.iter().all(|&id| world.job_state(id) == JobState::Complete));
    assert_eq!((world.job_state(bad), world.batch_of(bad).attempts), (JobState::Failed, 8));
}

#[test]
fn a_file_that_waits_alone_fails_after_seven_days_and_no_sooner() {
    let mut world = World::plain(9, 2, UnknownOutcome::Resubmit);
    let bad = world.refused_job(0);
    let run = world.passes(6 * DAY + 22 * HOUR);
    held(run, &world, "six days");
    assert_eq!((world.job_state(bad), world.batch_of(bad).attempts), (JobState::Pending, 0));
    let run = world.passes(4 * HOUR);
    held(run, &world, "seven days");
    assert_eq!((world.job_state(bad), world.batch_of(bad).given_up), (JobState::Failed, true));
}

#[test]
fn two_files_that_are_refused_hold_back_no_third_for_long() {
    let mut world = World::plain(10, 2, UnknownOutcome::Resubmit);
    let bad = [world.refused_job(9), world.refused_job(9)];
    let run = world.passes(DAY);
    held(run, &world, "a day");
    let good = world.arrives(0, None, None, &[2]);
    // The longest pause of the instance, and a little.
    let run = world.passes(5 * MINUTE + Duration::from_secs(5));
    held(run, &world, "five minutes");
    assert_ne!(world.batch_of(good).state, BatchState::Pending);
    assert!(bad.iter().all(|&id| world.job_state(id) == JobState::Pending));
}
