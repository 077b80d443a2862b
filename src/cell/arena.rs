//! Entities side by side, each found by its number and its name: what `raw/arena.rs` is about.
#![forbid(unsafe_code)]

use super::entity::{Builder, Entity, Extras};
use crate::raw::{Arena, Draft, Lent, Vacancy as RawVacancy};
use std::convert::Infallible;

/// The entities of an arena. While they have a name, each can be looked at by it.
pub(crate) struct EntityArena<T: Send + Sync + 'static>(Arena<T, Extras<T, Infallible>>);

impl<T: Send + Sync + 'static> EntityArena<T> {
    pub(crate) fn new() -> Self {
        EntityArena(Arena::new())
    }

    /// How many have a name.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// A place for an entity, unless all numbers are taken.
    pub(crate) fn take(&self) -> Option<Vacancy<'_, T>> {
        self.0.take().map(Vacancy)
    }

    /// The entity of this name in this place, under a guard, if it is there.
    #[inline]
    pub(crate) fn find(&self, number: u32, name: u128) -> Option<Lent<'_, Entity<T>>> {
        self.0.find(number, name, Entity)
    }

    /// Takes the name from an entity, for ever. Whether it had it, and nobody was faster. The entity lives on
    /// through handles.
    pub(crate) fn unname(&self, number: u32, name: u128) -> bool {
        self.0.unname(number, name)
    }

    /// What `each` makes of all that have a name all the while, and of some of the others.
    pub(crate) fn each<R>(&self, each: impl FnMut(u128, Entity<T>) -> R) -> Vec<R> {
        self.0.each(Entity, each)
    }
}

impl<T: Send + Sync + 'static> Lent<'_, Entity<T>> {
    /// As [`Entity::read`], under the guard that is there.
    #[inline]
    pub(crate) fn read<R>(&self, look: impl FnOnce(&T) -> R) -> R {
        let head = self.head();
        let seen = head.load_at_once(self.guard());
        look(
            seen.unwrap_or_else(|| self.head().load(self.guard()))
                .value(),
        )
    }
}

/// A place for an entity.
pub(crate) struct Vacancy<'s, T: Send + Sync + 'static>(RawVacancy<'s, T, Extras<T, Infallible>>);

impl<T: Send + Sync + 'static> Vacancy<'_, T> {
    /// Its number.
    pub(crate) fn number(&self) -> u32 {
        self.0.number()
    }

    /// Has an entity begin there, as by [`Entity::new`], under a name that no other one had or will have.
    pub(crate) fn fill(self, name: u128, value: T) {
        let place = Entity::<T>::birth_place();
        self.0.fill(name, Draft::new(place, value), None);
    }

    /// The same, as by [`Builder::build`].
    pub(crate) fn fill_by(self, name: u128, builder: Builder<T>) {
        match builder.parts() {
            Ok((first, extras)) => self.0.fill(name, first, Some(extras)),
            Err(invalid) => match invalid.error {},
        }
    }
}

/// An arena by its bare operations, for this crate's own models. Nothing here is stable.
#[doc(hidden)]
#[allow(missing_debug_implementations, reason = "nobody prints it")]
pub struct ArenaParts<T: Send + Sync + 'static>(EntityArena<T>);

impl<T: Send + Sync + 'static> Default for ArenaParts<T> {
    fn default() -> Self {
        ArenaParts(EntityArena::new())
    }
}

impl<T: Send + Sync + 'static> ArenaParts<T> {
    /// A new entity. Where it lies.
    pub fn begin(&self, name: u128, value: T) -> u32 {
        let Some(vacancy) = self.0.take() else {
            unreachable!("no model has so many");
        };
        let number = vacancy.number();
        vacancy.fill(name, value);
        number
    }

    /// The same, and while it is made there is another place, for an entity that doesn't come to be.
    pub fn begin_beside(&self, name: u128, value: T) -> u32 {
        let _beside = self.0.take();
        self.begin(name, value)
    }

    /// Looks at an entity.
    pub fn read<R>(&self, number: u32, name: u128, look: impl FnOnce(&T) -> R) -> Option<R> {
        self.0.find(number, name).map(|lent| lent.read(look))
    }

    /// A handle of an entity.
    pub fn handle(&self, number: u32, name: u128) -> Option<Entity<T>> {
        self.0.find(number, name).map(|lent| Entity::clone(&lent))
    }

    /// Takes the name from an entity.
    pub fn unname(&self, number: u32, name: u128) -> bool {
        self.0.unname(number, name)
    }

    /// How many have a name, and their names.
    pub fn names(&self) -> (usize, Vec<u128>) {
        (self.0.len(), self.0.each(|name, _| name))
    }
}

#[cfg(all(test, not(any(snapcell_model, snapcell_epoch_model, snapcell_shuttle))))]
mod tests {
    use super::ArenaParts;
    use crate::cell::reclaim;

    const HIGH: u128 = 7 << 64;

    /// An id may come from anywhere, and say anything.
    #[test]
    fn nothing_has_half_a_name() {
        let arena = ArenaParts::default();
        let number = arena.begin(HIGH | 1, "here");
        assert_eq!(arena.read(number, HIGH, |value| *value), None);
        assert!(arena.unname(number, HIGH | 1));
        reclaim();
        for name in [0, 1, HIGH, HIGH | 1] {
            assert_eq!(arena.read(number, name, |value| *value), None);
            assert!(arena.handle(number, name).is_none() && !arena.unname(number, name));
        }
        assert_eq!(arena.names(), (0, vec![]));
    }

    #[test]
    fn no_number_is_too_large() {
        let arena = ArenaParts::<u8>::default();
        for number in [
            0,
            1,
            63,
            64,
            1 << 31,
            u32::MAX - 64,
            u32::MAX - 63,
            u32::MAX,
        ] {
            assert!(arena.read(number, 1, |value| *value).is_none());
            assert!(!arena.unname(number, 1));
        }
    }

    #[test]
    fn entries_are_used_again() {
        let arena = ArenaParts::default();
        let mut most = 0;
        for name in 1..10_000 {
            let number = arena.begin(name, name);
            most = most.max(number);
            assert_eq!(arena.read(number, name, |value| *value), Some(name));
            assert!(arena.unname(number, name));
        }
        assert!(most < 5_000, "{most}");
    }

    #[test]
    fn an_entity_outlives_its_name_and_its_arena() {
        let arena = ArenaParts::default();
        let kept: Vec<_> = (1..1_000_u128)
            .map(|name| {
                let number = arena.begin(name, name);
                let entity = arena.handle(number, name).expect("it is there");
                assert!(name % 2 == 0 || arena.unname(number, name));
                entity
            })
            .collect();
        assert_eq!(arena.names().0, 499);
        drop(arena);
        reclaim();
        for (entity, name) in kept.iter().zip(1..) {
            entity.update(|value| value + 1);
            assert_eq!(*entity.snapshot(), name + 1);
        }
    }
}
