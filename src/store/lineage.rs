//! Forks and merges: which entity came from which.
//!
//! A fork is a new entity that begins with a version of another one, its *origin*. A merge brings into one
//! entity what a relative has that it hasn't; it is recorded with the version of the relative that was merged.
//! What two have in common is found in these records (`ancestors`).
#![forbid(unsafe_code)]

use super::ancestors::{NoBase, Tip};
use super::error::Absent;
use super::id::{EntityId, LineageId};
use super::standing::{Standing, Ties};
use super::version::{Node, Origin, Version};
use super::within::Within;
use super::{Store, Unknown};
use crate::cell::{Merge, Restart, Stop, transaction, transaction_or_abort};
use crate::stamp::Stamp;

/// What became of a merge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Merged {
    /// There was nothing to do: all that the other one has is there already.
    UpToDate,
    /// There was nothing to merge with, so the value of the other one was taken as it is. It made this version.
    Forwarded(u64),
    /// The two values were merged, which made this version.
    Joined(u64),
}

impl Merged {
    /// The version that was made, if one was.
    #[must_use]
    pub fn version(self) -> Option<u64> {
        match self {
            Merged::UpToDate => None,
            Merged::Forwarded(version) | Merged::Joined(version) => Some(version),
        }
    }
}

/// A merge that was not made. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MergeError {
    /// One of the two isn't there.
    #[error(transparent)]
    Unknown(#[from] Unknown),
    /// The two have nothing in common.
    #[error("{into} and {from} have no ancestor in common")]
    Unrelated {
        /// What was to be changed.
        into: EntityId,
        /// What was to be merged into it.
        from: EntityId,
    },
    /// What the two have in common is not known for certain any more: the entities between were removed, and
    /// they were many; one was forked from a version of a removed entity, or from an old one; or they were merged
    /// crosswise more than once.
    #[error("what {into} and {from} have in common is not known any more")]
    BaseForgotten {
        /// What was to be changed.
        into: EntityId,
        /// What was to be merged into it.
        from: EntityId,
    },
    /// The closure says that the two values can't be merged.
    #[error("{from} can't be merged into {into}")]
    Unmergeable {
        /// What was to be changed.
        into: EntityId,
        /// What was to be merged into it.
        from: EntityId,
    },
}

impl<T: Clone + Send + Sync + 'static> Within<'_, '_, T> {
    /// A new entity in the same line, with the value of another one, as [`Store::fork`].
    ///
    /// It is forked from the version that the transaction is based on: what this transaction has written to
    /// it is not in the fork, and what was born in it is not known yet.
    ///
    /// # Errors
    /// As [`get`](Within::get).
    pub fn fork(&self, id: &EntityId) -> Result<EntityId, Absent> {
        let version = self.version(id)?;
        let node = self.node(id);
        // Nobody changes where it comes from, and a merge would be a commit to it.
        let standing = self.inner().standing_of(id, &node);
        let standing = standing.ok_or_else(|| Absent::Restart(Restart::overtaken()))?;
        self.fork_from(Some(node), version, &standing)
    }

    fn fork_from(
        &self,
        node: Option<Node<T>>,
        origin: Version<T>,
        standing: &Standing<T>,
    ) -> Result<EntityId, Absent> {
        let value = T::clone(&origin);
        let past = standing.past().of_fork(node, origin);
        let id = self.insert(value)?;
        let newborn = Standing {
            lineage: standing.lineage,
            ties: Some(Ties::of(past)),
            ..Standing::default_of(id)
        };
        self.set_standing(&id, newborn)?;
        Ok(id)
    }

    pub(super) fn merge(
        &self,
        into: &EntityId,
        from: &EntityId,
        merge: &mut impl FnMut(Merge<'_, T>) -> Option<T>,
    ) -> Result<Merged, Stop<MergeError>> {
        if into == from {
            self.get(into)?;
            return Ok(Merged::UpToDate);
        }
        let (mine, theirs) = (self.version(into)?, self.version(from)?);
        let standing = self.standing(into)?;
        let (node, from_node) = (self.node(into), self.node(from));
        let overtaken = || Stop::Restart(Restart::overtaken());
        let other = self.inner().standing_of(from, &from_node);
        let other = other.ok_or_else(overtaken)?;

        let past = standing.past();
        let here = Tip::at(Some(node), mine.clone(), &past);
        let there = Tip::at(Some(from_node), theirs.clone(), &other.past());
        let inner = self.inner();
        let (before_mine, before_theirs) = (inner.reach(&here), inner.reach(&there));
        let (into, from) = (*into, *from);
        if inner.is_covered(&there, &before_mine) {
            return Ok(Merged::UpToDate);
        }
        let is_copy = inner.is_covered(&here, &before_theirs);
        let value = if is_copy {
            T::clone(&theirs)
        } else {
            let refusal = |none| {
                Stop::Abort(match none {
                    NoBase::Nothing => MergeError::Unrelated { into, from },
                    NoBase::Forgotten => MergeError::BaseForgotten { into, from },
                    NoBase::Unmergeable => MergeError::Unmergeable { into, from },
                })
            };
            let base = inner.base(&before_mine, &before_theirs, merge);
            let base = base.map_err(refusal)?;
            let merged = merge(Merge {
                base: base.value(),
                mine: &mine,
                theirs: &theirs,
            });
            merged.ok_or_else(|| refusal(NoBase::Unmergeable))?
        };

        let at = mine.stamp().version() + 1;
        let past = inner.past_of_merge(
            past,
            (&here, &before_mine),
            (&there, &before_theirs),
            is_copy,
        );
        self.write(&into, value)?;
        self.set_standing(&into, standing.with_past(past))?;
        Ok(match is_copy {
            true => Merged::Forwarded(at),
            false => Merged::Joined(at),
        })
    }
}

