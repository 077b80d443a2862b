//! A change that is computed again until it commits.
//!
//! The loop: read the clock, pin, see the current node, compute, exchange. A lost exchange means
//! that somebody else's change was published meanwhile, so the change is computed again from that
//! one, after a pause. Each attempt has a pin of its own.
//!
//! A closure that commits to the entity that it is computing for would lose every exchange to
//! itself. That is found out exactly, and only after a loss: the node that the attempt was made on
//! is among those that this very thread retired meanwhile.
#![forbid(unsafe_code)]

use super::backoff::Backoff;
use super::commit::Committed;
use super::entity::Entity;
use super::snapshot::Snapshot;
use crate::raw::reclaim::{self, Computing};
use crate::raw::{Draft, Place, Seen, Vacant};
use crate::stamp::Stamp;
use crate::sync::fault::{Fault, planted};
use std::convert::Infallible;
use std::error::Error;
use std::fmt;

impl<T: Send + Sync + 'static> Entity<T> {
    /// Replaces the current value by what `f` makes of it, again until nobody was faster.
    ///
    /// `f` may run several times and should have no other effect. It runs under a guard, so keep it
    /// short. If it panics, the entity is as it was.
    ///
    /// # Linearization
    /// The compare-and-exchange that succeeded.
    /// # Progress
    /// Lock-free, if `f` ends: an attempt fails only because another commit succeeded. One update
    /// may lose again and again; [`update_with`](Entity::update_with) bounds that.
    /// # Panics
    /// If `f` commits to this same entity, or if the version is at its end. Where these may happen,
    /// [`try_update`](Entity::try_update) returns them as errors.
    /// # Complexity
    /// An attempt: one pin, one load, one compare-and-exchange, one node, which is recycled. The
    /// value moves from the closure into the node.
    ///
    /// # Examples
    /// ```
    /// let counter = snapcell::Entity::new(0);
    /// std::thread::scope(|s| {
    ///     for _ in 0..4 {
    ///         s.spawn(|| (0..1000).for_each(|_| drop(counter.update(|n| n + 1))));
    ///     }
    /// });
    /// assert_eq!(*counter.snapshot(), 4000);
    /// assert_eq!(counter.snapshot().stamp().version(), 4000);
    /// ```
    #[inline(always)]
    pub fn update(&self, mut f: impl FnMut(&T) -> T) -> Committed<'_, T> {
        // Not by way of `update_with`, and inlined in any case: the outcome stays in registers. By way of
        // memory it takes ten nanoseconds more.
        let draft =
            |seen: Seen<'_, T>, place| Ok(Some(Vacant::new().fill(place, || f(seen.value()))));
        let result = self.drive(Retry::unbounded(), draft);
        // As in `update_with`.
        drop(f);
        match result {
            Ok(Updated::Committed(committed)) => committed,
            Ok(Updated::Unchanged(_)) => unreachable!("each attempt has a draft"),
            Err(error) => UpdateError::<T>::raise(&error),
        }
    }
}

