//! One change, if nobody was faster.
//!
//! A value is stamped on the snapshot that it is meant to follow, looked at by the validator, and
//! put at the head by one compare-and-exchange (`raw/head.rs`), which decides. The calls differ in
//! what becomes of a value that comes too late: it is given back, merged, or tried again.
#![forbid(unsafe_code)]

use super::backoff::Backoff;
use super::entity::Entity;
use super::snapshot::{Loaded, Snapshot};
use crate::raw::reclaim::{self, Computing};
use crate::raw::{Draft, Place, Publication, Seen, quietly};
use crate::stamp::Stamp;
use std::convert::Infallible;
use std::error::Error;
use std::fmt;

impl<T: Send + Sync + 'static, E: 'static> Entity<T, E> {
    /// Replaces the current snapshot if it still carries `expected`.
    ///
    /// `expected` should be a stamp of this entity. A stamp of another one is refused too, unless
    /// the two happen to coincide, which [`try_commit_on`](Entity::try_commit_on) excludes.
    ///
    /// # Linearization
    /// Success: the compare-and-exchange on the head. Refusal: the load, or the failed
    /// compare-and-exchange, that found another stamp.
    /// # Progress
    /// Lock-free, and, where there are no transactions, without a loop after the pin: one
    /// compare-and-exchange at most, or two and a short lock if somebody waits.
    /// # Errors
    /// [`CommitError`] gives `proposed` back, with the current snapshot: a conflict, a refusal of
    /// the validator, or a version at its end. Nothing has changed.
    ///
    /// # Examples
    /// ```
    /// let page = snapcell::Entity::new("draft");
    /// let read = page.snapshot().stamp();
    /// page.replace("somebody else's");
    /// let conflict = page.try_commit(read, "mine").unwrap_err();
    /// assert!(conflict.is_conflict());
    /// assert_eq!(**conflict.current(), "somebody else's");
    /// assert_eq!(conflict.into_proposed(), "mine");
    /// ```
    pub fn try_commit(
        &self,
        expected: Stamp,
        proposed: T,
    ) -> Result<Committed<'_, T>, CommitError<T, E>> {
        let reading = self.prepare();
        let mut attempt = self.head().attempt();
        if attempt.seen().stamp() != expected {
            return Err(CommitError::new(
                proposed,
                attempt.seen(),
                expected,
                Refusal::Conflict,
            ));
        }
        let draft = match self.draft(attempt.seen(), attempt.seen().next(reading), proposed) {
            Ok(draft) => draft,
            Err((proposed, refusal)) => {
                return Err(CommitError::new(
                    proposed,
                    attempt.seen(),
                    expected,
                    refusal,
                ));
            }
        };
        match attempt.commit(draft, self.0.waker()) {
            Ok(published) => Ok(Committed {
                publication: attempt.publication(published),
                attempts: 1,
            }),
            Err(draft) => Err(CommitError::new(
                draft.empty().0,
                attempt.seen(),
                expected,
                Refusal::Conflict,
            )),
        }
    }

    /// Replaces the current snapshot if it is `base`, the very one.
    ///
    /// As [`try_commit`](Entity::try_commit), but a snapshot of another entity is refused whatever
    /// its stamp.
    ///
    /// # Linearization
    /// Success: the compare-and-exchange on the head. Refusal: the load, or the failed
    /// compare-and-exchange, that found another snapshot.
    /// # Progress
    /// Lock-free, and, where there are no transactions, without a loop after the pin: one
    /// compare-and-exchange at most, or two and a short lock if somebody waits.
    /// # Errors
    /// As [`try_commit`](Entity::try_commit).
    ///
    /// # Examples
    /// ```
    /// let entity = snapcell::Entity::new(1);
    /// let base = entity.snapshot();
    /// let stamp = entity.try_commit_on(&base, *base + 1)?.stamp();
    /// assert_eq!(stamp.version(), 1);
    /// assert!(entity.try_commit_on(&base, 9).is_err(), "somebody has committed since");
    /// # Ok::<(), snapcell::CommitError<i32>>(())
    /// ```
    pub fn try_commit_on(
        &self,
        base: &Snapshot<T>,
        proposed: T,
    ) -> Result<Committed<'_, T>, CommitError<T, E>> {
        let reading = self.prepare();
        let expected = base.stamp();
        // Nobody should judge a value that is refused anyway, or count on from a foreign stamp.
        if !self.head().is(&base.0) {
            return Err(self.refused(proposed, expected, Refusal::Conflict));
        }
        let draft = match self.draft(base.0.seen(), base.0.seen().next(reading), proposed) {
            Ok(draft) => draft,
            Err((proposed, refusal)) => return Err(self.refused(proposed, expected, refusal)),
        };
        match self.head().commit_on(&base.0, draft, self.0.waker()) {
            Ok(publication) => Ok(Committed {
                publication,
                attempts: 1,
            }),
            Err((winner, draft)) => Err(CommitError::new(
                draft.empty().0,
                winner.seen(),
                expected,
                Refusal::Conflict,
            )),
        }
    }

    /// Replaces the current snapshot, whatever it is, if the validator accepts the value.
    ///
    /// # Linearization
    /// The compare-and-exchange that succeeded.
    /// # Progress
    /// Lock-free: an attempt fails only because another commit succeeded.
    /// # Errors
    /// [`CommitError`] gives `value` back: a refusal of the validator, or a version at its end.
    pub fn try_replace(&self, value: T) -> Result<Committed<'_, T>, CommitError<T, E>> {
        let mut value = value;
        let mut backoff = Backoff::new();
        for attempts in 1.. {
            let reading = self.prepare();
            let mut attempt = self.head().attempt();
            let seen = attempt.seen();
            let draft = match self.draft(seen, seen.next(reading), value) {
                Ok(draft) => draft,
                Err((value, refusal)) => {
                    return Err(CommitError::new(value, seen, seen.stamp(), refusal));
                }
            };
            match attempt.commit(draft, self.0.waker()) {
                Ok(published) => {
                    return Ok(Committed {
                        publication: attempt.publication(published),
                        attempts,
                    });
                }
                Err(draft) => value = draft.empty().0,
            }
            drop(attempt);
            backoff.lost();
        }
        unreachable!("the loop has no other end")
    }

    /// Replaces `base` by `mine`; where somebody has committed since, merges the two instead of
    /// giving the work up.
    ///
    /// `merge` gets the base, the proposed value and the one that got in between, and returns what
    /// is to become of them, or `None` if they can't be merged. It may run several times, each time
    /// against a newer value. It runs under a guard. If it panics, nothing is published.
    ///
    /// # Linearization
    /// The compare-and-exchange that succeeded.
    /// # Progress
    /// Lock-free, if `merge` ends: an attempt fails only because another commit succeeded.
    /// # Errors
    /// [`CommitError`] gives `mine` back: a conflict that `merge` could not resolve, a refusal of
    /// the validator, a version at its end, or a `merge` that commits to this same entity.
    ///
    /// # Examples
    /// ```
    /// use std::collections::BTreeSet;
    ///
    /// let tags = snapcell::Entity::new(BTreeSet::from(["a"]));
    /// let base = tags.snapshot();
    /// let mine = BTreeSet::from(["a", "mine"]);
    /// tags.replace(BTreeSet::from(["a", "theirs"]));
    /// tags.commit_or_merge(&base, mine, |sets| Some(sets.mine | sets.theirs))?;
    /// assert_eq!(*tags.snapshot(), BTreeSet::from(["a", "mine", "theirs"]));
    /// # Ok::<(), snapcell::CommitError<BTreeSet<&str>>>(())
    /// ```
    pub fn commit_or_merge(
        &self,
        base: &Snapshot<T>,
        mine: T,
        mut merge: impl FnMut(Merge<'_, T>) -> Option<T>,
    ) -> Result<Committed<'_, T>, CommitError<T, E>> {
        let result = self.commit_or_merge_by(base, mine, &mut merge);
        // Not after the return: were its destructor to panic then, the result would be leaked, and
        // its guard with it.
        drop(merge);
        result
    }

    fn commit_or_merge_by(
        &self,
        base: &Snapshot<T>,
        mine: T,
        merge: &mut impl FnMut(Merge<'_, T>) -> Option<T>,
    ) -> Result<Committed<'_, T>, CommitError<T, E>> {
        let expected = base.stamp();
        let mut mine = mine;
        // As it is, if nobody was faster.
        if self.head().is(&base.0) {
            let reading = self.prepare();
            let draft = match self.draft(base.0.seen(), base.0.seen().next(reading), mine) {
                Ok(draft) => draft,
                Err((mine, refusal)) => return Err(self.refused(mine, expected, refusal)),
            };
            mine = match self.head().commit_on(&base.0, draft, self.0.waker()) {
                Ok(publication) => {
                    return Ok(Committed {
                        publication,
                        attempts: 1,
                    });
                }
                Err((_, draft)) => draft.empty().0,
            };
        }
        let mut backoff = Backoff::new();
        for attempts in 2.. {
            let reading = self.prepare();
            let mut attempt = self.head().attempt();
            let theirs = attempt.seen();
            let computing = Computing::begin();
            let Some(merged) = merge(Merge {
                base,
                mine: &mine,
                theirs: theirs.value(),
            }) else {
                return Err(CommitError::new(mine, theirs, expected, Refusal::Conflict));
            };
            let position = computing.end();
            let draft = match self.draft(theirs, theirs.next(reading), merged) {
                Ok(draft) => draft,
                Err((merged, refusal)) => {
                    quietly(|| drop(merged));
                    return Err(CommitError::new(mine, theirs, expected, refusal));
                }
            };
            let tried = theirs.address();
            match attempt.commit(draft, self.0.waker()) {
                Ok(published) => {
                    quietly(|| drop(mine));
                    return Ok(Committed {
                        publication: attempt.publication(published),
                        attempts,
                    });
                }
                Err(_) if reclaim::retired_since(position, tried) => {
                    return Err(CommitError::new(
                        mine,
                        attempt.seen(),
                        expected,
                        Refusal::SelfConflict,
                    ));
                }
                Err(lost) => {
                    drop((attempt, lost));
                    backoff.lost();
                }
            }
        }
        unreachable!("the loop has no other end")
    }

    /// Makes the node of a value that is to follow what was seen, if there is a place for it.
    #[inline]
    fn draft(
        &self,
        seen: Seen<'_, T>,
        place: Option<Place>,
        value: T,
    ) -> Result<Draft<T>, (T, Refusal<E>)> {
        if let Err(error) = self.admit(seen, &value) {
            return Err((value, Refusal::Invalid(error)));
        }
        match place {
            Some(place) => Ok(Draft::new(place, value)),
            None => Err((value, Refusal::VersionLimit)),
        }
    }

    #[cold]
    fn refused(&self, proposed: T, expected: Stamp, refusal: Refusal<E>) -> CommitError<T, E> {
        CommitError {
            proposed,
            current: self.snapshot(),
            expected,
            refusal,
        }
    }
}

