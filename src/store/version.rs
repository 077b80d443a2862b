//! What is at an id: a value, or nothing any more.
#![forbid(unsafe_code)]

use super::claims::Claims;
use super::id::EntityId;
use crate::cell::{Builder, Entity, Retain, Snapshot, Vacancy};
use crate::clock::Clock;
use crate::stamp::Stamp;
use std::fmt;
use std::ops::Deref;

/// What an entity of a store holds. That there is nothing is a value as well, so a removal is a commit: no
/// update is lost to it, a transaction that has read the value is refused, and who waits is woken.
pub(super) enum Slot<T> {
    /// It was removed, or is never to be born. That is for ever.
    Nothing,
    /// It is not born yet.
    Unborn(Claims),
    Live(T),
}

impl<T> Slot<T> {
    #[inline]
    pub(super) fn live(&self) -> Option<&T> {
        match self {
            Slot::Live(value) => Some(value),
            Slot::Nothing | Slot::Unborn(_) => None,
        }
    }
}

/// The entity at an id.
pub(super) type Node<T> = Entity<Slot<T>>;

/// What all entities of a store have in common.
#[derive(Clone, Debug, Default)]
pub(super) struct Template {
    pub(super) retain: Retain,
    pub(super) clock: Option<Clock>,
}

impl Template {
    /// One that is no entity of the store, but may be written together with them.
    pub(super) fn entity<V: Send + Sync + 'static>(&self, value: V) -> Entity<V> {
        match &self.clock {
            Some(clock) => Entity::builder(value).clock(clock.clone()).build(),
            None => Entity::new(value),
        }
    }

    /// An entity with its first value.
    pub(super) fn live<T: Send + Sync + 'static>(&self, value: T) -> Node<T> {
        match self.is_plain() {
            true => Entity::new(Slot::Live(value)),
            false => self.set(Entity::builder(Slot::Live(value))).build(),
        }
    }

    /// Whether its entities are as those of [`Entity::new`].
    fn is_plain(&self) -> bool {
        matches!(self.retain, Retain::Latest) && self.clock.is_none()
    }

    /// The same, in an arena, under this name.
    pub(super) fn begin_in<T: Send + Sync + 'static>(
        &self,
        vacancy: Vacancy<'_, Slot<T>>,
        name: u128,
        slot: Slot<T>,
    ) {
        match (self.is_plain(), &slot) {
            (true, Slot::Live(_)) => vacancy.fill(name, slot),
            (false, Slot::Live(_)) => vacancy.fill_by(name, self.set(Entity::builder(slot))),
            _ => vacancy.fill_by(name, self.set(Entity::builder(slot).born(Stamp::UNBORN))),
        }
    }

    /// One that is born by its first commit.
    pub(super) fn unborn<T: Send + Sync + 'static>(&self, claims: Claims) -> Node<T> {
        let builder = Entity::builder(Slot::Unborn(claims)).born(Stamp::UNBORN);
        self.set(builder).build()
    }

    fn set<T: Send + Sync + 'static>(&self, builder: Builder<Slot<T>>) -> Builder<Slot<T>> {
        let builder = builder.retain(self.retain);
        match &self.clock {
            Some(clock) => builder.clock(clock.clone()),
            None => builder,
        }
    }
}

/// Whether there will never be anything any more.
pub(super) fn is_removed<T: Send + Sync + 'static>(node: &Node<T>) -> bool {
    node.read(|slot| matches!(slot, Slot::Nothing))
}

/// One version of an entity of a [`Store`](crate::Store): the value that it had, with its id and stamp. Owned
/// and immutable, as a [`Snapshot`] is; it derefs to the value.
///
/// # Examples
/// ```
/// let store = snapcell::Store::new();
/// let id = store.insert("draft");
/// let before = store.get(&id)?;
/// store.update(&id, |_| "final")?;
/// assert_eq!((*before, before.id(), before.stamp().version()), ("draft", id, 0));
/// # Ok::<(), snapcell::Unknown>(())
/// ```
pub struct Version<T> {
    id: EntityId,
    /// Of something that is live.
    snapshot: Snapshot<Slot<T>>,
}

impl<T> Version<T> {
    /// The version in a snapshot, if there is something.
    pub(super) fn new(id: EntityId, snapshot: Snapshot<Slot<T>>) -> Option<Self> {
        snapshot.live()?;
        Some(Version { id, snapshot })
    }

    /// Whose version this is.
    #[must_use]
    pub fn id(&self) -> EntityId {
        self.id
    }

    /// Which version this is.
    #[must_use]
    pub fn stamp(&self) -> Stamp {
        self.snapshot.stamp()
    }

    /// Whether the two are the same version of the same entity, not only equal values.
    #[must_use]
    pub fn ptr_eq(this: &Self, other: &Self) -> bool {
        Snapshot::ptr_eq(&this.snapshot, &other.snapshot)
    }

    pub(super) fn snapshot(&self) -> &Snapshot<Slot<T>> {
        &self.snapshot
    }
}

impl<T> Deref for Version<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        match &*self.snapshot {
            Slot::Live(value) => value,
            _ => unreachable!("it was live when the version was made"),
        }
    }
}

impl<T> Clone for Version<T> {
    fn clone(&self) -> Self {
        Version {
            id: self.id,
            snapshot: self.snapshot.clone(),
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for Version<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Version")
            .field("id", &self.id)
            .field("stamp", &format_args!("{}", self.stamp()))
            .field("value", &**self)
            .finish()
    }
}

/// The value, and which version it is.
impl<T: fmt::Display> fmt::Display for Version<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({} {})", **self, self.id, self.stamp())
    }
}

/// A version by its name: which entity, and which stamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin {
    /// The entity.
    pub id: EntityId,
    /// Which version of it.
    pub stamp: Stamp,
}

impl<T> From<&Version<T>> for Origin {
    fn from(version: &Version<T>) -> Self {
        Origin {
            id: version.id(),
            stamp: version.stamp(),
        }
    }
}

/// The id, and the stamp.
impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.id, self.stamp)
    }
}
