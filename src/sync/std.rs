//! The ordinary build: `std`'s atomics, and nothing beside them.

pub(super) use std::sync;
pub(crate) use std::sync::atomic;
use std::thread;
pub(crate) use std::thread::{JoinHandle, spawn, yield_now};
pub(super) use std::thread::{Thread, current};
use std::time::{Duration, Instant};

/// Nothing: only loom needs gates.
pub(super) struct Gate;

impl Gate {
    pub(super) const NEW: Self = Gate;

    #[inline(always)]
    pub(super) fn pass(&self) {}
}

macro_rules! constructor {
    ($value:ty, $inner:ty) => {
        pub(crate) const fn new(value: $value) -> Self {
            Self {
                word: <$inner>::new(value),
                gate: backend::Gate::NEW,
            }
        }
    };
}
pub(super) use constructor;

/// A word that all threads share, for the whole life of the process.
macro_rules! global {
    ($(#[$meta:meta])* static $name:ident: $ty:ty = $init:expr;) => {
        $(#[$meta])* static $name: $ty = $init;
    };
}
pub(crate) use global;

/// The same, made at its first use.
macro_rules! lazy_global {
    ($(#[$meta:meta])* static $name:ident: $ty:ty = $init:expr;) => {
        $(#[$meta])* static $name: std::sync::LazyLock<$ty> = std::sync::LazyLock::new(|| $init);
    };
}
pub(crate) use lazy_global;

/// A value for each thread.
macro_rules! per_thread {
    ($(#[$meta:meta])* static $name:ident: $ty:ty = $init:expr;) => {
        std::thread_local! { $(#[$meta])* static $name: $ty = const { $init }; }
    };
}
pub(crate) use per_thread;

/// The same, made at its first use.
macro_rules! lazy_per_thread {
    ($(#[$meta:meta])* static $name:ident: $ty:ty = $init:expr;) => {
        std::thread_local! { $(#[$meta])* static $name: $ty = $init; }
    };
}
pub(crate) use lazy_per_thread;

/// Parks this thread until it is unparked, or for no reason, or until the deadline. `false`, and at once,
/// if that is over.
pub(crate) fn park(deadline: Option<Instant>) -> bool {
    match deadline.map(left) {
        None => thread::park(),
        Some(Duration::ZERO) => return false,
        Some(left) => thread::park_timeout(left),
    }
    true
}

/// Whether there is a deadline, and it is over.
pub(crate) fn is_over(deadline: Option<Instant>) -> bool {
    deadline.is_some_and(|deadline| left(deadline).is_zero())
}

#[allow(
    clippy::disallowed_methods,
    reason = "a deadline is a moment of the system's clock"
)]
fn left(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now())
}

/// How many threads run at once.
#[cfg(feature = "scheduler")]
pub(crate) fn processors() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// Starts a thread that nobody joins. Whether the system lets us.
pub(crate) fn spawn_in_background(name: &str, f: impl FnOnce() + Send + 'static) -> bool {
    thread::Builder::new().name(name.into()).spawn(f).is_ok()
}

/// Spends about `rounds` pauses of the processor.
#[inline]
pub(crate) fn spin(rounds: u32) {
    for _ in 0..rounds {
        std::hint::spin_loop();
    }
}

/// Nothing: what lies in memory has an order already.
pub(crate) struct Rank;

impl Rank {
    #[inline(always)]
    pub(crate) fn next() -> Self {
        Rank
    }

    /// Where something comes in the order of all of its kind, given its address.
    #[inline(always)]
    pub(crate) fn of(&self, address: usize) -> usize {
        address
    }
}

/// Nothing: only models ask who is alone with something.
#[cfg(feature = "scheduler")]
pub(crate) struct Sole;

#[cfg(feature = "scheduler")]
impl Sole {
    #[inline(always)]
    pub(crate) fn new() -> Self {
        Sole
    }

    #[inline(always)]
    pub(crate) fn touch(&self) {}
}

/// Nothing: only models follow the life of a node.
pub(crate) struct Life;

impl Life {
    #[inline(always)]
    pub(crate) fn begin() -> Self {
        Life
    }

    #[inline(always)]
    pub(crate) fn look(&self) {}

    #[inline(always)]
    pub(crate) fn end(&self) {}
}
