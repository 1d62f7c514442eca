//! Would the judge notice? Mistakes that a world can be told to make.

/// A mistake that a world can be told to make, to see that the judge notices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    None,
    /// Uploads under way are not counted.
    ForgetsUploads,
    /// Who is at work is asked after the rows: who ends between the two is overlooked.
    LooksAtRowsFirst,
    /// Imports that a lost answer left behind are not counted.
    ForgetsGhosts,
    /// A poll that fails puts its batch back in the queue.
    SendsAgainAfterAPoll,
    /// An upload that was refused is sent again at once, and nothing is written down.
    SendsWithoutAReason,
    /// Groups are not looked at.
    ForgetsGroups,
    /// Lists are not looked at.
    ForgetsLists,
    /// What is put back has used up an attempt.
    BurnsAttempts,
    /// Every failed upload is put down to its batch.
    BlamesTheBatch,
    /// While uploads fail, the order is the same as always.
    TriesTheSame,
    /// That a poll was made is not written down.
    ForgetsPolls,
    /// A pause is not looked at.
    CallsWhilePaused,
    /// A restart opens the gate.
    ForgetsCalls,
    /// What may not go yet is never looked at again.
    Sleeps,
    /// An upload that fails is taken for done.
    TakesNoForYes,
    /// What failed once is given up.
    GivesUp,
    /// How long an import is waited for is read off a clock that may leap.
    BelievesTheClock,
    /// The ends of unconfirmed imports stay where they are when the clock is set.
    KeepsEndsOverALeap,
    /// A clock that leaps into another day begins a new count of calls.
    BeginsADayAtALeap,
    /// An import that a person gave up is not counted any more.
    ForgetsAbandoned,
}
