//! Several entities at one instant, with values that were computed before: one attempt, or a refusal that
//! gives everything back.
#![forbid(unsafe_code)]

use super::backoff::Backoff;
use super::entity::{Entity, Invalid};
use super::target::Target;
use super::transaction::Belongings;
use crate::raw::{Attempted, Log};
use crate::stamp::Stamp;
use std::convert::Infallible;
use std::error::Error;
use std::fmt;

/// Changes of several entities, to be made together or not at all by [`try_transaction`].
///
/// An entity that comes twice is changed once, by the last value, if everything that is expected of it is
/// true. It is given as `&entity`, or as a handle of its own.
#[must_use = "nothing is changed until they are given to `try_transaction`"]
pub struct Changes<'e> {
    log: Log<'e>,
    /// Dropped after that.
    belongings: Belongings,
}

impl<'e> Changes<'e> {
    /// None yet.
    pub fn new() -> Self {
        Changes {
            log: Log::new(),
            belongings: Belongings::default(),
        }
    }

    /// Replaces the value of an entity, if it still has the stamp.
    pub fn write<X: Target<'e, Error = Infallible>>(
        self,
        entity: X,
        expected: Stamp,
        value: X::Value,
    ) -> Self {
        accept(&entity, &value);
        self.put(entity, Some(expected), value)
    }

    /// Replaces the value of an entity, whatever it is.
    pub fn replace<X: Target<'e, Error = Infallible>>(self, entity: X, value: X::Value) -> Self {
        accept(&entity, &value);
        self.put(entity, None, value)
    }

    /// As [`write`](Changes::write), for entities with a validator, and without a stamp as
    /// [`replace`](Changes::replace).
    ///
    /// # Errors
    /// [`Invalid`] gives the value back, beside the other changes.
    #[allow(clippy::type_complexity, reason = "all is given back")]
    pub fn try_write<X: Target<'e>>(
        self,
        entity: X,
        expected: Option<Stamp>,
        value: X::Value,
    ) -> Result<Self, (Self, Invalid<X::Value, X::Error>)> {
        match entity.entity().validate(&value) {
            Ok(()) => Ok(self.put(entity, expected, value)),
            Err(error) => Err((self, Invalid { value, error })),
        }
    }

    /// Changes nothing of an entity, but is refused if it doesn't have the stamp any more.
    pub fn require<X: Target<'e>>(self, entity: X, expected: Stamp) -> Self {
        self.log.expect(entity.enter(), expected);
        self
    }

    /// Keeps something until the changes were made, or are given up.
    #[cfg(feature = "store")]
    pub(crate) fn keep(mut self, guard: impl Send + Sync + 'static) -> Self {
        self.belongings.push(guard);
        self
    }

    fn put<X: Target<'e>>(self, entity: X, expected: Option<Stamp>, value: X::Value) -> Self {
        let reading = entity.entity().own_reading();
        let index = self.log.write(entity.enter(), reading, value);
        if let Some(expected) = expected {
            self.log.expect_at(index, expected);
        }
        self
    }

    /// Takes the value out that an entity was to have.
    #[must_use]
    pub fn take<T: Send + Sync + 'static, E: 'static>(
        &mut self,
        entity: &Entity<T, E>,
    ) -> Option<T> {
        self.log.take_value(&entity.0)
    }

    /// How many entities there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.log.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Shows a value to a validator that can't refuse it.
fn accept<'e, X: Target<'e, Error = Infallible>>(entity: &X, value: &X::Value) {
    if let Err(never) = entity.entity().validate(value) {
        match never {}
    }
}

impl Default for Changes<'_> {
    fn default() -> Self {
        Changes::new()
    }
}

impl fmt::Debug for Changes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Changes")
            .field("entities", &self.len())
            .finish_non_exhaustive()
    }
}

