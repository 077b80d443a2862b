//! Values whose destructors panic.

use super::planned::PLANNED;
use super::support::{Tally, Token};
use snapcell::destructor_panics;

/// A payload whose destructor panics if it is armed. What lies in it is dropped all the same.
pub(crate) struct Bomb {
    pub(crate) armed: bool,
    pub(crate) token: Token,
}

impl Bomb {
    pub(crate) fn armed(tally: &Tally) -> Self {
        Bomb {
            armed: true,
            token: tally.token(),
        }
    }

    pub(crate) fn dud(tally: &Tally) -> Self {
        Bomb {
            armed: false,
            token: tally.token(),
        }
    }

    /// A look at the whole of it, so that a closure that looks owns the whole of it.
    pub(crate) fn is_armed(&self) -> bool {
        self.armed
    }
}

impl Drop for Bomb {
    fn drop(&mut self) {
        if self.armed {
            panic!("{PLANNED}");
        }
    }
}

/// How many destructors panic, and are caught, while `body` runs.
pub(crate) fn caught_in(body: impl FnOnce()) -> usize {
    let before = destructor_panics();
    body();
    destructor_panics() - before
}
