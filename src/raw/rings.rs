//! What threads have to do with each other's rings: somebody marks up to where one is ripe, and anybody may see how much
//! waits in it.
//!
//! The ring of a thread is entered into a list of all when it retires something for the first time, and taken out when
//! it ends. The list is for [`lag`] alone; what is retired and released finds its ring without it.
//!
//! # Orderings
//! Of the mark: see the header of `reclaim.rs`. Of the gauges: *count* what a thread leaves at its end is counted among
//! the orphans; *none* the gauges of its ring say that nothing is left; *look* somebody adds up. *count* → *none*
//! (LAG_HAND_OVER) → *look* (LAG_LOAD). So who looks at rings first, and at orphans then, may find what a thread leaves in
//! both, and finds it in one at least. Checked by `loom-tests/exit.rs`.
#![forbid(unsafe_code)]

use super::retired::orphaned;
use crate::sync::orderings::site;
use crate::sync::{AtomicU64, AtomicUsize, global};
use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What other threads write or read of a ring. A line of its own: the owner looks at the mark with
/// every commit.
#[repr(align(128))]
pub(super) struct Shared {
    /// Up to which position the grace is over. Only grows.
    ripe: AtomicU64,
    /// Gauges of what waits. Only the owner sets them.
    nodes: AtomicUsize,
    bytes: AtomicUsize,
}

impl Shared {
    /// Up to which position what was retired may be released.
    #[inline(always)]
    pub(super) fn ripe(&self) -> u64 {
        self.ripe.load(site::RIPE_LOAD)
    }

    /// Says that it may be up to there.
    pub(super) fn mark(&self, upto: u64) {
        self.ripe.fetch_max(upto, site::RIPE_MARK);
    }

    /// Says how much waits.
    #[inline(always)]
    pub(super) fn show(&self, nodes: usize, bytes: usize) {
        self.nodes.store(nodes, site::GAUGE_STORE);
        self.bytes.store(bytes, site::GAUGE_STORE);
    }

    /// Says that nothing does, when it is counted elsewhere.
    pub(super) fn show_none(&self) {
        self.bytes.store(0, site::LAG_HAND_OVER);
        self.nodes.store(0, site::LAG_HAND_OVER);
    }
}

/// A ring in the list of all, until this is dropped. What is left in the ring is counted among the orphans before that.
pub(super) struct Entered {
    shared: Arc<Shared>,
    /// Its place in the list.
    key: u64,
}

impl Entered {
    pub(super) fn new() -> Self {
        let shared = Arc::new(Shared {
            ripe: AtomicU64::new(0),
            nodes: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
        });
        let mut rings = rings();
        let key = rings.last_key_value().map_or(0, |(last, _)| last + 1);
        rings.insert(key, Arc::clone(&shared));
        Entered { shared, key }
    }

    /// For whoever marks it later, when the ring may have ended.
    pub(super) fn keep(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }
}

impl Deref for Entered {
    type Target = Shared;

    #[inline(always)]
    fn deref(&self) -> &Shared {
        &self.shared
    }
}

impl Drop for Entered {
    /// Whoever doesn't find the ring in the list any more finds what it has left among the orphans: the lock of the list
    /// orders the two. loom doesn't know locks of `std`, so in models the ring stays, and what they check is the look at one
    /// that has ended.
    fn drop(&mut self) {
        if !cfg!(any(snapcell_model, snapcell_epoch_model, snapcell_shuttle)) {
            rings().remove(&self.key);
        }
    }
}

type Rings = BTreeMap<u64, Arc<Shared>>;

global! {
    /// In the order in which they came.
    static RINGS: Mutex<Rings> = Mutex::new(Rings::new());
}

/// No word that threads share is looked at while this is held: under shuttle nobody could run then.
fn rings() -> MutexGuard<'static, Rings> {
    RINGS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Nodes and bytes that wait for their grace, of all threads: first what waits in rings, then what ended threads left,
/// which is the way that it goes. Whoever ends meanwhile may be counted twice, and is not missed.
pub(crate) fn lag() -> (usize, usize) {
    let all: Vec<_> = rings().values().cloned().collect();
    let in_rings = all.iter().fold((0, 0), |(nodes, bytes), ring| {
        (
            nodes + ring.nodes.load(site::LAG_LOAD),
            bytes + ring.bytes.load(site::LAG_LOAD),
        )
    });
    let left = orphaned();
    (in_rings.0 + left.0, in_rings.1 + left.1)
}

/// Makes what all threads share, here and among the orphans, before any is spawned: loom takes a later first use for
/// an order between threads.
#[cfg(any(snapcell_model, snapcell_shuttle))]
pub(crate) fn begin() {
    super::retired::no_orphans();
    lag();
}
