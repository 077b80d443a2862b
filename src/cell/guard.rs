//! Pins, and what waits for them.
#![forbid(unsafe_code)]

use crate::raw;
use crate::raw::reclaim::{self, Reclaim, Reclaimer};
use crate::raw::rings;
use std::fmt;

/// A pin: while it lives, whatever can be loaded under it stays.
///
/// Many loads share one guard. Guards nest, and an inner one costs next to nothing. A guard is
/// neither `Send` nor `Sync`, so it can't cross an `.await` in a spawned task, and shouldn't live
/// long in any case: *a guard holds back the reclamation of everything that the whole process
/// replaces meanwhile*. Whatever lingers should hold a [`Snapshot`](crate::Snapshot).
///
/// # Examples
/// ```
/// use snapcell::Entity;
///
/// let (a, b) = (Entity::new(1), Entity::new(2));
/// let guard = snapcell::pin();
/// assert_eq!(*a.load(&guard) + *b.load(&guard), 3);
/// ```
/// A guard stays on its thread:
/// ```compile_fail,E0277
/// fn send(_: impl Send) {}
/// send(snapcell::pin());
/// ```
/// and a snapshot doesn't have to:
/// ```
/// fn send(_: impl Send) {}
/// send(snapcell::Entity::new(1).snapshot());
/// ```
#[must_use = "a guard pins only while it lives"]
pub struct Guard(pub(super) reclaim::Guard);

/// Pins the current thread.
///
/// # Progress
/// As good as crossbeam-epoch's pin: a store, a fence and a load; the first one of a thread
/// registers it, and every 128th one looks for marks to set.
#[inline]
pub fn pin() -> Guard {
    Guard(Reclaimer::pin())
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard").finish_non_exhaustive()
    }
}

/// Frees what this thread has replaced, and what ended threads have left, as far as no guard is in
/// the way.
///
/// Commits do this by themselves, a little with each. What a thread replaced last waits for its next
/// commits, though, or for its end, or for this. Destructors of values run in here.
///
/// A thread has ended when it has been joined. (`std::thread::scope` returns a little earlier, when
/// what is local to its threads may not have ended yet.)
///
/// # Progress
/// Waits for nobody: if a guard is in the way, here or on another thread, it gives up and leaves
/// the rest for later. [`reclamation_lag`] tells how much that is.
///
/// # Examples
/// ```
/// use snapcell::Entity;
/// use std::sync::Arc;
///
/// let old = Arc::new("old");
/// let entity = Entity::new(Arc::clone(&old));
/// entity.replace(Arc::new("new"));
/// snapcell::reclaim();
/// assert_eq!(Arc::strong_count(&old), 1, "the entity's clone is gone");
/// ```
pub fn reclaim() {
    Reclaimer::reclaim();
}

/// What has been replaced and still waits to be freed, on all threads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Lag {
    /// Nodes: replaced snapshots, held by nobody or by somebody. What one transaction has replaced counts
    /// as one.
    pub nodes: usize,
    /// Their size in bytes, values included, but not what values own elsewhere.
    pub bytes: usize,
}

/// What has been replaced and still waits to be freed, on all threads.
///
/// Some hundred nodes for each committing thread are normal, since frees come in groups. More wait for
/// a while wherever a thread loses its slice of time under a guard: as many as others replace
/// meanwhile, tens of thousands at full speed. A number that grows and grows tells of a guard that is
/// held for long.
///
/// The sum is exact while no other thread commits, or ends. What a thread leaves that ends may be counted twice
/// for a moment, and is never left out.
///
/// # Progress
/// Blocking: it copies the list of rings under a lock, which the first commit of a new thread takes too, and
/// the end of one that has committed.
///
/// # Examples
/// ```
/// let entity = snapcell::Entity::new(0_u64);
/// let guard = snapcell::pin();
/// for i in 0..100 {
///     entity.replace(i);
/// }
/// assert!(snapcell::reclamation_lag().nodes >= 100, "the guard is in the way");
/// drop(guard);
/// ```
#[must_use]
pub fn reclamation_lag() -> Lag {
    let (nodes, bytes) = rings::lag();
    Lag { nodes, bytes }
}

/// How many destructors of values, and wakers of those who wait, have panicked so far.
///
/// The destructor of a replaced value runs in a later commit, or in the drop of its last snapshot,
/// and a panic there would hit somebody who has nothing to do with it. So it is caught and counted.
/// What the destructor left undone is leaked, nothing else is.
#[must_use]
pub fn destructor_panics() -> usize {
    raw::caught_panics()
}
