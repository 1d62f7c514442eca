//! Scripted runs: an outage of a given length and nothing else, or one file that Marketo never takes.

use std::time::Duration;

use marqueue::config::UnknownOutcome;
use marqueue::domain::batch::BatchProgress;
use marqueue::domain::{BatchState, JobId, JobState};
use marqueue::scheduler::SchedulingRules;
use marqueue::simulator::Settings;
use marqueue::simulator::model::MarketoModel;

use super::{Done, Mutation, Outage, Simulation};
use crate::invariants::CheckResult;
use crate::model_store::Batch;

impl Simulation {
    /// A run without random faults, with the defaults of the configuration and of Marketo, and so many slots.
    pub fn plain(seed: u64, importing: u32, unknown_outcome: UnknownOutcome) -> Simulation {
        let mut simulation = Simulation::new(seed, Mutation::None);
        simulation.config = Simulation::defaults();
        simulation.config.limits.importing = importing;
        simulation.config.unknown_outcome = unknown_outcome;
        simulation.set_rules();
        simulation.marketo = MarketoModel::new(Settings::default(), Duration::from_secs(3_600));
        simulation.faults = super::FaultSettings { fault: 0.0, unreachable: false, locked_out: false, outage: None };
        simulation.stuck = 0;
        simulation.daemon = None;
        simulation.start();
        simulation
    }

    /// Applies a changed configuration to the plans.
    pub fn set_rules(&mut self) {
        self.rules = SchedulingRules::from_instance(&self.config);
    }

    /// A dozen files wait: urgent ones, some of one group, some for one static list, one that is two batches, and some
    /// that may share an import.
    pub fn add_dozen_files(&mut self) {
        for n in 0..12 {
            let group = (n % 4 == 1).then(|| "g".to_owned());
            let list = (n % 4 == 2).then_some(7);
            let rows: &[u32] = if n == 3 { &[2, 2] } else { &[2] };
            let id = self.add_file(n % 3, group, list, rows);
            if n % 4 == 0 {
                self.set_shape(id, 1);
            }
        }
    }

    /// A file comes in.
    pub fn add_file(&mut self, priority: i64, group: Option<String>, list: Option<i64>, rows: &[u32]) -> JobId {
        let id = self.store.add(priority, group, list, rows);
        self.wake_for_new_job();
        id
    }

    /// A file comes in that Marketo always answers 611.
    pub fn refused_job(&mut self, priority: i64) -> JobId {
        let id = self.add_file(priority, None, None, &[2]);
        self.refused.push(id);
        id
    }

    /// Runs for so long.
    pub fn run_for(&mut self, span: Duration) -> CheckResult {
        let end = self.at + span;
        while self.at < end {
            if !self.run_until_idle()? {
                self.pass_to_next_wakeup();
            }
        }
        Ok(())
    }

    /// Marketo is out for so long, in this way.
    pub fn outage(&mut self, outage: Outage, span: Duration) -> CheckResult {
        self.faults.outage = Some(outage);
        self.run_for(span)?;
        self.faults.outage = None;
        Ok(())
    }

    /// The daemon is killed, and starts again.
    pub fn restart(&mut self) {
        self.kill();
        self.start();
    }

    pub fn job_state(&self, id: JobId) -> JobState {
        self.store.jobs[&id].state
    }

    /// The jobs' states, in the order of their ids.
    pub fn job_states(&self) -> Vec<JobState> {
        self.store.jobs.values().map(|job| job.state).collect()
    }

    /// The first batch of a job.
    pub fn batch_of(&self, id: JobId) -> &BatchProgress {
        &self.store.jobs[&id].batches[0].progress
    }

    /// The number of uploads whose batches are held, and wait for an operator.
    pub fn held(&self) -> usize {
        let held = |batch: &Batch| batch.progress.state == BatchState::Held && batch.sharing.leads;
        self.store.batches().filter(|(.., batch)| held(batch)).count()
    }

    /// The most attempts that any batch has used.
    pub fn most_attempts(&self) -> u32 {
        self.store.batches().map(|(.., batch)| batch.progress.attempts).max().unwrap_or(0)
    }

    /// How long it takes until all jobs have ended.
    pub fn until_all_have_ended(&mut self) -> Done<Duration> {
        let from = self.at;
        self.drain()?;
        Ok(self.at - from)
    }
}
