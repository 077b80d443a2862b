//! How long the loser of a race stays away.
//!
//! A lost compare-and-exchange is the signal that others are at work, not time. The loser pauses for
//! a random while that doubles with each loss, and past a limit gives its slice of time away, so
//! that the winner can commit a run of changes from its own cache. It never sleeps, and waits for
//! nobody.
#![forbid(unsafe_code)]

use crate::sync;

/// The pauses after the first loss; doubled with each further one.
const FIRST: u32 = 64;
/// Losses after which pauses grow no more, and the slice of time is given away instead.
const STEPS: u32 = 4;

/// The losses of one update so far.
pub(crate) struct Backoff {
    losses: u32,
}

impl Backoff {
    pub(crate) fn new() -> Self {
        Backoff { losses: 0 }
    }

    /// Stays away after a loss.
    #[cold]
    pub(crate) fn lost(&mut self) {
        let most = FIRST << self.losses.min(STEPS);
        // Jitter downwards, in [½, 1]: losers of one race must not come back together.
        sync::spin(fastrand::u32(most / 2..=most));
        if self.losses >= STEPS {
            sync::yield_now();
        }
        self.losses = self.losses.saturating_add(1);
    }
}
