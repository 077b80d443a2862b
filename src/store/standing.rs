//! What is known of an entity besides its value: its line, where it came from, whether it is a root.
//!
//! It lies in an entity of its own, so that it can change without a new version of the value; a transaction
//! changes both at one instant. Most entities have none, and are as [`Standing::default_of`] says. So one that
//! says no more than that may be given up at any time.
#![forbid(unsafe_code)]

use super::ancestors::Past;
use super::error::Absent;
use super::id::{EntityId, LineageId};
use super::provenance::Sources;
use super::version::{Node, Slot};
use super::within::Within;
use super::{Inner, Store, Unknown};
use crate::cell::Entity;
use std::cell::Cell;
use std::sync::Arc;

/// See the header of this file.
pub(super) struct Standing<T: Send + Sync + 'static> {
    pub(super) id: EntityId,
    pub(super) lineage: LineageId,
    /// Whether it was made the root of a tree.
    pub(super) is_root: bool,
    /// Whether the entity was removed, which is for ever.
    pub(super) is_ended: bool,
    /// What ties it to others, if anything does.
    pub(super) ties: Option<Arc<Ties<T>>>,
}

impl<T: Send + Sync + 'static> Standing<T> {
    /// That of an entity of which nothing is known: it began a line, and is no root.
    pub(super) fn default_of(id: EntityId) -> Self {
        Standing {
            id,
            lineage: LineageId::of(id),
            is_root: false,
            is_ended: false,
            ties: None,
        }
    }

    /// That of an entity which was removed.
    fn ended(id: EntityId) -> Self {
        Standing {
            is_ended: true,
            ..Standing::default_of(id)
        }
    }

    /// The same, made a root.
    pub(super) fn as_root(&self) -> Self {
        Standing {
            is_root: true,
            ..self.clone()
        }
    }

    /// The same, made part of the tree of a root of that line.
    pub(super) fn as_part_of(&self, lineage: LineageId) -> Self {
        Standing {
            is_root: false,
            lineage,
            ..self.clone()
        }
    }

    /// Its line, unless it began it: the index needn't know that.
    pub(super) fn joined(&self) -> Option<LineageId> {
        (self.lineage.founder() != self.id).then_some(self.lineage)
    }

    /// Whether it says no more than what is said by none.
    pub(super) fn is_default(&self) -> bool {
        self.joined().is_none() && !self.is_root && self.ties.is_none()
    }
}

impl<T: Send + Sync + 'static> Clone for Standing<T> {
    fn clone(&self) -> Self {
        Standing {
            id: self.id,
            lineage: self.lineage,
            is_root: self.is_root,
            is_ended: self.is_ended,
            ties: self.ties.clone(),
        }
    }
}

/// What ties an entity to others.
pub(super) struct Ties<T: Send + Sync + 'static> {
    past: Past<T>,
    sources: Sources,
}

impl<T: Send + Sync + 'static> Ties<T> {
    pub(super) fn of(past: Past<T>) -> Arc<Self> {
        let sources = Sources::new();
        Arc::new(Ties { past, sources })
    }
}

impl<T: Send + Sync + 'static> Standing<T> {
    pub(super) fn past(&self) -> Past<T> {
        let past = self.ties.as_ref().map(|ties| ties.past.clone());
        past.unwrap_or_default()
    }

    pub(super) fn sources(&self) -> Sources {
        let sources = self.ties.as_ref().map(|ties| ties.sources.clone());
        sources.unwrap_or_default()
    }

    pub(super) fn with_past(&self, past: Past<T>) -> Self {
        let sources = self.sources();
        Standing {
            ties: Some(Arc::new(Ties { past, sources })),
            ..self.clone()
        }
    }

    pub(super) fn with_sources(&self, sources: Sources) -> Self {
        let past = self.past();
        Standing {
            ties: Some(Arc::new(Ties { past, sources })),
            ..self.clone()
        }
    }
}

impl<T: Send + Sync + 'static> Inner<T> {
    /// The standing of an entity at this moment.
    pub(super) fn standing(&self, id: &EntityId) -> Standing<T> {
        let standing = self
            .standings
            .look(id, |standing| (*standing.snapshot()).clone());
        standing.unwrap_or_else(|| Standing::default_of(*id))
    }

    /// The standing of an entity, if it is the one at this node, and is there.
    pub(super) fn standing_of(&self, id: &EntityId, node: &Node<T>) -> Option<Standing<T>> {
        let is_it = |other: &Node<T>| Entity::ptr_eq(other, node);
        self.nodes.look(id, is_it).filter(|is_it| *is_it)?;
        let standing = self.standing(id);
        // Removal is for ever. So what was found before is not that of another one, which came after.
        let is_live = node.read(|slot| matches!(slot, Slot::Live(_)));
        is_live.then_some(standing)
    }
}

