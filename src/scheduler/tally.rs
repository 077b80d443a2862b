//! How many operations there were, and how they ended: counts that add up.
//!
//! Each thread counts in a shard of its own, so that threads don't meet there; whoever reads adds the shards up.
//! When a thread ends, or counts for others, its shard is added to what all have in common.
//!
//! *Submitted* is counted before an operation can end, and its end afterwards, before anybody can learn of it.
//! Whoever reads looks at the ends first, in all shards, and at what was submitted then: so at every moment at least
//! as many were submitted as have ended. *end* an operation's end is counted (TALLY_END, Release) → *read* (TALLY_READ,
//! Acquire) → the count of what was submitted, which is not older.
#![forbid(unsafe_code)]

use super::record::Ending;
use crate::sync::fault::{Fault, planted};
use crate::sync::lock::Lock;
use crate::sync::orderings::site;
use crate::sync::{AtomicU64, per_thread};
use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;

/// The counts of an engine. See the header of this file.
pub(super) struct Tally(Arc<Shards>);

struct Shards(Lock<Vec<Arc<Shard>>>);

/// The counts of one thread, which alone writes them.
struct Shard {
    submitted: AtomicU64,
    ends: [AtomicU64; ENDINGS],
    conflicts: AtomicU64,
    folds: AtomicU64,
}

const ENDINGS: usize = 5;

/// For how many engines a thread keeps a shard.
const ENGINES: usize = 4;

per_thread! {
    static MINE: RefCell<Vec<Mine>> = RefCell::new(Vec::new());
}

/// The shard of this thread, of one engine.
struct Mine {
    of: Arc<Shards>,
    shard: Arc<Shard>,
}

impl Mine {
    fn new(of: &Arc<Shards>) -> Self {
        let shard = Arc::new(Shard::new());
        of.0.with(|shards| shards.push(shard.clone()));
        Mine {
            of: of.clone(),
            shard,
        }
    }
}

impl Drop for Mine {
    /// Adds the shard to the first one, which is nobody's.
    fn drop(&mut self) {
        self.of.0.with(|shards| {
            shards.retain(|shard| !Arc::ptr_eq(shard, &self.shard));
            shards[0].add(&self.shard);
        });
    }
}

impl Shard {
    fn new() -> Self {
        Shard {
            submitted: AtomicU64::new(0),
            ends: std::array::from_fn(|_| AtomicU64::new(0)),
            conflicts: AtomicU64::new(0),
            folds: AtomicU64::new(0),
        }
    }

    #[inline]
    fn end(&self, ending: Ending) {
        let ended = &self.ends[ending as usize];
        ended.store(ended.load(site::TALLY_LOAD) + 1, site::TALLY_END);
    }

    /// Under the lock of the shards, which whoever reads takes as well: it orders all of this.
    fn add(&self, other: &Shard) {
        let pairs = [
            (&self.submitted, &other.submitted),
            (&self.conflicts, &other.conflicts),
            (&self.folds, &other.folds),
        ];
        for (mine, theirs) in pairs.into_iter().chain(self.ends.iter().zip(&other.ends)) {
            let sum = mine.load(site::TALLY_LOAD) + theirs.load(site::TALLY_LOAD);
            mine.store(sum, site::TALLY_COUNT);
        }
    }
}

/// Counts one more. Nobody else writes this count.
#[inline]
fn count(count: &AtomicU64) {
    count.store(count.load(site::TALLY_LOAD) + 1, site::TALLY_COUNT);
}

impl Tally {
    pub(super) fn new() -> Self {
        let common = Arc::new(Shard::new());
        Tally(Arc::new(Shards(Lock::new(vec![common]))))
    }

    /// Counts in the shard of this thread.
    #[inline]
    fn with(&self, count: impl Fn(&Shard)) {
        let known = MINE.try_with(|mine| {
            let mut mine = mine.borrow_mut();
            if let Some(mine) = mine.iter().find(|mine| Arc::ptr_eq(&mine.of, &self.0)) {
                return count(&mine.shard);
            }
            if mine.len() == ENGINES {
                mine.remove(0);
            }
            let new = Mine::new(&self.0);
            count(&new.shard);
            mine.push(new);
        });
        if known.is_err() {
            // At the end of a thread there is no such place any more.
            count(&Mine::new(&self.0).shard);
        }
    }

    #[inline]
    pub(super) fn submitted(&self) {
        self.with(|shard| count(&shard.submitted));
    }

    #[inline]
    pub(super) fn ended(&self, ending: Ending) {
        self.with(|shard| shard.end(ending));
    }

    /// Counts an operation that nobody else knew of: as submitted, and as ended.
    #[inline]
    pub(super) fn came_and_went(&self, ending: Ending) {
        self.with(|shard| {
            count(&shard.submitted);
            shard.end(ending);
        });
    }

    pub(super) fn conflict(&self) {
        self.with(|shard| count(&shard.conflicts));
    }

    pub(super) fn fold(&self) {
        self.with(|shard| count(&shard.folds));
    }

    pub(super) fn read(&self) -> Counts {
        self.0.0.with(|shards| {
            let sum = |read: &dyn Fn(&Shard) -> u64| shards.iter().map(|shard| read(shard)).sum();
            let submitted = || sum(&|shard| shard.submitted.load(site::TALLY_LOAD));
            let early = planted(Fault::ReadSubmittedFirst).then(submitted);
            let end =
                |ending: Ending| sum(&|shard| shard.ends[ending as usize].load(site::TALLY_READ));
            let counts = Counts {
                committed: end(Ending::Committed),
                unchanged: end(Ending::Unchanged),
                failed: end(Ending::Failed),
                rejected: end(Ending::Rejected),
                cancelled: end(Ending::Cancelled),
                conflicts: sum(&|shard| shard.conflicts.load(site::TALLY_LOAD)),
                folds: sum(&|shard| shard.folds.load(site::TALLY_LOAD)),
                submitted: 0,
            };
            // After the ends.
            Counts {
                submitted: early.unwrap_or_else(submitted),
                ..counts
            }
        })
    }
}

/// How many operations an engine has taken, and how they ended.
///
/// Whenever the engine is idle `submitted` is the sum of the five that follow; at any other moment it is at least
/// that. What is [run](crate::Engine::run) on its caller's thread is counted when it has ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// How many were taken.
    pub submitted: u64,
    /// How many were committed.
    pub committed: u64,
    /// How many found nothing to change.
    pub unchanged: u64,
    /// How many failed: an error or a panic of their closure, or a value that was refused.
    pub failed: u64,
    /// How many the scheduler has ended.
    pub rejected: u64,
    /// How many were cancelled.
    pub cancelled: u64,
    /// How often somebody was faster than an attempt.
    pub conflicts: u64,
    /// How often several operations were published by one commit.
    pub folds: u64,
}

impl Counts {
    /// How many have ended.
    #[must_use]
    pub const fn ended(&self) -> u64 {
        self.succeeded() + self.failed + self.rejected + self.cancelled
    }

    /// How many are done: committed, or with nothing to change.
    #[must_use]
    pub const fn succeeded(&self) -> u64 {
        self.committed + self.unchanged
    }

    /// How many have not ended yet.
    #[must_use]
    pub const fn unfinished(&self) -> u64 {
        self.submitted - self.ended()
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} submitted: {} committed, {} unchanged, {} failed, {} rejected, {} cancelled, {} unfinished; {} conflicts",
            self.submitted,
            self.committed,
            self.unchanged,
            self.failed,
            self.rejected,
            self.cancelled,
            self.unfinished(),
            self.conflicts
        )
    }
}
