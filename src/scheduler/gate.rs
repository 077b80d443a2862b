//! Whether an engine takes operations, and how many are under way.
//!
//! Every operation is counted in and out, by whatever thread. So the count is in *shards*, one of which is a thread's
//! own as long as there are not too many threads; and each says whether the gate is closed, in the same word, so that the
//! two agree.
//!
//! # Why a sum of zero means that nothing is under way
//! An operation may go in by one shard, and out by another. Once all shards are closed nothing goes in any more: so
//! whoever reads them afterwards sees all that went in, and some of what went out, and a sum of zero is all of it. While
//! the gate is open, operations that come and go meanwhile may hide one another, and the sum is a guess. What goes
//! [in anyway](Gate::enter_anyway) needs a gate of one shard.
//!
//! # Orderings
//! *out* an operation goes out; *look* whoever has closed the gate looks, and sees by that what was done: GATE_LEAVE →
//! GATE_WAIT. Of those that go out by different shards, and whoever has closed the gate and waits, one has to see that
//! nothing is left: *out* or *close*, fence (GATE_FENCE), *look*, on each side. Whoever waits has registered before it
//! looks, so it sees that itself or is woken. Checked by `loom-tests/operation.rs`.
#![forbid(unsafe_code)]

use crate::raw::quietly;
use crate::sync::Alone;
use crate::sync::event::{Event, Listener};
use crate::sync::lock::Lock;
use crate::sync::orderings::site;
use crate::sync::{AtomicU64, AtomicUsize, fence, global, per_thread};
use std::cell::Cell;
use std::task::Waker;

/// Takes no more operations.
const CLOSED: u64 = 1 << 63;
/// And cancels those that wait.
const CANCELS: u64 = 1 << 62;
const FLAGS: u64 = CLOSED | CANCELS;
/// What the count of a shard begins with: more may go out by it than in.
const NONE: u64 = 1 << 61;

/// How many shards the gate of an engine has.
pub(super) const MANY: usize = if cfg!(any(snapcell_model, snapcell_shuttle)) {
    2
} else {
    16
};

/// See the header of this file.
pub(super) struct Gate<const SHARDS: usize> {
    shards: [Alone<AtomicU64>; SHARDS],
    idle: Event,
    /// Whoever opens or closes it holds this, so that all shards agree.
    changing: Lock<()>,
}

global! {
    static THREADS: AtomicUsize = AtomicUsize::new(0);
}

per_thread! {
    /// The how manieth thread this is, once it has asked.
    static MINE: Cell<Option<usize>> = Cell::new(None);
}

/// The how manieth thread this is of those that have asked.
#[inline]
fn number() -> usize {
    let number = MINE.try_with(|mine| {
        mine.get().unwrap_or_else(|| {
            let number = count();
            mine.set(Some(number));
            number
        })
    });
    // At the end of a thread there is no such place any more.
    number.unwrap_or(0)
}

#[cold]
fn count() -> usize {
    THREADS.fetch_add(1, site::NUMBER)
}

impl<const SHARDS: usize> Gate<SHARDS> {
    pub(super) fn new() -> Self {
        Gate {
            shards: std::array::from_fn(|_| Alone(AtomicU64::new(NONE))),
            idle: Event::new(),
            changing: Lock::new(()),
        }
    }

    /// The shard of this thread.
    #[inline]
    fn mine(&self) -> &AtomicU64 {
        &self.shards[number() % SHARDS].0
    }

    /// Counts an operation in. `false`: the engine is shut down.
    #[inline]
    pub(super) fn enter(&self) -> bool {
        if self.mine().fetch_add(1, site::GATE_ENTER) & CLOSED == 0 {
            return true;
        }
        self.leave();
        false
    }

    /// Counts one out.
    #[inline]
    pub(super) fn leave(&self) {
        if self.mine().fetch_sub(1, site::GATE_LEAVE) & CLOSED != 0 {
            self.look();
        }
    }

    /// Wakes whoever waits, if that was the last one.
    #[cold]
    fn look(&self) {
        fence(site::GATE_FENCE);
        if self.unfinished() == 0 {
            self.wake();
        }
    }

    /// How many are under way: exactly, if it is closed, and those that are refused just now included.
    pub(super) fn unfinished(&self) -> u64 {
        let count =
            |shard: &Alone<AtomicU64>| (shard.0.load(site::GATE_WAIT) & !FLAGS).wrapping_sub(NONE);
        let sum = self.shards.iter().map(count).fold(0, u64::wrapping_add);
        u64::try_from(sum.cast_signed()).unwrap_or(0)
    }

    fn flags(&self) -> u64 {
        self.shards[0].0.load(site::GATE_LOAD) & FLAGS
    }

    pub(super) fn is_closed(&self) -> bool {
        self.flags() & CLOSED != 0
    }

    #[inline]
    pub(super) fn cancels(&self) -> bool {
        self.flags() & CANCELS != 0
    }

    pub(super) fn close(&self, cancels: bool) {
        let flags = if cancels { FLAGS } else { CLOSED };
        self.set(|word| word | flags);
    }

    pub(super) fn open(&self) {
        self.set(|word| word & !FLAGS);
        self.wake();
    }

    fn wake(&self) {
        for waiter in self.idle.take() {
            quietly(|| waiter.waker.wake());
        }
    }

    fn set(&self, change: impl Fn(u64) -> u64) {
        self.changing.with(|()| {
            for Alone(word) in &self.shards {
                let mut found = word.load(site::GATE_LOAD);
                while let Err(newer) = word.compare_exchange(found, change(found), site::GATE_SET) {
                    found = newer;
                }
            }
        });
        fence(site::GATE_FENCE);
    }

    /// Registers a waker, to be woken when nothing is under way any more, if it is closed then.
    pub(super) fn listen(&self, waker: &Waker) -> Listener<'_> {
        self.idle.listen(waker, true)
    }
}

impl Gate<1> {
    /// Counts something in, whether or not the gate is closed.
    pub(super) fn enter_anyway(&self) {
        self.shards[0].0.fetch_add(1, site::GATE_ENTER);
    }
}
