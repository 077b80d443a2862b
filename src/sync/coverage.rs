//! What happened in the executions of a model, so that it can be told whether it has tested anything.
//!
//! The model checker doesn't see these counts, and so they order nothing. In an ordinary build there are none.
#![forbid(unsafe_code)]

#[cfg(not(any(snapcell_model, snapcell_shuttle)))]
mod counts {
    /// Somebody drives another one's transaction.
    #[inline(always)]
    pub(crate) fn helped() {}

    /// A transaction begins; its verdict lies at this address.
    #[inline(always)]
    pub(crate) fn begun(_verdict: usize) {}

    /// A verdict is decided.
    #[inline(always)]
    pub(crate) fn decided(_verdict: usize, _is_abort: bool) {}

    /// A node of a transaction is installed.
    #[inline(always)]
    pub(crate) fn installed(_verdict: usize, _by_helper: bool) {}

    /// Something begins whose life is followed.
    #[cfg(snapcell_epoch_model)]
    pub(crate) fn born() {}

    /// It ends.
    #[cfg(snapcell_epoch_model)]
    pub(crate) fn died() {}

    /// Nothing is compared there.
    #[cfg(snapcell_epoch_model)]
    pub(crate) fn next_rank() -> usize {
        0
    }
}

#[cfg(any(snapcell_model, snapcell_shuttle))]
mod counts {
    use std::cell::{Cell, RefCell};
    use std::collections::HashSet;

    #[derive(Default)]
    struct Counts {
        helps: Cell<usize>,
        helper_installs: Cell<usize>,
        published_aborts: Cell<usize>,
        late_installs: Cell<usize>,
        /// Nodes and the like that have begun and not ended.
        living: Cell<usize>,
        /// What has been ranked.
        ranks: Cell<usize>,
        /// The verdicts of this execution that are decided.
        decided: RefCell<HashSet<usize>>,
    }

    std::thread_local! {
        // All threads of a model run on one thread of the system.
        static COUNTS: Counts = Counts::default();
    }

    fn count(what: impl Fn(&Counts) -> &Cell<usize>) {
        COUNTS.with(|counts| {
            let count = what(counts);
            count.set(count.get() + 1);
        });
    }

    /// Somebody drives another one's transaction.
    pub(crate) fn helped() {
        count(|counts| &counts.helps);
    }

    /// A transaction begins; its verdict lies at this address, where another one may have been.
    pub(crate) fn begun(verdict: usize) {
        COUNTS.with(|counts| counts.decided.borrow_mut().remove(&verdict));
    }

    /// A verdict is decided.
    pub(crate) fn decided(verdict: usize, is_abort: bool) {
        COUNTS.with(|counts| counts.decided.borrow_mut().insert(verdict));
        if is_abort {
            count(|counts| &counts.published_aborts);
        }
    }

    /// A node of a transaction is installed.
    pub(crate) fn installed(verdict: usize, by_helper: bool) {
        if COUNTS.with(|counts| counts.decided.borrow().contains(&verdict)) {
            count(|counts| &counts.late_installs);
        }
        if by_helper {
            count(|counts| &counts.helper_installs);
        }
    }

    /// Something begins whose life is followed.
    pub(crate) fn born() {
        count(|counts| &counts.living);
    }

    /// It ends.
    pub(crate) fn died() {
        COUNTS.with(|counts| counts.living.set(counts.living.get() - 1));
    }

    /// How many have begun and not ended, to begin anew.
    pub(crate) fn take_living() -> usize {
        COUNTS.with(|counts| {
            counts.ranks.take();
            counts.living.take()
        })
    }

    /// The next place in an order.
    pub(crate) fn next_rank() -> usize {
        COUNTS.with(|counts| counts.ranks.replace(counts.ranks.get() + 1))
    }

    /// Takes the counts: helps, installs by helpers, aborts of what others could see, installs after the
    /// verdict, of which there must be none.
    pub(crate) fn take() -> [usize; 4] {
        COUNTS.with(|counts| {
            counts.decided.borrow_mut().clear();
            [
                counts.helps.take(),
                counts.helper_installs.take(),
                counts.published_aborts.take(),
                counts.late_installs.take(),
            ]
        })
    }
}

pub(crate) use counts::*;