impl<T: Clone + Send + Sync + 'static> Store<T> {
    /// A new entity in the same line, at version 0, with the current value of another one, which is recorded
    /// as its origin. From then on each goes its own way, until one is [merged](Store::merge) into the other.
    ///
    /// # Errors
    /// [`Unknown`].
    /// # Linearization
    /// The exchange that decides a transaction: the entity still had that version.
    /// # Complexity
    /// A transaction of the new entity, its standing and the index of lines, a clone of the value, and a look
    /// at each ancestor.
    ///
    /// # Examples
    /// ```
    /// let store = snapcell::Store::new();
    /// let draft = store.insert("one");
    /// let copy = store.fork(&draft)?;
    /// store.replace(&draft, "two").unwrap();
    /// assert_eq!(*store.get(&copy)?, "one");
    /// let origin = store.origin(&copy)?.expect("it was forked");
    /// assert_eq!((origin.id(), *origin), (draft, "one"));
    /// assert_eq!(store.lineage_of(&copy)?, store.lineage_of(&draft)?);
    /// # Ok::<(), snapcell::Unknown>(())
    /// ```
    pub fn fork(&self, id: &EntityId) -> Result<EntityId, Unknown> {
        transaction_or_abort(|tx| Ok(self.within(tx).fork(id)?))
    }

    /// As [`fork`](Store::fork), from any version that somebody has kept, even of an entity that was removed:
    /// then what came before it is not known any more, and it begins the line that bears its id.
    ///
    /// Where the id was given again after a removal, the version may be taken for one of the entity that has
    /// it now.
    ///
    /// # Examples
    /// ```
    /// let store = snapcell::Store::new();
    /// let id = store.insert("one");
    /// let kept = store.get(&id)?;
    /// store.replace(&id, "two").unwrap();
    /// let back = store.fork_of(&kept);
    /// assert_eq!((*store.get(&back)?, store.get(&back)?.stamp().version()), ("one", 0));
    /// assert_eq!(store.origin(&back)?.unwrap().stamp(), kept.stamp());
    /// # Ok::<(), snapcell::Unknown>(())
    /// ```
    pub fn fork_of(&self, version: &Version<T>) -> EntityId {
        let id = version.id();
        let forked = transaction_or_abort::<_, Unknown>(|tx| {
            let within = self.within(tx);
            // A version that comes after the current one belongs to another entity, which was removed.
            let stamp = version.stamp();
            let is_before = |now: Stamp| now >= stamp && now.time() >= stamp.time();
            let node = self.0.nodes.get(&id).filter(|node| {
                let now = node.snapshot();
                now.live().is_some() && is_before(now.stamp())
            });
            let standing = node.as_ref().and_then(|node| self.0.standing_of(&id, node));
            let standing = match (&node, standing) {
                (Some(_), Some(standing)) => standing,
                (Some(_), None) => return Err(Stop::Restart(Restart::overtaken())),
                (None, _) => Standing::default_of(id),
            };
            Ok(within.fork_from(node, version.clone(), &standing)?)
        });
        forked.unwrap_or_else(|_| unreachable!("only what was just born is asked for"))
    }

    /// Brings into one entity what another one has that it hasn't: a commit to `into`, and none to `from`.
    ///
    /// `merge` gets the value that both began with, that of `into` as `mine` and that of `from` as `theirs`,
    /// and returns what is to become of them, or `None` if they can't be merged. What both began with is the
    /// latest version that comes before both, over forks and earlier merges, so nothing is merged twice.
    /// Where `into` has no changes of its own since, the value of `from` is taken as it is, and `merge` isn't
    /// asked. It may run several times, each time against newer values, and for several values that both began
    /// with, where forks of the two were merged crosswise. So it should have no other effect.
    ///
    /// # Errors
    /// [`MergeError`]: one isn't there, the two are no relatives, what they have in common is not known any
    /// more, or `merge` refuses.
    /// # Linearization
    /// The exchange that decides a transaction: both still had those versions. Without a change, as of
    /// [`transaction`](crate::transaction()).
    /// # Progress
    /// As [`transaction_or_abort`].
    /// # Complexity
    /// Linear in the number of relatives that come before either, for the search of the base.
    ///
    /// # Examples
    /// ```
    /// use snapcell::{Merge, Merged, Store};
    ///
    /// let store = Store::new();
    /// let stock = store.insert(100);
    /// let branch = store.fork(&stock)?;
    /// store.update(&stock, |n| n - 30)?;
    /// store.update(&branch, |n| n + 5)?;
    /// let sum = |m: Merge<'_, i32>| Some(m.mine + m.theirs - m.base);
    /// assert_eq!(store.merge(&stock, &branch, sum)?, Merged::Joined(2));
    /// assert_eq!(*store.get(&stock)?, 75);
    /// assert_eq!(store.merge(&stock, &branch, sum)?, Merged::UpToDate);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn merge(
        &self,
        into: &EntityId,
        from: &EntityId,
        mut merge: impl FnMut(Merge<'_, T>) -> Option<T>,
    ) -> Result<Merged, MergeError> {
        transaction_or_abort(|tx| self.within(tx).merge(into, from, &mut merge))
    }

    /// Commits the same value once more: the version grows by one, and whoever has read it before is
    /// overtaken.
    ///
    /// # Errors
    /// [`Unknown`].
    ///
    /// # Examples
    /// ```
    /// let store = snapcell::Store::new();
    /// let id = store.insert('a');
    /// let before = store.get(&id)?.stamp();
    /// let after = store.mark_modified(&id)?;
    /// assert_eq!((*store.get(&id)?, after.version()), ('a', 1));
    /// assert!(store.has_conflict(&id, before)? && !store.has_conflict(&id, after)?);
    /// # Ok::<(), snapcell::Unknown>(())
    /// ```
    pub fn mark_modified(&self, id: &EntityId) -> Result<Stamp, Unknown> {
        self.update(id, T::clone)
    }
}

