//! The block behind an entity's handles: a count of them, the head, and what only some have.
//!
//! Whoever looks at a head does so through a handle that it borrows, so when the last handle goes
//! nobody can be looking: the block ends at once, and the value with it unless snapshots keep it.
//! (Transactions will bring helpers that look without a handle, and then a grace for the blocks
//! that took part in one.)
//!
//! # Orderings
//! HANDLE_RELEASE → HANDLE_LAST: what was done through any handle comes before the end. Checked by
//! `loom-tests/end.rs`.

use super::end::{Dead, quietly};
use super::head::Head;
use super::node::{Draft, Held};
use super::pool;
use super::reclaim::{Reclaim, Reclaimer};
use crate::sync::AtomicUsize;
use crate::sync::fault::{Fault, planted};
use crate::sync::orderings::site;
use std::alloc::Layout;
use std::mem;
use std::ptr::NonNull;

struct Block<T, X> {
    handles: AtomicUsize,
    head: Head<T>,
    /// A box of its own, as most entities have none.
    extras: Option<Box<X>>,
}

#[cfg(not(any(snapcell_model, snapcell_epoch_model, snapcell_shuttle)))]
const _: () = assert!(
    size_of::<Block<u64, u64>>() == 3 * size_of::<usize>(),
    "a block is three words"
);

/// Counts beyond this abort, as `Arc`'s do.
const MOST: usize = isize::MAX as usize;

/// A counted reference to a block.
pub(crate) struct Handle<T: Send + Sync + 'static, X>(NonNull<Block<T, X>>);

// SAFETY: handles share the head, which gives out `&T` on all threads and drops `T`s on any; and
// `&X`, dropped on the last handle's thread.
unsafe impl<T: Send + Sync + 'static, X: Send + Sync> Send for Handle<T, X> {}
// SAFETY: as above: a `&Handle` can be cloned into a `Handle`.
unsafe impl<T: Send + Sync + 'static, X: Send + Sync> Sync for Handle<T, X> {}

impl<T: Send + Sync + 'static, X> Handle<T, X> {
    const LAYOUT: Layout = Layout::new::<Block<T, X>>();

    pub(crate) fn new(first: Draft<T>, extras: Option<Box<X>>) -> Self {
        let block: NonNull<Block<T, X>> = pool::take(Self::LAYOUT).cast();
        let content = Block {
            handles: AtomicUsize::new(1),
            head: Head::new(first),
            extras,
        };
        // SAFETY: the memory is ours, large enough and aligned.
        unsafe { block.write(content) };
        Handle(block)
    }

    #[inline]
    fn block(&self) -> &Block<T, X> {
        // SAFETY: our count keeps the block.
        unsafe { self.0.as_ref() }
    }

    #[inline]
    pub(crate) fn head(&self) -> &Head<T> {
        &self.block().head
    }

    #[inline]
    pub(crate) fn extras(&self) -> Option<&X> {
        self.block().extras.as_deref()
    }

    /// Whether the two are handles of the same block.
    pub(crate) fn is(&self, other: &Self) -> bool {
        self.0 == other.0
    }

    /// Takes the value out of the entity if this is its only handle and nobody holds its snapshot;
    /// otherwise the current snapshot.
    pub(crate) fn into_inner(self) -> Result<T, Held<T>> {
        if self.block().handles.load(site::HANDLE_SOLE) != 1 {
            let guard = Reclaimer::pin();
            return Err(self.head().load(&guard).hold());
        }
        // SAFETY: the only handle is ours, so nobody uses the head, and it ends here.
        let held = unsafe { self.end() };
        mem::forget(self);
        // SAFETY: (1) who looks under a guard borrows a handle, and there is no other.
        unsafe { held.into_value() }
    }

    /// Ends the block; what is left is the head's count.
    ///
    /// # Safety
    /// 1. Nobody else has a handle. 2. This one is not used any more.
    unsafe fn end(&self) -> Held<T> {
        // SAFETY: (1), (2): nobody uses the head from now on.
        let held = unsafe { self.head().take() };
        // SAFETY: (1) the block is ours, whole, and (2) not used as such any more.
        let Block { extras, .. } = unsafe { self.0.read() };
        // SAFETY: (1), (2): it came from the pool with this layout, and nothing lives in it.
        unsafe { pool::give(self.0.cast(), Self::LAYOUT) };
        if let Some(extras) = extras {
            let extras = Dead {
                node: Box::into_raw(extras).cast(),
                end: Self::end_extras,
            };
            // SAFETY: (1) they were the block's.
            unsafe { extras.bury() };
        }
        held
    }
}

impl<T: Send + Sync + 'static, X> Handle<T, X> {
    /// # Safety
    /// 1. `extras` came from a `Box<X>`. 2. It is called once.
    unsafe fn end_extras(extras: *mut ()) {
        // SAFETY: (1), (2).
        let extras = unsafe { Box::from_raw(extras.cast::<X>()) };
        // A validator may own anything, other entities included.
        quietly(|| drop(extras));
    }
}

impl<T: Send + Sync + 'static, X> Clone for Handle<T, X> {
    fn clone(&self) -> Self {
        if self.block().handles.fetch_add(1, site::HANDLE_TAKE) > MOST {
            std::process::abort();
        }
        Handle(self.0)
    }
}

impl<T: Send + Sync + 'static, X> Drop for Handle<T, X> {
    fn drop(&mut self) {
        if self.block().handles.fetch_sub(1, site::HANDLE_RELEASE) == 1 {
            // All that was done through other handles is done: this reads the end of their releases.
            self.block().handles.load(site::HANDLE_LAST);
            // SAFETY: (1) that was the last handle; (2) it ends here.
            let held = unsafe { self.end() };
            if planted(Fault::ForgetHead) {
                return mem::forget(held);
            }
            drop(held);
        }
    }
}
