//! Mutations: mistakes that a run can be set to make, to show that the checker detects them.

/// A mistake of the daemon that the checker must detect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutation {
    None,
    /// Uploads under way are not counted.
    ForgetsUploads,
    /// The busy set is read after the rows: a worker that ends between the two is overlooked.
    ReadsRowsFirst,
    /// Imports that a lost answer left behind are not counted.
    ForgetsUnconfirmed,
    /// A poll that fails puts its batch back in the queue.
    ResendsAfterPoll,
    /// An upload that was refused is sent again at once, and nothing is written down.
    ResendsWithoutReason,
    /// Groups are not looked at.
    ForgetsGroups,
    /// Lists are not looked at.
    ForgetsLists,
    /// The earliest times of jobs are not looked at.
    ForgetsNotBefore,
    /// What is put back has used up an attempt.
    CountsRequeues,
    /// Every failed upload is put down to its batch.
    BlamesBatch,
    /// While uploads fail, the order is the same as always.
    RetriesInSameOrder,
    /// That a poll was made is not written down.
    ForgetsPolls,
    /// A pause is not looked at.
    CallsWhilePaused,
    /// A restart loses the calls in the window.
    ForgetsCalls,
    /// What may not go yet is never planned again.
    NeverWakes,
    /// An upload that is refused is recorded as accepted.
    AcceptsRefusals,
    /// What failed once is given up.
    GivesUpAtOnce,
    /// How long an import is waited for is measured by a clock that may jump.
    TrustsClock,
    /// The ends of unconfirmed imports stay as they are when the clock is set.
    KeepsEndsOverJump,
    /// A clock that jumps into another day begins a new count of calls.
    BeginsDayAtJump,
    /// An import that an operator gave up is not counted any more.
    ForgetsAbandoned,
    /// What follows from an upload of several jobs is recorded for one of them only.
    RecordsForLeadOnly,
    /// When the batch that stands for a shared import leaves, no other takes its place.
    KeepsNoLead,
    /// Each job that shares an import is taken for an import of its own.
    CountsMembers,
    /// The jobs of a shared import that failed may share the next one.
    PacksAfterFailure,
    /// The rules of jobs are not looked at: no batch waits for another one of its job.
    ForgetsRules,
}