impl<T: Send + Sync + 'static> Store<T> {
    /// Whether an entity has another version than the one of this stamp: it was changed since, or the stamp is
    /// none of it.
    ///
    /// # Errors
    /// [`Unknown`].
    pub fn has_conflict(&self, id: &EntityId, stamp: Stamp) -> Result<bool, Unknown> {
        let current = self.0.nodes.look(id, |node| {
            let guard = crate::cell::pin();
            let seen = node.load(&guard);
            seen.live().map(|_| seen.stamp())
        });
        let current = current.flatten().ok_or(Unknown(*id))?;
        Ok(current != stamp)
    }

    /// The version that an entity was forked from, if it was.
    ///
    /// # Errors
    /// [`Unknown`].
    pub fn origin(&self, id: &EntityId) -> Result<Option<Version<T>>, Unknown> {
        let past = self.known_standing(id)?.past();
        Ok(past.origin().cloned())
    }

    /// The version that an entity was forked from, the one that its origin was forked from, and so on, back to
    /// the one that the line began with, or the last one that is known. (Of those that have been removed, the
    /// 64 nearest are known in any case.)
    ///
    /// # Errors
    /// [`Unknown`].
    ///
    /// # Examples
    /// ```
    /// let store = snapcell::Store::new();
    /// let first = store.insert(1);
    /// let second = store.fork(&first)?;
    /// let third = store.fork(&second)?;
    /// let ancestors: Vec<_> = store.ancestry(&third)?.iter().map(|version| version.id()).collect();
    /// assert_eq!(ancestors, [second, first]);
    /// # Ok::<(), snapcell::Unknown>(())
    /// ```
    pub fn ancestry(&self, id: &EntityId) -> Result<Vec<Version<T>>, Unknown> {
        let version = self.get(id)?;
        let node = self.0.nodes.get(id).ok_or(Unknown(*id))?;
        let standing = self.0.standing_of(id, &node).ok_or(Unknown(*id))?;
        let mut tip = Tip::at(Some(node), version, &standing.past());
        let mut ancestors = Vec::new();
        while let Ok(Some(origin)) = self.0.origin_of(&tip) {
            ancestors.push(origin.version().clone());
            tip = origin;
        }
        Ok(ancestors)
    }

    /// All entities of a line, with where each came from and what was merged into it, as they were at one
    /// moment.
    ///
    /// # Complexity
    /// One transaction that reads all of them.
    ///
    /// # Examples
    /// ```
    /// let store = snapcell::Store::new();
    /// let first = store.insert(1);
    /// let second = store.fork(&first)?;
    /// let report = store.lineage_report(store.lineage_of(&first)?);
    /// let fork = report.entries.iter().find(|entry| entry.id == second).unwrap();
    /// assert_eq!(fork.origin.unwrap().id, first);
    /// # Ok::<(), snapcell::Unknown>(())
    /// ```
    #[must_use]
    pub fn lineage_report(&self, line: LineageId) -> Lineage {
        let entries = transaction(|tx| {
            let within = self.within(tx);
            let mut ids = self.0.lineages.find_in(tx, &line)?.to_vec();
            ids.push(line.founder());
            let mut entries = Vec::new();
            for id in ids {
                let (standing, current) = match (within.standing(&id), within.require(&id)) {
                    (Ok(standing), Ok(current)) => (standing, current),
                    (Err(Absent::Restart(restart)), _) | (_, Err(Absent::Restart(restart))) => {
                        return Err(restart);
                    }
                    _ => continue,
                };
                if standing.lineage == line {
                    entries.push(LineageEntry::new(id, standing, current));
                }
            }
            Ok(entries)
        });
        let mut entries = entries;
        entries.sort_unstable_by_key(|entry| entry.id);
        Lineage { line, entries }
    }
}

/// A line of entities at one moment. Made by [`Store::lineage_report`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lineage {
    /// Which line.
    pub line: LineageId,
    /// Its entities, in the order of their ids.
    pub entries: Vec<LineageEntry>,
}

/// An entity of a line at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LineageEntry {
    /// The entity.
    pub id: EntityId,
    /// What it was forked from, if it was.
    pub origin: Option<Origin>,
    /// What was merged into it: the last version of each entity, of removed ones the 64 latest.
    pub merges: Vec<MergeRecord>,
    /// The version that it had.
    pub current: Stamp,
}

impl LineageEntry {
    fn new<T: Send + Sync + 'static>(id: EntityId, standing: &Standing<T>, current: Stamp) -> Self {
        let past = standing.past();
        let merges = past.merges().map(|(from, at)| MergeRecord { from, at });
        LineageEntry {
            id,
            origin: past.origin().map(Origin::from),
            merges: merges.collect(),
            current,
        }
    }
}

/// A merge that was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MergeRecord {
    /// What was merged.
    pub from: Origin,
    /// The version that it made.
    pub at: u64,
}
