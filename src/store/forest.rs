//! Trees in a store: who is whose child, which entities are roots, and a tree out of the store.
//!
//! The values say what is whose child ([`Children`]), and an index says who names an entity, in step with
//! all commits. Whether an entity is a root is no part of its value: its standing says so.
//!
//! # How a decision is made
//! Whether an entity may become a root, or be one no more, depends on values, standings and parents. They
//! are looked at one after the other, and what follows from them is put down as precomputed changes that
//! depend on everything that was looked at. So the answer, a refusal included, is true at the moment of the
//! commit; if it isn't any more, all is looked at again. That costs what there is to look at, however long
//! the way to the root.
#![forbid(unsafe_code)]

use super::build::build;
use super::children::{Children, Edge};
use super::error::Unknown;
use super::id::EntityId;
use super::index::{Follow, Ids, Index, Step};
use super::layout::TreeError;
use super::standing::{Claim, Standing};
use super::tree::Tree;
use super::version::{Node, Slot, Version};
use super::{Inconsistent, Store, StoreBuilder};
use crate::cell::{Backoff, Changes, Entity, Snapshot, try_transaction};
use crate::sync::map::Hashing;
use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::ops::Deref;
use thiserror::Error;

/// A [`Store`] whose values name each other, as parents do their children. It derefs to the store.
///
/// Commits are those of the store; the forest knows the parents of each entity, and which are roots. An
/// entity is an *orphan* if it is no root, and nobody's child.
///
/// | call | for |
/// |---|---|
/// | [`tree`](Forest::tree) | all that is below an entity, at one moment, as a value to look into and to edit |
/// | [`version`](Forest::version) | an edited tree back into the store: what has changed and all above it get a new version, together or not at all |
/// | [`promote`](Forest::promote), [`detach`](Forest::detach) | an orphan becomes a root |
/// | [`attach`](Forest::attach) | a root becomes part of another tree |
/// | [`parents`](Forest::parents), [`children`](Forest::children), [`path`](Forest::path), [`root_of`](Forest::root_of) | the way up and down, without a tree |
///
/// A value may be committed by any call of the store as well. That is the cheaper way where nobody asks for
/// the version of the whole, and the ancestors keep their versions then. Nothing keeps a value from naming
/// what another one names, or what isn't there: that is found out by whoever builds the tree, and by
/// [`validate`](Forest::validate).
///
/// This is a handle: a clone is another handle of the same forest.
///
/// # Examples
/// See [`Tree`].
pub struct Forest<T: Send + Sync + 'static> {
    pub(super) store: Store<T>,
    pub(super) parents: Index<T, EntityId>,
}

impl<T: Children + Send + Sync + 'static> StoreBuilder<T> {
    /// The store, as a forest: with one more index, from each entity to those that name it.
    ///
    /// # Examples
    /// ```
    /// # use snapcell::{Children, Edge, EntityId, Forest};
    /// struct Dir(&'static str, Vec<EntityId>);
    /// impl Children for Dir {
    ///     fn children(&self, each: &mut dyn FnMut(Edge, EntityId)) {
    ///         self.1.iter().enumerate().for_each(|(i, id)| each(Edge::list("1", i), *id));
    ///     }
    /// }
    ///
    /// let mut builder = Forest::builder();
    /// let by_name = builder.index(|dir: &Dir| Some(dir.0));
    /// let dirs = builder.forest();
    /// let home = dirs.insert(Dir("home", vec![]));
    /// let root = dirs.insert(Dir("/", vec![home]));
    /// assert_eq!(dirs.parent(&home), Some(root));
    /// assert!(dirs.find(&by_name, &"home").contains(&home));
    /// ```
    #[must_use]
    pub fn forest(mut self) -> Forest<T> {
        let parents = self.index(|value: &T| {
            let mut children = Vec::new();
            value.children(&mut |_, id| children.push(id));
            children
        });
        let store = self.build();
        Forest { store, parents }
    }
}