/// Makes all changes at one instant, if every entity has the stamp that is expected of it.
///
/// # Linearization
/// Success: the exchange on the verdict; of a single entity, the one on its head; if nothing is to be
/// changed, the fence before the last look. Refusal: the look that found another stamp.
/// # Progress
/// Lock-free: it tries again as long as nobody has changed what is expected, which fails only because
/// somebody else's transaction got ahead, or looked at one of the entities.
/// # Errors
/// [`Refused`] says which entity has another stamp, and gives all values back. Nothing has changed.
/// # Complexity
/// As [`transaction`](crate::transaction()).
///
/// # Examples
/// ```
/// use snapcell::{Changes, Entity, try_transaction};
///
/// let (page, index) = (Entity::new("old"), Entity::new(vec!["old"]));
/// let (before, there) = (page.snapshot(), index.snapshot());
/// let changes = || {
///     Changes::new()
///         .write(&page, before.stamp(), "new")
///         .write(&index, there.stamp(), vec!["new"])
/// };
/// assert!(try_transaction(changes()).is_ok());
/// let refused = try_transaction(changes()).unwrap_err();
/// assert_eq!(refused.found(), page.snapshot().stamp());
/// assert_eq!(refused.into_changes().take(&index), Some(vec!["new"]));
/// ```
pub fn try_transaction<'e>(changes: Changes<'e>) -> Result<Transacted<'e>, Refused<'e>> {
    let Changes {
        mut log,
        belongings,
    } = changes;
    let mut backoff = Backoff::of_several();
    let mut attempts: u32 = 0;
    loop {
        attempts = attempts.saturating_add(1);
        let (index, expected, found, refusal) = match log.attempt(2) {
            Attempted::Committed => return Ok(Transacted { log, attempts }),
            Attempted::Lost => {
                backoff.lost();
                continue;
            }
            Attempted::Refused {
                index,
                expected,
                found,
            } => (index, expected, found, ChangeRefusal::Conflict),
            Attempted::VersionLimit { index, found } => {
                (index, found, found, ChangeRefusal::VersionLimit)
            }
        };
        return Err(Refused {
            changes: Changes { log, belongings },
            index,
            expected,
            found,
            refusal,
        });
    }
}

/// Changes that were made.
pub struct Transacted<'e> {
    log: Log<'e>,
    attempts: u32,
}

impl Transacted<'_> {
    /// The stamp that an entity has got, if it was changed. All have the same time.
    #[must_use]
    pub fn stamp<T: Send + Sync + 'static, E: 'static>(
        &self,
        entity: &Entity<T, E>,
    ) -> Option<Stamp> {
        self.log.stamp_of(&entity.0)
    }

    /// How many attempts it took, the successful one included.
    #[must_use]
    pub fn attempts(&self) -> u32 {
        self.attempts
    }
}

impl fmt::Debug for Transacted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transacted")
            .field("entities", &self.log.len())
            .field("attempts", &self.attempts)
            .finish_non_exhaustive()
    }
}

/// Why changes were not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ChangeRefusal {
    /// An entity has another stamp than the expected one.
    Conflict,
    /// The version of an entity is at its end.
    VersionLimit,
}

/// Changes that were not made, with the reason. Everything is as it was.
pub struct Refused<'e> {
    changes: Changes<'e>,
    index: usize,
    expected: Stamp,
    found: Stamp,
    refusal: ChangeRefusal,
}

impl<'e> Refused<'e> {
    /// Whether it was this entity.
    #[must_use]
    pub fn is_about<T: Send + Sync + 'static, E: 'static>(&self, entity: &Entity<T, E>) -> bool {
        self.changes.log.index_of(&entity.0) == Some(self.index)
    }

    /// Which entity it was, counted from zero in the order in which they came first.
    #[must_use]
    pub fn index(&self) -> usize {
        self.index
    }

    /// The stamp that it should have had.
    #[must_use]
    pub fn expected(&self) -> Stamp {
        self.expected
    }

    /// The stamp that it had.
    #[must_use]
    pub fn found(&self) -> Stamp {
        self.found
    }

    /// Why.
    #[must_use]
    pub fn refusal(&self) -> ChangeRefusal {
        self.refusal
    }

    /// Whether somebody committed first.
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        self.refusal == ChangeRefusal::Conflict
    }

    /// Gives all values back.
    pub fn into_changes(self) -> Changes<'e> {
        self.changes
    }
}

impl fmt::Debug for Refused<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Refused")
            .field("refusal", &self.refusal)
            .field("index", &self.index)
            .field("expected", &format_args!("{}", self.expected))
            .field("found", &format_args!("{}", self.found))
            .finish_non_exhaustive()
    }
}

impl fmt::Display for Refused<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (index, expected, found) = (self.index, self.expected, self.found);
        match self.refusal {
            ChangeRefusal::Conflict => write!(
                f,
                "conflict at entity {index}: expected stamp {expected}, found {found}"
            ),
            ChangeRefusal::VersionLimit => {
                write!(f, "the version of entity {index} is at its end: {found}")
            }
        }
    }
}

impl Error for Refused<'_> {}
