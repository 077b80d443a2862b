//! What tells operations apart.
#![forbid(unsafe_code)]

use std::fmt;
use std::num::NonZeroU64;

/// What tells an operation from all others of its engine, from its submission on and for good. Of
/// those that one thread submits later ones are larger; and of all, where the clock of the engine may stand still.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OperationId(pub(super) NonZeroU64);

impl OperationId {
    /// As a number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0.get()
    }
}

impl fmt::Display for OperationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "operation {}", self.0)
    }
}
