//! Entities by id.
//!
//! | file | what it decides |
//! |---|---|
//! | `id` | what an entity is called |
//! | `directory` | which entity is at an id: in the place that it names, or on a map |
//! | `version` | what is at an id: a value, or nothing any more |
//! | `builder` | how a store begins |
//! | `commit` | how one entity is changed |
//! | `within` | a store as a transaction sees it |
//! | `claims` | what is on a map before anybody needs it, and when it goes |
//! | `index` | which entities have a key, kept in step with commits |
//! | `glance` | whether keys change, told without making sets of them |
//! | `history` | what entities were |
//! | `standing` | what is known of an entity besides its value: its line, whether it is a root |
//! | `lineage` | which entity came from which: forks and merges |
//! | `ancestors` | what came before a version, and the latest that came before two |
//! | `provenance` | attributes that were taken over from others |
//! | `children` | who is whose child: what values say about it |
//! | `layout` | from values that name each other to branches, or to what is wrong with them |
//! | `places` | where the nodes of a tree hang |
//! | `tree`, `edit` | a tree as a value, to look into; another one out of it |
//! | `diff` | what differs between two trees |
//! | `build` | a tree out of the store |
//! | `together` | the same for large trees, by several threads |
//! | `crew` | pieces of work that other threads take part in |
//! | `forest` | which entities are roots |
//! | `versioning` | an edited tree back into the store |
//! | `export` | trees and lines as graphs, and as data |
//! | `handle` | an entity that one has looked up, strongly or weakly; waiting for it |
//! | `check` | whether everything fits together |
//! | `error` | what can be wrong with a call by id |
//!
//! A store leads from ids to entities, and that is all that is shared: each entity is changed by its own
//! head, several by a transaction. That an entity exists is part of its value ([`Slot`]), so birth and end
//! are commits like others.
#![forbid(unsafe_code)]

mod ancestors;
mod build;
mod builder;
mod check;
mod children;
mod claims;
mod commit;
#[cfg(feature = "rayon")]
mod crew;
mod diff;
mod directory;
mod edit;
mod error;
mod export;
mod forest;
mod glance;
mod handle;
mod history;
mod id;
mod index;
mod layout;
mod lineage;
mod places;
mod provenance;
mod standing;
#[cfg(feature = "rayon")]
mod together;
mod tree;
mod version;
mod versioning;
mod within;

pub use builder::{IdKind, StoreBuilder};
pub use check::Inconsistent;
pub use children::{Children, Edge, Place};
pub use diff::{Diff, Moved};
pub use edit::Edit;
pub use error::{Absent, StoreError, StoreRefusal, Unknown};
pub use forest::{Forest, ForestError};
pub use handle::{Changed, Follower, Handle, Removed, WeakHandle, WeakStore};
pub use history::{PastError, Versions};
pub use id::{EntityId, LineageId, ParseIdError};
pub use index::{Ids, Index, Key};
pub use layout::{Repeated, Repetition, TreeError};
pub use lineage::{Lineage, LineageEntry, MergeError, MergeRecord, Merged};
pub use provenance::{Attribute, Attributes, BorrowError, Shape, Source, Sources};
pub use tree::{Nodes, Tree, TreeNode};
pub use version::{Origin, Version};
pub use versioning::{VersionError, Versioned};
pub use within::Within;

use crate::cell::{Entity, snapshot_of, transaction_or_abort};
use crate::stamp::Stamp;
use crate::sync::map::Map;
use claims::Birth;
use directory::Directory;
use index::Follow;
use standing::Standing;
use std::fmt;
use std::sync::Arc;
use version::{Node, Slot, Template, is_removed};

