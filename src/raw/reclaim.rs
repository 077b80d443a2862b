//! How retired memory waits until nobody can look at it.
//!
//! # The life of what is retired
//! A commit *retires* the node that it replaced: the head's count goes into the ring of the
//! committing thread. Every [`BEACON`] retirements the thread lights a *beacon*: one deferred
//! action of the epoch scheme (`grace.rs`), which marks the ring *ripe* up to here once every guard that
//! was pinned at the beacon is gone. The thread's next commits release what is ripe, two for each
//! retirement, before they pin.
//!
//! So no reader ever runs a destructor of somebody's value, an uncontended commit takes as much
//! memory from the pool as it gives, and the epoch scheme works once in 256 commits. Where ripening takes long,
//! a transaction lets other threads run before it pins (`backlog.rs`).
//!
//! # Why a ripe node can't be seen
//! *unlink* the commit's compare-exchange; *beacon* the deferral, later on the same thread;
//! *pin* a reader's; *mark* the deferred action.
//! A reader that could have the node loaded the head before *unlink*. Either its *pin* came before
//! *beacon* in the order of their fences: then *mark* waits for it. Or *beacon* came first: then
//! its load, after *pin*, saw *unlink* or later. The reader's looks come before its unpinning, that
//! before *mark* (the epoch scheme), *mark* → the owner's load of the mark (RIPE_MARK, RIPE_LOAD).
//!
//! # Threads that end
//! A thread gives its ring to a deferred action, which puts it on a list of orphans when its grace
//! is over (`retired.rs`). Whoever commits next releases it.
//!
//! # Progress
//! Nothing here waits for another thread (to let others run is a hint to the system), with one exception: the first retirement of a thread
//! enters its ring into a list, and its end takes it out, under a lock (`rings.rs`).

use super::backlog::Backlog;
use super::grace;
use super::retired::{Batch, Releaser, Retired, no_orphans, orphaned, release_orphans};
use super::rings::{Entered, Shared};
use super::slots::Slots;
use crate::sync::fault::{Fault, planted};
use crate::sync::orderings::site;
use crate::sync::{self, AtomicUsize, global, per_thread};
use std::cell::{Cell, UnsafeCell};
use std::collections::VecDeque;
use std::mem::ManuallyDrop;
use std::ptr;

/// Retirements between two beacons. One in models, so that rings, marks and orphans happen there.
pub(super) const BEACON: u64 = if MODEL { 1 } else { 256 };
/// Retirements after which a thread releases some of what is ripe. A few at a time take less than one at a
/// time.
const GROUP: u64 = if MODEL { 1 } else { 8 };
/// What a thread releases of what is ripe for each retirement: more than one, so that its ring gets
/// shorter.
const RELEASES: u64 = 2;
/// What a commit releases of what ended threads left.
const ORPHANS_AT_ONCE: usize = 64;
/// Rounds without progress after which [`Reclaim::reclaim`] takes it that a reader is in the way.
const ROUNDS: usize = if MODEL { 1 } else { 16 };
/// Small constants in models, so that what is rare happens.
const MODEL: bool = cfg!(any(snapcell_model, snapcell_epoch_model, snapcell_shuttle));

/// What a reclaimer does, so that another can take its place.
pub(crate) trait Reclaim {
    /// Protects, while it lives, whatever was reachable when it was made or later.
    type Guard;

    /// Pins the current thread.
    fn pin() -> Self::Guard;

    /// Has `retired` released once no guard can protect it any more.
    ///
    /// # Safety
    /// 1. No head leads to it any more; this thread unlinked it, under `guard`. 2. It was not
    ///    retired before.
    unsafe fn retire(guard: &Self::Guard, retired: Retired);

    /// Releases a little of what this thread retired, if there is any ripe. Called before a commit
    /// pins, and does nothing while a closure computes for another commit.
    fn release_some();

    /// Releases what this thread and ended threads retired, as far as no guard is in the way.
    fn reclaim();
}