/// A standing that an attempt has put on the map. The entity may have been removed before, of which the
/// attempt learns at its end. Then nobody else would take it off again.
pub(super) struct Claim<T: Send + Sync + 'static> {
    store: Arc<Inner<T>>,
    id: EntityId,
    standing: Entity<Standing<T>>,
}

/// Only if there is no such entity: while there is one, its removal sees to the standing, and others may be
/// about to commit to it.
impl<T: Send + Sync + 'static> Drop for Claim<T> {
    fn drop(&mut self) {
        let node = |node: &Node<T>| node.read(|slot| slot.live().is_some());
        if self.store.nodes.look(&self.id, node) == Some(true) {
            return;
        }
        loop {
            let seen = self.standing.snapshot();
            if !seen.is_default() {
                return;
            }
            let ended = Standing::ended(self.id);
            if seen.is_ended || self.standing.try_commit_on(&seen, ended).is_ok() {
                break;
            }
        }
        let is_it = |other: &Entity<Standing<T>>| Entity::ptr_eq(other, &self.standing);
        self.store.standings.remove_if(&self.id, is_it);
    }
}

impl<T: Send + Sync + 'static> Claim<T> {
    /// The standing of an entity, made now if there is none; then with the claim, to be dropped when the
    /// attempt is over.
    pub(super) fn of(store: &Arc<Inner<T>>, id: &EntityId) -> (Entity<Standing<T>>, Option<Self>) {
        let is_new = Cell::new(false);
        let make = || {
            is_new.set(true);
            store.template.entity(Standing::default_of(*id))
        };
        let is_ended = |old: &Entity<Standing<T>>| old.read(|standing| standing.is_ended);
        let standing = store.standings.claim(id, make, is_ended);
        let claim = is_new.get().then(|| Claim {
            store: Arc::clone(store),
            id: *id,
            standing: standing.clone(),
        });
        (standing, claim)
    }
}

impl<'t, T: Send + Sync + 'static> Within<'t, '_, T> {
    fn standing_entity(&self, id: &EntityId) -> Entity<Standing<T>> {
        let (standing, claim) = Claim::of(&self.shared(), id);
        if let Some(claim) = claim {
            self.transaction().keep(claim);
        }
        standing
    }

    /// The standing of an entity that is there.
    pub(super) fn standing(&self, id: &EntityId) -> Result<&'t Standing<T>, Absent> {
        self.get(id)?;
        Ok(self.transaction().read(self.standing_entity(id))?)
    }

    /// Has it replaced, and the index of lines follow.
    pub(super) fn set_standing(&self, id: &EntityId, new: Standing<T>) -> Result<(), Absent> {
        let (tx, inner) = (self.transaction(), self.inner());
        let old = self.standing(id)?;
        inner.lineages.follow_in(tx, *id, Some(old), Some(&new))?;
        tx.write(self.standing_entity(id), new);
        Ok(())
    }

    /// Has it forgotten, of an entity that is removed in the same transaction.
    pub(super) fn end_standing(&self, id: &EntityId) -> Result<(), Absent> {
        let (tx, inner) = (self.transaction(), self.inner());
        let standing = self.standing_entity(id);
        let old = tx.read(standing.clone())?;
        inner.lineages.follow_in(tx, *id, Some(old), None)?;
        tx.write(standing, Standing::ended(*id));
        Ok(())
    }
}

impl<T: Send + Sync + 'static> Store<T> {
    /// The line that an entity belongs to.
    ///
    /// # Errors
    /// [`Unknown`].
    pub fn lineage_of(&self, id: &EntityId) -> Result<LineageId, Unknown> {
        self.known_standing(id).map(|standing| standing.lineage)
    }

    /// The standing of an entity that is there.
    pub(super) fn known_standing(&self, id: &EntityId) -> Result<Standing<T>, Unknown> {
        let node = self.0.nodes.get(id).ok_or(Unknown(*id))?;
        self.0.standing_of(id, &node).ok_or(Unknown(*id))
    }

    /// The entities of a line, in the order of their ids: the one that it began with, if it is still there and
    /// has not joined another, and all that were forked from it or joined it.
    #[must_use]
    pub fn lineage(&self, line: LineageId) -> Vec<EntityId> {
        let mut members = self.0.lineages.find(&line).to_vec();
        let founder = line.founder();
        if self.contains(&founder) && self.0.standing(&founder).lineage == line {
            members.push(founder);
        }
        members.sort_unstable();
        members
    }
}
