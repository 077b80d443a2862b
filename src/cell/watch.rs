//! A subscription: the latest snapshot, and whether it was seen.
//!
//! A watch is no handle. It looks, by a count of its own (`raw/block.rs`), and doesn't keep the
//! entity from ending; so it can tell those who wait that nothing will come any more.
#![forbid(unsafe_code)]

use super::entity::{Entity, Extras};
use super::snapshot::Snapshot;
use super::wait::{Waiting, latest};
use crate::raw::Watcher;
use crate::stamp::Stamp;
use std::convert::Infallible;
use std::fmt;
use thiserror::Error;

/// A subscription to an entity: it shows the latest snapshot, and knows which one you saw last.
///
/// It doesn't keep the entity open. When the last handle is gone the entity is *closed*: what it was
/// last can still be seen, and whoever waits for more gets [`Closed`]. Until it is dropped a watch
/// holds back the value that it saw last, and after the close the last one.
///
/// # Examples
/// ```
/// let entity = snapcell::Entity::new("born");
/// let mut watch = entity.watch();
/// std::thread::spawn(move || {
///     entity.replace("lives");
///     entity.replace("ends");
/// });
/// let mut last = watch.seen().clone();
/// while let Ok(next) = watch.changed().wait() {
///     last = next;
/// }
/// assert_eq!(*last, "ends");
/// ```
pub struct Watch<T: Send + Sync + 'static, E: 'static = Infallible> {
    watcher: Watcher<T, Extras<T, E>>,
    seen: Snapshot<T>,
    /// Whether `seen` counts as seen.
    is_seen: bool,
}

impl<T: Send + Sync + 'static, E: 'static> Entity<T, E> {
    /// Subscribes. The current snapshot counts as seen.
    #[must_use]
    pub fn watch(&self) -> Watch<T, E> {
        Watch {
            watcher: self.0.watcher(),
            seen: self.snapshot(),
            is_seen: true,
        }
    }
}

impl<T: Send + Sync + 'static, E: 'static> Watch<T, E> {
    /// The current snapshot, which from now on counts as seen.
    ///
    /// # Linearization
    /// The load of the head: the one that is compared, or, where something has changed, the one
    /// that fetches the new snapshot.
    /// # Progress
    /// Wait-free while nothing changes: one load and a compare. After a change as
    /// [`Entity::snapshot`], and it drops the snapshot that it held.
    pub fn get(&mut self) -> &Snapshot<T> {
        if !self.watcher.head().is(&self.seen.0) {
            self.seen = latest(self.watcher.waitable()).0;
        }
        self.is_seen = true;
        &self.seen
    }

    /// The snapshot that was seen last, current or not.
    #[must_use]
    pub fn seen(&self) -> &Snapshot<T> {
        &self.seen
    }

    /// The stamp of the snapshot that was seen last.
    #[must_use]
    pub fn stamp(&self) -> Stamp {
        self.seen.stamp()
    }

    /// Whether there is a snapshot that was not seen. Wait-free: one load; with a pin where a transaction has only
    /// looked.
    #[must_use]
    pub fn has_changed(&self) -> bool {
        !self.is_seen || !self.watcher.head().is(&self.seen.0)
    }