/// Rings with a beacon in every 256 retirements.
pub(crate) struct Beacon;

/// The reclaimer that the crate uses.
pub(crate) type Reclaimer = Beacon;

/// A pin, as long as it lives.
pub(crate) struct Guard {
    grace: grace::Guard,
}

impl Reclaim for Beacon {
    type Guard = Guard;

    #[inline]
    fn pin() -> Guard {
        Guard {
            grace: grace::pin(),
        }
    }

    #[inline(always)]
    unsafe fn retire(guard: &Guard, retired: Retired) {
        // Field by field, which go in registers. As a whole it would go in memory, stored and read back
        // at once, and that waits for the store buffer, as long as for the exchange itself.
        let Retired {
            node,
            bytes,
            release,
        } = retired;
        RING.with(|ring| ring.retire(guard, node, bytes, release));
    }

    #[inline]
    fn release_some() {
        RING.with(|ring| {
            ring.release_some();
        });
    }

    fn reclaim() {
        let mut stagnant = 0;
        let mut least = (usize::MAX, usize::MAX);
        while stagnant < ROUNDS {
            let guard = Beacon::pin();
            RING.with(|ring| ring.light_if_needed(&guard));
            guard.grace.flush();
            drop(guard);
            RING.with(|ring| ring.release_all());
            let nodes = RING.with(|ring| ring.len()) + orphaned().0;
            if nodes == 0 {
                break;
            }
            // A round runs some of what is deferred only, here or by others, so that counts too.
            let deferred = if MODEL {
                0
            } else {
                DEFERRED.load(site::GAUGE_LOAD)
            };
            stagnant = if nodes < least.0 || deferred < least.1 {
                0
            } else {
                stagnant + 1
            };
            least = (least.0.min(nodes), least.1.min(deferred));
        }
    }
}

impl Beacon {
    /// As [`release_some`](Reclaim::release_some). If what this thread retired waits for long, it also lets others
    /// run, which may have to.
    ///
    /// For transactions, which retire several nodes each: they suffer most when memory doesn't come back.
    #[inline]
    pub(super) fn release_some_or_give_way() {
        RING.with(|ring| {
            if ring.release_some() {
                ring.give_way();
            }
        });
    }
}

per_thread! {
    // Without a destructor, so that to get at it is one instruction, and that it is there to the very end
    // of the thread. The closer ends it.
    static RING: ManuallyDrop<Ring> = ManuallyDrop::new(Ring::new());
}

per_thread! {
    static CLOSER: Closer = Closer;
}

/// Closes the ring when the thread ends; in models `leave` does.
struct Closer;

impl Drop for Closer {
    fn drop(&mut self) {
        if !MODEL {
            RING.with(|ring| ring.close());
        }
    }
}

/// What one thread has retired and not yet released.
struct Ring {
    /// Its positions count retirements and releases.
    waiting: Slots,
    /// Up to which position the last beacon goes.
    lit: Cell<u64>,
    /// Retirements when this thread released last.
    settled: Cell<u64>,
    /// While this is not zero nothing is released here. It counts the closures of commits that run on this
    /// thread, one in another: destructors of values must not run in there, since they could commit to
    /// what the closure computes for. And a release that is under way: a destructor that commits must
    /// not release in turn.
    busy: Cell<usize>,
    /// How much of what waits is too much.
    backlog: Backlog,
    /// The size of what waits.
    bytes: Cell<usize>,
    /// What others see of it, from the first retirement to the end of the thread.
    shared: UnsafeCell<Option<Entered>>,
    /// What was retired last after that, at its position modulo the length.
    late: [Cell<*const ()>; LATE],
}

/// A closure that commits more often than this, of which the first time to its own entity, while its
/// thread's locals are being destroyed, is not found out.
const LATE: usize = 8;

