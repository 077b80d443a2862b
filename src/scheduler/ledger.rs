//! What is noted when an operation ends, and by which clock.
#![forbid(unsafe_code)]

use super::gate::Gate;
use super::record::Ending;
use super::tally::Tally;
use crate::clock::Clock;

/// See the header of this file.
pub(super) struct Ledger {
    pub(super) clock: Clock,
    /// How many operations are under way.
    pub(super) gate: Gate,
    pub(super) tally: Tally,
}

impl Ledger {
    pub(super) fn new(clock: Clock) -> Self {
        Ledger {
            clock,
            gate: Gate::new(),
            tally: Tally::new(),
        }
    }

    /// The time, in nanoseconds.
    #[inline]
    pub(super) fn now(&self) -> u64 {
        self.clock.now()
    }

    /// Notes an operation that has no record, at its end.
    #[inline]
    pub(super) fn ended(&self, ending: Ending) {
        self.tally.came_and_went(ending);
        self.gate.leave();
    }
}
