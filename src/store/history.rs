//! What entities of a store were, by their ids.
//!
//! Each entity keeps its own history ([`Entity::history`]), as the store was told by
//! [`StoreBuilder::retain`](super::StoreBuilder::retain). What a removed entity was is not asked for any more; who holds a
//! [`Version`] keeps that.
#![forbid(unsafe_code)]

use super::Store;
use super::error::Unknown;
use super::id::EntityId;
use super::version::{Node, Slot, Version};
use crate::cell::{Entity, History, Missing, Retain, snapshot_as_of};
use crate::stamp::Stamp;
use std::fmt;
use std::iter::FusedIterator;
use std::ops::RangeBounds;

/// # The past
impl<T: Send + Sync + 'static> Store<T> {
    /// Which versions of its entities the store keeps.
    #[must_use]
    pub fn retain(&self) -> Retain {
        self.0.template.retain
    }

    /// The versions of an entity that are kept, from the oldest to the current one, without gaps.
    ///
    /// # Errors
    /// [`Unknown`].
    /// # Linearization, Progress, Complexity
    /// As [`Entity::history`].
    ///
    /// # Examples
    /// ```
    /// use snapcell::{Retain, Store};
    ///
    /// let pages = Store::builder().retain(Retain::All).build();
    /// let id = pages.insert("a");
    /// pages.update(&id, |_| "b")?;
    /// let versions = pages.history(&id)?.map(|page| (page.stamp().version(), *page));
    /// assert_eq!(versions.collect::<Vec<_>>(), [(0, "a"), (1, "b")]);
    /// # Ok::<(), snapcell::Unknown>(())
    /// ```
    pub fn history(&self, id: &EntityId) -> Result<Versions<T>, Unknown> {
        self.versions(id, Entity::history)
    }

    /// A version of an entity, if it is there and kept.
    ///
    /// # Errors
    /// [`Unknown`].
    /// # Linearization, Progress, Complexity
    /// As [`Entity::at`].
    pub fn at(&self, id: &EntityId, version: u64) -> Result<Option<Version<T>>, Unknown> {
        self.read(id, |_| ())?;
        let found = self.0.nodes.look(id, |node| node.at(version)).flatten();
        Ok(found.and_then(|snapshot| Version::new(*id, snapshot)))
    }

    /// The versions of an entity that are kept and whose stamps are in a range.
    ///
    /// # Errors
    /// [`Unknown`].
    /// # Linearization, Progress, Complexity
    /// As [`Entity::between`].
    pub fn between(
        &self,
        id: &EntityId,
        stamps: impl RangeBounds<Stamp>,
    ) -> Result<Versions<T>, Unknown> {
        self.versions(id, |node| node.between(stamps))
    }

    /// What an entity was at a time, in nanoseconds of the clock.
    ///
    /// # Errors
    /// [`PastError`]: there is no such entity, or it was not born then, or what it was is not kept.
    /// # Linearization, Progress, Complexity
    /// As [`Entity::as_of`].
    pub fn as_of(&self, id: &EntityId, time: u64) -> Result<Version<T>, PastError> {
        let node = self.0.nodes.get(id).ok_or(Unknown(*id))?;
        self.version_as_of(id, &node, time)
    }

    /// What several entities were at a time: a consistent cut, as
    /// [`snapshot_as_of`](crate::snapshot_as_of()).
    ///
    /// # Errors
    /// [`PastError`] names the first that was not there, or is not kept.
    ///
    /// # Examples
    /// ```
    /// use snapcell::{Retain, Store, Unknown, transaction_or_abort};
    ///
    /// let accounts = Store::builder().retain(Retain::All).build();
    /// let ids = [accounts.insert(100), accounts.insert(0)];
    /// let before = accounts.get(&ids[1]).unwrap().stamp().time();
    /// transaction_or_abort::<_, Unknown>(|tx| {
    ///     accounts.within(tx).update(&ids[0], |n| n - 30)?;
    ///     Ok(accounts.within(tx).update(&ids[1], |n| n + 30)?)
    /// })?;
    /// let after = accounts.get(&ids[0])?.stamp().time();
    /// let sum = |time| accounts.snapshot_as_of(&ids, time).map(|a| a.iter().map(|n| **n).sum::<i32>());
    /// assert_eq!((sum(before).unwrap(), sum(after).unwrap()), (100, 100));
    /// # Ok::<(), Unknown>(())
    /// ```
    pub fn snapshot_as_of(
        &self,
        ids: &[EntityId],
        time: u64,
    ) -> Result<Vec<Version<T>>, PastError> {
        let node = |id| self.0.nodes.get(id).ok_or(Unknown(*id));
        let nodes = ids.iter().map(node).collect::<Result<Vec<_>, _>>()?;
        match snapshot_as_of(&nodes[..], time) {
            Ok(snapshots) => {
                let version = |(id, snapshot): (&EntityId, _)| {
                    Version::new(*id, snapshot).ok_or(Unknown(*id))
                };
                let versions = ids.iter().zip(snapshots).map(version);
                Ok(versions.collect::<Result<_, _>>()?)
            }
            // It doesn't say which.
            Err(missing) => {
                let mut each = ids.iter().zip(&nodes);
                let found = each.find_map(|(id, node)| self.version_as_of(id, node, time).err());
                Err(found.unwrap_or(PastError::Missing(ids[0], missing)))
            }
        }
    }

    fn version_as_of(
        &self,
        id: &EntityId,
        node: &Node<T>,
        time: u64,
    ) -> Result<Version<T>, PastError> {
        let snapshot = node.as_of(time).map_err(|missing| {
            // Somebody is about to give birth to it.
            let is_unborn = node.read(|slot| matches!(slot, Slot::Unborn(_)));
            match is_unborn {
                true => PastError::from(Unknown(*id)),
                false => PastError::Missing(*id, missing),
            }
        })?;
        Ok(Version::new(*id, snapshot).ok_or(Unknown(*id))?)
    }

    fn versions(
        &self,
        id: &EntityId,
        of: impl FnOnce(&Node<T>) -> History<Slot<T>>,
    ) -> Result<Versions<T>, Unknown> {
        self.read(id, |_| ())?;
        let history = self.0.nodes.look(id, of).ok_or(Unknown(*id))?;
        let mut versions = Versions { id: *id, history };
        // Removed in this very moment: the last one is none.
        let last = versions.history.clone().next_back();
        if last.is_some_and(|last| last.live().is_none()) {
            versions.history.next_back();
        }
        Ok(versions)
    }
}

