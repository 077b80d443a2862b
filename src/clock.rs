//! Where time comes from. Nobody else asks.
//!
//! A clock is read before the head is loaded, and gives a [`Reading`]; which time a commit gets
//! follows from the reading and the predecessor's time, so that time never goes backwards along an
//! entity, whatever the clock does.
#![forbid(unsafe_code)]

use crate::sync::AtomicU64;
use crate::sync::orderings::site;
use std::fmt;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

/// Where the times of an entity's stamps come from.
///
/// | clock | time of a commit | cost |
/// |---|---|---|
/// | [`monotonic`](Clock::monotonic), the default | nanoseconds since the first use in this process | one read of the processor's counter |
/// | [`logical`](Clock::logical) | the predecessor's plus one | nothing |
/// | [`manual`](Clock::manual) | what a [`ManualClock`] says | one load |
///
/// # Examples
/// ```
/// use snapcell::{Clock, Entity};
///
/// let counter = Entity::builder(0_u32).clock(Clock::logical()).build();
/// counter.update(|n| n + 1);
/// assert_eq!(counter.snapshot().stamp().to_string(), "1@1");
/// ```
#[derive(Clone, Debug, Default)]
pub struct Clock(Source);

#[derive(Clone, Debug, Default)]
enum Source {
    #[default]
    Monotonic,
    Logical,
    Manual(ManualClock),
}

impl Clock {
    /// Nanoseconds since the first use of this clock in the process, never backwards on one thread.
    ///
    /// The first use measures the processor's counter against the system's clock once, which takes
    /// some milliseconds and makes other threads wait; call this early to have it behind you.
    #[must_use]
    pub fn monotonic() -> Self {
        LazyLock::force(&MONOTONIC);
        Clock(Source::Monotonic)
    }

    /// Counts commits, and reads nothing.
    #[must_use]
    pub const fn logical() -> Self {
        Clock(Source::Logical)
    }

    /// Says what `clock` says: for tests and simulations.
    #[must_use]
    pub fn manual(clock: &ManualClock) -> Self {
        Clock(Source::Manual(clock.clone()))
    }

    /// What the clock says now, in nanoseconds. A logical clock stands still.
    #[inline]
    pub(crate) fn now(&self) -> u64 {
        self.reading().at_birth()
    }

    /// Whether it is the monotonic clock, of which there is one.
    #[cfg(feature = "scheduler")]
    pub(crate) fn is_monotonic(&self) -> bool {
        matches!(self.0, Source::Monotonic)
    }

    /// What the clock says now.
    #[inline]
    pub(crate) fn reading(&self) -> Reading {
        match &self.0 {
            Source::Monotonic => Reading::At(MONOTONIC.now()),
            Source::Logical => Reading::Next,
            Source::Manual(clock) => Reading::At(clock.now()),
        }
    }
}

/// A clock that stands still until somebody moves it. Clones are hands of the same clock.
///
/// # Examples
/// ```
/// use snapcell::{Clock, Entity, ManualClock};
/// use std::time::{Duration, Instant};
///
/// let clock = ManualClock::new();
/// let entity = Entity::builder('a').clock(Clock::manual(&clock)).build();
/// clock.advance(Duration::from_millis(5));
/// assert_eq!(entity.replace('b').stamp().time(), 5_000_000);
/// clock.set(Duration::ZERO);
/// assert_eq!(entity.replace('c').stamp().time(), 5_000_000, "time never goes backwards");
/// ```
#[derive(Clone)]
pub struct ManualClock(Arc<AtomicU64>);

impl ManualClock {
    /// A clock that stands at zero.
    #[must_use]
    pub fn new() -> Self {
        ManualClock(Arc::new(AtomicU64::new(0)))
    }

    /// Moves the clock forward. It stops after 584 years.
    pub fn advance(&self, by: Duration) {
        let mut now = self.now();
        while let Err(newer) = self.0.compare_exchange(
            now,
            now.saturating_add(nanoseconds(by)),
            site::CLOCK_ADVANCE,
        ) {
            now = newer;
        }
    }

    /// Puts the clock to a time, earlier ones included.
    pub fn set(&self, to: Duration) {
        self.0.store(nanoseconds(to), site::CLOCK_SET);
    }

    /// What the clock shows, in nanoseconds.
    #[must_use]
    pub fn now(&self) -> u64 {
        self.0.load(site::CLOCK_LOAD)
    }
}

impl Default for ManualClock {
    fn default() -> Self {
        ManualClock::new()
    }
}

impl fmt::Debug for ManualClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ManualClock")
            .field(&Duration::from_nanos(self.now()))
            .finish()
    }
}

/// The moment after so long, unless that is never.
#[allow(clippy::disallowed_methods, reason = "nobody else asks for the time")]
pub(crate) fn deadline(after: Duration) -> Option<Instant> {
    Instant::now().checked_add(after)
}

/// 584 years and longer are all the same.
fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// What a clock said before the head was loaded.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Reading {
    At(u64),
    Next,
}

impl Reading {
    /// The time of a commit on a snapshot of time `previous`.
    #[inline]
    pub(crate) fn after(self, previous: u64) -> u64 {
        match self {
            Reading::At(now) => now.max(previous),
            Reading::Next => previous.saturating_add(1),
        }
    }

    /// The time of a birth.
    #[inline]
    pub(crate) fn at_birth(self) -> u64 {
        match self {
            Reading::At(now) => now,
            Reading::Next => 0,
        }
    }
}

/// The clock that all entities share by default.
struct Monotonic {
    counter: counter::Clock,
    origin: u64,
}

static MONOTONIC: LazyLock<Monotonic> = LazyLock::new(|| {
    let counter = counter::Clock::new();
    let origin = counter.raw();
    Monotonic { counter, origin }
});

impl Monotonic {
    #[inline]
    fn now(&self) -> u64 {
        self.counter.delta_as_nanos(self.origin, self.counter.raw())
    }
}

#[cfg(not(any(snapcell_model, snapcell_epoch_model, snapcell_shuttle)))]
use quanta as counter;

/// In models time stands still: an execution must depend on nothing but its schedule.
#[cfg(any(snapcell_model, snapcell_epoch_model, snapcell_shuttle))]
mod counter {
    pub(super) struct Clock;

    impl Clock {
        pub(super) fn new() -> Self {
            Clock
        }

        pub(super) fn raw(&self) -> u64 {
            0
        }

        pub(super) fn delta_as_nanos(&self, _from: u64, _to: u64) -> u64 {
            0
        }
    }
}
