//! How loom is made to see.
//!
//! # The gate
//! loom 0.7 looks for races only against the *last* access of a word. A thread that loads a word
//! and then compare-exchanges it hides its own load, so loom never reorders another thread's
//! exchange before that load: the two-line program of `loom-tests/gate.rs` runs once, and sees one
//! of its two outcomes. Here every word has a neighbour that is read-modify-written, relaxed,
//! before each load, store and compare-exchange. loom reorders read-modify-writes rightly, and a
//! relaxed one orders nothing, so every interleaving appears and no stale value disappears.
//!
//! # The life of a node
//! loom can't see plain memory. [`Life`] is a cell of loom's in each node that is read with every
//! look at the node and written when it dies: a look that isn't ordered before the death is
//! reported as a race, a look after it as a use after the end.

use super::fault::{Fault, planted};
pub(super) use loom::sync;
pub(crate) use loom::sync::atomic;
pub(crate) use loom::thread::{JoinHandle, spawn, yield_now};
pub(super) use loom::thread::{Thread, current};
use std::cell::Cell;

/// See the header of this file.
pub(super) struct Gate(atomic::AtomicU8);

impl Gate {
    pub(super) fn new() -> Self {
        Gate(atomic::AtomicU8::new(0))
    }

    pub(super) fn pass(&self) {
        if !planted(Fault::NoGate) {
            self.0.fetch_add(0, super::orderings::GATE);
        }
    }
}

macro_rules! constructor {
    ($value:ty, $inner:ty) => {
        pub(crate) fn new(value: $value) -> Self {
            Self {
                word: <$inner>::new(value),
                gate: backend::Gate::new(),
            }
        }
    };
}
pub(super) use constructor;

/// A word that all threads of one execution share.
macro_rules! global {
    ($(#[$meta:meta])* static $name:ident: $ty:ty = $init:expr;) => {
        loom::lazy_static! { $(#[$meta])* static ref $name: $ty = $init; }
    };
}
pub(crate) use global;
#[cfg(snapcell_epoch_model)]
pub(crate) use {global as lazy_global, per_thread as lazy_per_thread};

/// A value for each thread of one execution.
macro_rules! per_thread {
    ($(#[$meta:meta])* static $name:ident: $ty:ty = $init:expr;) => {
        loom::thread_local! { $(#[$meta])* static $name: $ty = $init; }
    };
}
pub(crate) use per_thread;

/// Nothing: pausing changes no interleaving, and no loop of ours waits for another thread.
pub(crate) fn spin(_rounds: u32) {}

/// Models have no threads but their own.
#[cfg(feature = "scheduler")]
pub(crate) fn processors() -> usize {
    0
}

/// Models have no threads but their own.
pub(crate) fn spawn_in_background(_name: &str, _f: impl FnOnce() + Send + 'static) -> bool {
    false
}

/// Parks this thread until it is unparked. There is no time in models, and so no deadline.
pub(crate) fn park(_deadline: Option<std::time::Instant>) -> bool {
    loom::thread::park();
    true
}

/// There are no deadlines.
pub(crate) fn is_over(_deadline: Option<std::time::Instant>) -> bool {
    false
}

/// Where something comes in the order of all of its kind: as it was made, in this execution. Addresses are
/// not the same in each, and an execution must depend on nothing but its schedule.
pub(crate) struct Rank(usize);

impl Rank {
    pub(crate) fn next() -> Self {
        Rank(super::coverage::next_rank())
    }

    pub(crate) fn of(&self, _address: usize) -> usize {
        self.0
    }
}

/// What one thread at a time may get at: a cell of loom's that is written with each touch, so that two touches
/// without an order are a race.
#[cfg(feature = "scheduler")]
pub(crate) struct Sole(loom::cell::UnsafeCell<()>);

#[cfg(feature = "scheduler")]
impl Sole {
    pub(crate) fn new() -> Self {
        Sole(loom::cell::UnsafeCell::new(()))
    }

    pub(crate) fn touch(&self) {
        if !std::thread::panicking() {
            self.0.with_mut(|_| ());
        }
    }
}

/// See the header of this file.
pub(crate) struct Life {
    cell: loom::cell::UnsafeCell<()>,
    alive: Cell<bool>,
}

impl Life {
    pub(crate) fn begin() -> Self {
        super::coverage::born();
        Life {
            cell: loom::cell::UnsafeCell::new(()),
            alive: Cell::new(true),
        }
    }

    pub(crate) fn look(&self) {
        if !std::thread::panicking() {
            assert!(self.alive.get(), "a node was looked at after its end");
            self.cell.with(|_| ());
        }
    }

    pub(crate) fn end(&self) {
        if !std::thread::panicking() {
            assert!(self.alive.replace(false), "a node died twice");
            super::coverage::died();
            self.cell.with_mut(|_| ());
        }
    }
}
