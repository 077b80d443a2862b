//! What the tests share that record what racing threads saw: a seed, a clock, and a gate before each round.

use fastrand::Rng;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::Instant;
use std::{env, hint, thread};

/// The seed, which a test that fails prints.
pub(crate) struct Seed(u64);

impl Seed {
    pub(crate) fn get() -> Self {
        let asked_for = env::var("SNAPCELL_SEED").ok();
        Seed(asked_for.map_or(0x5eed, |text| match text.parse() {
            Ok(seed) => seed,
            Err(_) => panic!("SNAPCELL_SEED should be a decimal number below 2^64, not {text:?}"),
        }))
    }

    /// A seed of its own for each part of a test.
    pub(crate) fn of(&self, part: u64) -> u64 {
        Rng::with_seed(self.0.wrapping_add(part)).u64(..)
    }
}

impl Drop for Seed {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("to draw the same again: SNAPCELL_SEED={}", self.0);
        }
    }
}

/// Looks at the clock for one thread.
pub(crate) struct Timer {
    origin: Instant,
    last: u64,
}

impl Timer {
    /// Counts from `origin`, which all threads of a history share.
    pub(crate) fn new(origin: Instant) -> Self {
        Timer { origin, last: 0 }
    }

    /// Nanoseconds since the origin: more each time.
    pub(crate) fn now(&mut self) -> u64 {
        loop {
            let now = self.origin.elapsed().as_nanos() as u64;
            if now > self.last {
                self.last = now;
                return now;
            }
            hint::spin_loop();
        }
    }
}

/// Where threads wait for each other before each round.
#[derive(Default)]
pub(crate) struct Gate {
    arrived: AtomicUsize,
    broken: AtomicBool,
}

impl Gate {
    /// How many have arrived, in all rounds together.
    pub(crate) fn arrived(&self) -> usize {
        self.arrived.load(SeqCst)
    }

    /// Waits until so many have arrived.
    pub(crate) fn pass(&self, all: usize) {
        self.arrived.fetch_add(1, SeqCst);
        let mut looks = 0_u32;
        while self.arrived() < all {
            assert!(!self.broken.load(SeqCst), "another thread has panicked");
            looks += 1;
            if looks.is_multiple_of(64) {
                thread::yield_now();
            }
        }
    }
}

/// Nobody waits for a thread that doesn't come.
pub(crate) struct BreakOnPanic<'g>(pub(crate) &'g Gate);

impl Drop for BreakOnPanic<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.broken.store(true, SeqCst);
        }
    }
}
