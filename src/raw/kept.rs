//! A place that keeps one node: set once, by whoever comes first, and for as long as the place lasts.
//!
//! All who set a place have seen the same node, so it is no matter who wins. The place owns one count of it.
//!
//! # Orderings
//! *find* somebody sees the node, and so all of it; *keep* the exchange on the place. *find* → *keep*
//! (KEPT_SET, Release) → KEPT_LOAD (Acquire): who finds the place set sees the node, without a look at the
//! head that it was at. Checked by `loom-tests/history.rs`.

use super::node::{Held, Node, Seen};
use crate::sync::AtomicPtr;
use crate::sync::fault::{Fault, planted};
use crate::sync::orderings::site;
use std::marker::PhantomData;
use std::ptr::{self, NonNull};

/// What lies beside a head, and has to know of each snapshot before it is replaced.
pub(crate) trait Recorder<T>: Default + Send + Sync {
    /// Called by each who is about to replace `seen`, so more than once.
    fn record(&self, seen: Seen<'_, T>);
}

/// The place: null, or a node of which it owns a count.
pub(crate) struct Kept<T> {
    node: AtomicPtr<Node<T>>,
    /// It crosses threads as a [`Held`] does.
    owns: PhantomData<Held<T>>,
}

#[cfg(not(any(snapcell_model, snapcell_epoch_model, snapcell_shuttle)))]
const _: () = assert!(
    size_of::<Kept<u64>>() == size_of::<usize>(),
    "a place is one word"
);

impl<T> Kept<T> {
    pub(crate) fn empty() -> Self {
        Kept {
            node: AtomicPtr::new(ptr::null_mut()),
            owns: PhantomData,
        }
    }

    /// Keeps the node, if none is kept yet. Wait-free.
    #[inline]
    pub(crate) fn set_once(&self, seen: Seen<'_, T>) {
        if !self.node.load_set_once(site::KEPT_PEEK).is_null() {
            return;
        }
        let node = seen.hold().into_raw();
        let set = self
            .node
            .compare_exchange(ptr::null_mut(), node.as_ptr(), site::KEPT_SET);
        if set.is_err() && !planted(Fault::LoserKeepsCount) {
            // SAFETY: (1) the count is ours, and was given to nobody.
            drop(unsafe { Held::from_raw(node) });
        }
    }

    /// The node, if one is kept. Wait-free: one load.
    #[inline]
    pub(crate) fn get(&self) -> Option<Seen<'_, T>> {
        let node = NonNull::new(self.node.load_set_once(site::KEPT_LOAD))?;
        // SAFETY: (1), (2): our count keeps it, and is given up when the place, which is borrowed, ends.
        Some(unsafe { Seen::new(node) })
    }
}

impl<T> Drop for Kept<T> {
    fn drop(&mut self) {
        let node = self.node.load_set_once(site::KEPT_TAKE);
        if let Some(node) = NonNull::new(node)
            && !planted(Fault::ForgetKept)
        {
            // SAFETY: (1) the count was the place's, which ends.
            drop(unsafe { Held::from_raw(node) });
        }
    }
}
