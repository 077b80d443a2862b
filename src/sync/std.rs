//! The ordinary build: `std`'s atomics, and nothing beside them.

pub(crate) use std::sync::atomic;
pub(crate) use std::thread::{JoinHandle, spawn, yield_now};

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

/// Spends about `rounds` pauses of the processor.
#[inline]
pub(crate) fn spin(rounds: u32) {
    for _ in 0..rounds {
        std::hint::spin_loop();
    }
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
