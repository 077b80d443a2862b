//! A part of a snapshot that keeps the whole.

use super::node::Held;
use std::ptr::NonNull;

/// A count of a node, and a place in its value.
pub(crate) struct Projection<T, U: ?Sized> {
    held: Held<T>,
    part: NonNull<U>,
}

// SAFETY: it is a `Held<T>`, which is `Send` for these `T`, and a `&U`, which is for these `U`.
unsafe impl<T: Send + Sync, U: ?Sized + Sync> Send for Projection<T, U> {}
// SAFETY: as above: it gives out `&T` and `&U`.
unsafe impl<T: Send + Sync, U: ?Sized + Sync> Sync for Projection<T, U> {}

impl<T, U: ?Sized> Projection<T, U> {
    /// The part that `choose` points out; `None` or a panic of it leaves the count to the caller or
    /// gives it up.
    pub(crate) fn new(
        held: Held<T>,
        choose: impl for<'a> FnOnce(&'a T) -> Option<&'a U>,
    ) -> Result<Self, Held<T>> {
        match choose(held.value()).map(NonNull::from) {
            Some(part) => Ok(Projection { held, part }),
            None => Err(held),
        }
    }

    pub(crate) fn whole(&self) -> &Held<T> {
        &self.held
    }

    #[inline]
    pub(crate) fn part(&self) -> &U {
        // SAFETY: `choose` got the part from a borrow of the value for any lifetime, so the part
        // lives as long as the value, which is immutable, does not move, and is kept by `held`.
        unsafe { self.part.as_ref() }
    }
}

impl<T, U: ?Sized> Clone for Projection<T, U> {
    fn clone(&self) -> Self {
        Projection {
            held: self.held.clone(),
            part: self.part,
        }
    }
}
