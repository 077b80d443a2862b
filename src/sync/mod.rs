//! The only door to atomics, threads and whatever a model checker has to see.
//!
//! Everything above names a shared word by these types and an access by its *site*: the row of
//! [`orderings`] that says which ordering the access has, what it pairs with, and which model
//! would fail with a weaker one. Nobody else names an `Ordering`, a fence or a thread.
//!
//! | build | atomics, locks, threads | grace periods |
//! |---|---|---|
//! | ordinary | `std` | crossbeam-epoch |
//! | `cfg(snapcell_model)` | loom, each word behind a gate | an oracle |
//! | `cfg(snapcell_epoch_model)` | loom, each word behind a gate | crossbeam-epoch's own loom support |
//! | `cfg(snapcell_shuttle)` | shuttle | an oracle |
//! | `cfg(snapcell_fault)` | `std` | crossbeam-epoch; planted faults can be switched on |

#![forbid(unsafe_code)]

pub(crate) mod coverage;
pub(crate) mod event;
pub(crate) mod fault;
pub(crate) mod lock;
#[cfg(any(feature = "store", feature = "scheduler"))]
pub(crate) mod map;
pub(crate) mod orderings;
#[cfg(feature = "scheduler")]
pub(crate) mod pool;
#[cfg(feature = "scheduler")]
pub(crate) mod queue;
pub(crate) mod sleep;
#[cfg(feature = "scheduler")]
pub(crate) mod table;

#[cfg(any(snapcell_model, snapcell_shuttle))]
pub(crate) mod oracle;

#[cfg(any(snapcell_model, snapcell_epoch_model))]
#[path = "model.rs"]
mod backend;
#[cfg(snapcell_shuttle)]
#[path = "shuttle.rs"]
mod backend;
#[cfg(not(any(snapcell_model, snapcell_epoch_model, snapcell_shuttle)))]
#[path = "std.rs"]
mod backend;

pub(crate) use backend::{
    JoinHandle, Life, Rank, global, per_thread, spawn, spawn_in_background, spin, yield_now,
};
#[cfg(feature = "scheduler")]
pub(crate) use backend::{Sole, processors};
#[cfg(not(any(snapcell_model, snapcell_shuttle)))]
pub(crate) use backend::{lazy_global, lazy_per_thread};
use orderings::Site;
/// Whether this thread unwinds.
#[cfg(feature = "scheduler")]
pub(crate) use std::thread::panicking;

/// Alone in its lines of the caches, of which processors fetch two at once: threads that change what is beside it
/// don't slow down those who use it.
#[cfg(feature = "scheduler")]
#[repr(align(128))]
pub(crate) struct Alone<T>(pub(crate) T);

/// Defines a shared word whose every access names its site.
///
/// The gate is what makes loom see a race between a load and a later compare-exchange of the same
/// word (see `model.rs`); in every other build it is nothing.
macro_rules! shared_word {
    ($(#[$doc:meta])* $name:ident $(<$param:ident>)?, $inner:ty, $value:ty) => {
        $(#[$doc])*
        pub(crate) struct $name $(<$param>)? {
            word: $inner,
            gate: backend::Gate,
        }

        #[allow(dead_code, reason = "one macro makes each kind of word; no kind uses every access")]
        impl $(<$param>)? $name $(<$param>)? {
            backend::constructor!($value, $inner);

            #[inline(always)]
            pub(crate) fn load(&self, site: Site) -> $value {
                self.gate.pass();
                self.word.load(site.ordering())
            }

            #[inline(always)]
            pub(crate) fn store(&self, value: $value, site: Site) {
                self.gate.pass();
                self.word.store(value, site.ordering());
            }

            #[inline(always)]
            pub(crate) fn swap(&self, value: $value, site: Site) -> $value {
                self.gate.pass();
                self.word.swap(value, site.ordering())
            }

            /// `Ok` and `Err` carry the value that was found, as in `std`.
            #[inline(always)]
            pub(crate) fn compare_exchange(
                &self,
                expected: $value,
                new: $value,
                site: Site,
            ) -> Result<$value, $value> {
                self.gate.pass();
                self.word.compare_exchange(expected, new, site.ordering(), site.on_failure())
            }
        }
    };
}

/// Read-modify-writes of the numeric words. loom tracks these rightly without a gate.
macro_rules! numeric_word {
    ($name:ident, $value:ty) => {
        #[allow(
            dead_code,
            reason = "one macro makes each kind of word; no kind uses every access"
        )]
        impl $name {
            #[inline(always)]
            pub(crate) fn fetch_add(&self, amount: $value, site: Site) -> $value {
                self.word.fetch_add(amount, site.ordering())
            }

            #[inline(always)]
            pub(crate) fn fetch_sub(&self, amount: $value, site: Site) -> $value {
                self.word.fetch_sub(amount, site.ordering())
            }

            #[inline(always)]
            pub(crate) fn fetch_or(&self, bits: $value, site: Site) -> $value {
                self.word.fetch_or(bits, site.ordering())
            }

            #[inline(always)]
            pub(crate) fn fetch_max(&self, value: $value, site: Site) -> $value {
                if cfg!(snapcell_fault) {
                    // The thread sanitizer doesn't see a `fetch_max`, and so not what it orders either.
                    let larger = |found: $value| Some(found.max(value));
                    let done = self
                        .word
                        .fetch_update(site.ordering(), site.on_failure(), larger);
                    return done.unwrap_or_else(|found| found);
                }
                self.word.fetch_max(value, site.ordering())
            }
        }
    };
}

shared_word!(
    /// A shared pointer.
    AtomicPtr<T>, backend::atomic::AtomicPtr<T>, *mut T
);
shared_word!(
    /// A shared counter of the machine's word size.
    AtomicUsize, backend::atomic::AtomicUsize, usize
);
shared_word!(
    /// A shared 64-bit number.
    AtomicU64, backend::atomic::AtomicU64, u64
);
impl<T> AtomicPtr<T> {
    /// Loads a pointer that is set once, if it isn't set from the beginning. Once it is set there is
    /// nothing to race with, and models needn't pass the gate, which makes them many times smaller.
    #[inline(always)]
    pub(crate) fn load_set_once(&self, site: Site) -> *mut T {
        if cfg!(any(snapcell_model, snapcell_epoch_model)) {
            let set = self.word.load(site.ordering());
            if !set.is_null() {
                return set;
            }
        }
        self.load(site)
    }
}

numeric_word!(AtomicUsize, usize);
numeric_word!(AtomicU64, u64);

impl AtomicUsize {
    /// Whether a bit is set that is never taken back, and need not be set again. In models nobody looks, since
    /// that is one more point where threads may switch, for nothing.
    #[inline(always)]
    pub(crate) fn is_set(&self, bit: usize, look: Site) -> bool {
        !cfg!(any(snapcell_model, snapcell_epoch_model)) && self.load(look) & bit != 0
    }
}

/// A fence.
#[inline(always)]
pub(crate) fn fence(site: Site) {
    backend::atomic::fence(site.ordering());
}
