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

/// Takes no more operations. What a shard says besides its count.
const CLOSED: u64 = 1 << 63;
/// And cancels those that wait. Only those who ask need to know.
const CANCELS: u64 = 1 << 62;
/// What the count of a shard begins with: more may go out by it than in.
const BIAS: u64 = 1 << 61;

/// How many shards the gate of an engine has.
pub(super) const MANY: usize = if cfg!(any(snapcell_model, snapcell_shuttle)) {
    2
} else {
    16
};

/// See the header of this file.
pub(super) struct Gate<const SHARDS: usize> {
    shards: [Alone<AtomicU64>; SHARDS],
    /// What all shards say, for those who only ask: nobody who goes in or out writes this.
    said: Alone<AtomicU64>,
    idle: Event,
    /// Whoever opens or closes it holds this, so that all shards agree.
    changing: Lock<()>,
}

global! {
    static THREADS: AtomicUsize = AtomicUsize::new(0);
}

per_thread! {
    /// Which number this thread has, once it has asked.
    static MINE: Cell<Option<usize>> = Cell::new(None);
}

/// The number of this thread. Those that ask are counted.
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
            shards: std::array::from_fn(|_| Alone(AtomicU64::new(BIAS))),
            said: Alone(AtomicU64::new(0)),
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
        self.enter_many(1)
    }

    /// Counts so many in. `false`: the engine is shut down, and none is.
    #[inline]
    pub(super) fn enter_many(&self, many: u64) -> bool {
        if self.mine().fetch_add(many, site::GATE_ENTER) & CLOSED == 0 {
            return true;
        }
        self.leave_many(many);
        false
    }

    /// Counts one out.
    #[inline]
    pub(super) fn leave(&self) {
        self.leave_many(1);
    }

    /// Counts so many out.
    #[inline]
    pub(super) fn leave_many(&self, many: u64) {
        if self.mine().fetch_sub(many, site::GATE_LEAVE) & CLOSED != 0 {
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
            |shard: &Alone<AtomicU64>| (shard.0.load(site::GATE_WAIT) & !CLOSED).wrapping_sub(BIAS);
        let sum = self.shards.iter().map(count).fold(0, u64::wrapping_add);
        u64::try_from(sum.cast_signed()).unwrap_or(0)
    }

    /// Whether it is closed, and nothing is under way.
    pub(super) fn is_done(&self) -> bool {
        // Nobody opens it meanwhile.
        self.changing
            .with(|()| self.is_closed() && self.unfinished() == 0)
    }

    /// Whether it is closed, or was a moment ago.
    pub(super) fn is_closed(&self) -> bool {
        self.said.0.load(site::GATE_LOAD) & CLOSED != 0
    }

    #[inline]
    pub(super) fn cancels(&self) -> bool {
        self.said.0.load(site::GATE_LOAD) & CANCELS != 0
    }

    pub(super) fn close(&self, cancels: bool) {
        self.changing.with(|()| {
            self.set(|word| word | CLOSED);
            let said = self.said.0.load(site::GATE_LOAD);
            let more = if cancels { CLOSED | CANCELS } else { CLOSED };
            self.said.0.store(said | more, site::GATE_SAY);
        });
        fence(site::GATE_FENCE);
    }

    pub(super) fn open(&self) {
        self.changing.with(|()| {
            self.said.0.store(0, site::GATE_SAY);
            self.set(|word| word & !CLOSED);
        });
        self.wake();
    }

    fn wake(&self) {
        for waiter in self.idle.take() {
            quietly(|| waiter.waker.wake());
        }
    }

    /// Changes what all shards say. Only for whoever holds `changing`.
    fn set(&self, change: impl Fn(u64) -> u64) {
        for Alone(word) in &self.shards {
            let mut found = word.load(site::GATE_LOAD);
            while let Err(newer) = word.compare_exchange(found, change(found), site::GATE_SET) {
                found = newer;
            }
        }
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
