//! The oracle: what crossbeam-epoch promises, and nothing more.
//!
//! It has the part of crossbeam-epoch's interface that `raw/reclaim` uses (`pin`, `defer`,
//! `flush`), so ring, ripe mark and pool in the models are the shipped code. Its bookkeeping is
//! plain memory that the model checker can't see, and so orders nothing. What crossbeam-epoch does
//! promise is stated as operations that the checker sees:
//!
//! 1. *A pin is a SeqCst fence, and so is a deferral.* A thread that pins after a deferral sees
//!    everything that was unlinked before it; one that pinned earlier is waited for.
//! 2. *A deferred action runs once all guards that were pinned when it was deferred are gone*, and
//!    it happens after their unpinning and after the deferral. Here it runs at the first moment
//!    that this permits, on the thread that made it so: the worst case.
//!
//! Guards nest: the inner ones of a thread are free, as in crossbeam-epoch.

use super::backend::{atomic, global, per_thread};
use super::coverage;
use super::fault::{Fault, planted};
use super::orderings::contract;
use std::cell::{Cell, RefCell};
use std::marker::PhantomData;

global! {
    /// Carries the order of unpinnings and deferrals to the actions that follow them.
    static GRACE: atomic::AtomicUsize = atomic::AtomicUsize::new(0);
}

per_thread! {
    /// Which pin this thread holds, and how many guards share it.
    static PINNED: Cell<(u64, usize)> = Cell::new((0, 0));
}

std::thread_local! {
    // All threads of a model run on one thread of the system, so this is one ledger for them all,
    // and none of its accesses is a point where the checker could switch threads.
    static LEDGER: RefCell<Ledger> = const { RefCell::new(Ledger::new()) };
}

struct Ledger {
    next_pin: u64,
    pins: Vec<u64>,
    deferred: Vec<Deferred>,
}

struct Deferred {
    waits_for: Vec<u64>,
    action: Box<dyn FnOnce()>,
}

impl Ledger {
    const fn new() -> Self {
        Ledger {
            next_pin: 1,
            pins: Vec::new(),
            deferred: Vec::new(),
        }
    }

    fn take_ready(&mut self) -> Vec<Box<dyn FnOnce()>> {
        let pins = &self.pins;
        let ready = |deferred: &mut Deferred| !deferred.waits_for.iter().any(|p| pins.contains(p));
        self.deferred
            .extract_if(.., ready)
            .map(|deferred| deferred.action)
            .collect()
    }
}

/// A pin, as long as it lives. `!Send`, as crossbeam-epoch's.
pub(crate) struct Guard(PhantomData<*mut ()>);

/// Pins the current thread.
pub(crate) fn pin() -> Guard {
    PINNED.with(|pinned| {
        let (pin, depth) = pinned.get();
        if depth > 0 {
            return pinned.set((pin, depth + 1));
        }
        atomic::fence(contract::PIN_FENCE);
        // No switch of threads is possible between the fence and this entry.
        let pin = LEDGER.with_borrow_mut(|ledger| {
            ledger.next_pin += 1;
            let pin = ledger.next_pin;
            if !planted(Fault::ReadAfterUnpin) {
                ledger.pins.push(pin);
            }
            pin
        });
        pinned.set((pin, 1));
    });
    Guard(PhantomData)
}

impl Guard {
    /// Runs `action` when everybody who is pinned now is gone.
    pub(crate) fn defer<F: FnOnce() + Send + 'static>(&self, action: F) {
        GRACE.fetch_add(0, contract::DEFER);
        atomic::fence(contract::DEFER_FENCE);
        LEDGER.with_borrow_mut(|ledger| {
            let waits_for = ledger.pins.clone();
            ledger.deferred.push(Deferred {
                waits_for,
                action: Box::new(action),
            });
        });
    }

    /// Nothing: the oracle never keeps an action back.
    pub(crate) fn flush(&self) {}
}

impl Drop for Guard {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        PINNED.with(|pinned| {
            let (pin, depth) = pinned.get();
            pinned.set((pin, depth - 1));
            if depth == 1 {
                GRACE.fetch_add(1, contract::UNPIN);
                LEDGER.with_borrow_mut(|ledger| ledger.pins.retain(|&other| other != pin));
            }
        });
        let ready = LEDGER.with_borrow_mut(Ledger::take_ready);
        if !ready.is_empty() {
            // A read-modify-write, so that it reads the newest entry and is ordered after all.
            GRACE.fetch_add(0, contract::RUN_DEFERRED);
            for action in ready {
                action();
            }
        }
    }
}

/// Starts an execution of a model: forgets all that an earlier one left.
pub(crate) fn begin() {
    let left = LEDGER.with_borrow_mut(|ledger| std::mem::replace(ledger, Ledger::new()));
    // What a failed execution left refers to words that are gone: it must not run, nor be dropped.
    std::mem::forget(left.deferred);
    coverage::take_living();
    // Now, and so before any thread is spawned: a later first use would order threads.
    GRACE.fetch_add(0, contract::DEFER);
}

/// Ends an execution: nobody may be pinned, nothing may be left to do, and nothing may be left behind.
pub(crate) fn end() {
    LEDGER.with_borrow(|ledger| {
        assert!(ledger.pins.is_empty(), "a guard was left behind");
        assert!(
            ledger.deferred.is_empty(),
            "a deferred action was left behind"
        );
    });
    assert_eq!(
        coverage::take_living(),
        0,
        "every node, verdict and extra has ended"
    );
}
