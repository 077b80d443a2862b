//! When a thread whose garbage piles up lets others run.
//!
//! What it has retired waits for the guards of others. They are short, so where the wait is long the likeliest
//! reason is a thread that lost its slice of time under one. Until it gets another slice nothing is released:
//! memory is taken fresh from the allocator, and no cache holds what comes back. The sooner that thread runs the
//! better for whoever retires. So one with a long backlog gives its own slice away, before it pins.
//!
//! That is a hint to the system and no wait: nothing depends on who runs next. It may be in vain, where somebody
//! holds a guard for long. So after each time twice as much has to pile up before the next, and a thread beside
//! others that compute loses a few slices by it, not each one.
#![forbid(unsafe_code)]

use std::cell::Cell;

/// Retirements that may wait for their grace before a thread gives way: four beacons. Where nobody is in the way,
/// less than one waits.
const AT_FIRST: u64 = 4 * super::reclaim::BEACON;

/// How long it may be before the thread gives way.
pub(super) struct Backlog(Cell<u64>);

impl Backlog {
    pub(super) const fn new() -> Self {
        Backlog(Cell::new(AT_FIRST))
    }

    /// Whether the thread should give way now, when so many retirements wait for their grace.
    #[inline]
    pub(super) fn is_too_long(&self, waiting: u64) -> bool {
        if waiting <= AT_FIRST {
            self.0.set(AT_FIRST);
        }
        let is_too_long = waiting > self.0.get();
        if is_too_long {
            self.0.set(waiting.saturating_mul(2));
        }
        is_too_long
    }

    /// Whether it was, and has not become short again.
    #[cfg(test)]
    pub(super) fn has_been_too_long(&self) -> bool {
        self.0.get() > AT_FIRST
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_on_its_way_is_waited_for() {
        let backlog = Backlog::new();
        assert!((0..=AT_FIRST).all(|waiting| !backlog.is_too_long(waiting)));
    }

    #[test]
    fn who_waits_in_vain_gives_way_ever_more_rarely() {
        let backlog = Backlog::new();
        let given: Vec<u64> = (0..1 << 20).filter(|&n| backlog.is_too_long(n)).collect();
        assert_eq!(given.first(), Some(&(AT_FIRST + 1)));
        assert!(given.windows(2).all(|two| two[1] > 2 * two[0]));
        assert_eq!(given.len(), 10);
    }

    #[test]
    fn after_a_short_backlog_it_begins_anew() {
        let backlog = Backlog::new();
        assert!(backlog.is_too_long(1_000_000));
        assert!(!backlog.is_too_long(2_000_000));
        assert!(!backlog.is_too_long(AT_FIRST));
        assert!(backlog.is_too_long(AT_FIRST + 1));
    }
}
