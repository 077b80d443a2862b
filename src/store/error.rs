//! What can be wrong with a call by id. Nothing has changed after any of them.
#![forbid(unsafe_code)]

use super::id::EntityId;
use super::version::Version;
use crate::cell::{Restart, Restarts, Stop};
use crate::stamp::Stamp;
use std::error::Error;
use std::fmt;

/// There is no entity of this id in the store: there never was, or it was removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no entity {0} in the store")]
pub struct Unknown(pub EntityId);

/// A call by id in a transaction can't be answered. Pass it on by `?`.
///
/// It becomes a [`Stop`] of every error that can be made of an [`Unknown`].
#[derive(Debug, PartialEq, Eq)]
pub enum Absent {
    /// The closure has to run again.
    Restart(Restart),
    /// There is no such entity, as the transaction sees the store.
    Unknown(Unknown),
}

impl From<Restart> for Absent {
    fn from(restart: Restart) -> Self {
        Absent::Restart(restart)
    }
}

impl Restarts for Absent {
    fn restart(&self) -> Option<&Restart> {
        match self {
            Absent::Restart(restart) => Some(restart),
            Absent::Unknown(_) => None,
        }
    }
}

impl<F: From<Unknown>> From<Absent> for Stop<F> {
    fn from(absent: Absent) -> Self {
        match absent {
            Absent::Restart(restart) => Stop::Restart(restart),
            Absent::Unknown(unknown) => Stop::Abort(F::from(unknown)),
        }
    }
}

impl fmt::Display for Absent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Absent::Restart(restart) => restart.fmt(f),
            Absent::Unknown(unknown) => unknown.fmt(f),
        }
    }
}

impl Error for Absent {}

/// A value that was not put into the store, with the reason.
pub struct StoreError<T> {
    proposed: T,
    refusal: StoreRefusal<T>,
}

/// Why.
#[derive(Debug)]
#[non_exhaustive]
pub enum StoreRefusal<T> {
    /// There is no such entity.
    Unknown(Unknown),
    /// There is one already.
    Taken(EntityId),
    /// Somebody committed first.
    Conflict {
        /// What the value was to follow.
        expected: Stamp,
        /// What is there instead.
        current: Version<T>,
    },
    /// The version of the entity is at its end.
    VersionLimit(EntityId),
}

impl<T> StoreError<T> {
    #[cold]
    pub(super) fn new(proposed: T, refusal: StoreRefusal<T>) -> Self {
        StoreError { proposed, refusal }
    }

    #[cold]
    pub(super) fn unknown(proposed: T, id: EntityId) -> Self {
        StoreError::new(proposed, StoreRefusal::Unknown(Unknown(id)))
    }

    /// The value that was proposed.
    #[must_use]
    pub fn proposed(&self) -> &T {
        &self.proposed
    }

    /// Gives the value back.
    #[must_use]
    pub fn into_proposed(self) -> T {
        self.proposed
    }

    /// Why.
    #[must_use]
    pub fn refusal(&self) -> &StoreRefusal<T> {
        &self.refusal
    }

    /// Whether somebody committed first.
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        matches!(self.refusal, StoreRefusal::Conflict { .. })
    }

    /// Whether there is no such entity.
    #[must_use]
    pub fn is_unknown(&self) -> bool {
        matches!(self.refusal, StoreRefusal::Unknown(_))
    }

    /// The value and the reason, each to keep.
    #[must_use]
    pub fn into_parts(self) -> (T, StoreRefusal<T>) {
        (self.proposed, self.refusal)
    }
}

/// Without the values: they need not be printable.
impl<T> fmt::Debug for StoreError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreError")
            .field("refusal", &format_args!("{self}"))
            .finish_non_exhaustive()
    }
}

impl<T> fmt::Display for StoreError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.refusal {
            StoreRefusal::Unknown(unknown) => unknown.fmt(f),
            StoreRefusal::Taken(id) => write!(f, "there is an entity {id} already"),
            StoreRefusal::Conflict { expected, current } => write!(
                f,
                "conflict on {}: expected stamp {expected}, found {}",
                current.id(),
                current.stamp()
            ),
            StoreRefusal::VersionLimit(id) => write!(f, "the version of {id} is at its end"),
        }
    }
}

impl<T> Error for StoreError<T> {}
