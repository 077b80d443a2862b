//! What has happened, and what has not: a soak in which a mechanism never fired says nothing about it.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Defines the mechanisms with their names in the report.
macro_rules! mechanisms {
    ($($name:ident $text:literal)*) => {
        /// What a soak is to exercise.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Mechanism {
            $(#[doc = $text] $name),*
        }

        const ALL: &[(Mechanism, &str)] = &[$((Mechanism::$name, $text)),*];
    };
}

mechanisms! {
    Update "update"
    TryUpdate "try_update"
    Transaction "transaction"
    Prepared "prepared"
    Merging "merging"
    Merged "merged with what was faster"
    Submitted "submitted"
    Ran "run on the caller's thread"
    Staged "staged and resolved"
    StageDropped "staged and cleared, or dropped"
    Nested "waited for inside another one"
    NestedElsewhere "part of one of another engine"
    SelfConflict "wanted a target of who waited"
    MayDeadlock "independent of who waited"
    Cancelled "cancelled by its ticket"
    CancelledTooLate "cancelled too late"
    Prioritized "given another priority"
    TimedOut "not done at a deadline"
    TicketDropped "ticket dropped"
    Traced "traced"
    AtOnce "done by whoever submitted it"
    Refused "closure refused"
    Panicked "closure panicked"
    Unchanged "nothing to change"
    Exhausted "rejected: exhausted"
    Expired "rejected: expired"
    Lost "rejected: lost the round"
    Evicted "rejected: evicted"
    Overloaded "not taken: overloaded"
    PriorityNotAllowed "not taken: priority"
    ShutDown "not taken: shut down"
    ShutDownFinish "engines shut down, finishing"
    ShutDownCancel "engines shut down, cancelling"
    EngineDropped "engines dropped while busy"
    EngineAgain "engines replaced"
    Threads "threads that came and went"
    Guests "entities that came and went"
    GuestInFlight "entities dropped under operations"
    Outside "commits past the engine"
    OutsideConflict "conflicts past the engine"
    WaitedFor "waited for a value"
    Watched "watched"
    History "looks at a history"
    Conflict "conflicts of operations"
    Fold "folds"
    VersionsExact "versions of folds known exactly"
}

/// How often each has happened.
pub(crate) struct Seen([AtomicU64; ALL.len()]);

impl Seen {
    pub(crate) fn new() -> Self {
        Seen(std::array::from_fn(|_| AtomicU64::new(0)))
    }

    pub(crate) fn note(&self, what: Mechanism) {
        self.note_many(what, 1);
    }

    pub(crate) fn note_many(&self, what: Mechanism, times: u64) {
        self.0[what as usize].fetch_add(times, Relaxed);
    }

    /// A line for each, and how many have never happened.
    pub(crate) fn told(&self) -> (String, usize) {
        let (mut text, mut missing) = (String::new(), 0);
        for (what, name) in ALL {
            let times = self.0[*what as usize].load(Relaxed);
            let _ = match times {
                0 => writeln!(text, "| {name:<34} | NOT EXERCISED |"),
                _ => writeln!(text, "| {name:<34} | {times:>13} |"),
            };
            missing += usize::from(times == 0);
        }
        (text, missing)
    }
}

#[test]
fn what_has_not_happened_is_named() {
    let seen = Seen::new();
    for (what, _) in &ALL[1..] {
        seen.note(*what);
    }
    let (text, missing) = seen.told();
    assert_eq!((text.matches("NOT EXERCISED").count(), missing), (1, 1));
}