impl<T: Send + Sync + 'static> Entity<T> {
    /// Replaces the current snapshot, whatever it is.
    ///
    /// # Linearization
    /// The compare-and-exchange that succeeded.
    /// # Progress
    /// Lock-free: an attempt fails only because another commit succeeded.
    /// # Panics
    /// If the version is at its end: after 2^64 commits, or where an entity was built there.
    ///
    /// # Examples
    /// ```
    /// let entity = snapcell::Entity::new("old");
    /// assert_eq!(*entity.replace("new").previous(), "old");
    /// ```
    pub fn replace(&self, value: T) -> Committed<'_, T> {
        match self.try_replace(value) {
            Ok(committed) => committed,
            Err(error) => panic!("{error}"),
        }
    }
}

/// The three values of a three-way merge.
#[derive(Debug)]
pub struct Merge<'a, T> {
    /// What both sides started from.
    pub base: &'a T,
    /// What was proposed.
    pub mine: &'a T,
    /// What is current.
    pub theirs: &'a T,
}

/// A commit that succeeded.
///
/// It shows both the snapshot that it published and the one that it replaced, and for that it holds
/// the guard under which it committed. So look at it, or ignore it, but don't keep it: keep its
/// [`stamp`](Committed::stamp), or a [`snapshot`](Committed::snapshot).
pub struct Committed<'e, T> {
    pub(super) publication: Publication<'e, T>,
    pub(super) attempts: u32,
}