impl<T: Send + Sync + 'static, E: 'static> Entity<T, E> {
    /// As [`update`](Entity::update), but `f` may refuse with an error of its own, or say that
    /// nothing changes.
    ///
    /// `f` returns `Ok(Some(value))` to commit, `Ok(None)` for no change, or an error.
    ///
    /// # Linearization
    /// A commit: the compare-and-exchange that succeeded. No change, or a refusal: the load that
    /// `f` was given the value of.
    /// # Progress
    /// As [`update`](Entity::update).
    /// # Errors
    /// [`UpdateError`]: the refusal of `f`, that of the validator with the value, a version at its
    /// end, or a closure that commits to this same entity. Nothing has changed.
    ///
    /// # Examples
    /// ```
    /// use snapcell::{Entity, UpdateError};
    ///
    /// let balance = Entity::new(100_u32);
    /// let withdraw = |amount: u32| {
    ///     balance.try_update(|b| b.checked_sub(amount).map(Some).ok_or("overdrawn"))
    /// };
    /// assert!(withdraw(30).is_ok());
    /// assert!(matches!(withdraw(80), Err(UpdateError::Refused("overdrawn"))));
    /// assert_eq!(*balance.snapshot(), 70);
    /// ```
    #[inline]
    pub fn try_update<F>(
        &self,
        f: impl FnMut(&T) -> Result<Option<T>, F>,
    ) -> Result<Updated<'_, T>, UpdateError<T, F, E>> {
        self.try_update_with(Retry::unbounded(), f)
    }

    /// As [`update`](Entity::update), with a bound on the retries.
    ///
    /// # Errors
    /// [`UpdateError::Exhausted`] gives back the value that came too late last. Others as in
    /// [`try_update`](Entity::try_update).
    ///
    /// # Examples
    /// ```
    /// use snapcell::{Entity, Retry};
    ///
    /// let counter = Entity::new(0);
    /// assert_eq!(counter.update_with(Retry::at_most(5), |n| n + 1)?.attempts(), 1);
    /// # Ok::<(), snapcell::UpdateError<i32>>(())
    /// ```
    #[inline]
    pub fn update_with(
        &self,
        retry: Retry,
        mut f: impl FnMut(&T) -> T,
    ) -> Result<Committed<'_, T>, UpdateError<T, Infallible, E>> {
        // Returned into the node, so that the compiler may write it where it is to stay.
        let draft =
            |seen: Seen<'_, T>, place| Ok(Some(Vacant::new().fill(place, || f(seen.value()))));
        let result = match self.drive(retry, draft) {
            Ok(Updated::Committed(committed)) => Ok(committed),
            Ok(Updated::Unchanged(_)) => unreachable!("each attempt has a draft"),
            Err(error) => Err(error),
        };
        // Not after the return: were its destructor to panic then, the result would be leaked, and
        // its guard with it.
        drop(f);
        result
    }

    /// As [`try_update`](Entity::try_update), with a bound on the retries.
    ///
    /// # Errors
    /// As [`try_update`](Entity::try_update) and [`update_with`](Entity::update_with).
    #[inline]
    pub fn try_update_with<F>(
        &self,
        retry: Retry,
        mut f: impl FnMut(&T) -> Result<Option<T>, F>,
    ) -> Result<Updated<'_, T>, UpdateError<T, F, E>> {
        let draft =
            |seen: Seen<'_, T>, place| Ok(f(seen.value())?.map(|value| Draft::new(place, value)));
        let result = self.drive(retry, draft);
        // As in `update_with`.
        drop(f);
        result
    }

    /// As [`try_update_with`](Self::try_update_with) without retries. What was found or published, and whether it was
    /// published. `now`: what the monotonic clock says, if it was asked just now.
    ///
    /// One round of `drive`, written out: were the time an argument of that, each update would take eight
    /// instructions more.
    #[cfg(feature = "scheduler")]
    #[inline]
    pub(crate) fn try_update_once<F>(
        &self,
        now: Option<u64>,
        f: impl Fn(&T) -> Result<Option<T>, F>,
    ) -> Result<(Snapshot<T>, bool), UpdateError<T, F, E>> {
        let reading = self.prepare_at(now);
        let mut attempt = self.head().attempt();
        let seen = attempt.seen();
        let Some(place) = seen.next(reading) else {
            return Err(UpdateError::VersionLimit);
        };
        let computing = Computing::begin();
        let draft = match f(seen.value()) {
            Ok(Some(value)) => Draft::new(place, value),
            Ok(None) => return Ok((Snapshot(seen.hold()), false)),
            Err(refusal) => return Err(UpdateError::Refused(refusal)),
        };
        if let Err(error) = self.admit(seen, draft.value()) {
            return Err(UpdateError::Invalid {
                proposed: draft.empty().0,
                error,
            });
        }
        let position = computing.end();
        let tried = seen.address();
        match attempt.commit_and_hold(draft, self.0.waker()) {
            Ok(held) => Ok((Snapshot(held), true)),
            Err(draft) if reclaim::retired_since(position, tried) => {
                Err(UpdateError::SelfConflict {
                    proposed: draft.empty().0,
                })
            }
            Err(draft) => Err(UpdateError::Exhausted {
                proposed: draft.empty().0,
                current: Snapshot(attempt.seen().hold()),
                attempts: 1,
            }),
        }
    }

    /// The loop that they all are; `draft` makes the node that is to follow the one that was seen.
    #[inline(always)]
    pub(super) fn drive<F>(
        &self,
        retry: Retry,
        mut draft: impl FnMut(Seen<'_, T>, Place) -> Result<Option<Draft<T>>, F>,
    ) -> Result<Updated<'_, T>, UpdateError<T, F, E>> {
        let mut backoff = Backoff::new();
        let mut attempts: u32 = 0;
        loop {
            attempts = attempts.saturating_add(1);
            let reading = self.prepare();
            let mut attempt = self.head().attempt();
            let seen = attempt.seen();
            let Some(place) = seen.next(reading) else {
                return Err(UpdateError::VersionLimit);
            };
            let computing = Computing::begin();
            let draft = match draft(seen, place) {
                Ok(Some(draft)) => draft,
                Ok(None) => return Ok(Updated::Unchanged(Snapshot(seen.hold()))),
                Err(refusal) => return Err(UpdateError::Refused(refusal)),
            };
            if let Err(error) = self.admit(seen, draft.value()) {
                return Err(UpdateError::Invalid {
                    proposed: draft.empty().0,
                    error,
                });
            }
            let position = computing.end();
            let tried = seen.address();
            match attempt.commit(draft, self.0.waker()) {
                Ok(published) => {
                    let publication = attempt.publication(published);
                    if planted(Fault::RecordAfterCommit) {
                        self.record(publication.replaced());
                    }
                    return Ok(Updated::Committed(Committed {
                        publication,
                        attempts,
                    }));
                }
                // The closure itself committed here: it would do so again.
                Err(draft) if reclaim::retired_since(position, tried) => {
                    return Err(UpdateError::SelfConflict {
                        proposed: draft.empty().0,
                    });
                }
                Err(draft) if retry.is_exhausted(attempts) => {
                    let current = Snapshot(attempt.seen().hold());
                    return Err(UpdateError::Exhausted {
                        proposed: draft.empty().0,
                        current,
                        attempts,
                    });
                }
                // Somebody was faster: from their value, once more. The draft's value and the pin end
                // before the pause.
                Err(lost) => {
                    drop((attempt, lost));
                    backoff.lost();
                }
            }
        }
    }
}

