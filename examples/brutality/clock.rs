//! Time, as this program sees it: on the same clock as the engine, so that both can be compared.

use crate::args;
use snapcell::Entity;
use std::thread;
use std::time::{Duration, Instant};

/// A moment on both clocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Start {
    here: Instant,
    /// The same by the clock that entities and engines have by default: the stamp of a newborn tells it.
    there: Duration,
}

impl Start {
    pub(crate) fn now() -> Self {
        let born = Entity::new(()).snapshot().stamp();
        Start {
            here: now(),
            there: Duration::from_nanos(born.time()),
        }
    }

    /// Now, as the engine would tell it.
    pub(crate) fn reading(&self) -> Duration {
        self.there + self.here.elapsed()
    }

    /// Since this moment.
    pub(crate) fn elapsed(&self) -> Duration {
        self.here.elapsed()
    }

    /// Waits until so long after this moment.
    pub(crate) fn sleep_until(&self, due: Duration) {
        let left = due.saturating_sub(self.elapsed());
        if !left.is_zero() {
            thread::sleep(left);
        }
    }

    /// A time of the engine, since this moment.
    pub(crate) fn since(&self, reading: Duration) -> Duration {
        reading.saturating_sub(self.there)
    }
}

/// Works for so long: sleeps, or spins where a sleep could not be so short.
pub(crate) fn work(long: Duration) {
    if long.is_zero() {
        return;
    }
    if args::sleeps(long) {
        return thread::sleep(long);
    }
    let start = now();
    while start.elapsed() < long {
        std::hint::spin_loop();
    }
}

#[allow(
    clippy::disallowed_methods,
    reason = "latencies of a stress test are times of the machine, not of an injected clock"
)]
pub(crate) fn now() -> Instant {
    Instant::now()
}

pub(crate) fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