impl<T> Committed<'_, T> {
    /// The stamp of what was published.
    #[inline]
    #[must_use]
    pub fn stamp(&self) -> Stamp {
        self.publication.published().stamp()
    }

    /// How many attempts it took, the successful one included. (A merge is the second at least.)
    #[inline]
    #[must_use]
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// What was published. Others may have replaced it since.
    #[inline]
    #[must_use]
    pub fn current(&self) -> Loaded<'_, T> {
        Loaded(self.publication.published())
    }

    /// What it replaced.
    #[inline]
    #[must_use]
    pub fn previous(&self) -> Loaded<'_, T> {
        Loaded(self.publication.replaced())
    }

    /// Keeps what was published.
    #[inline]
    #[must_use]
    pub fn snapshot(&self) -> Snapshot<T> {
        self.current().snapshot()
    }
}

impl<T> fmt::Debug for Committed<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Committed")
            .field("stamp", &format_args!("{}", self.stamp()))
            .field("previous", &format_args!("{}", self.previous().stamp()))
            .field("attempts", &self.attempts)
            .finish()
    }
}

/// Why a value was not published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal<E = Infallible> {
    /// Somebody committed first.
    Conflict,
    /// The validator refuses the value.
    Invalid(E),
    /// The version of the entity is at its end.
    VersionLimit,
    /// The merge committed to the very entity that it merges for, and so would for ever.
    SelfConflict,
}

