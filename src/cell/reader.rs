//! A read that costs nothing while nothing changes.
//!
//! A reader holds the snapshot that it saw last, and compares the head's pointer with that of its
//! own node. Equal: still current, since a held node's address is nobody else's. No pin, no count,
//! no write that others see. The compare is relaxed (HEAD_COMPARE): what it finds equal was already
//! acquired when the snapshot was taken. Checked by `loom-tests/reader.rs`.
#![forbid(unsafe_code)]

use super::entity::Entity;
use super::snapshot::Snapshot;
use crate::stamp::Stamp;
use crate::sync::fault::{Fault, planted};
use std::convert::Infallible;
use std::fmt;

/// A handle of an entity that remembers what it saw last. Each thread should have its own.
///
/// It holds back one snapshot, the last one that it saw.
///
/// # Examples
/// ```
/// use snapcell::Entity;
///
/// let config = Entity::new("first");
/// let mut reader = config.reader();
/// assert_eq!(**reader.get(), "first");
/// config.replace("second");
/// assert_eq!(**reader.get(), "second");
/// ```
pub struct Reader<T: Send + Sync + 'static, E: 'static = Infallible> {
    entity: Entity<T, E>,
    seen: Snapshot<T>,
}

impl<T: Send + Sync + 'static, E: 'static> Entity<T, E> {
    /// A cached reader: its own handle of this entity, with the snapshot that it saw last.
    #[must_use]
    pub fn reader(&self) -> Reader<T, E> {
        let reader = Reader {
            entity: self.clone(),
            seen: self.snapshot(),
        };
        reader.plant();
        reader
    }
}

impl<T: Send + Sync + 'static, E: 'static> Reader<T, E> {
    /// The current snapshot.
    ///
    /// # Linearization
    /// The load of the head: the one that is compared, or, where something has changed, the one
    /// that fetches the new snapshot.
    /// # Progress
    /// Wait-free while nothing changes: one load and a compare. After a change as
    /// [`Entity::snapshot`], and it drops the snapshot that it held. Where a transaction has only looked at the
    /// entity, or was aborted, it pins and looks twice, until the next commit.
    #[inline]
    pub fn get(&mut self) -> &Snapshot<T> {
        if !self.entity.head().is(&self.seen.0) {
            self.refresh();
        }
        &self.seen
    }

    /// The snapshot that this reader saw last, current or not.
    #[must_use]
    pub fn seen(&self) -> &Snapshot<T> {
        &self.seen
    }

    /// Whether somebody has committed since this reader looked. Wait-free: one load; as [`get`](Reader::get) where
    /// a transaction has only looked.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        !self.entity.head().is(&self.seen.0)
    }

    /// The entity that it reads.
    #[must_use]
    pub fn entity(&self) -> &Entity<T, E> {
        &self.entity
    }

    /// The stamp of the snapshot that this reader saw last.
    #[must_use]
    pub fn stamp(&self) -> Stamp {
        self.seen.stamp()
    }

    #[cold]
    fn refresh(&mut self) {
        let before = std::mem::replace(&mut self.seen, self.entity.snapshot());
        if planted(Fault::CachedWithoutCount) {
            std::mem::forget(before);
        }
        self.plant();
    }

    /// The place of a planted fault; nothing in an ordinary build.
    fn plant(&self) {
        if planted(Fault::CachedWithoutCount) {
            self.seen.0.disown();
        }
    }
}

/// A new reader of the same entity: what it has seen is what is current now.
impl<T: Send + Sync + 'static, E: 'static> Clone for Reader<T, E> {
    fn clone(&self) -> Self {
        self.entity.reader()
    }
}

impl<T: fmt::Debug + Send + Sync + 'static, E: 'static> fmt::Debug for Reader<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader")
            .field("seen", &*self.seen)
            .field("stamp", &format_args!("{}", self.stamp()))
            .field("is_stale", &self.is_stale())
            .finish()
    }
}
