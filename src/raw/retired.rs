//! What is retired, its type erased; and the list of what ended threads left of it.
//!
//! A thread that ends makes a [`Batch`] of what waits in its ring. The batch gets on the list when
//! its grace is over, so whoever takes the list may release what is in it. The list is a stack that
//! is pushed to one by one and taken whole, so no address on it can be used again under anybody's
//! eyes. Checked by `loom-tests/exit.rs`.

use crate::sync::orderings::site;
use crate::sync::{AtomicPtr, AtomicUsize, global};
use std::collections::VecDeque;
use std::mem;
use std::ptr;

/// Gives up a count. Its safety is that of [`Retired::release`].
pub(crate) type Releaser = unsafe fn(*mut ());

/// Something retired: the head's count of a node.
#[derive(Clone, Copy)]
pub(crate) struct Retired {
    /// What `release` is to be called with.
    pub(crate) node: *mut (),
    /// Its size in memory.
    pub(crate) bytes: usize,
    /// Gives the count up.
    ///
    /// # Safety
    /// 1. The argument is `node`. 2. Its grace is over. 3. It is called once.
    pub(crate) release: Releaser,
}

impl Retired {
    /// # Safety
    /// 1. The grace is over.
    #[inline]
    pub(super) unsafe fn release(self) {
        // SAFETY: (1) the two belong together; (2) by the caller; (3) `self` ends here.
        unsafe { (self.release)(self.node) };
    }
}

/// What one thread left when it ended.
pub(super) struct Batch {
    waiting: VecDeque<Retired>,
    next: *mut Batch,
}

// SAFETY: what is retired is released by whatever thread comes to it. Nodes are made of `T: Send +
// Sync` only (see `Node`), and the batch has one owner at a time.
unsafe impl Send for Batch {}

global! {
    static ORPHANS: AtomicPtr<Batch> = AtomicPtr::new(ptr::null_mut());
}
global! {
    /// Gauges of what is in batches, before and after their grace.
    static NODES: AtomicUsize = AtomicUsize::new(0);
}
global! {
    static BYTES: AtomicUsize = AtomicUsize::new(0);
}

impl Batch {
    pub(super) fn new(waiting: VecDeque<Retired>, bytes: usize) -> Box<Self> {
        NODES.fetch_add(waiting.len(), site::GAUGE_ADD);
        BYTES.fetch_add(bytes, site::GAUGE_ADD);
        Box::new(Batch {
            waiting,
            next: ptr::null_mut(),
        })
    }

    /// Puts the batch on the list.
    ///
    /// # Safety
    /// 1. The grace of all that is in it is over.
    pub(super) unsafe fn adopt(self: Box<Self>) {
        let batch = Box::into_raw(self);
        let mut top = ORPHANS.load(site::ORPHAN_PEEK);
        loop {
            // SAFETY: not published yet, so still ours alone.
            unsafe { (*batch).next = top };
            match ORPHANS.compare_exchange(top, batch, site::ORPHAN_PUSH) {
                Ok(_) => return,
                Err(newer) => top = newer,
            }
        }
    }
}

/// Whether the list is empty. One load.
#[inline]
pub(super) fn no_orphans() -> bool {
    ORPHANS.load(site::ORPHAN_PEEK).is_null()
}

/// Releases up to `most` of what is on the list.
///
/// What is not released now goes back first. So a destructor that takes its time holds up nobody else's,
/// and a long list costs no more than a short one.
#[cold]
pub(super) fn release_orphans(most: usize) {
    let mut left = most;
    while left > 0 {
        let first = ORPHANS.swap(ptr::null_mut(), site::ORPHAN_TAKE);
        if first.is_null() {
            return;
        }
        // SAFETY: only `Batch::adopt` and `put_back` put pointers on the list, made from boxes. Whoever
        // takes the list has it alone.
        let mut batch = unsafe { Box::from_raw(first) };
        let others = batch.next;
        let later = batch.waiting.split_off(left.min(batch.waiting.len()));
        let now = mem::replace(&mut batch.waiting, later);
        if batch.waiting.is_empty() {
            put_back(others);
        } else {
            put_back(Box::into_raw(batch));
        }
        left -= now.len();
        for retired in now {
            NODES.fetch_sub(1, site::GAUGE_ADD);
            BYTES.fetch_sub(retired.bytes, site::GAUGE_ADD);
            // SAFETY: (1) a batch gets on the list when its grace is over.
            unsafe { retired.release() };
        }
    }
}

/// Puts back what was taken, behind what has come meanwhile, which is little.
fn put_back(list: *mut Batch) {
    let mut list = list;
    while !list.is_null()
        && ORPHANS
            .compare_exchange(ptr::null_mut(), list, site::ORPHAN_PUSH)
            .is_err()
    {
        let newer = ORPHANS.swap(ptr::null_mut(), site::ORPHAN_TAKE);
        let mut last = newer;
        // SAFETY: whoever takes the list has it alone.
        while let Some(batch) = unsafe { last.as_mut() } {
            if batch.next.is_null() {
                batch.next = list;
                list = newer;
                break;
            }
            last = batch.next;
        }
    }
}

/// Nodes and bytes in batches.
pub(super) fn orphaned() -> (usize, usize) {
    (NODES.load(site::GAUGE_LOAD), BYTES.load(site::GAUGE_LOAD))
}
