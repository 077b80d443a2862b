//! Whether an engine takes operations, and how many are under way: one word, so that the two agree.
#![forbid(unsafe_code)]

use crate::raw::quietly;
use crate::sync::AtomicU64;
use crate::sync::event::{Event, Listener};
use crate::sync::orderings::site;
use std::task::Waker;

/// Takes no more operations.
const CLOSED: u64 = 1 << 63;
/// And cancels those that wait.
const CANCELS: u64 = 1 << 62;
const COUNT: u64 = CANCELS - 1;

/// See the header of this file.
pub(super) struct Gate {
    word: AtomicU64,
    idle: Event,
}

impl Gate {
    pub(super) fn new() -> Self {
        Gate {
            word: AtomicU64::new(0),
            idle: Event::new(),
        }
    }

    /// Counts an operation in. `false`: the engine is shut down.
    #[inline]
    pub(super) fn enter(&self) -> bool {
        if self.word.fetch_add(1, site::GATE_ENTER) & CLOSED == 0 {
            return true;
        }
        self.leave();
        false
    }

    /// Counts something in, whether or not the gate is closed.
    pub(super) fn enter_anyway(&self) {
        self.word.fetch_add(1, site::GATE_ENTER);
    }

    /// Counts one out.
    #[inline]
    pub(super) fn leave(&self) {
        let word = self.word.fetch_sub(1, site::GATE_LEAVE);
        if word & CLOSED != 0 && word & COUNT == 1 {
            self.wake();
        }
    }

    pub(super) fn unfinished(&self) -> u64 {
        self.word.load(site::GATE_WAIT) & COUNT
    }

    pub(super) fn is_closed(&self) -> bool {
        self.word.load(site::GATE_LOAD) & CLOSED != 0
    }

    #[inline]
    pub(super) fn cancels(&self) -> bool {
        self.word.load(site::GATE_LOAD) & CANCELS != 0
    }

    pub(super) fn close(&self, cancels: bool) {
        self.set(|word| word | CLOSED | if cancels { CANCELS } else { 0 });
    }

    pub(super) fn open(&self) {
        self.set(|word| word & COUNT);
        self.wake();
    }

    fn wake(&self) {
        for waiter in self.idle.take() {
            quietly(|| waiter.waker.wake());
        }
    }

    fn set(&self, change: impl Fn(u64) -> u64) {
        let mut found = self.word.load(site::GATE_LOAD);
        while let Err(newer) = self
            .word
            .compare_exchange(found, change(found), site::GATE_SET)
        {
            found = newer;
        }
    }

    /// Registers a waker, to be woken when nothing is under way any more, if it is closed then.
    pub(super) fn listen(&self, waker: &Waker) -> Listener<'_> {
        self.idle.listen(waker, true)
    }
}
