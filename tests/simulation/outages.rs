//! Outages of a minute to three days, of every kind, and single files that Marketo never takes: how each job ends.

use std::time::Duration;

use marqueue::config::UnknownOutcome;
use marqueue::domain::{BatchState, JobState};

use super::driver::{Outage, Simulation};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(24 * 3_600);

/// Panics with the run's log where an invariant was violated.
fn expect_valid<T>(what: Result<T, super::invariants::Violation>, simulation: &Simulation, case: &str) -> T {
    what.unwrap_or_else(|violation| panic!("{}\n{case}: {violation}", simulation.log.join("\n")))
}

#[test]
fn outages_of_every_kind_end_with_every_job_complete() {
    for (number, outage) in (0..).zip(Outage::ALL) {
        for span in [MINUTE, 15 * MINUTE, 4 * HOUR, DAY, 3 * DAY] {
            let slots: &[u32] = if span < DAY { &[1, 2] } else { &[2] };
            for &importing in slots {
                let case = format!("{outage:?} for {span:?}, importing {importing}");
                let mut simulation = Simulation::plain(number, importing, UnknownOutcome::Resubmit);
                simulation.add_dozen_files();
                // Some are on Marketo when it begins, and one comes in the middle, where the daemon is killed too.
                let run = simulation.run_for(Duration::from_secs(2)).and_then(|()| simulation.outage(outage, span / 2));
                expect_valid(run, &simulation, &case);
                simulation.restart();
                simulation.add_file(5, None, None, &[1]);
                let run = simulation.outage(outage, span / 2);
                expect_valid(run, &simulation, &case);
                assert!(simulation.most_attempts() <= 1, "{case}: {} attempts", simulation.most_attempts());
                let ended = simulation.until_all_have_ended();
                expect_valid(ended, &simulation, &case);
                let states = simulation.job_states();
                assert!(states.iter().all(|&state| state == JobState::Complete), "{case}: {states:?}");
            }
        }
    }
}

#[test]
fn an_outage_holds_at_most_one_batch_for_each_upload() {
    for (number, outage) in (0..).zip(Outage::ALL) {
        let case = format!("{outage:?}");
        let mut simulation = Simulation::plain(number, 2, UnknownOutcome::Hold);
        simulation.add_dozen_files();
        let run = simulation.outage(outage, HOUR);
        expect_valid(run, &simulation, &case);
        let tries = simulation.stats.uploads;
        assert!(simulation.held() as u64 <= tries, "{case}: {} held by {tries} uploads", simulation.held());
        assert_eq!(simulation.held() > 0, outage.leaves_outcome_unknown(), "{case}");
        let ended = simulation.until_all_have_ended();
        expect_valid(ended, &simulation, &case);
        assert!(simulation.job_states().iter().all(|&state| state == JobState::Complete), "{case}");
    }
}

#[test]
fn one_file_that_is_always_refused_fails_and_eleven_complete() {
    for (priority, shape) in [(0, None), (9, None), (0, Some(1)), (9, Some(1))] {
        let case = format!("priority {priority}, shape {shape:?}");
        let mut simulation = Simulation::plain(7, 1, UnknownOutcome::Resubmit);
        simulation.config.backoff_max = Duration::from_secs(5);
        simulation.set_rules();
        let bad = simulation.refused_job(priority);
        let good: Vec<_> = (0..11).map(|_| simulation.add_file(0, None, None, &[2])).collect();
        for &id in good.iter().chain([&bad]) {
            shape.into_iter().for_each(|shape| simulation.set_shape(id, shape));
        }
        let run = simulation.run_for(HOUR);
        expect_valid(run, &simulation, &case);
        assert!(good.iter().all(|&id| simulation.job_state(id) == JobState::Complete), "{case}");
        let batch = simulation.batch_of(bad);
        let ended = (simulation.job_state(bad), batch.attempts, batch.attempts_exhausted);
        assert_eq!(ended, (JobState::Failed, 8, true), "{case}");
    }
}

#[test]
fn a_file_that_is_always_refused_fails_as_others_come_in() {
    let mut simulation = Simulation::plain(8, 2, UnknownOutcome::Resubmit);
    let bad = simulation.refused_job(9);
    let mut arrived = Vec::new();
    for _ in 0..11 {
        // Whatever the bad one waits for, a file that comes in is uploaded at once.
        let good = simulation.add_file(0, None, None, &[2]);
        let run = simulation.run_for(Duration::from_secs(1));
        expect_valid(run, &simulation, "at once");
        assert_ne!(simulation.batch_of(good).state, BatchState::Pending, "job {good}");
        arrived.push(good);
        let run = simulation.run_for(10 * MINUTE);
        expect_valid(run, &simulation, "ten minutes");
    }
    assert!(arrived.iter().all(|&id| simulation.job_state(id) == JobState::Complete));
    assert_eq!((simulation.job_state(bad), simulation.batch_of(bad).attempts), (JobState::Failed, 8));
}

#[test]
fn a_file_that_waits_alone_fails_after_seven_days() {
    let mut simulation = Simulation::plain(9, 2, UnknownOutcome::Resubmit);
    let bad = simulation.refused_job(0);
    let run = simulation.run_for(6 * DAY + 22 * HOUR);
    expect_valid(run, &simulation, "six days");
    assert_eq!((simulation.job_state(bad), simulation.batch_of(bad).attempts), (JobState::Pending, 0));
    let run = simulation.run_for(4 * HOUR);
    expect_valid(run, &simulation, "seven days");
    assert_eq!((simulation.job_state(bad), simulation.batch_of(bad).attempts_exhausted), (JobState::Failed, true));
}

#[test]
fn two_refused_files_do_not_delay_a_third() {
    let mut simulation = Simulation::plain(10, 2, UnknownOutcome::Resubmit);
    let bad = [simulation.refused_job(9), simulation.refused_job(9)];
    let run = simulation.run_for(DAY);
    expect_valid(run, &simulation, "a day");
    let good = simulation.add_file(0, None, None, &[2]);
    // The longest pause of the instance, and a little.
    let run = simulation.run_for(5 * MINUTE + Duration::from_secs(5));
    expect_valid(run, &simulation, "five minutes");
    assert_ne!(simulation.batch_of(good).state, BatchState::Pending);
    assert!(bad.iter().all(|&id| simulation.job_state(id) == JobState::Pending));
}
