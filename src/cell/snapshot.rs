//! What a read gives: something kept, something borrowed, or a part.
#![forbid(unsafe_code)]

use crate::raw::{Held, Projection, Seen};
use crate::stamp::Stamp;
use std::borrow::Borrow;
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;

/// A value that an entity had at one moment, with its stamp. Owned and immutable: it may be kept,
/// sent to other threads and held across an `.await`, and holds back nothing but itself.
///
/// It derefs to the value, and compares, orders and hashes as the value does.
///
/// # Progress
/// Cloning and dropping are wait-free, one read-modify-write each. Dropping the last snapshot of a
/// replaced value runs the value's destructor.
///
/// # Examples
/// ```
/// let entity = snapcell::Entity::new(vec![1, 2, 3]);
/// let before = entity.snapshot();
/// entity.update(|v| v.iter().map(|n| n * 10).collect());
/// assert_eq!(*before, [1, 2, 3]);
/// assert_eq!(before.stamp().version(), 0);
/// assert_eq!(*entity.snapshot(), [10, 20, 30]);
/// ```
/// `T` has to be shareable, since any thread may look at the value and drop it:
/// ```compile_fail,E0277
/// fn send(_: impl Send) {}
/// fn check(snapshot: snapcell::Snapshot<std::cell::Cell<u8>>) { send(snapshot) }
/// ```
/// ```
/// fn send(_: impl Send) {}
/// fn check(snapshot: snapcell::Snapshot<u8>) { send(snapshot) }
/// ```
pub struct Snapshot<T>(pub(super) Held<T>);

impl<T> Snapshot<T> {
    /// Which snapshot this is.
    #[inline]
    #[must_use]
    pub fn stamp(&self) -> Stamp {
        self.0.stamp()
    }

    /// Whether the two are the same snapshot of the same entity, not only equal values.
    #[must_use]
    pub fn ptr_eq(this: &Self, other: &Self) -> bool {
        this.0.is(&other.0)
    }

    /// Keeps a part of the value, and with it the whole.
    ///
    /// # Examples
    /// ```
    /// let entity = snapcell::Entity::new((String::from("name"), vec![1, 2, 3]));
    /// let name = entity.snapshot().project(|(name, _)| name.as_str());
    /// entity.replace((String::from("other"), vec![]));
    /// assert_eq!(&*name, "name");
    /// ```
    /// What it points to must lie in the value:
    /// ```compile_fail
    /// let entity = snapcell::Entity::new(1_u8);
    /// let local = 2_u8;
    /// let part = entity.snapshot().project(|_| &local);
    /// ```
    #[must_use]
    pub fn project<U: ?Sized>(
        self,
        choose: impl for<'a> FnOnce(&'a T) -> &'a U,
    ) -> Projected<T, U> {
        match self.try_project(|value| Some(choose(value))) {
            Ok(projected) => projected,
            Err(_) => unreachable!("the part was chosen"),
        }
    }

    /// Keeps a part of the value, if it has it.
    ///
    /// # Errors
    /// Gives the snapshot back where `choose` returned `None`.
    ///
    /// # Examples
    /// ```
    /// let entity = snapcell::Entity::new(vec!["a", "b"]);
    /// let second = entity.snapshot().try_project(|v| v.get(1)).unwrap();
    /// assert_eq!(*second, "b");
    /// assert!(entity.snapshot().try_project(|v| v.get(2)).is_err());
    /// ```
    pub fn try_project<U: ?Sized>(
        self,
        choose: impl for<'a> FnOnce(&'a T) -> Option<&'a U>,
    ) -> Result<Projected<T, U>, Self> {
        Projection::new(self.0, choose)
            .map(Projected)
            .map_err(Snapshot)
    }
}

impl<T> Clone for Snapshot<T> {
    fn clone(&self) -> Self {
        Snapshot(self.0.clone())
    }
}

impl<T> Deref for Snapshot<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        self.0.value()
    }
}

/// A value under somebody's guard, with its stamp. Copied freely; kept by [`Loaded::snapshot`].
///
/// It borrows both the entity that it was loaded from and the guard:
/// ```compile_fail,E0505
/// let entity = snapcell::Entity::new(1);
/// let guard = snapcell::pin();
/// let loaded = entity.load(&guard);
/// drop(guard);
/// println!("{}", *loaded);
/// ```
/// ```compile_fail,E0505
/// let entity = snapcell::Entity::new(1);
/// let guard = snapcell::pin();
/// let loaded = entity.load(&guard);
/// drop(entity);
/// println!("{}", *loaded);
/// ```
/// ```
/// let entity = snapcell::Entity::new(1);
/// let guard = snapcell::pin();
/// let loaded = entity.load(&guard);
/// println!("{}", *loaded);
/// drop(guard);
/// drop(entity);
/// ```
pub struct Loaded<'g, T>(pub(super) Seen<'g, T>);