    /// Whether the last handle is gone, and nothing will change any more. Wait-free: one load.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.watcher.head().is_closed()
    }

    /// Has the snapshot that was seen last count as unseen, so that [`changed`](Watch::changed) has
    /// something to show at once.
    pub fn mark_unseen(&mut self) {
        self.is_seen = false;
    }

    /// Waits until there is a snapshot that was not seen, and returns it, the latest. From then on it
    /// counts as seen.
    ///
    /// # Errors
    /// [`Closed`], when the entity is closed and its last snapshot was seen.
    #[allow(clippy::type_complexity, reason = "what it waits for is a closure")]
    pub fn changed(
        &mut self,
    ) -> Waiting<
        '_,
        T,
        E,
        Result<Snapshot<T>, Closed>,
        impl FnMut(&Snapshot<T>, bool) -> Option<Result<Snapshot<T>, Closed>>,
    > {
        let Watch {
            watcher,
            seen,
            is_seen,
        } = self;
        Waiting::new(watcher.waitable(), move |latest: &Snapshot<T>, is_last| {
            if *is_seen && Snapshot::ptr_eq(latest, seen) {
                return is_last.then_some(Err(Closed));
            }
            *seen = latest.clone();
            *is_seen = true;
            Some(Ok(latest.clone()))
        })
    }

    /// Waits until the value is as `is_it` wants it, seen or not, and returns the snapshot, which from
    /// then on counts as seen.
    ///
    /// # Errors
    /// [`Closed`], when the entity is closed and its last value is not it.
    #[allow(clippy::type_complexity, reason = "what it waits for is a closure")]
    pub fn wait_for(
        &mut self,
        mut is_it: impl FnMut(&T) -> bool,
    ) -> Waiting<
        '_,
        T,
        E,
        Result<Snapshot<T>, Closed>,
        impl FnMut(&Snapshot<T>, bool) -> Option<Result<Snapshot<T>, Closed>>,
    > {
        self.wait_for_some(move |latest| is_it(latest).then(|| latest.clone()))
    }

    /// Waits until `choose` finds in the value what it wants, and returns that. The snapshot counts as
    /// seen from then on.
    ///
    /// # Errors
    /// [`Closed`], when the entity is closed and it isn't in its last value.
    #[allow(clippy::type_complexity, reason = "what it waits for is a closure")]
    pub fn wait_for_map<R>(
        &mut self,
        mut choose: impl FnMut(&T) -> Option<R>,
    ) -> Waiting<
        '_,
        T,
        E,
        Result<R, Closed>,
        impl FnMut(&Snapshot<T>, bool) -> Option<Result<R, Closed>>,
    > {
        self.wait_for_some(move |latest| choose(latest))
    }

    /// Waits until `look` finds what it wants, whatever was seen.
    #[cfg(feature = "store")]
    pub(crate) fn waiting<R, F>(&self, look: F) -> Waiting<'_, T, E, R, F>
    where
        F: FnMut(&Snapshot<T>, bool) -> Option<R>,
    {
        Waiting::new(self.watcher.waitable(), look)
    }

    #[allow(clippy::type_complexity, reason = "what it waits for is a closure")]
    fn wait_for_some<R>(
        &mut self,
        mut choose: impl FnMut(&Snapshot<T>) -> Option<R>,
    ) -> Waiting<
        '_,
        T,
        E,
        Result<R, Closed>,
        impl FnMut(&Snapshot<T>, bool) -> Option<Result<R, Closed>>,
    > {
        let Watch {
            watcher,
            seen,
            is_seen,
        } = self;
        Waiting::new(
            watcher.waitable(),
            move |latest: &Snapshot<T>, is_last| match choose(latest) {
                Some(found) => {
                    *seen = latest.clone();
                    *is_seen = true;
                    Some(Ok(found))
                }
                None => is_last.then_some(Err(Closed)),
            },
        )
    }
}

/// Another subscription to the same entity, which has seen the same.
impl<T: Send + Sync + 'static, E: 'static> Clone for Watch<T, E> {
    fn clone(&self) -> Self {
        Watch {
            watcher: self.watcher.clone(),
            seen: self.seen.clone(),
            is_seen: self.is_seen,
        }
    }
}

impl<T: fmt::Debug + Send + Sync + 'static, E: 'static> fmt::Debug for Watch<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch")
            .field("seen", &*self.seen)
            .field("stamp", &format_args!("{}", self.stamp()))
            .field("has_changed", &self.has_changed())
            .field("is_closed", &self.is_closed())
            .finish()
    }
}

/// The last handle of the entity is gone: nothing will change any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the entity is closed")]
pub struct Closed;
