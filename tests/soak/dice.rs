//! Random numbers, all of which follow from one seed.

use snapcell::Priority;

/// Random numbers: a seed makes always the same ones.
pub(crate) struct Dice(fastrand::Rng);

impl Dice {
    pub(crate) fn of(seed: u64) -> Self {
        Dice(fastrand::Rng::with_seed(seed))
    }

    /// A number below the bound.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0.usize(..bound)
    }

    /// Whether it happens that happens so often in a hundred times.
    pub(crate) fn percent(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    pub(crate) fn one_of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }

    pub(crate) fn priority(&mut self) -> Priority {
        Priority::new(1 + self.below(10) as u8).expect("from 1 to 10")
    }

    /// A seed for somebody else.
    pub(crate) fn seed(&mut self) -> u64 {
        self.0.u64(..)
    }
}
