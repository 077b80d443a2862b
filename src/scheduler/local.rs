//! What a thread remembers of the engine that it used last: its policies, and some of its lanes.
//!
//! Both are shared by all threads, and asked for by every operation. A look at what this thread has found before
//! writes nothing that others read.
#![forbid(unsafe_code)]

use super::class::Policies;
use super::id::OperationId;
use super::lane::Lane;
use super::shared::Shared;
use crate::sync::orderings::site;
use crate::sync::per_thread;
use crate::sync::table::Remembered;
use std::cell::RefCell;
use std::num::NonZeroU64;
use std::ops::Range;
use std::sync::Arc;

/// How many sets of lanes are remembered, and how many lanes in each. In models all lanes are of one set.
const SETS: usize = 8;
const WAYS: usize = if cfg!(any(snapcell_model, snapcell_shuttle)) {
    1
} else {
    2
};

per_thread! {
    static LOCAL: RefCell<Option<Local>> = RefCell::new(None);
}

/// See the header of this file.
pub(super) struct Local {
    /// Of which engine.
    engine: u64,
    policies: Remembered<Policies>,
    /// Each in the set that follows from its target. With one place in a set, two of three targets would share it one time
    /// in three, and each operation on them would ask the map.
    lanes: [[Option<Arc<Lane>>; WAYS]; SETS],
    /// Numbers of operations that are this thread's to give.
    ids: Range<u64>,
    /// How many it takes next time.
    more: u64,
    /// Where it was overtaken last.
    overtaken_at: usize,
}

/// How many numbers of operations a thread takes at once, at most.
const IDS: u64 = 64;

impl Local {
    /// The policies, as they are now.
    #[inline]
    pub(super) fn policies(&mut self) -> &Policies {
        self.policies.get()
    }

    /// A number for an operation. A thread takes twice as many at once each time, so that whoever submits few leaves no
    /// gaps, and threads that submit many don't meet here. Where time may stand still, numbers say who was first, and
    /// are taken one by one.
    #[inline]
    pub(super) fn next_id(&mut self, shared: &Shared) -> OperationId {
        let number = self.ids.next().unwrap_or_else(|| {
            let first = shared.ids.0.fetch_add(self.more, site::NUMBER);
            self.ids = first + 1..first + self.more;
            if shared.ledger.clock.is_monotonic() {
                self.more = IDS.min(2 * self.more);
            }
            first
        });
        OperationId(NonZeroU64::new(number).expect("they are counted from 1"))
    }

    /// Notes that this thread was overtaken at an entity. Whether it was the last time, too.
    pub(super) fn is_overtaken_again(&mut self, target: usize) -> bool {
        std::mem::replace(&mut self.overtaken_at, target) == target
    }

    /// The lane of an entity.
    #[inline]
    pub(super) fn lane(&mut self, shared: &Shared, target: usize) -> &Arc<Lane> {
        let set = &mut self.lanes[set_of(target)];
        let known = set
            .iter()
            .position(|lane| lane.as_ref().is_some_and(|lane| lane.target == target));
        let place = known.unwrap_or_else(|| {
            // Of those that are there the one that came first goes.
            set.rotate_right(1);
            set[0] = Some(shared.find_lane(target));
            0
        });
        set[place].as_ref().expect("it was found")
    }
}

/// Entities lie at least 64 bytes apart.
fn set_of(target: usize) -> usize {
    (target >> 6 ^ target >> 12) % SETS
}

/// What this thread remembers. Nothing of anybody else's may run in `look`, which is called once.
#[inline(always)]
pub(super) fn with<R>(shared: &Shared, look: impl Fn(&mut Local) -> R) -> R {
    let known = LOCAL.try_with(|place| {
        let mut place = place.borrow_mut();
        match &mut *place {
            Some(local) if local.engine == shared.id => look(local),
            other => look(other.insert(Local::new(shared))),
        }
    });
    // At the end of a thread there is no such place any more.
    known.unwrap_or_else(|_| look(&mut Local::new(shared)))
}

impl Local {
    #[cold]
    #[inline(never)]
    fn new(shared: &Shared) -> Self {
        Local {
            engine: shared.id,
            policies: shared.policies.remember(),
            lanes: [const { [const { None }; WAYS] }; SETS],
            ids: 0..0,
            more: 1,
            overtaken_at: 0,
        }
    }
}
