//! Worlds that are told what happens: an outage of so long and nothing else, or one file that Marketo never takes.

use std::time::Duration;

use marqueue::config::UnknownOutcome;
use marqueue::domain::batch::BatchProgress;
use marqueue::domain::{BatchState, JobId, JobState};
use marqueue::scheduler::SchedulingRules;
use marqueue::simulator::Settings;
use marqueue::simulator::model::MarketoModel;

use super::{Done, Lie, Outage, World};
use crate::invariants::Held;

impl World {
    /// A world without chance faults, with the defaults of the configuration and of Marketo, and so many slots.
    pub fn plain(seed: u64, importing: u32, unknown_outcome: UnknownOutcome) -> World {
        let mut world = World::new(seed, Lie::None);
        world.config = World::defaults();
        world.config.limits.importing = importing;
        world.config.unknown_outcome = unknown_outcome;
        world.set_rules();
        world.marketo = MarketoModel::new(Settings::default(), Duration::from_secs(3_600));
        world.weather = super::Weather { fault: 0.0, unreachable: false, locked_out: false, outage: None };
        world.stuck = 0;
        world.daemon = None;
        world.start();
        world
    }

    /// Has plans follow a configuration that was changed.
    pub fn set_rules(&mut self) {
        self.rules = SchedulingRules::from_instance(&self.config);
    }

    /// A dozen files wait: urgent ones, some of one group, some for one static list, one that is two batches.
    pub fn dozen(&mut self) {
        for n in 0..12 {
            let group = (n % 4 == 1).then(|| "g".to_owned());
            let list = (n % 4 == 2).then_some(7);
            let rows: &[u32] = if n == 3 { &[2, 2] } else { &[2] };
            self.arrives(n % 3, group, list, rows);
        }
    }

    /// A file comes in.
    pub fn arrives(&mut self, priority: i64, group: Option<String>, list: Option<i64>, rows: &[u32]) -> JobId {
        let id = self.shelf.add(priority, group, list, rows);
        self.wake();
        id
    }

    /// A file comes in that Marketo always answers 611.
    pub fn refused_job(&mut self, priority: i64) -> JobId {
        let id = self.arrives(priority, None, None, &[2]);
        self.refused.push(id);
        id
    }

    /// So long passes, and whoever has something to do does it.
    pub fn passes(&mut self, span: Duration) -> Held {
        let end = self.at + span;
        while self.at < end {
            if !self.works()? {
                self.pass_to_the_next_moment();
            }
        }
        Ok(())
    }

    /// Marketo is out for so long, in this way.
    pub fn outage(&mut self, outage: Outage, span: Duration) -> Held {
        self.weather.outage = Some(outage);
        self.passes(span)?;
        self.weather.outage = None;
        Ok(())
    }

    /// The daemon is killed, and starts again.
    pub fn restart(&mut self) {
        self.kill();
        self.start();
    }

    pub fn job_state(&self, id: JobId) -> JobState {
        self.shelf.jobs[&id].state
    }

    /// The jobs' states, in the order of their ids.
    pub fn job_states(&self) -> Vec<JobState> {
        self.shelf.jobs.values().map(|job| job.state).collect()
    }

    /// The first batch of a job.
    pub fn batch_of(&self, id: JobId) -> &BatchProgress {
        &self.shelf.jobs[&id].batches[0].progress
    }

    /// Batches that wait for a person.
    pub fn held(&self) -> usize {
        self.shelf.batches().filter(|(.., batch)| batch.progress.state == BatchState::Held).count()
    }

    /// The most attempts that any batch has used.
    pub fn most_attempts(&self) -> u32 {
        self.shelf.batches().map(|(.., batch)| batch.progress.attempts).max().unwrap_or(0)
    }

    /// How long it takes until all jobs have ended.
    pub fn until_all_have_ended(&mut self) -> Done<Duration> {
        let from = self.at;
        self.settle()?;
        Ok(self.at - from)
    }
}