/// How often an update is tried again after losing.
///
/// # Examples
/// ```
/// use snapcell::Retry;
///
/// assert_eq!(Retry::at_most(0).retries(), Some(0), "one attempt");
/// assert_eq!(Retry::unbounded().retries(), None);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Retry {
    retries: Option<u32>,
}

impl Retry {
    /// Until it commits. The default.
    #[must_use]
    pub const fn unbounded() -> Self {
        Retry { retries: None }
    }

    /// At most so many retries, after a first attempt that is always made.
    #[must_use]
    pub const fn at_most(retries: u32) -> Self {
        Retry {
            retries: Some(retries),
        }
    }

    /// The bound, if there is one.
    #[must_use]
    pub const fn retries(self) -> Option<u32> {
        self.retries
    }

    /// Whether no attempt is left after so many.
    #[inline]
    pub(super) fn is_exhausted(self, attempts: u32) -> bool {
        self.retries.is_some_and(|retries| attempts > retries)
    }
}

/// What became of an update that was allowed to leave things as they are.
#[derive(Debug)]
pub enum Updated<'e, T> {
    /// The change was published.
    Committed(Committed<'e, T>),
    /// The closure said that nothing changes, of this snapshot.
    Unchanged(Snapshot<T>),
}

impl<T> Updated<'_, T> {
    /// Whether a change was published.
    #[must_use]
    pub fn is_committed(&self) -> bool {
        matches!(self, Updated::Committed(_))
    }

    /// The stamp of what was published, or of what was found to be fine.
    #[must_use]
    pub fn stamp(&self) -> Stamp {
        match self {
            Updated::Committed(committed) => committed.stamp(),
            Updated::Unchanged(snapshot) => snapshot.stamp(),
        }
    }
}

