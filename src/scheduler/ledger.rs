//! What is noted when something happens to an operation, and by which clock.
#![forbid(unsafe_code)]

use super::account::event::{About, Event, EventKind, What};
use super::account::feed::Feed;
use super::account::registry::Registry;
use super::account::tally::Tally;
use super::gate::{self, Gate};
use crate::clock::Clock;
use std::sync::Arc;

/// See the header of this file.
pub(super) struct Ledger {
    pub(super) clock: Clock,
    /// How many operations are under way.
    pub(super) gate: Gate<{ gate::MANY }>,
    pub(super) tally: Tally,
    pub(super) feed: Arc<Feed>,
    /// What is known of each operation, if that is wanted.
    pub(super) registry: Option<Registry>,
}

impl Ledger {
    pub(super) fn new(clock: Clock, is_detailed: bool, registry: Option<Registry>) -> Self {
        Ledger {
            clock,
            gate: Gate::new(),
            tally: Tally::new(is_detailed),
            feed: Arc::new(Feed::new()),
            registry,
        }
    }

    /// The time, in nanoseconds.
    #[inline]
    pub(super) fn now(&self) -> u64 {
        self.clock.now()
    }

    /// Tells whoever wants to know of such an event.
    #[inline]
    pub(super) fn tell(&self, kind: EventKind, event: impl FnOnce() -> (About, What)) {
        if self.feed.wants(kind) {
            self.tell_of(self.now(), event);
        }
    }

    /// The same, of something that was then.
    #[inline]
    pub(super) fn tell_at(&self, at: u64, kind: EventKind, event: impl FnOnce() -> (About, What)) {
        if self.feed.wants(kind) {
            self.tell_of(at, event);
        }
    }

    #[inline(always)]
    fn tell_of(&self, at: u64, event: impl FnOnce() -> (About, What)) {
        let (about, what) = event();
        self.feed.tell(&Event::new(at, Some(about), what));
    }
}