impl<T: Children + Send + Sync + 'static> Forest<T> {
    /// An empty forest.
    #[must_use]
    pub fn new() -> Self {
        Forest::builder().forest()
    }

    /// Starts building one that is different in some way: a store, to be ended by
    /// [`forest`](StoreBuilder::forest).
    pub fn builder() -> StoreBuilder<T> {
        Store::builder()
    }

    /// The store.
    #[must_use]
    pub fn store(&self) -> &Store<T> {
        &self.store
    }

    /// The entities whose values name this one, whether it is there or not.
    ///
    /// # Linearization, Progress
    /// As [`Index::find`].
    #[must_use]
    pub fn parents(&self, id: &EntityId) -> Ids {
        self.parents.find(id)
    }

    /// The entity whose value names this one; of several, the one with the least id.
    #[must_use]
    pub fn parent(&self, id: &EntityId) -> Option<EntityId> {
        self.parents(id).iter().min().copied()
    }

    /// What the current value of an entity names.
    ///
    /// # Errors
    /// [`Unknown`].
    pub fn children(&self, id: &EntityId) -> Result<Vec<(Edge, EntityId)>, Unknown> {
        let mut children = Vec::new();
        self.read(id, |value| {
            value.children(&mut |edge, id| children.push((edge, id)));
        })?;
        Ok(children)
    }

    /// The way to an entity, from the topmost that it is below of, both included, at one moment.
    ///
    /// # Errors
    /// [`ForestError`]: there is no such entity, or more than one way, or no end of it.
    pub fn path(&self, id: &EntityId) -> Result<Vec<EntityId>, ForestError> {
        self.decide(|looks| {
            looks.version(id)?;
            let mut way = looks.way_up(id, None)?;
            way.reverse();
            Ok(way)
        })
    }

    /// The topmost entity that this one is below of, at one moment: itself, if it is nobody's child.
    ///
    /// # Errors
    /// As [`path`](Forest::path).
    pub fn root_of(&self, id: &EntityId) -> Result<EntityId, ForestError> {
        self.path(id).map(|path| path[0])
    }

    /// Whether the entity is a root.
    #[must_use]
    pub fn is_root(&self, id: &EntityId) -> bool {
        self.contains(id) && self.store.0.standing(id).is_root
    }

    /// Whether the entity is there, and is neither a root nor anybody's child.
    #[must_use]
    pub fn is_orphan(&self, id: &EntityId) -> bool {
        let orphan = self.decide(|looks| {
            looks.version(id)?;
            Ok(!looks.standing(id).1.is_root && looks.parents(id).is_empty())
        });
        orphan == Ok(true)
    }

    /// All roots, in the order of their ids.
    #[must_use]
    pub fn roots(&self) -> Vec<EntityId> {
        let standings = self.store.0.standings.entries().into_iter();
        let roots = standings.filter(|(_, standing)| standing.read(|standing| standing.is_root));
        let mut roots: Vec<_> = roots.map(|(id, _)| id).collect();
        roots.sort_unstable();
        roots
    }

    /// Makes an orphan a root. Its version stays what it was.
    ///
    /// # Errors
    /// [`ForestError`]: it is a root already, or somebody names it. Nothing has changed.
    /// # Linearization
    /// The exchange on the verdict of a transaction. Of a refusal, the fence before its last look.
    /// # Progress
    /// Lock-free.
    pub fn promote(&self, id: &EntityId) -> Result<(), ForestError> {
        self.decide(|looks| looks.make_root(id).map(drop))
    }

    /// All that can be reached from an entity, as it was at one moment.
    ///
    /// # Linearization
    /// As [`snapshot_of`](crate::snapshot_of()) of all nodes.
    /// # Progress
    /// As [`snapshot_of`](crate::snapshot_of()), again each time that there are nodes which weren't there
    /// before, for a bounded number of times. With the feature `rayon`, threads of the current pool, or of the
    /// global one, look at parts of a large tree, and it waits for those that are at one; for nothing else.
    /// # Errors
    /// [`TreeError`]: it is no tree, at that moment; or it never settled, since others have added nodes all
    /// the while.
    /// # Panics
    /// As [`Children::children`] does, of any node. With the feature `rayon`, if rayon can't start its threads.
    /// # Complexity
    /// Of the number of nodes, whatever the shape: two looks at each, an entry in a table, and no clone of a
    /// value.
    pub fn tree(&self, root: &EntityId) -> Result<Tree<T>, TreeError> {
        build(&self.store.0, *root)
    }

    /// Looks whether everything fits together, as [`Store::validate`], and whether what is below each root
    /// is a tree whose nodes know their parents. For times when nobody commits.
    ///
    /// # Errors
    /// What is wrong. Other than with the store, that may well be a value that names what it shouldn't.
    pub fn validate(&self) -> Result<(), Inconsistent> {
        self.store.validate()?;
        let mut wrong = Vec::new();
        let mut parents: HashMap<EntityId, EntityId, Hashing> = HashMap::default();
        for root in self.roots() {
            let tree = match self.tree(&root) {
                Ok(tree) => tree,
                Err(error) => {
                    wrong.push(format!("what is below the root {root} is no tree: {error}"));
                    continue;
                }
            };
            for id in tree.iter().map(|node| node.id) {
                let Some(parent) = tree.parent(&id) else {
                    continue;
                };
                if !self.parents(&id).contains(&parent) {
                    wrong.push(format!("it isn't known that {parent} names {id}"));
                }
                let other = parents.insert(id, parent);
                if let Some(other) = other.filter(|other| *other != parent) {
                    wrong.push(format!("both {other} and {parent} name {id}"));
                }
            }
        }
        Inconsistent::unless_empty(wrong)
    }

    /// Looks, and makes the changes that follow, until everything looked at was so at their moment.
    fn decide<R>(
        &self,
        mut look: impl FnMut(&mut Looks<'_, T>) -> Result<R, ForestError>,
    ) -> Result<R, ForestError> {
        let mut backoff = Backoff::new();
        loop {
            let mut looks = Looks {
                forest: self,
                changes: Changes::new(),
                claims: Vec::new(),
            };
            let result = look(&mut looks);
            match try_transaction(looks.changes) {
                Ok(_) => return result,
                Err(refused) if refused.is_conflict() => backoff.lost(),
                Err(refused) => panic!("{refused}"),
            }
        }
    }
}