/// Many entities by id: insert, look up, change, remove, from any thread, and none waits for a lock.
///
/// This is a handle: a clone is another handle of the same store.
///
/// | call | for |
/// |---|---|
/// | [`get`](Store::get), [`read`](Store::read), [`snapshot_of`](Store::snapshot_of) | a value, kept or looked at; several at one instant |
/// | [`update`](Store::update), [`try_update`](Store::try_update) | a change computed from the current value |
/// | [`try_commit`](Store::try_commit), [`replace`](Store::replace) | a change computed earlier; a value that depends on nothing |
/// | [`insert`](Store::insert), [`remove`](Store::remove) | birth and end |
/// | [`within`](Store::within) | all of that in a transaction |
/// | [`find`](Store::find) | the entities that have a key |
/// | [`fork`](Store::fork), [`merge`](Store::merge), [`lineage`](Store::lineage) | a copy that goes its own way; bringing the two together; all that come from one |
/// | [`borrow`](Store::borrow), [`sources`](Store::sources) | an attribute taken over from another entity; where it came from |
/// | [`handle`](Store::handle), [`follow`](Store::follow) | an entity without further look-ups; waiting for its changes and its end |
///
/// # Examples
/// ```
/// use snapcell::Store;
///
/// let store = Store::new();
/// let id = store.insert(100);
/// store.update(&id, |n| n + 50)?;
/// assert_eq!(*store.get(&id)?, 150);
/// assert_eq!(*store.remove(&id)?, 150);
/// assert!(store.get(&id).is_err());
/// # Ok::<(), snapcell::Unknown>(())
/// ```
pub struct Store<T: Send + Sync + 'static>(Arc<Inner<T>>);

struct Inner<T: Send + Sync + 'static> {
    nodes: Directory<T>,
    indexes: Vec<Box<dyn Follow<T>>>,
    /// Of those of which something is known besides the value.
    standings: Map<EntityId, Entity<Standing<T>>>,
    lineages: Index<Standing<T>, LineageId>,
    ids: IdKind,
    template: Template,
}

impl<T: Send + Sync + 'static> Inner<T> {
    /// Takes an entity off the map, if it was removed. The transaction that has removed it may have revived it.
    fn forget(&self, id: &EntityId, node: &Node<T>) {
        self.nodes
            .remove_if(id, |other| Entity::ptr_eq(other, node) && is_removed(other));
        self.standings
            .remove_if(id, |standing| standing.read(|standing| standing.is_ended));
    }
}

