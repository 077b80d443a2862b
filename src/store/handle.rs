//! An entity that one has looked up: strongly, weakly, or to wait for it.
#![forbid(unsafe_code)]

use super::error::{StoreError, Unknown};
use super::id::EntityId;
use super::version::{Node, Slot, Version};
use super::{Inner, Store};
use crate::cell::{Snapshot, TimedOut, Waiting, Watch};
use crate::stamp::Stamp;
use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use thiserror::Error;

impl<T: Send + Sync + 'static> Store<T> {
    /// An entity without further look-ups. It keeps the store open.
    ///
    /// # Errors
    /// [`Unknown`].
    ///
    /// # Examples
    /// ```
    /// let store = snapcell::Store::new();
    /// let id = store.insert(1);
    /// let handle = store.handle(&id)?;
    /// let weak = handle.downgrade();
    /// handle.update(|n| n + 1)?;
    /// assert_eq!(*weak.upgrade().unwrap().get()?, 2);
    /// store.remove(&id)?;
    /// assert!(handle.get().is_err() && weak.upgrade().is_none());
    /// # Ok::<(), snapcell::Unknown>(())
    /// ```
    pub fn handle(&self, id: &EntityId) -> Result<Handle<T>, Unknown> {
        let node = self.0.nodes.get(id).ok_or(Unknown(*id))?;
        let handle = Handle {
            store: self.clone(),
            id: *id,
            node,
        };
        handle.get().map(|_| handle)
    }

    /// Follows an entity without keeping it or the store open. Its current version counts as seen.
    ///
    /// # Errors
    /// [`Unknown`].
    ///
    /// # Examples
    /// ```
    /// let store = snapcell::Store::new();
    /// let id = store.insert("born");
    /// let mut follower = store.follow(&id)?;
    /// store.replace(&id, "lives").unwrap();
    /// assert_eq!(**follower.changed().wait().as_ref().unwrap(), "lives");
    /// store.remove(&id)?;
    /// assert!(follower.changed().wait().is_err());
    /// # Ok::<(), snapcell::Unknown>(())
    /// ```
    pub fn follow(&self, id: &EntityId) -> Result<Follower<T>, Unknown> {
        let watch = self.0.nodes.look(id, Node::watch).ok_or(Unknown(*id))?;
        let seen = Version::new(*id, watch.seen().clone()).ok_or(Unknown(*id))?;
        Ok(Follower { watch, seen })
    }

    /// A handle that doesn't keep the store open.
    #[must_use]
    pub fn downgrade(&self) -> WeakStore<T> {
        WeakStore(Arc::downgrade(&self.0))
    }
}

/// An entity of a store, without further look-ups. Made by [`Store::handle`]. It keeps the store open.
pub struct Handle<T: Send + Sync + 'static> {
    store: Store<T>,
    id: EntityId,
    node: Node<T>,
}

impl<T: Send + Sync + 'static> Handle<T> {
    /// Whose handle this is.
    #[must_use]
    pub fn id(&self) -> EntityId {
        self.id
    }

    /// The store.
    #[must_use]
    pub fn store(&self) -> &Store<T> {
        &self.store
    }

    /// As [`Store::get`].
    ///
    /// # Errors
    /// [`Unknown`]: it was removed.
    pub fn get(&self) -> Result<Version<T>, Unknown> {
        Version::new(self.id, self.node.snapshot()).ok_or(Unknown(self.id))
    }

    /// As [`Store::read`].
    ///
    /// # Errors
    /// [`Unknown`]: it was removed.
    pub fn read<R>(&self, look: impl FnOnce(&T) -> R) -> Result<R, Unknown> {
        let seen = self.node.read(|slot| slot.live().map(look));
        seen.ok_or(Unknown(self.id))
    }

    /// As [`Store::update`].
    ///
    /// # Errors
    /// [`Unknown`]: it was removed.
    pub fn update(&self, mut f: impl FnMut(&T) -> T) -> Result<Stamp, Unknown> {
        self.try_update(|value| Ok(f(value)))
    }

    /// As [`Store::try_update`].
    ///
    /// # Errors
    /// What `f` refuses with; or what can be made of [`Unknown`]: it was removed.
    pub fn try_update<F: From<Unknown>>(
        &self,
        f: impl FnMut(&T) -> Result<T, F>,
    ) -> Result<Stamp, F> {
        self.store.0.update(self.id, &self.node, f)
    }

    /// As [`Store::try_commit`].
    ///
    /// # Errors
    /// [`StoreError`] gives the value back.
    pub fn try_commit(&self, expected: Stamp, proposed: T) -> Result<Stamp, StoreError<T>> {
        let store = &self.store.0;
        store.try_commit(self.id, &self.node, Some(expected), proposed)
    }

    /// As [`Store::replace`].
    ///
    /// # Errors
    /// [`StoreError`] gives the value back.
    pub fn replace(&self, value: T) -> Result<Stamp, StoreError<T>> {
        self.store.0.try_commit(self.id, &self.node, None, value)
    }

    /// The same, without keeping anything open.
    #[must_use]
    pub fn downgrade(&self) -> WeakHandle<T> {
        WeakHandle {
            store: self.store.downgrade(),
            id: self.id,
        }
    }
}

