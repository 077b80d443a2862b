//! The crate itself.
//!
//! An entity has the monotonic clock, as it is by default, or the logical one, which reads no time.

use super::{MANY, Read, Shared, Update};
use crate::payload::Payload;
use snapcell::{Clock, Entity, Reader};

impl<P: Payload> Shared for Entity<P> {
    type Payload = P;

    fn new(value: P) -> Self {
        Entity::new(value)
    }

    fn end(&self) -> (P, Option<u64>) {
        let last = self.snapshot();
        (*last, Some(last.stamp().version()))
    }
}

/// An entity with the logical clock.
pub(crate) struct Logical<P: Payload>(Entity<P>);

impl<P: Payload> Shared for Logical<P> {
    type Payload = P;

    fn new(value: P) -> Self {
        Logical(Entity::builder(value).clock(Clock::logical()).build())
    }

    fn end(&self) -> (P, Option<u64>) {
        self.0.end()
    }
}

/// `update`.
pub(crate) struct Updating;

impl<P: Payload> Update<Entity<P>> for Updating {
    const NAME: &'static str = "snapcell update";
    type Writer<'a> = &'a Entity<P>;

    fn writer(entity: &Entity<P>) -> &Entity<P> {
        entity
    }

    #[inline]
    fn update(entity: &mut &Entity<P>) -> u64 {
        entity.update(P::next).attempts().into()
    }
}

impl<P: Payload> Update<Logical<P>> for Updating {
    const NAME: &'static str = "snapcell update, logical clock";
    type Writer<'a> = &'a Entity<P>;

    fn writer(logical: &Logical<P>) -> &Entity<P> {
        &logical.0
    }

    #[inline]
    fn update(entity: &mut &Entity<P>) -> u64 {
        entity.update(P::next).attempts().into()
    }
}

/// `modify`, in place of a clone that lies in the new node already.
pub(crate) struct Modifying;

impl<P: Payload> Update<Entity<P>> for Modifying {
    const NAME: &'static str = "snapcell modify";
    type Writer<'a> = &'a Entity<P>;

    fn writer(entity: &Entity<P>) -> &Entity<P> {
        entity
    }

    #[inline]
    fn update(entity: &mut &Entity<P>) -> u64 {
        entity.modify(P::bump).attempts().into()
    }
}

/// A `Reader` of one's own.
pub(crate) struct Cached;

impl<P: Payload> Read<Entity<P>> for Cached {
    const NAME: &'static str = "snapcell Reader";
    type Reader<'a> = Reader<P>;

    fn reader(entity: &Entity<P>) -> Reader<P> {
        entity.reader()
    }

    #[inline]
    fn read(reader: &mut Reader<P>, mut look: impl FnMut(&P)) {
        look(reader.get());
    }
}

/// `load`, under one guard for as many reads as are made in a row.
pub(crate) struct Loading;

impl<P: Payload> Read<Entity<P>> for Loading {
    const NAME: &'static str = "snapcell load, a guard for 64";
    type Reader<'a> = &'a Entity<P>;

    fn reader(entity: &Entity<P>) -> &Entity<P> {
        entity
    }

    #[inline]
    fn read(entity: &mut &Entity<P>, mut look: impl FnMut(&P)) {
        look(&entity.load(&snapcell::pin()));
    }

    #[inline]
    fn read_many(entity: &mut &Entity<P>, mut look: impl FnMut(&P)) {
        let guard = snapcell::pin();
        for _ in 0..MANY {
            look(&entity.load(&guard));
        }
    }
}

/// `read`, with a pin for each.
pub(crate) struct Reading;

impl<P: Payload> Read<Entity<P>> for Reading {
    const NAME: &'static str = "snapcell read";
    type Reader<'a> = &'a Entity<P>;

    fn reader(entity: &Entity<P>) -> &Entity<P> {
        entity
    }

    #[inline]
    fn read(entity: &mut &Entity<P>, look: impl FnMut(&P)) {
        entity.read(look);
    }
}

/// `snapshot`, dropped after the look.
pub(crate) struct Snapping;

impl<P: Payload> Read<Entity<P>> for Snapping {
    const NAME: &'static str = "snapcell snapshot";
    type Reader<'a> = &'a Entity<P>;

    fn reader(entity: &Entity<P>) -> &Entity<P> {
        entity
    }

    #[inline]
    fn read(entity: &mut &Entity<P>, mut look: impl FnMut(&P)) {
        look(&entity.snapshot());
    }
}
