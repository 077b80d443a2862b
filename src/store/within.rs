//! A store as a transaction sees it.
//!
//! An entity that is inserted is on the map before it is born: there is nothing at its id, as everybody sees
//! it, until the transaction commits. If it doesn't, the id is taken off the map again, by the drop of a
//! [`Birth`] that the transaction keeps for it.
//!
//! One that is looked for in vain is put there in the same way, and read. So that there is none is something
//! that the transaction has read, as values are: whoever inserts it meanwhile refuses the commit, and wakes
//! whoever waits for it.
#![forbid(unsafe_code)]

use super::claims::Birth;
use super::error::{Absent, Unknown};
use super::id::EntityId;
use super::index::{Ids, Index, Key};
use super::version::{Node, Slot, Version, is_removed};
use super::{Inner, Store};
use crate::cell::{Restart, Transaction};
use crate::stamp::Stamp;
use crate::sync::fault::{Fault, planted};
use std::fmt;
use std::sync::Arc;

/// A store within a transaction. Made by [`Store::within`].
///
/// All that is read by it existed at one moment, with all else that the transaction has read: values, that
/// there is an entity or that there is none, and which have a key. It is still so at the commit, and whoever
/// waits by [`retry`](Transaction::retry) waits for a change of it. All that is written takes effect at one
/// moment, the indexes included.
///
/// # Examples
/// ```
/// use snapcell::{Stop, Store, Unknown, transaction_or_abort};
///
/// let accounts = Store::new();
/// let (ann, bob) = (accounts.insert(100), accounts.insert(0));
/// let moved = transaction_or_abort::<_, Unknown>(|tx| {
///     let accounts = accounts.within(tx);
///     let amount = *accounts.get(&ann)?;
///     accounts.update(&bob, |n| n + amount)?;
///     accounts.remove(&ann)?;
///     Ok(amount)
/// });
/// assert_eq!((moved, *accounts.get(&bob)?), (Ok(100), 100));
/// assert!(accounts.get(&ann).is_err());
/// # Ok::<(), snapcell::Unknown>(())
/// ```
pub struct Within<'t, 'e, T: Send + Sync + 'static> {
    store: &'t Store<T>,
    tx: &'t Transaction<'e>,
}

impl<T: Send + Sync + 'static> Store<T> {
    /// The store as a transaction sees it.
    #[must_use]
    pub fn within<'t, 'e>(&'t self, tx: &'t Transaction<'e>) -> Within<'t, 'e, T> {
        Within { store: self, tx }
    }
}

