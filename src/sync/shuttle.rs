//! shuttle: many threads, random schedules, sequentially consistent memory only.
//!
//! A node's life is followed as in the loom build, without the race detector: a schedule point at
//! each look, and a panic at a look after the end.

pub(super) use shuttle::sync;
pub(crate) use shuttle::sync::atomic;
pub(crate) use shuttle::thread::{JoinHandle, spawn, yield_now};
pub(super) use shuttle::thread::{Thread, current};
use std::cell::Cell;

/// Nothing: shuttle reorders every access.
pub(super) struct Gate;

impl Gate {
    pub(super) fn pass(&self) {}
}

macro_rules! constructor {
    ($value:ty, $inner:ty) => {
        pub(crate) fn new(value: $value) -> Self {
            Self {
                word: <$inner>::new(value),
                gate: backend::Gate,
            }
        }
    };
}
pub(super) use constructor;

/// A word that all threads of one execution share.
macro_rules! global {
    ($(#[$meta:meta])* static $name:ident: $ty:ty = $init:expr;) => {
        shuttle::lazy_static! { $(#[$meta])* static ref $name: $ty = $init; }
    };
}
pub(crate) use global;

/// A value for each thread of one execution.
macro_rules! per_thread {
    ($(#[$meta:meta])* static $name:ident: $ty:ty = $init:expr;) => {
        shuttle::thread_local! { $(#[$meta])* static $name: $ty = $init; }
    };
}
pub(crate) use per_thread;

/// Gives the other threads a chance, once.
pub(crate) fn spin(_rounds: u32) {
    yield_now();
}

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
    shuttle::thread::park();
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

/// Nothing: shuttle looks for no races.
#[cfg(feature = "scheduler")]
pub(crate) struct Sole;

#[cfg(feature = "scheduler")]
impl Sole {
    pub(crate) fn new() -> Self {
        Sole
    }

    pub(crate) fn touch(&self) {}
}

/// See the header of this file.
pub(crate) struct Life {
    alive: Cell<bool>,
}

impl Life {
    pub(crate) fn begin() -> Self {
        super::coverage::born();
        Life {
            alive: Cell::new(true),
        }
    }

    pub(crate) fn look(&self) {
        if !std::thread::panicking() {
            yield_now();
            assert!(self.alive.get(), "a node was looked at after its end");
        }
    }

    pub(crate) fn end(&self) {
        if !std::thread::panicking() {
            assert!(self.alive.replace(false), "a node died twice");
            super::coverage::died();
        }
    }
}