impl<T: Send + Sync + 'static> Clone for Handle<T> {
    fn clone(&self) -> Self {
        Handle {
            store: self.store.clone(),
            id: self.id,
            node: self.node.clone(),
        }
    }
}

impl<T: Send + Sync + 'static> fmt::Debug for Handle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// A store that may be gone. Made by [`Store::downgrade`].
pub struct WeakStore<T: Send + Sync + 'static>(Weak<Inner<T>>);

impl<T: Send + Sync + 'static> WeakStore<T> {
    /// The store, if somebody has kept it open.
    #[must_use]
    pub fn upgrade(&self) -> Option<Store<T>> {
        self.0.upgrade().map(Store)
    }
}

impl<T: Send + Sync + 'static> Clone for WeakStore<T> {
    fn clone(&self) -> Self {
        WeakStore(Weak::clone(&self.0))
    }
}

impl<T: Send + Sync + 'static> fmt::Debug for WeakStore<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WeakStore")
            .field("is_open", &(self.0.strong_count() > 0))
            .finish()
    }
}

/// An entity that may be gone, or its store. Made by [`Handle::downgrade`].
pub struct WeakHandle<T: Send + Sync + 'static> {
    store: WeakStore<T>,
    id: EntityId,
}

impl<T: Send + Sync + 'static> WeakHandle<T> {
    /// Whose handle this is.
    #[must_use]
    pub fn id(&self) -> EntityId {
        self.id
    }

    /// The entity with this id, if there is one, and its store. If the entity was removed, and another one was inserted
    /// [with its id](Store::insert_with), it is that one.
    #[must_use]
    pub fn upgrade(&self) -> Option<Handle<T>> {
        self.store.upgrade()?.handle(&self.id).ok()
    }
}

impl<T: Send + Sync + 'static> Clone for WeakHandle<T> {
    fn clone(&self) -> Self {
        WeakHandle {
            store: self.store.clone(),
            id: self.id,
        }
    }
}

impl<T: Send + Sync + 'static> fmt::Debug for WeakHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WeakHandle")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// A subscription to an entity of a store. Made by [`Store::follow`].
pub struct Follower<T: Send + Sync + 'static> {
    watch: Watch<Slot<T>>,
    seen: Version<T>,
}

impl<T: Send + Sync + 'static> Follower<T> {
    /// The version that was seen last.
    #[must_use]
    pub fn seen(&self) -> &Version<T> {
        &self.seen
    }

    /// Waits until there is a version that was not seen, and returns it, the latest.
    pub fn changed(&mut self) -> Changed<'_, T> {
        let (id, seen) = (self.seen.id(), &mut self.seen);
        let look: Look<'_, T> = Box::new(move |found, is_last| {
            if Snapshot::ptr_eq(found, seen.snapshot()) {
                return is_last.then_some(Err(Removed(id)));
            }
            let version = Version::new(id, found.clone());
            if let Some(version) = &version {
                *seen = version.clone();
            }
            Some(version.ok_or(Removed(id)))
        });
        Changed(self.watch.waiting(look))
    }
}

impl<T: Send + Sync + 'static> fmt::Debug for Follower<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Follower")
            .field("id", &self.seen.id())
            .field("seen", &format_args!("{}", self.seen.stamp()))
            .finish_non_exhaustive()
    }
}

type Look<'f, T> =
    Box<dyn FnMut(&Snapshot<Slot<T>>, bool) -> Option<Result<Version<T>, Removed>> + Send + 'f>;

/// A version that is waited for. Await it, or block by [`wait`](Changed::wait) and its kin; as
/// [`Waiting`].
#[must_use = "it waits only when it is awaited, or by `wait`"]
pub struct Changed<'f, T: Send + Sync + 'static>(
    Waiting<'f, Slot<T>, Infallible, Result<Version<T>, Removed>, Look<'f, T>>,
);

impl<T: Send + Sync + 'static> Changed<'_, T> {
    /// Blocks this thread until there is one.
    ///
    /// # Errors
    /// [`Removed`].
    pub fn wait(self) -> Result<Version<T>, Removed> {
        self.0.wait()
    }

    /// Blocks this thread until there is one, or for so long.
    ///
    /// # Errors
    /// [`TimedOut`], after one last look.
    pub fn wait_timeout(self, timeout: Duration) -> Result<Result<Version<T>, Removed>, TimedOut> {
        self.0.wait_timeout(timeout)
    }

    /// Blocks this thread until there is one, or until `deadline`.
    ///
    /// # Errors
    /// [`TimedOut`], after one last look.
    pub fn wait_deadline(self, deadline: Instant) -> Result<Result<Version<T>, Removed>, TimedOut> {
        self.0.wait_deadline(deadline)
    }
}

impl<T: Send + Sync + 'static> Future for Changed<'_, T> {
    type Output = Result<Version<T>, Removed>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx)
    }
}

impl<T: Send + Sync + 'static> fmt::Debug for Changed<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The entity was removed, or its store is gone: nothing will change any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the entity {0} was removed")]
pub struct Removed(pub EntityId);