impl Ring {
    const fn new() -> Self {
        Ring {
            waiting: Slots::new(),
            lit: Cell::new(0),
            // So that the first commit of a thread releases what others have left: many threads commit once.
            settled: Cell::new(GROUP.wrapping_neg()),
            busy: Cell::new(0),
            backlog: Backlog::new(),
            bytes: Cell::new(0),
            shared: UnsafeCell::new(None),
            late: [const { Cell::new(ptr::null()) }; LATE],
        }
    }

    #[inline(always)]
    fn shared(&self) -> Option<&Entered> {
        // SAFETY: only this thread gets here. It is set where there is none, and taken when the thread
        // ends, by `open` and `close`, and neither is called while somebody looks at it.
        unsafe { &*self.shared.get() }.as_ref()
    }

    /// Prepares the ring for its first retirement. Not past the end of the thread.
    #[cold]
    #[inline(never)]
    fn open(&self) -> bool {
        if self.shared().is_none() && CLOSER.try_with(|_| ()).is_ok() {
            // SAFETY: there is none, so nobody looks at it.
            unsafe { *self.shared.get() = Some(Entered::new()) };
        }
        self.shared().is_some()
    }

    /// Ends the ring with its thread. What is retired later doesn't get in.
    fn close(&self) {
        self.abandon();
        self.waiting.close();
        // SAFETY: called at the end of the thread alone, by the closer or `leave`, when nothing of this thread's runs in
        // here. What was left is counted elsewhere by now, as `Entered` wants it.
        drop(unsafe { &mut *self.shared.get() }.take());
    }

    fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Out of line: inlined into `try_with`, it would get all this by references. Nothing here is used after
    /// a call, so nothing has to be saved from one.
    #[inline(never)]
    fn retire(&self, guard: &Guard, node: *mut (), bytes: usize, release: Releaser) {
        let Some(shared) = self.shared() else {
            return self.retire_first(guard, node, bytes, release);
        };
        let retired = Retired {
            node,
            bytes,
            release,
        };
        if !self.waiting.try_push(retired) {
            return self.retire_more(guard, node, bytes, release);
        }
        self.bytes.set(self.bytes.get() + bytes);
        self.show(shared);
        if self.waiting.back() - self.lit.get() >= BEACON {
            self.light(guard);
        }
    }

    #[cold]
    #[inline(never)]
    fn retire_first(&self, guard: &Guard, node: *mut (), bytes: usize, release: Releaser) {
        if self.open() {
            return self.retire(guard, node, bytes, release);
        }
        // Past the end of the thread: an orphan at once.
        let position = self.waiting.skip();
        self.late[position as usize % LATE].set(node);
        let retired = Retired {
            node,
            bytes,
            release,
        };
        adopt_later(guard, Batch::new(VecDeque::from([retired]), bytes));
    }

    #[cold]
    #[inline(never)]
    fn retire_more(&self, guard: &Guard, node: *mut (), bytes: usize, release: Releaser) {
        self.waiting.grow();
        self.retire(guard, node, bytes, release);
    }

    /// Whether `node` was retired since `position`, while nothing was released.
    #[cold]
    fn has_since(&self, position: u64, node: *const ()) -> bool {
        let mut since = self.waiting.since(position);
        if self.shared().is_some() {
            return since.any(|retired| ptr::eq(retired.node, node));
        }
        let back = self.waiting.back();
        (position.max(back.saturating_sub(LATE as u64))..back)
            .any(|position| self.late[position as usize % LATE].get() == node)
    }

    /// Sets the gauges. Only this thread does.
    #[inline(always)]
    fn show(&self, shared: &Shared) {
        shared.show(self.waiting.len(), self.bytes.get());
    }

    /// Sets them to nothing, when another gauge has what was here.
    fn show_none(&self) {
        if let Some(shared) = self.shared() {
            shared.show_none();
        }
    }

    /// Lights a beacon: what has been retired so far is ripe when all present guards are gone.
    #[cold]
    #[inline(never)]
    fn light(&self, guard: &Guard) {
        let Some(shared) = self.shared().map(Entered::keep) else {
            return;
        };
        let upto = self.waiting.back();
        self.lit.set(upto);
        let marked = upto + u64::from(planted(Fault::RipeTooEarly));
        defer(guard, move || shared.mark(marked));
        self.waiting.shrink();
    }

