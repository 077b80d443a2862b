//! How a transaction is given an entity: borrowed, or by a handle that it keeps.
#![forbid(unsafe_code)]

use super::entity::{Entity, Extras};
use crate::raw;

/// An entity in a transaction: `&entity`, or a handle that the transaction is to keep.
pub trait Target<'e>: sealed::Target<'e> {}

impl<'e, X: sealed::Target<'e>> Target<'e> for X {}

pub(super) mod sealed {
    use super::*;

    /// What a target is.
    pub trait Target<'e> {
        type Value: Send + Sync + 'static;
        type Error: 'static;

        fn entity(&self) -> &Entity<Self::Value, Self::Error>;
        #[expect(private_interfaces, reason = "nobody else can name this trait")]
        fn enter(self) -> raw::Target<'e, Self::Value, Extras<Self::Value, Self::Error>>;
    }

    impl<'e, T: Send + Sync + 'static, E: 'static> Target<'e> for &'e Entity<T, E> {
        type Value = T;
        type Error = E;

        fn entity(&self) -> &Entity<T, E> {
            self
        }

        #[expect(private_interfaces, reason = "nobody else can name this trait")]
        fn enter(self) -> raw::Target<'e, T, Extras<T, E>> {
            raw::Target::Borrowed(&self.0)
        }
    }

    impl<'e, T: Send + Sync + 'static, E: 'static> Target<'e> for Entity<T, E> {
        type Value = T;
        type Error = E;

        fn entity(&self) -> &Entity<T, E> {
            self
        }

        #[expect(private_interfaces, reason = "nobody else can name this trait")]
        fn enter(self) -> raw::Target<'e, T, Extras<T, E>> {
            raw::Target::Owned(self.0)
        }
    }
}