impl<T: Children + Clone + Send + Sync + 'static> Forest<T> {
    /// Makes an entity a root that was a child, when no value names it any more. It gets a new version.
    ///
    /// Its line stays what it was. An orphan that never was a child may become a root like this as well.
    ///
    /// # Errors
    /// [`ForestError`]: it is a root already, or somebody still names it. Nothing has changed.
    /// # Linearization, Progress
    /// As [`promote`](Forest::promote).
    /// # Panics
    /// If the version of the entity is at its end.
    ///
    /// # Examples
    /// ```
    /// # use snapcell::{Children, Edge, EntityId, Forest, ForestError};
    /// # #[derive(Clone, PartialEq)]
    /// # struct Dir(Vec<EntityId>);
    /// # impl Children for Dir {
    /// #     fn children(&self, each: &mut dyn FnMut(Edge, EntityId)) {
    /// #         self.0.iter().enumerate().for_each(|(i, id)| each(Edge::list("0", i), *id));
    /// #     }
    /// # }
    /// let forest = Forest::new();
    /// let child = forest.insert(Dir(vec![]));
    /// let root = forest.insert(Dir(vec![child]));
    /// forest.promote(&root)?;
    ///
    /// let named = ForestError::Named { id: child, by: root };
    /// assert_eq!(forest.detach(&child), Err(named));
    /// forest.update(&root, |_| Dir(vec![]))?;
    /// forest.detach(&child)?;
    /// assert!(forest.is_root(&child));
    /// assert_eq!(forest.get(&child)?.stamp().version(), 1);
    ///
    /// forest.update(&root, |_| Dir(vec![child]))?;
    /// forest.attach(&child, &root)?;
    /// assert!(!forest.is_root(&child));
    /// assert_eq!(forest.lineage_of(&child), forest.lineage_of(&root));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn detach(&self, id: &EntityId) -> Result<(), ForestError> {
        self.decide(|looks| {
            let found = looks.make_root(id)?;
            looks.renew(found);
            Ok(())
        })
    }

    /// Makes a root part of the tree of another one, whose values name it already. It joins the line of that
    /// one; it and all above it, up to the other root, get a new version.
    ///
    /// # Errors
    /// [`ForestError`]: one of the two is no root, the first is not below the second, or the second is below the first as
    /// well. Nothing has changed.
    /// # Linearization, Progress
    /// As [`promote`](Forest::promote).
    /// # Panics
    /// If the version of an entity is at its end.
    /// # Complexity
    /// Of the way between the two: a clone of each value.
    ///
    /// # Examples
    /// See [`detach`](Forest::detach).
    pub fn attach(&self, id: &EntityId, root: &EntityId) -> Result<(), ForestError> {
        self.decide(|looks| {
            looks.version(id)?;
            looks.version(root)?;
            let (standing, before) = looks.standing(id);
            let (_, of_root) = looks.standing(root);
            for (id, standing) in [(id, &before), (root, &of_root)] {
                if !standing.is_root {
                    return Err(ForestError::NotRoot(*id));
                }
            }
            let (id, root) = (*id, *root);
            let way = looks.way_up(&id, Some(root))?;
            if id == root || way.last() != Some(&root) {
                return Err(ForestError::NotBelow { id, root });
            }
            if let Some(again) = looks.above(&root, &way) {
                return Err(ForestError::Endless(again));
            }
            let found = way.iter().map(|id| looks.version(id));
            for found in found.collect::<Result<Vec<_>, _>>()? {
                looks.renew(found);
            }
            let part = before.as_part_of(of_root.lineage);
            looks.set_standing(id, standing, &before, part);
            Ok(())
        })
    }
}