    /// Lights a beacon for what has none.
    fn light_if_needed(&self, guard: &Guard) {
        if self.lit.get() < self.waiting.back() {
            self.light(guard);
        }
    }

    /// Now and then, releases two nodes for each that was retired since the last time, if so many are
    /// ripe, and some orphans. In proportion, since destructors may have committed, and so retired, too. Whether
    /// it is now.
    #[inline(always)]
    fn release_some(&self) -> bool {
        let since = self.waiting.back().wrapping_sub(self.settled.get());
        let is_due = since >= GROUP && self.busy.get() == 0;
        if is_due {
            self.release_group(since);
        }
        is_due
    }

    /// Lets others run, if too much waits for its grace (`backlog.rs`). In models nothing is too much.
    #[inline(never)]
    fn give_way(&self) {
        if MODEL {
            return;
        }
        let Some(shared) = self.shared() else {
            return;
        };
        let ripe = shared.ripe();
        let waiting = self.waiting.back() - ripe.max(self.waiting.front());
        if self.backlog.is_too_long(waiting) {
            sync::yield_now();
        }
    }

    #[inline(never)]
    fn release_group(&self, since: u64) {
        self.settled.set(self.waiting.back());
        self.release(RELEASES * since, ORPHANS_AT_ONCE);
    }

    /// Releases all that is ripe, and all orphans.
    fn release_all(&self) {
        if self.busy.get() == 0 {
            self.release(u64::MAX, usize::MAX);
            self.waiting.shrink();
        }
    }

    #[inline]
    fn release(&self, nodes: u64, orphans: usize) {
        if let Some(shared) = self.shared() {
            let ripe = shared.ripe();
            let front = self.waiting.front();
            if front < ripe {
                let ripe = if planted(Fault::ReleasePastMark) {
                    u64::MAX
                } else {
                    ripe
                };
                self.release_upto(ripe.min(front.saturating_add(nodes)), shared);
            }
        }
        if !no_orphans() {
            let _busy = Busy::new(&self.busy);
            release_orphans(orphans);
        }
    }

    /// Releases the nodes up to a position that is not beyond the mark.
    #[inline]
    fn release_upto(&self, position: u64, shared: &Shared) {
        let _busy = Busy::new(&self.busy);
        while self.waiting.front() < position {
            // Taken out before its destructor runs, which may retire into this very ring.
            let Some(retired) = self.waiting.pop() else {
                break;
            };
            self.bytes.set(self.bytes.get() - retired.bytes);
            self.show(shared);
            // SAFETY: (1) its position is below the mark: see the header of this file.
            unsafe { retired.release() };
        }
    }

    /// Makes what waits here an orphan. The ring can be used again.
    fn abandon(&self) {
        let mut waiting = VecDeque::with_capacity(self.waiting.len());
        while let Some(retired) = self.waiting.pop() {
            waiting.push_back(retired);
        }
        self.lit.set(self.waiting.back());
        let bytes = self.bytes.replace(0);
        if waiting.is_empty() || planted(Fault::ExitForgetsRing) {
            return;
        }
        // Counted there before it no longer is here, so that `lag` may count it twice and can't miss it.
        let batch = if planted(Fault::HandOverUncounted) {
            self.show_none();
            Batch::new(waiting, bytes)
        } else {
            let batch = Batch::new(waiting, bytes);
            self.show_none();
            batch
        };
        adopt_later(&Beacon::pin(), batch);
    }
}

/// Makes orphans of what was retired by now.
fn adopt_later(guard: &Guard, batch: Box<Batch>) {
    // SAFETY: (1) it was retired by now, and `defer` waits for all present guards.
    defer(guard, move || unsafe { batch.adopt() });
}

