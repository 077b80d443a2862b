//! Why the closure of a transaction ends without a result.
#![forbid(unsafe_code)]

use crate::raw::Overtaken;
use std::fmt;

/// The closure of a transaction has to run again. Pass it on by `?`.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a transaction that goes on after this will run again all the same"]
pub struct Restart(pub(super) Why);

impl Restart {
    /// Somebody has committed to what was read.
    #[cfg(feature = "store")]
    pub(crate) fn overtaken() -> Self {
        Restart(Why::Overtaken)
    }
}

/// Why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// Somebody has committed to what was read.
    Overtaken,
    /// The closure wants to wait until that happens.
    Retry,
}

impl From<Overtaken> for Restart {
    fn from(_: Overtaken) -> Self {
        Restart(Why::Overtaken)
    }
}

impl fmt::Display for Restart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Why::Overtaken => "somebody has committed to what was read",
            Why::Retry => "the transaction waits for a change of what it has read",
        })
    }
}

impl std::error::Error for Restart {}

/// Why the closure of a transaction ends without a result: it has to run again, or gives up with an error
/// of its own.
#[derive(Debug, PartialEq, Eq)]
pub enum Stop<F> {
    /// It has to run again. Made of a [`Restart`] by `?`.
    Restart(Restart),
    /// It gives up. Nothing is published.
    Abort(F),
}

impl<F> From<Restart> for Stop<F> {
    fn from(restart: Restart) -> Self {
        Stop::Restart(restart)
    }
}

/// An error of a closure that may say [`Restart`]: that itself, or a [`Stop`].
pub trait Restarts: From<Restart> {
    /// What it says, if it does.
    fn restart(&self) -> Option<&Restart>;
}

impl Restarts for Restart {
    fn restart(&self) -> Option<&Restart> {
        Some(self)
    }
}

impl<F> Restarts for Stop<F> {
    fn restart(&self) -> Option<&Restart> {
        match self {
            Stop::Restart(restart) => Some(restart),
            Stop::Abort(_) => None,
        }
    }
}