/// What a decision is made of: all that was looked at, as what it depends on, and what is to change.
struct Looks<'f, T: Send + Sync + 'static> {
    forest: &'f Forest<T>,
    changes: Changes<'static>,
    /// Of standings that were made for it.
    claims: Vec<Claim<T>>,
}

/// The standing of an entity, and what it was when it was looked at.
type Stands<T> = (Entity<Standing<T>>, Snapshot<Standing<T>>);

impl<T: Children + Send + Sync + 'static> Looks<'_, T> {
    fn change(&mut self, change: impl FnOnce(Changes<'static>) -> Changes<'static>) {
        self.changes = change(std::mem::take(&mut self.changes));
    }

    fn version(&mut self, id: &EntityId) -> Result<(Node<T>, Version<T>), ForestError> {
        let found = self.forest.store.0.nodes.get(id).and_then(|node| {
            let version = Version::new(*id, node.snapshot())?;
            Some((node, version))
        });
        let (node, version) = found.ok_or(Unknown(*id))?;
        self.change(|changes| changes.require(node.clone(), version.stamp()));
        Ok((node, version))
    }

    fn standing(&mut self, id: &EntityId) -> Stands<T> {
        let (standing, claim) = Claim::of(&self.forest.store.0, id);
        self.claims.extend(claim);
        let before = standing.snapshot();
        self.change(|changes| changes.require(standing.clone(), before.stamp()));
        (standing, before)
    }

    fn parents(&mut self, id: &EntityId) -> Ids {
        let mut parents = Ids::default();
        let index = &self.forest.parents;
        self.change(|changes| {
            let required;
            (parents, required) = index.require(changes, id);
            required
        });
        parents
    }

    /// From an entity up to one that is looked for, or to the topmost. Both included.
    fn way_up(
        &mut self,
        id: &EntityId,
        goal: Option<EntityId>,
    ) -> Result<Vec<EntityId>, ForestError> {
        let mut way = vec![*id];
        let mut at = *id;
        // A way that is longer than there are entities goes round. They may come and go, so it is looked
        // for only then.
        let mut most = self.forest.len().max(1);
        while Some(at) != goal {
            let parents = self.parents(&at).to_vec();
            at = match parents[..] {
                [] => break,
                [parent] => parent,
                [one, other, ..] => {
                    return Err(ForestError::Several {
                        id: at,
                        parents: [one, other],
                    });
                }
            };
            way.push(at);
            if way.len() > most {
                let mut sorted = way.clone();
                sorted.sort_unstable();
                if let Some(twice) = sorted.windows(2).find(|pair| pair[0] == pair[1]) {
                    return Err(ForestError::Endless(twice[0]));
                }
                most *= 2;
            }
        }
        Ok(way)
    }

    /// Which of some is somewhere above an entity, if one is.
    fn above(&mut self, id: &EntityId, some: &[EntityId]) -> Option<EntityId> {
        let mut known = BTreeSet::new();
        let mut open = vec![*id];
        while let Some(at) = open.pop() {
            for parent in self.parents(&at).to_vec() {
                if some.contains(&parent) {
                    return Some(parent);
                }
                if known.insert(parent) {
                    open.push(parent);
                }
            }
        }
        None
    }

    /// Has an orphan become a root.
    fn make_root(&mut self, id: &EntityId) -> Result<(Node<T>, Version<T>), ForestError> {
        let found = self.version(id)?;
        let (standing, before) = self.standing(id);
        if before.is_root {
            return Err(ForestError::AlreadyRoot(*id));
        }
        if let Some(by) = self.parents(id).iter().min().copied() {
            return Err(ForestError::Named { id: *id, by });
        }
        self.set_standing(*id, standing, &before, before.as_root());
        Ok(found)
    }

    fn set_standing(
        &mut self,
        id: EntityId,
        standing: Entity<Standing<T>>,
        before: &Snapshot<Standing<T>>,
        after: Standing<T>,
    ) {
        let forest = self.forest;
        let before = before.clone();
        let turn = Turn {
            id,
            standing,
            before,
            after,
        };
        self.change(|changes| forest.turn(changes, vec![turn]));
    }

    /// Has an entity get a new version of the same value.
    fn renew(&mut self, (node, version): (Node<T>, Version<T>))
    where
        T: Clone,
    {
        let value = Slot::Live((*version).clone());
        self.change(|changes| changes.write(node, version.stamp(), value));
    }
}

/// A standing that is to become another one.
pub(super) struct Turn<T: Send + Sync + 'static> {
    pub(super) id: EntityId,
    pub(super) standing: Entity<Standing<T>>,
    pub(super) before: Snapshot<Standing<T>>,
    pub(super) after: Standing<T>,
}

