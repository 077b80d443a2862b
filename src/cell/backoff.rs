//! How long the loser of a race stays away.
//!
//! A lost compare-and-exchange is the signal that others are at work, not time. The loser pauses for
//! a random while that doubles with each loss, and past a limit gives its slice of time away, so
//! that the winner can commit a run of changes from its own cache. It never sleeps, and waits for
//! nobody.
#![forbid(unsafe_code)]

use crate::sync;

/// The pauses after the first loss, where one entity is changed most often; doubled with each further one. Where all
/// change one thing, who has lost will meet the winner again.
const FIRST: u32 = 64;
/// The same of a transaction, or where a thread was overtaken at another entity the last time: those who have met at one
/// of several part at once.
const FIRST_OF_SEVERAL: u32 = 4;
/// Pauses that are not doubled any more; the slice of time is given away then as well.
const MOST: u32 = 1024;

/// How long the next loss is paid for.
pub(crate) struct Backoff {
    next: u32,
}

impl Backoff {
    pub(crate) fn new() -> Self {
        Backoff { next: FIRST }
    }

    pub(crate) fn of_several() -> Self {
        Backoff {
            next: FIRST_OF_SEVERAL,
        }
    }

    /// Stays away after a loss.
    #[cold]
    pub(crate) fn lost(&mut self) {
        // Jitter downwards, in [½, 1]: losers of one race must not come back together.
        sync::spin(fastrand::u32(self.next / 2..=self.next));
        if self.next >= MOST {
            sync::yield_now();
        } else {
            self.next *= 2;
        }
    }
}
