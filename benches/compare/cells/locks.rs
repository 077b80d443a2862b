//! Locks: those of std and of parking_lot, around the value itself or around an `Arc` of it.
//!
//! The value is changed in place, which no copy beats. In a `Mutex<Arc<_>>` it is copied, so that
//! who reads can keep what he got; the lock is held for the copy, since else an update could be lost.

use super::{Read, Shared, Update};
use crate::payload::Payload;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

/// A lock around a value.
pub(crate) trait Lock: Send + Sync + 'static {
    const NAME: &'static str;
    type Value: Payload;

    fn around(value: Self::Value) -> Self;
    fn shared(&self) -> impl Deref<Target = Self::Value>;
    fn exclusive(&self) -> impl DerefMut<Target = Self::Value>;
}

impl<P: Payload> Lock for Mutex<P> {
    const NAME: &'static str = "std Mutex";
    type Value = P;

    fn around(value: P) -> Self {
        Mutex::new(value)
    }

    #[inline]
    fn shared(&self) -> impl Deref<Target = P> {
        self.exclusive()
    }

    #[inline]
    fn exclusive(&self) -> impl DerefMut<Target = P> {
        self.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<P: Payload> Lock for RwLock<P> {
    const NAME: &'static str = "std RwLock";
    type Value = P;

    fn around(value: P) -> Self {
        RwLock::new(value)
    }

    #[inline]
    fn shared(&self) -> impl Deref<Target = P> {
        self.read().unwrap_or_else(PoisonError::into_inner)
    }

    #[inline]
    fn exclusive(&self) -> impl DerefMut<Target = P> {
        self.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<P: Payload> Lock for parking_lot::Mutex<P> {
    const NAME: &'static str = "parking_lot Mutex";
    type Value = P;

    fn around(value: P) -> Self {
        parking_lot::Mutex::new(value)
    }

    #[inline]
    fn shared(&self) -> impl Deref<Target = P> {
        self.lock()
    }

    #[inline]
    fn exclusive(&self) -> impl DerefMut<Target = P> {
        self.lock()
    }
}

impl<P: Payload> Lock for parking_lot::RwLock<P> {
    const NAME: &'static str = "parking_lot RwLock";
    type Value = P;

    fn around(value: P) -> Self {
        parking_lot::RwLock::new(value)
    }

    #[inline]
    fn shared(&self) -> impl Deref<Target = P> {
        self.read()
    }

    #[inline]
    fn exclusive(&self) -> impl DerefMut<Target = P> {
        self.write()
    }
}

/// In place, under a lock.
pub(crate) struct InPlace;

impl<L: Lock> Shared for L {
    type Payload = L::Value;

    fn new(value: L::Value) -> Self {
        L::around(value)
    }

    fn end(&self) -> (L::Value, Option<u64>) {
        (*self.shared(), None)
    }
}

impl<L: Lock> Read<L> for InPlace {
    const NAME: &'static str = L::NAME;
    type Reader<'a>
        = &'a L
    where
        L: 'a;

    fn reader(lock: &L) -> &L {
        lock
    }

    #[inline]
    fn read(lock: &mut &L, mut look: impl FnMut(&L::Value)) {
        look(&lock.shared());
    }
}

impl<L: Lock> Update<L> for InPlace {
    const NAME: &'static str = L::NAME;
    type Writer<'a>
        = &'a L
    where
        L: 'a;

    fn writer(lock: &L) -> &L {
        lock
    }

    #[inline]
    fn update(lock: &mut &L) -> u64 {
        lock.exclusive().bump();
        1
    }
}

/// A lock around an `Arc` of the value.
pub(crate) struct LockedArc<P>(Mutex<Arc<P>>);

impl<P: Payload> Shared for LockedArc<P> {
    type Payload = P;

    fn new(value: P) -> Self {
        LockedArc(Mutex::new(Arc::new(value)))
    }

    fn end(&self) -> (P, Option<u64>) {
        (
            **self.0.lock().unwrap_or_else(PoisonError::into_inner),
            None,
        )
    }
}

/// By a copy, under the lock.
pub(crate) struct ByCopy;

impl<P: Payload> Update<LockedArc<P>> for ByCopy {
    const NAME: &'static str = "std Mutex<Arc>, by copy";
    type Writer<'a> = &'a LockedArc<P>;

    fn writer(locked: &LockedArc<P>) -> &LockedArc<P> {
        locked
    }

    #[inline]
    fn update(locked: &mut &LockedArc<P>) -> u64 {
        let mut arc = locked.0.lock().unwrap_or_else(PoisonError::into_inner);
        *arc = Arc::new(arc.next());
        1
    }
}