/// Versions of an entity of a store, from older to newer, without gaps. Made by [`Store::history`] and
/// [`Store::between`]. It is owned, and keeps what it is yet to show.
#[must_use = "iterators are lazy and do nothing unless consumed"]
pub struct Versions<T> {
    id: EntityId,
    /// All of them live.
    history: History<Slot<T>>,
}

impl<T> Versions<T> {
    fn live(&self, snapshot: crate::cell::Snapshot<Slot<T>>) -> Option<Version<T>> {
        Version::new(self.id, snapshot)
    }
}

impl<T> Iterator for Versions<T> {
    type Item = Version<T>;

    fn next(&mut self) -> Option<Version<T>> {
        let next = self.history.next()?;
        self.live(next)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.history.size_hint()
    }

    fn nth(&mut self, number: usize) -> Option<Version<T>> {
        let next = self.history.nth(number)?;
        self.live(next)
    }
}

impl<T> DoubleEndedIterator for Versions<T> {
    fn next_back(&mut self) -> Option<Version<T>> {
        let next = self.history.next_back()?;
        self.live(next)
    }
}

impl<T> ExactSizeIterator for Versions<T> {}

impl<T> FusedIterator for Versions<T> {}

impl<T> fmt::Debug for Versions<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Versions")
            .field("id", &self.id)
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}

/// Why there is no version of an entity for a moment in the past.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PastError {
    /// There is no such entity, or there was none any more.
    #[error(transparent)]
    Unknown(#[from] Unknown),
    /// It was not born then, or what it was is not kept.
    #[error("of {0}: {1}")]
    Missing(EntityId, Missing),
}