/// Has `action` run when all present guards are gone. It is handed over at once, not kept with what
/// this thread may defer later: the fence by which it comes after the unlinking is in the flush.
fn defer(guard: &Guard, action: impl FnOnce() + Send + 'static) {
    if MODEL {
        // The gauge is left out: one more word that all threads write makes a model tens of times
        // larger, and a call of `reclaim` needs no more than its two rounds there.
        guard.grace.defer(action);
    } else {
        DEFERRED.fetch_add(1, site::GAUGE_ADD);
        guard.grace.defer(move || {
            action();
            DEFERRED.fetch_sub(1, site::GAUGE_ADD);
        });
    }
    guard.grace.flush();
}

/// Counts in a ring as long as this lives, whatever happens meanwhile.
struct Busy<'a>(&'a Cell<usize>);

impl<'a> Busy<'a> {
    #[inline]
    fn new(count: &'a Cell<usize>) -> Self {
        count.set(count.get() + 1);
        Busy(count)
    }
}

impl Drop for Busy<'_> {
    #[inline]
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

global! {
    /// Actions that are deferred and have not run. A gauge, for [`Reclaim::reclaim`] to see progress.
    static DEFERRED: AtomicUsize = AtomicUsize::new(0);
}

/// A closure of a commit, while it runs. Nothing is released on this thread meanwhile.
pub(crate) struct Computing {
    position: u64,
}

impl Computing {
    #[inline]
    pub(crate) fn begin() -> Self {
        RING.with(|ring| {
            ring.busy.set(ring.busy.get() + 1);
            Computing {
                position: ring.waiting.back(),
            }
        })
    }

    /// The closure is done. How many nodes the thread had retired when it began.
    #[inline]
    pub(crate) fn end(self) -> u64 {
        self.position
    }
}

impl Drop for Computing {
    #[inline]
    fn drop(&mut self) {
        RING.with(|ring| ring.busy.set(ring.busy.get() - 1));
    }
}

/// Whether a closure of a commit runs on this thread, or a destructor of something that was replaced.
#[inline]
pub(crate) fn is_computing() -> bool {
    RING.with(|ring| ring.busy.get() > 0)
}

/// Whether this thread has retired `node` since `position`, under a guard that still lives.
#[cold]
pub(crate) fn retired_since(position: u64, node: *const ()) -> bool {
    RING.with(|ring| ring.has_since(position, node))
}

/// What the end of a thread does, called by the threads of models, where the end itself comes after
/// the words that all threads share are gone.
#[cfg(any(snapcell_model, snapcell_shuttle))]
pub(crate) fn leave() {
    RING.with(|ring| ring.close());
    super::pool::leave();
}

/// As above; but crossbeam-epoch's own end, which would run what is deferred, comes later still. So
/// what waits is leaked.
#[cfg(snapcell_epoch_model)]
pub(crate) fn leave() {
    RING.with(|ring| {
        while ring.waiting.pop().is_some() {}
        ring.close();
    });
    super::pool::leave();
}

/// Nothing: a thread's end does it.
#[cfg(not(any(snapcell_model, snapcell_epoch_model, snapcell_shuttle)))]
pub(crate) fn leave() {}

#[cfg(all(test, not(any(snapcell_model, snapcell_epoch_model, snapcell_shuttle))))]
mod tests {
    use super::*;

    #[test]
    fn who_is_held_up_by_a_guard_gives_way() {
        /// # Safety
        /// 1. It does nothing.
        unsafe fn nothing(_: *mut ()) {}
        // Whosever it is.
        let _held = Beacon::pin();
        for _ in 0..6 * BEACON {
            Beacon::release_some_or_give_way();
            let retired = Retired {
                node: ptr::null_mut(),
                bytes: 0,
                release: nothing,
            };
            // SAFETY: (1), (2): there is nothing there.
            unsafe { Beacon::retire(&Beacon::pin(), retired) };
        }
        assert!(RING.with(|ring| ring.backlog.has_been_too_long()));
    }
}