/// A value that was not published, with the reason. The entity is as it was.
pub struct CommitError<T, E = Infallible> {
    proposed: T,
    current: Snapshot<T>,
    expected: Stamp,
    refusal: Refusal<E>,
}

impl<T, E> CommitError<T, E> {
    #[cold]
    fn new(proposed: T, current: Seen<'_, T>, expected: Stamp, refusal: Refusal<E>) -> Self {
        CommitError {
            proposed,
            current: Snapshot(current.hold()),
            expected,
            refusal,
        }
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

    /// The snapshot that is current instead: the winner's, in a conflict.
    #[must_use]
    pub fn current(&self) -> &Snapshot<T> {
        &self.current
    }

    /// The stamp that the value was to follow. Compare with that of [`current`](Self::current).
    #[must_use]
    pub fn expected(&self) -> Stamp {
        self.expected
    }

    /// Why.
    #[must_use]
    pub fn refusal(&self) -> &Refusal<E> {
        &self.refusal
    }

    /// Whether somebody committed first.
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        matches!(self.refusal, Refusal::Conflict)
    }

    /// What the validator said, if it was the validator.
    #[must_use]
    pub fn invalid(&self) -> Option<&E> {
        match &self.refusal {
            Refusal::Invalid(error) => Some(error),
            _ => None,
        }
    }

    /// The value, the current snapshot and the reason, each to keep.
    #[must_use]
    pub fn into_parts(self) -> (T, Snapshot<T>, Refusal<E>) {
        (self.proposed, self.current, self.refusal)
    }
}

/// Without the values: they need not be printable.
impl<T, E: fmt::Debug> fmt::Debug for CommitError<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CommitError")
            .field("refusal", &self.refusal)
            .field("expected", &format_args!("{}", self.expected))
            .field("current", &format_args!("{}", self.current.stamp()))
            .finish_non_exhaustive()
    }
}

impl<T, E: fmt::Display> fmt::Display for CommitError<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (expected, current) = (self.expected, self.current.stamp());
        match &self.refusal {
            Refusal::Conflict => write!(f, "conflict: expected stamp {expected}, found {current}"),
            Refusal::Invalid(error) => write!(f, "invalid value: {error}"),
            Refusal::VersionLimit => {
                write!(f, "the version of the entity is at its end: {current}")
            }
            Refusal::SelfConflict => {
                write!(f, "the merge committed to the entity that it merges for")
            }
        }
    }
}

impl<T, E: Error + 'static> Error for CommitError<T, E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.refusal {
            Refusal::Invalid(error) => Some(error),
            _ => None,
        }
    }
}
