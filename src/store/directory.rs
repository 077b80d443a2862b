//! Which entity is at an id.
//!
//! An id that the store makes says where its entity lies: its lowest 32 bits are the number of a place in an
//! arena, mixed with a number of the store's own. A look by it goes there, and sees whether this is the one.
//! All other ids, and those whose place is somebody else's by now, go by a map.
//!
//! An id has a place once at most, from the moment that it is made to the removal of its entity. So whoever
//! puts an entity on the map, under an id which has been removed from its place, only has to see to it first
//! that nobody finds it there any more.
#![forbid(unsafe_code)]

use super::id::EntityId;
use super::version::{Node, Slot, Template};
use crate::cell::{EntityArena, Lent};
use crate::sync::fault::{Fault, planted};
use crate::sync::map::Map;

/// See the header of this file.
pub(super) struct Directory<T: Send + Sync + 'static> {
    arena: EntityArena<Slot<T>>,
    others: Map<EntityId, Node<T>>,
    /// So that what another store has made leads nowhere here, as a rule.
    salt: u32,
}

impl<T: Send + Sync + 'static> Directory<T> {
    pub(super) fn new() -> Self {
        Directory {
            arena: EntityArena::new(),
            others: Map::new(),
            salt: fastrand::u32(..),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.arena.len() + self.others.len()
    }

    /// A new entity with a new id, one that begins with the time. Gives the value back if there is no place.
    pub(super) fn insert_new(
        &self,
        template: &Template,
        slot: Slot<T>,
    ) -> Result<EntityId, Slot<T>> {
        let Some(vacancy) = self.arena.take() else {
            return Err(slot);
        };
        let id = EntityId::at(vacancy.number() ^ self.salt);
        template.begin_in(vacancy, id.to_bits(), slot);
        Ok(id)
    }

    /// A new id that begins with the time, of an entity that is to be on the map. Its place is one that there
    /// hardly ever is.
    pub(super) fn unplaced(&self) -> EntityId {
        EntityId::at((fastrand::u32(..) | 1 << 31) ^ self.salt)
    }

    /// The entity at the place that the id names, under a guard, if it is there.
    #[inline(always)]
    pub(super) fn in_arena(&self, id: &EntityId) -> Option<Lent<'_, Node<T>>> {
        self.arena.find(id.place()? ^ self.salt, id.to_bits())
    }

    /// Has nobody find an entity any more at the place that its id names.
    fn leave_arena(&self, id: &EntityId) -> bool {
        let place = id.place();
        place.is_some_and(|place| self.arena.unname(place ^ self.salt, id.to_bits()))
    }

    /// What `look` makes of the entity at an id, if there is one. It runs under guards.
    #[inline]
    pub(super) fn look<R>(&self, id: &EntityId, look: impl FnOnce(&Node<T>) -> R) -> Option<R> {
        match self.in_arena(id) {
            Some(node) => Some(look(&node)),
            None => self.others.look(id, look),
        }
    }

    /// What `look` makes of what is at an id, if there is an entity.
    #[inline]
    pub(super) fn read<R>(&self, id: &EntityId, look: impl FnOnce(&Slot<T>) -> R) -> Option<R> {
        match self.in_arena(id) {
            Some(node) => Some(node.read(look)),
            None => self.others.look(id, |node| node.read(look)),
        }
    }

    pub(super) fn get(&self, id: &EntityId) -> Option<Node<T>> {
        self.look(id, Node::clone)
    }

    /// The entity at the place that the id names, unless it `is_dead`: then it is no more found there.
    fn alive_in_arena(&self, id: &EntityId, is_dead: impl Fn(&Node<T>) -> bool) -> Option<Node<T>> {
        let alive = {
            let node = self.in_arena(id)?;
            (!is_dead(&node)).then(|| Node::clone(&node))
        };
        if alive.is_none() && !planted(Fault::StayInArena) {
            self.leave_arena(id);
        }
        alive
    }

    /// Puts an entity where there is none, or one that `is_dead`. Gives it back where there is another.
    pub(super) fn insert(
        &self,
        id: EntityId,
        node: Node<T>,
        is_dead: impl Fn(&Node<T>) -> bool,
    ) -> Result<(), Node<T>> {
        match self.alive_in_arena(&id, &is_dead) {
            Some(_) => Err(node),
            None => self.others.insert(id, node, is_dead),
        }
    }

    /// The entity, or a new one where there is none, or one that `is_dead`.
    pub(super) fn claim(
        &self,
        id: &EntityId,
        make: impl Fn() -> Node<T>,
        is_dead: impl Fn(&Node<T>) -> bool,
    ) -> Node<T> {
        let alive = self.alive_in_arena(id, &is_dead);
        alive.unwrap_or_else(|| self.others.claim(id, make, is_dead))
    }

    /// Takes out the entity at an id, if it `is_it`.
    pub(super) fn remove_if(&self, id: &EntityId, is_it: impl Fn(&Node<T>) -> bool) -> bool {
        match self.in_arena(id).is_some_and(|node| is_it(&node)) {
            true => self.leave_arena(id),
            false => self.others.remove_if(id, is_it),
        }
    }

    /// Everything that was there all the while, and some of what wasn't.
    pub(super) fn entries(&self) -> Vec<(EntityId, Node<T>)> {
        let mut entries = self
            .arena
            .each(|name, node| (EntityId::from_bits(name), node));
        entries.extend(self.others.entries());
        entries
    }
}
