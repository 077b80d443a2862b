//! Which entries of an arena are free: a stack of their numbers, linked through the entries themselves.
//!
//! # Why an exchange of the top is right
//! Whoever takes the top has read which number is below it. In the meantime the top may have been taken, and
//! have come back on top of another one, and the exchange would succeed with a link that is old. So nothing
//! comes back while somebody is pinned who was so when it was taken: a number is given back after a grace that
//! began after it was taken, and is taken under a guard. (Treiber, *Systems programming: coping with parallelism*,
//! 1986; that epochs keep its stack from that: Fraser, *Practical lock-freedom*, 2004.)
//!
//! # Orderings
//! FREE_PUT → FREE_LOAD: who finds a number on top finds its link, and all that was done to the entry. The top
//! is changed by exchanges only, so this is so for a number that came to the top by what was above it being
//! taken. Checked by `loom-tests/arena.rs`.
#![forbid(unsafe_code)]

use super::reclaim::{Reclaim, Reclaimer};
use crate::sync::AtomicU64;
use crate::sync::fault::{Fault, planted};
use crate::sync::orderings::site;

/// What is below the last one, and on top where there is none.
const NOTHING: u64 = u64::MAX;

/// See the header of this file.
pub(super) struct Free {
    top: AtomicU64,
}

impl Free {
    pub(super) fn new() -> Self {
        Free {
            top: AtomicU64::new(NOTHING),
        }
    }

    /// Gives a number back, with the word of its entry that nobody else uses while it is free. To be done after a
    /// grace that began after it was taken.
    ///
    /// # Progress
    /// Lock-free.
    pub(super) fn put(&self, number: u32, link: &AtomicU64) {
        let mut top = self.top.load(site::FREE_LOOK);
        loop {
            link.store(top, site::BELOW_SET);
            match self
                .top
                .compare_exchange(top, u64::from(number), site::FREE_PUT)
            {
                Ok(_) => return,
                Err(now) => top = now,
            }
        }
    }

    /// Takes a number, if there is one.
    ///
    /// # Progress
    /// As good as a pin, and then lock-free.
    pub(super) fn take<'a>(&self, link_of: impl Fn(u32) -> &'a AtomicU64) -> Option<u32> {
        if self.top.load(site::FREE_LOOK) == NOTHING {
            return None;
        }
        let _guard = (!planted(Fault::TakeUnpinned)).then(Reclaimer::pin);
        loop {
            let top = self.top.load(site::FREE_LOAD);
            if top == NOTHING {
                return None;
            }
            let number = top as u32;
            // If it was taken meanwhile this may be anything; but then the exchange fails.
            let below = link_of(number).load(site::BELOW_LOAD);
            if self
                .top
                .compare_exchange(top, below, site::FREE_TAKE)
                .is_ok()
            {
                return Some(number);
            }
        }
    }
}