impl<'t, 'e, T: Send + Sync + 'static> Within<'t, 'e, T> {
    /// The transaction.
    #[must_use]
    pub fn transaction(&self) -> &'t Transaction<'e> {
        self.tx
    }

    pub(super) fn inner(&self) -> &'t Inner<T> {
        &self.store.0
    }

    /// A handle of the store itself, for what outlives the attempt.
    pub(super) fn shared(&self) -> Arc<Inner<T>> {
        Arc::clone(&self.store.0)
    }

    /// The entity at an id. One that is not born yet, if there is none.
    pub(super) fn node(&self, id: &EntityId) -> Node<T> {
        let store = self.inner();
        let live = |node: &Node<T>| {
            node.read(|slot| slot.live().is_some())
                .then(|| node.clone())
        };
        let node = store.nodes.look(id, live).flatten();
        node.unwrap_or_else(|| self.claim(id))
    }

    /// The same, kept on the map for as long as the attempt lasts.
    fn claim(&self, id: &EntityId) -> Node<T> {
        let (node, birth) = Birth::claim(&self.store.0, id);
        // Before it is read, since that may end the attempt.
        if let Some(birth) = birth {
            self.tx.keep(birth);
        }
        node
    }

    /// The entity at an id with its value, if there is one. Both by one look into the map: the next one may find
    /// another entity, born after the end of this one.
    fn seen(&self, id: &EntityId) -> Result<(Node<T>, Option<&'t T>), Restart> {
        let mut node = self.node(id);
        loop {
            let value = self.tx.read(node.clone())?.live();
            // It may have been removed since it was found: then nobody would learn by it of the next one with this id. If
            // only this transaction has removed it, it is still there.
            if value.is_some() || !is_removed(&node) || planted(Fault::LookAtTheRemoved) {
                return Ok((node, value));
            }
            node = self.claim(id);
        }
    }

    /// The same, where there has to be one.
    fn live(&self, id: &EntityId) -> Result<(Node<T>, &'t T), Absent> {
        match self.seen(id)? {
            (node, Some(value)) => Ok((node, value)),
            (_, None) => Err(Absent::Unknown(Unknown(*id))),
        }
    }

    /// The value of an entity, borrowed for as long as the attempt lasts.
    ///
    /// # Errors
    /// [`Absent`]: there is no such entity, or the closure has to run again.
    pub fn get(&self, id: &EntityId) -> Result<&'t T, Absent> {
        self.look(id)?.ok_or(Absent::Unknown(Unknown(*id)))
    }

    /// As [`get`](Within::get), where it may well be that there is none.
    ///
    /// # Errors
    /// [`Restart`].
    /// # Complexity
    /// Where there is none, that of an insertion that is given up: the id is on the map until the attempt is
    /// over. [`Store::get`] looks there, and no more.
    ///
    /// # Examples
    /// ```
    /// use snapcell::{EntityId, Store, transaction};
    ///
    /// let (store, id) = (Store::new(), EntityId::from_bits(7));
    /// std::thread::scope(|s| {
    ///     s.spawn(|| store.insert_with(id, "here"));
    ///     let there = transaction(|tx| match store.within(tx).look(&id)? {
    ///         Some(value) => Ok(*value),
    ///         None => tx.retry(),
    ///     });
    ///     assert_eq!(there, "here");
    /// });
    /// ```
    pub fn look(&self, id: &EntityId) -> Result<Option<&'t T>, Restart> {
        Ok(self.seen(id)?.1)
    }

    /// Which version the entity has. It must still have it when the transaction commits.
    ///
    /// # Errors
    /// As [`get`](Within::get).
    pub fn require(&self, id: &EntityId) -> Result<Stamp, Absent> {
        let (node, _) = self.live(id)?;
        Ok(self.tx.require(node)?)
    }

    /// The version that the transaction is based on, which nobody has replaced yet.
    ///
    /// # Errors
    /// As [`get`](Within::get).
    pub fn version(&self, id: &EntityId) -> Result<Version<T>, Absent> {
        let (node, _) = self.live(id)?;
        let stamp = self.tx.require(node.clone())?;
        let snapshot = node.snapshot();
        if snapshot.stamp() != stamp {
            return Err(Absent::Restart(Restart::overtaken()));
        }
        Version::new(*id, snapshot).ok_or(Absent::Unknown(Unknown(*id)))
    }

    /// Has the value of an entity replaced.
    ///
    /// # Errors
    /// As [`get`](Within::get).
    pub fn write(&self, id: &EntityId, value: T) -> Result<(), Absent> {
        self.update(id, |_| value)
    }

    /// Has the value of an entity replaced by what `f` makes of it.
    ///
    /// # Errors
    /// As [`get`](Within::get).
    pub fn update(&self, id: &EntityId, f: impl FnOnce(&T) -> T) -> Result<(), Absent> {
        let value = f(self.live(id)?.1);
        // Looked at once more: the closure may have changed it as well.
        let (node, old) = self.live(id)?;
        self.follow(*id, Some(old), Some(&value))?;
        self.tx.write(node, Slot::Live(value));
        Ok(())
    }

    /// A new entity, which is there for others when the transaction commits. Then it has version 0.
    ///
    /// # Errors
    /// [`Restart`].
    pub fn insert(&self, value: T) -> Result<EntityId, Restart> {
        let mut value = value;
        loop {
            match self.insert_with(self.inner().make_id(), value)? {
                Ok(id) => return Ok(id),
                // As good as impossible.
                Err(taken) => value = taken,
            }
        }
    }

    /// As [`insert`](Within::insert), with an id of your choice, unless there is such an entity; then the
    /// value is given back.
    ///
    /// # Errors
    /// [`Restart`].
    pub fn insert_with(&self, id: EntityId, value: T) -> Result<Result<EntityId, T>, Restart> {
        let node = loop {
            let node = self.claim(&id);
            if self.tx.read(node.clone())?.live().is_some() {
                return Ok(Err(value));
            }
            // Otherwise it was removed since: by others, or by this very transaction, which may revive it.
            if !is_removed(&node) {
                break node;
            }
        };
        self.follow(id, None, Some(&value))?;
        self.tx.write(node, Slot::Live(value));
        Ok(Ok(id))
    }

    /// Has an entity removed: for others it is gone when the transaction commits.
    ///
    /// # Errors
    /// As [`get`](Within::get).
    pub fn remove(&self, id: &EntityId) -> Result<(), Absent> {
        let (node, old) = self.live(id)?;
        self.follow(*id, Some(old), None)?;
        self.end_standing(id)?;
        if !planted(Fault::RemoveWithoutCommit) {
            self.tx.write(node.clone(), Slot::Nothing);
        }
        let (store, id) = (Arc::clone(&self.store.0), *id);
        self.tx.after_commit(move || store.forget(&id, &node));
        Ok(())
    }

    /// The entities that have the key of an index.
    ///
    /// # Errors
    /// [`Restart`].
    pub fn find<K: Key>(&self, index: &Index<T, K>, key: &K) -> Result<Ids, Restart> {
        index.find_in(self.tx, key)
    }

    /// Has all indexes follow a change.
    fn follow(&self, id: EntityId, old: Option<&T>, new: Option<&T>) -> Result<(), Restart> {
        let indexes = &self.inner().indexes;
        indexes
            .iter()
            .try_for_each(|index| index.follow(self.tx, id, old, new))
    }
}

impl<T: Send + Sync + 'static> Clone for Within<'_, '_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T: Send + Sync + 'static> Copy for Within<'_, '_, T> {}

impl<T: Send + Sync + 'static> fmt::Debug for Within<'_, '_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Within")
            .field("tx", &self.tx)
            .finish_non_exhaustive()
    }
}
