//! How a value dies: once, by a loop, and whatever its destructor does.
//!
//! A value may hold older snapshots, whose values hold still older ones. Were each destructor to
//! run inside the one before it, a million of them would overflow the stack. So only the outermost
//! death on a thread runs destructors; what dies meanwhile waits for it in a queue.
//!
//! A destructor that panics is caught, and counted by [`caught_panics`]: it runs in some commit or
//! some drop that has nothing to do with the value. Destructors may use the crate as they like,
//! commits included: no borrow of a ring, a pool or the queue spans one.

use crate::sync::orderings::site;
use crate::sync::{AtomicUsize, global, per_thread};
use std::cell::{Cell, RefCell};
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind};

global! {
    static PANICS: AtomicUsize = AtomicUsize::new(0);
}

per_thread! {
    // Without a destructor of its own, so that it serves as long as the thread runs. The queue's
    // memory is freed whenever it gets empty.
    static QUEUE: ManuallyDrop<Queue> = ManuallyDrop::new(Queue {
        busy: Cell::new(false),
        waiting: RefCell::new(Vec::new()),
    });
}

struct Queue {
    busy: Cell<bool>,
    waiting: RefCell<Vec<Dead>>,
}

/// Something whose last count is gone.
pub(super) struct Dead {
    /// What `end` is to be called with.
    pub(super) node: *mut (),
    /// Runs the destructor, if it comes to that, and gives the memory back.
    ///
    /// # Safety
    /// 1. The argument is `node`. 2. It is called once.
    pub(super) end: unsafe fn(*mut ()),
}

impl Dead {
    /// Ends it now, or after what is ending on this thread already.
    ///
    /// # Safety
    /// 1. Nobody else refers to the node.
    pub(super) unsafe fn bury(self) {
        let mut dead = Some(self);
        let outermost = QUEUE.try_with(|queue| {
            if queue.busy.replace(true) {
                queue.waiting.borrow_mut().extend(dead.take());
                false
            } else {
                true
            }
        });
        let mut next = dead;
        while let Some(Dead { node, end }) = next {
            // SAFETY: (1) the two belong together. (2) A death leaves the queue once.
            unsafe { end(node) };
            next = QUEUE
                .try_with(|queue| queue.waiting.borrow_mut().pop())
                .ok()
                .flatten();
        }
        if outermost.unwrap_or(false) {
            let emptied = QUEUE.try_with(|queue| {
                queue.busy.set(false);
                queue.waiting.take()
            });
            drop(emptied);
        }
    }
}

/// Runs a destructor; a panic ends here.
pub(crate) fn quietly(destructor: impl FnOnce()) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(destructor)) {
        PANICS.fetch_add(1, site::GAUGE_ADD);
        // The payload has a destructor too, which is as free to panic. It gets one try.
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
            std::mem::forget(payload);
        }
    }
}

/// How many destructors of values panicked so far.
pub(crate) fn caught_panics() -> usize {
    PANICS.load(site::GAUGE_LOAD)
}