impl<T: Send + Sync + 'static> Store<T> {
    /// An empty store, without indexes, with ids in the order of their making.
    #[must_use]
    pub fn new() -> Self {
        Store::builder().build()
    }

    /// Starts building a store that is different in some way.
    pub fn builder() -> StoreBuilder<T> {
        StoreBuilder {
            indexes: Vec::new(),
            ids: IdKind::default(),
            template: Template::default(),
        }
    }

    /// Whether the two are handles of one store.
    #[must_use]
    pub fn ptr_eq(this: &Self, other: &Self) -> bool {
        Arc::ptr_eq(&this.0, &other.0)
    }

    /// How many entities there are, those included whose birth or end is under way, and those that a transaction
    /// under way has asked for in vain.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.nodes.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether there is such an entity.
    #[must_use]
    pub fn contains(&self, id: &EntityId) -> bool {
        self.read(id, |_| ()).is_ok()
    }

    /// A new entity, at version 0.
    ///
    /// Its id says where it lies, unless ids are [`Random`](IdKind::Random), so that looks by it need no map.
    ///
    /// # Linearization
    /// The store of its name; with indexes, the commit of a transaction.
    pub fn insert(&self, value: T) -> EntityId {
        let mut value = match self.0.insert_placed(value) {
            Ok(id) => return id,
            Err(value) => value,
        };
        loop {
            match self.insert_with(self.0.make_id(), value) {
                Ok(id) => return id,
                // As good as impossible.
                Err(taken) => value = taken.into_proposed(),
            }
        }
    }

    /// A new entity with an id of your choice.
    ///
    /// # Errors
    /// [`StoreRefusal::Taken`] gives the value back: there is such an entity.
    ///
    /// # Examples
    /// ```
    /// use snapcell::{EntityId, Store};
    ///
    /// let store = Store::new();
    /// let id = store.insert_with(EntityId::from_bits(7), "first").unwrap();
    /// assert_eq!(store.insert_with(id, "second").unwrap_err().into_proposed(), "second");
    /// ```
    pub fn insert_with(&self, id: EntityId, value: T) -> Result<EntityId, StoreError<T>> {
        let mut value = value;
        if self.0.indexes.is_empty() {
            let node = self.0.template.live(value);
            let Err(node) = self.0.nodes.insert(id, node, is_removed) else {
                return Ok(id);
            };
            value = match node.into_inner() {
                Ok(Slot::Live(value)) => value,
                _ => unreachable!("nobody else has seen it"),
            };
        }
        loop {
            let (node, _birth) = Birth::claim(&self.0, &id);
            let unborn = node.snapshot();
            if unborn.live().is_some() {
                return Err(StoreError::new(value, StoreRefusal::Taken(id)));
            }
            // Or removed meanwhile.
            if unborn.stamp() == Stamp::UNBORN {
                match self.0.commit(id, &node, &unborn, Slot::Live(value)) {
                    Ok(_) => return Ok(id),
                    Err((Slot::Live(back), _)) => value = back,
                    Err((Slot::Nothing | Slot::Unborn(_), _)) => {
                        unreachable!("a value was to be committed")
                    }
                }
            }
        }
    }

    /// The current version of an entity.
    ///
    /// # Errors
    /// [`Unknown`].
    /// # Linearization
    /// The load of the head; where there is no such id, the look into the map.
    /// # Progress
    /// As [`Entity::snapshot`]. For ids that no [`insert`](Store::insert) of this store has made, a look into a
    /// map of papaya before.
    pub fn get(&self, id: &EntityId) -> Result<Version<T>, Unknown> {
        let snapshot = self.0.nodes.look(id, Entity::snapshot);
        snapshot
            .and_then(|snapshot| Version::new(*id, snapshot))
            .ok_or(Unknown(*id))
    }

    /// Looks at the current value of an entity.
    ///
    /// `look` runs under guards of the map and of the entity: keep it short.
    ///
    /// # Errors
    /// [`Unknown`].
    #[inline]
    pub fn read<R>(&self, id: &EntityId, look: impl FnOnce(&T) -> R) -> Result<R, Unknown> {
        let seen = self.0.nodes.read(id, |slot| slot.live().map(look));
        seen.flatten().ok_or(Unknown(*id))
    }

    /// The current versions of several entities at one instant, as [`snapshot_of`](crate::snapshot_of()).
    ///
    /// # Errors
    /// [`Unknown`] names the first that isn't there.
    pub fn snapshot_of(&self, ids: &[EntityId]) -> Result<Vec<Version<T>>, Unknown> {
        let node = |id| self.0.nodes.get(id).ok_or(Unknown(*id));
        let nodes = ids.iter().map(node).collect::<Result<Vec<_>, _>>()?;
        let snapshots = snapshot_of(&nodes[..]).into_inner();
        let version =
            |(id, snapshot): (&EntityId, _)| Version::new(*id, snapshot).ok_or(Unknown(*id));
        ids.iter().zip(snapshots).map(version).collect()
    }

    /// Replaces the value of an entity by what `f` makes of it, again until it commits.
    ///
    /// # Errors
    /// [`Unknown`]. Nothing has changed.
    /// # Linearization
    /// The compare-and-exchange that succeeded; where keys change, the one that decides the transaction.
    /// # Progress
    /// As [`get`](Store::get), and then lock-free: an attempt fails only because another commit succeeded.
    /// # Panics
    /// As [`Entity::update`]: if the version is at its end, or if `f` commits to the same entity. Where the change moves
    /// a key of an index, the latter is not found out: then the call never returns.
    #[inline]
    pub fn update(&self, id: &EntityId, mut f: impl FnMut(&T) -> T) -> Result<Stamp, Unknown> {
        self.try_update(id, |value| Ok(f(value)))
    }

    /// As [`update`](Store::update), but `f` may refuse with an error of its own.
    ///
    /// # Errors
    /// What `f` refuses with; or what can be made of [`Unknown`]. Nothing has changed.
    ///
    /// # Examples
    /// ```
    /// use snapcell::{Store, Unknown};
    ///
    /// #[derive(Debug, PartialEq)]
    /// enum Refused {
    ///     Overdrawn,
    ///     Unknown(Unknown),
    /// }
    /// impl From<Unknown> for Refused {
    ///     fn from(unknown: Unknown) -> Self {
    ///         Refused::Unknown(unknown)
    ///     }
    /// }
    ///
    /// let accounts = Store::new();
    /// let ann = accounts.insert(100_u32);
    /// let withdraw = |n| accounts.try_update(&ann, |b| b.checked_sub(n).ok_or(Refused::Overdrawn));
    /// assert_eq!(withdraw(70)?.version(), 1);
    /// assert_eq!(withdraw(70), Err(Refused::Overdrawn));
    /// # Ok::<(), Refused>(())
    /// ```
    #[inline]
    pub fn try_update<F: From<Unknown>>(
        &self,
        id: &EntityId,
        f: impl FnMut(&T) -> Result<T, F>,
    ) -> Result<Stamp, F> {
        self.0.update_at(id, f)
    }

    /// Replaces the value of an entity if it still has the stamp `expected`.
    ///
    /// An id may be given again after a removal. With a clock that may stand still, a logical or a manual one, the next entity
    /// may have the stamps of the one before.
    ///
    /// # Errors
    /// [`StoreError`] gives the value back: a conflict, with the current version, an unknown entity, or a
    /// version at its end. Nothing has changed.
    ///
    /// # Examples
    /// ```
    /// let store = snapcell::Store::new();
    /// let id = store.insert("draft");
    /// let read = store.get(&id)?.stamp();
    /// store.replace(&id, "somebody else's").unwrap();
    /// let refused = store.try_commit(&id, read, "mine").unwrap_err();
    /// assert!(refused.is_conflict());
    /// assert_eq!(refused.into_proposed(), "mine");
    /// # Ok::<(), snapcell::Unknown>(())
    /// ```
    pub fn try_commit(
        &self,
        id: &EntityId,
        expected: Stamp,
        proposed: T,
    ) -> Result<Stamp, StoreError<T>> {
        match self.0.nodes.get(id) {
            Some(node) => self.0.try_commit(*id, &node, Some(expected), proposed),
            None => Err(StoreError::unknown(proposed, *id)),
        }
    }

    /// Replaces the value of an entity, whatever it is.
    ///
    /// # Errors
    /// [`StoreError`] gives the value back: an unknown entity, or a version at its end.
    pub fn replace(&self, id: &EntityId, value: T) -> Result<Stamp, StoreError<T>> {
        match self.0.nodes.get(id) {
            Some(node) => self.0.try_commit(*id, &node, None, value),
            None => Err(StoreError::unknown(value, *id)),
        }
    }

    /// Removes an entity, and returns its last version. Whoever waits for it is told, and whoever is about to
    /// commit to it is refused.
    ///
    /// # Errors
    /// [`Unknown`]: of several that remove one entity, one succeeds.
    /// # Linearization
    /// As [`update`](Store::update).
    pub fn remove(&self, id: &EntityId) -> Result<Version<T>, Unknown> {
        transaction_or_abort(|tx| {
            let within = self.within(tx);
            let last = within.version(id)?;
            within.remove(id)?;
            Ok(last)
        })
    }

    /// The current versions of all entities, each as it is when it comes up. What is inserted meanwhile may
    /// be missing, what is there all the while is not.
    pub fn iter(&self) -> impl Iterator<Item = Version<T>> {
        let nodes = self.0.nodes.entries().into_iter();
        nodes.filter_map(|(id, node)| Version::new(id, node.snapshot()))
    }

    /// The ids of all entities, in their order.
    #[must_use]
    pub fn ids(&self) -> Vec<EntityId> {
        let mut ids: Vec<_> = self.iter().map(|version| version.id()).collect();
        ids.sort_unstable();
        ids
    }

    /// Replaces the value of each entity for which `f` returns one, on all processors. Each change is one
    /// commit; together they are none. Returns how many were changed.
    #[cfg(feature = "rayon")]
    pub fn par_update(&self, f: impl Fn(EntityId, &T) -> Option<T> + Sync) -> usize
    where
        T: Send + Sync,
    {
        use rayon::prelude::*;

        /// Nothing is to be changed, or there is nothing.
        struct Not;
        impl From<Unknown> for Not {
            fn from(_: Unknown) -> Self {
                Not
            }
        }

        let nodes = self.0.nodes.entries();
        let change = |(id, node): &(EntityId, Node<T>)| {
            let changed = self.0.update(*id, node, |value| f(*id, value).ok_or(Not));
            usize::from(changed.is_ok())
        };
        nodes.par_iter().map(change).sum()
    }

    /// The entities that have a key, by an index of this store.
    ///
    /// # Linearization, Progress
    /// As [`Index::find`].
    ///
    /// # Examples
    /// ```
    /// use snapcell::Store;
    ///
    /// struct Account {
    ///     owner: &'static str,
    ///     balance: u32,
    /// }
    ///
    /// let mut builder = Store::builder();
    /// let by_owner = builder.index(|account: &Account| Some(account.owner));
    /// let accounts = builder.build();
    /// let first = accounts.insert(Account { owner: "ann", balance: 1 });
    /// let second = accounts.insert(Account { owner: "bob", balance: 2 });
    /// accounts.update(&second, |a| Account { owner: "ann", ..*a })?;
    /// assert_eq!(accounts.find(&by_owner, &"ann").to_vec(), [first, second]);
    /// assert!(accounts.find(&by_owner, &"bob").is_empty());
    /// # Ok::<(), snapcell::Unknown>(())
    /// ```
    ///
    /// The index answers, whichever store that is: one of another store gives ids of that one.
    #[must_use]
    pub fn find<K: Key>(&self, index: &Index<T, K>, key: &K) -> Ids {
        index.find(key)
    }
}