/// An update that was not made. The entity is as it was.
///
/// `F` is the error of the closure, `E` that of the validator.
#[non_exhaustive]
pub enum UpdateError<T, F = Infallible, E = Infallible> {
    /// The closure refused.
    Refused(F),
    /// The validator refused what the closure made.
    Invalid {
        /// What the closure made.
        proposed: T,
        /// What the validator says.
        error: E,
    },
    /// Others were faster, as often as the bound allows.
    Exhausted {
        /// What the closure made last.
        proposed: T,
        /// The snapshot that won last.
        current: Snapshot<T>,
        /// How many attempts were made.
        attempts: u32,
    },
    /// The closure committed to the very entity that it computes for, and so would for ever.
    SelfConflict {
        /// What the closure made after that.
        proposed: T,
    },
    /// The version of the entity is at its end. The closure was not called.
    VersionLimit,
}

impl<T, F, E> UpdateError<T, F, E> {
    /// Whether others were faster, as often as the bound allows.
    #[must_use]
    pub fn is_exhausted(&self) -> bool {
        matches!(self, UpdateError::Exhausted { .. })
    }

    /// Whether the closure refused.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        matches!(self, UpdateError::Refused(_))
    }

    /// The value that the closure made last, if there is one.
    #[must_use]
    pub fn into_proposed(self) -> Option<T> {
        match self {
            UpdateError::Invalid { proposed, .. }
            | UpdateError::Exhausted { proposed, .. }
            | UpdateError::SelfConflict { proposed } => Some(proposed),
            UpdateError::Refused(_) | UpdateError::VersionLimit => None,
        }
    }
}

impl<T> UpdateError<T> {
    #[cold]
    pub(super) fn raise(&self) -> ! {
        panic!("{self}")
    }
}

impl<T, F> UpdateError<T, F> {
    /// For calls that have no error but the closure's.
    #[cfg(feature = "store")]
    #[cold]
    pub(crate) fn into_refusal(self) -> F {
        let error = match self {
            UpdateError::Refused(refusal) => return refusal,
            UpdateError::Invalid { error, .. } => match error {},
            UpdateError::SelfConflict { proposed } => UpdateError::SelfConflict { proposed },
            UpdateError::VersionLimit => UpdateError::VersionLimit,
            UpdateError::Exhausted {
                proposed,
                current,
                attempts,
            } => UpdateError::<T>::Exhausted {
                proposed,
                current,
                attempts,
            },
        };
        error.raise()
    }
}

/// Without the values: they need not be printable.
impl<T, F: fmt::Debug, E: fmt::Debug> fmt::Debug for UpdateError<T, F, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            UpdateError::Refused(refusal) => f.debug_tuple("Refused").field(refusal).finish(),
            UpdateError::Invalid { error, .. } => f
                .debug_struct("Invalid")
                .field("error", error)
                .finish_non_exhaustive(),
            UpdateError::Exhausted {
                current, attempts, ..
            } => f
                .debug_struct("Exhausted")
                .field("attempts", attempts)
                .field("current", &format_args!("{}", current.stamp()))
                .finish_non_exhaustive(),
            UpdateError::SelfConflict { .. } => {
                f.debug_struct("SelfConflict").finish_non_exhaustive()
            }
            UpdateError::VersionLimit => f.write_str("VersionLimit"),
        }
    }
}

impl<T, F: fmt::Display, E: fmt::Display> fmt::Display for UpdateError<T, F, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            UpdateError::Refused(refusal) => write!(f, "refused: {refusal}"),
            UpdateError::Invalid { error, .. } => write!(f, "invalid value: {error}"),
            UpdateError::Exhausted {
                current, attempts, ..
            } => {
                write!(
                    f,
                    "gave up after attempt {attempts}, which lost to {}",
                    current.stamp()
                )
            }
            UpdateError::SelfConflict { .. } => {
                f.write_str("the closure committed to the entity that it computes for")
            }
            UpdateError::VersionLimit => f.write_str("the version of the entity is at its end"),
        }
    }
}

impl<T, F: Error + 'static, E: Error + 'static> Error for UpdateError<T, F, E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            UpdateError::Refused(refusal) => Some(refusal),
            UpdateError::Invalid { error, .. } => Some(error),
            _ => None,
        }
    }
}