impl<'g, T> Loaded<'g, T> {
    /// Which snapshot this is.
    #[inline]
    #[must_use]
    pub fn stamp(&self) -> Stamp {
        self.0.stamp()
    }

    /// The value, for as long as the guard and the entity live.
    #[inline]
    #[must_use]
    pub fn value(&self) -> &'g T {
        self.0.value()
    }

    /// Keeps the snapshot. Wait-free, one read-modify-write.
    #[inline]
    #[must_use]
    pub fn snapshot(&self) -> Snapshot<T> {
        Snapshot(self.0.hold())
    }
}

impl<T> Clone for Loaded<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Loaded<'_, T> {}

impl<T> Deref for Loaded<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        self.0.value()
    }
}

/// A part of a snapshot, which keeps the whole. Made by [`Snapshot::project`].
///
/// It derefs to the part, and compares, orders and hashes as the part does. As a reference to the
/// part would, it crosses threads only if the part may be shared:
/// ```compile_fail,E0277
/// fn send(_: impl Send) {}
/// fn check(part: snapcell::Projected<u8, std::cell::Cell<u8>>) { send(part) }
/// ```
/// ```
/// fn send(_: impl Send) {}
/// fn check(part: snapcell::Projected<u8, u8>) { send(part) }
/// ```
pub struct Projected<T, U: ?Sized>(Projection<T, U>);

impl<T, U: ?Sized> Projected<T, U> {
    /// Which snapshot this is a part of.
    #[must_use]
    pub fn stamp(&self) -> Stamp {
        self.0.whole().stamp()
    }

    /// The snapshot that this is a part of.
    #[must_use]
    pub fn whole(&self) -> Snapshot<T> {
        Snapshot(self.0.whole().clone())
    }
}

impl<T, U: ?Sized> Clone for Projected<T, U> {
    fn clone(&self) -> Self {
        Projected(self.0.clone())
    }
}

impl<T, U: ?Sized> Deref for Projected<T, U> {
    type Target = U;

    #[inline]
    fn deref(&self) -> &U {
        self.0.part()
    }
}

/// Everything that follows from being a pointer to a value, for all three.
macro_rules! like_its_value {
    ([$($generics:tt)*] $pointer:ty => $value:ty) => {
        impl<$($generics)*> AsRef<$value> for $pointer {
            fn as_ref(&self) -> &$value {
                self
            }
        }

        impl<$($generics)*> Borrow<$value> for $pointer {
            fn borrow(&self) -> &$value {
                self
            }
        }

        impl<$($generics)*> fmt::Display for $pointer
        where
            $value: fmt::Display,
        {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&**self, f)
            }
        }

        impl<$($generics)*> fmt::Debug for $pointer
        where
            $value: fmt::Debug,
        {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&**self, f)
            }
        }

        impl<$($generics)*> PartialEq for $pointer
        where
            $value: PartialEq,
        {
            fn eq(&self, other: &Self) -> bool {
                **self == **other
            }
        }

        impl<$($generics)*> Eq for $pointer where $value: Eq {}

        impl<$($generics)*> PartialOrd for $pointer
        where
            $value: PartialOrd,
        {
            fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
                (**self).partial_cmp(&**other)
            }
        }

        impl<$($generics)*> Ord for $pointer
        where
            $value: Ord,
        {
            fn cmp(&self, other: &Self) -> Ordering {
                (**self).cmp(&**other)
            }
        }

        impl<$($generics)*> Hash for $pointer
        where
            $value: Hash,
        {
            fn hash<H: Hasher>(&self, state: &mut H) {
                (**self).hash(state);
            }
        }
    };
}

like_its_value!([T] Snapshot<T> => T);
like_its_value!([T] Loaded<'_, T> => T);
like_its_value!([T, U: ?Sized] Projected<T, U> => U);

#[cfg(feature = "serde")]
mod serde_impls {
    use super::Snapshot;
    use serde::ser::SerializeStruct;
    use serde::{Serialize, Serializer};

    /// As a record of `stamp` and `value`.
    impl<T: Serialize> Serialize for Snapshot<T> {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let mut record = serializer.serialize_struct("Snapshot", 2)?;
            record.serialize_field("stamp", &self.stamp())?;
            record.serialize_field("value", &**self)?;
            record.end()
        }
    }
}