/// Looks at the parts, for this crate's own tests. Nothing here is stable.
impl<T: Send + Sync + 'static> Store<T> {
    /// How much is on the maps that no entity needs: of ids, of standings, of keys. Meanwhile some may be needed
    /// by what is under way.
    #[doc(hidden)]
    #[must_use]
    pub fn spare(&self) -> [usize; 3] {
        let is_live = |node: &Node<T>| node.read(|slot| slot.live().is_some());
        let nodes = self.0.nodes.entries();
        let standings = self.0.standings.entries();
        let is_needed = |id: &EntityId| self.0.nodes.look(id, is_live) == Some(true);
        let indexes = self.0.indexes.iter().map(|index| index.spare());
        [
            nodes.iter().filter(|(_, node)| !is_live(node)).count(),
            standings.iter().filter(|(id, _)| !is_needed(id)).count(),
            indexes.sum::<usize>() + self.0.lineages.spare(),
        ]
    }
}

impl<T: Send + Sync + 'static> Clone for Store<T> {
    fn clone(&self) -> Self {
        Store(Arc::clone(&self.0))
    }
}

impl<T: Send + Sync + 'static> Default for Store<T> {
    fn default() -> Self {
        Store::new()
    }
}

impl<T: Send + Sync + 'static> fmt::Debug for Store<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("len", &self.len())
            .field("indexes", &self.0.indexes.len())
            .finish_non_exhaustive()
    }
}

/// As by [`Store::insert`], with new ids.
impl<T: Send + Sync + 'static> FromIterator<T> for Store<T> {
    fn from_iter<I: IntoIterator<Item = T>>(values: I) -> Self {
        let mut store = Store::new();
        store.extend(values);
        store
    }
}

impl<T: Send + Sync + 'static> Extend<T> for Store<T> {
    fn extend<I: IntoIterator<Item = T>>(&mut self, values: I) {
        for value in values {
            self.insert(value);
        }
    }
}
