//! Statistics of a run.

#[derive(Clone, Copy, Debug, Default)]
pub struct Stats {
    pub uploads: u64,
    /// Of these, before the faults ceased.
    pub amid_faults: u64,
    pub imports: u64,
    pub polls: u64,
    pub lost_answers: u64,
    pub lost_requests: u64,
    pub kills: u64,
    pub jumps: u64,
    pub outages: u64,
    pub overdue: u64,
    pub abandoned: u64,
    pub odd_words: u64,
    /// Imports that several jobs share, and these jobs.
    pub packed_imports: u64,
    pub packed_jobs: u64,
    /// Shared imports that failed.
    pub unpacked: u64,
    /// Uploads of several jobs that were too large.
    pub divided: u64,
    /// Jobs with batch rules, and those of them that a rule stopped at last.
    pub rules: u64,
    pub stopped: u64,
}

impl std::ops::AddAssign for Stats {
    fn add_assign(&mut self, other: Stats) {
        self.uploads += other.uploads;
        self.amid_faults += other.amid_faults;
        self.imports += other.imports;
        self.polls += other.polls;
        self.lost_answers += other.lost_answers;
        self.lost_requests += other.lost_requests;
        self.kills += other.kills;
        self.jumps += other.jumps;
        self.outages += other.outages;
        self.overdue += other.overdue;
        self.abandoned += other.abandoned;
        self.odd_words += other.odd_words;
        self.packed_imports += other.packed_imports;
        self.packed_jobs += other.packed_jobs;
        self.unpacked += other.unpacked;
        self.divided += other.divided;
        self.rules += other.rules;
        self.stopped += other.stopped;
    }
}