impl<T: Send + Sync + 'static> Forest<T> {
    /// Has standings replaced, and the index of lines follow. All at once, since several may join one line.
    pub(super) fn turn<'c>(&self, changes: Changes<'c>, turns: Vec<Turn<T>>) -> Changes<'c> {
        let steps = turns.iter().map(|turn| Step {
            id: turn.id,
            old: Some(&*turn.before),
            new: Some(&turn.after),
        });
        let steps: Vec<_> = steps.collect();
        let changes = self.store.0.lineages.plan(changes, &steps);
        turns.into_iter().fold(changes, |changes, turn| {
            changes.write(turn.standing, turn.before.stamp(), turn.after)
        })
    }
}

impl<T: Send + Sync + 'static> Deref for Forest<T> {
    type Target = Store<T>;

    fn deref(&self) -> &Store<T> {
        &self.store
    }
}

impl<T: Send + Sync + 'static> Clone for Forest<T> {
    fn clone(&self) -> Self {
        Forest {
            store: self.store.clone(),
            parents: self.parents.clone(),
        }
    }
}

impl<T: Children + Send + Sync + 'static> Default for Forest<T> {
    fn default() -> Self {
        Forest::new()
    }
}

impl<T: Send + Sync + 'static> fmt::Debug for Forest<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Forest")
            .field("store", &self.store)
            .finish_non_exhaustive()
    }
}

/// Why an entity is not put into or taken out of a tree, or has no way to the top.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ForestError {
    /// There is no such entity.
    #[error(transparent)]
    Unknown(#[from] Unknown),
    /// It is a root already.
    #[error("{0} is a root already")]
    AlreadyRoot(EntityId),
    /// It is no root.
    #[error("{0} is no root")]
    NotRoot(EntityId),
    /// It is somebody's child: what names it has to be changed first.
    #[error("{id} is a child of {by}, which names it")]
    Named {
        /// Which one.
        id: EntityId,
        /// Its parent.
        by: EntityId,
    },
    /// It is not in the tree that it is to be attached to: what is to name it has to be changed first.
    #[error("{id} is not below {root}, nothing in whose tree names it")]
    NotBelow {
        /// Which one.
        id: EntityId,
        /// The root of that tree.
        root: EntityId,
    },
    /// It has several parents, so there is more than one way to the top.
    #[error("{id} has several parents, {} and {} among them", parents[0], parents[1])]
    Several {
        /// Which one.
        id: EntityId,
        /// Two of the parents.
        parents: [EntityId; 2],
    },
    /// It is below itself, so there is no top.
    #[error("{0} is below itself")]
    Endless(EntityId),
}
