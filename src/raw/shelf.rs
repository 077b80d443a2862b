//! Blocks that one thread has too many of, for those that lack some.
//!
//! Where one thread commits and others drop what was replaced, memory flows from the one to the others: its pool is always
//! empty, and theirs are always full. So a pool that is full lays *chains* of blocks on a shelf, and one that is empty takes
//! one from there, which takes a lock for some dozen blocks at once. Nobody waits for that: who finds it locked, full or
//! empty goes to the allocator, as without it.

use crate::sync::lock::Lock;
use std::ptr::NonNull;

/// How many chains lie on a shelf at most.
const PLACES: usize = 32;

/// How many bytes a chain has at most.
pub(super) const CHAIN: usize = 4_096;

/// How many shelves there are.
pub(super) const SHELVES: usize = 40;

/// Chains of blocks, all of one size.
pub(super) struct Shelf(Lock<Vec<Chain>>);

/// The first of several blocks that are linked, which are nobody's but the chain's.
pub(super) struct Chain(pub(super) NonNull<u8>);

// SAFETY: the blocks are nobody else's, so they may go to another thread.
unsafe impl Send for Chain {}

/// The shelf with this number. There is none in models, whose threads would meet there, and where the address sanitizer is to
/// see each free.
#[cfg(not(any(
    snapcell_model,
    snapcell_epoch_model,
    snapcell_shuttle,
    snapcell_sanitize
)))]
pub(super) fn number(number: usize) -> Option<&'static Shelf> {
    static ALL: [Shelf; SHELVES] = [const { Shelf(Lock::new(Vec::new())) }; SHELVES];
    ALL.get(number)
}

#[cfg(any(
    snapcell_model,
    snapcell_epoch_model,
    snapcell_shuttle,
    snapcell_sanitize
))]
pub(super) fn number(_number: usize) -> Option<&'static Shelf> {
    None
}

impl Shelf {
    /// Lays a chain there, if there is room, and `cut` has one. Whether it did.
    pub(super) fn put(&self, cut: impl FnOnce() -> Option<Chain>) -> bool {
        let put = |chains: &mut Vec<Chain>| {
            let before = chains.len();
            if before < PLACES {
                chains.reserve_exact(PLACES - before);
                chains.extend(cut());
            }
            chains.len() > before
        };
        self.0.try_with(put).unwrap_or(false)
    }

    /// Takes one.
    pub(super) fn take(&self) -> Option<Chain> {
        self.0.try_with(Vec::pop).flatten()
    }
}
