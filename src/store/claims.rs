//! What is on a map before anybody needs it, and goes when nobody will.
//!
//! An attempt puts there what it is about to give birth to, or has found missing and must be told of. Others
//! find it, and may claim it too. Each claim is a [`Token`]; whose token is the last sees to it that what has
//! remained of no use is ended for good, of which everybody learns who has read it, and taken off the map. So
//! nobody is disturbed by one who gives up, or only looks, while others are at it.
#![forbid(unsafe_code)]

use super::Inner;
use super::builder::IdKind;
use super::id::EntityId;
use super::version::{Node, Slot, is_removed};
use crate::cell::Entity;
use crate::sync::fault::{Fault, planted};
use std::cell::Cell;
use std::sync::{Arc, Weak};

/// A claim.
pub(super) struct Token(Arc<()>);

impl Token {
    pub(super) fn new() -> Self {
        Token(Arc::new(()))
    }

    pub(super) fn claims(&self) -> Claims {
        Claims(Arc::downgrade(&self.0))
    }

    /// Gives it back. Whether it was the last; then there will be no other.
    pub(super) fn ends(self) -> bool {
        Arc::into_inner(self.0).is_some()
    }
}

/// Where what is claimed says so.
#[derive(Clone)]
pub(super) struct Claims(Weak<()>);

impl Claims {
    /// Another one, unless the last was given back.
    pub(super) fn join(&self) -> Option<Token> {
        self.0.upgrade().map(Token)
    }
}

/// What a look at something on a map says of it.
pub(super) enum Found {
    /// It is there, claimed or not.
    Needed,
    Claimed(Token),
    /// It has ended, or whoever had the last token is about to end it.
    Over,
}

impl From<&Claims> for Found {
    fn from(claims: &Claims) -> Self {
        claims.join().map_or(Found::Over, Found::Claimed)
    }
}

/// A claim of an entity on the map that may be born.
pub(super) struct Birth<T: Send + Sync + 'static> {
    store: Arc<Inner<T>>,
    id: EntityId,
    node: Node<T>,
    token: Option<Token>,
}

impl<T: Send + Sync + 'static> Birth<T> {
    /// The entity at an id; with a claim, if it is not born yet.
    pub(super) fn claim(store: &Arc<Inner<T>>, id: &EntityId) -> (Node<T>, Option<Self>) {
        loop {
            let made = Cell::new(None);
            let make = || {
                let token = Token::new();
                let node = store.template.unborn(token.claims());
                made.set(Some(token));
                node
            };
            let node = store.nodes.claim(id, make, is_removed);
            let found = node.read(|slot| match slot {
                Slot::Live(_) => Found::Needed,
                Slot::Unborn(claims) => claims.into(),
                Slot::Nothing => Found::Over,
            });
            match found {
                Found::Needed => return (node, None),
                Found::Claimed(token) => {
                    let birth = Birth {
                        store: Arc::clone(store),
                        id: *id,
                        node: node.clone(),
                        token: Some(token),
                    };
                    return (node, Some(birth));
                }
                // Nobody waits for whoever is to do it.
                Found::Over => store.end_unborn(id, &node),
            }
        }
    }
}

impl<T: Send + Sync + 'static> Inner<T> {
    /// A new id of an entity that is to be on the map.
    pub(super) fn make_id(&self) -> EntityId {
        match self.ids {
            IdKind::Ordered => self.nodes.unplaced(),
            IdKind::Random => EntityId::random(),
        }
    }

    /// A new entity in a place that its id names. Gives the value back if it is to be on the map.
    pub(super) fn insert_placed(self: &Arc<Self>, value: T) -> Result<EntityId, T> {
        if self.ids != IdKind::Ordered {
            return Err(value);
        }
        if self.indexes.is_empty() {
            let placed = self.nodes.insert_new(&self.template, Slot::Live(value));
            return placed.map_err(|slot| match slot {
                Slot::Live(value) => value,
                Slot::Nothing | Slot::Unborn(_) => unreachable!("a value was to be inserted"),
            });
        }
        // With its keys, by a commit; and never, if that panics.
        let token = Token::new();
        let unborn = Slot::Unborn(token.claims());
        let Ok(id) = self.nodes.insert_new(&self.template, unborn) else {
            return Err(value);
        };
        let Some(node) = self.nodes.get(&id) else {
            unreachable!("nobody else knows the id");
        };
        let birth = Birth {
            store: Arc::clone(self),
            id,
            node,
            token: Some(token),
        };
        match self.commit(id, &birth.node, &birth.node.snapshot(), Slot::Live(value)) {
            Ok(_) => Ok(id),
            Err((Slot::Live(value), _)) => Err(value),
            Err((Slot::Nothing | Slot::Unborn(_), _)) => {
                unreachable!("a value was to be committed")
            }
        }
    }
}

/// When it is born, or won't be, whatever has come in between.
impl<T: Send + Sync + 'static> Drop for Birth<T> {
    fn drop(&mut self) {
        if self.token.take().is_some_and(Token::ends) || planted(Fault::ForgetUnborn) {
            self.store.end_unborn(&self.id, &self.node);
        }
    }
}

impl<T: Send + Sync + 'static> Inner<T> {
    /// Has an entity that nobody claims never be born. It is removed for good first, and only then taken off
    /// the map: somebody may have found it there a moment ago.
    fn end_unborn(&self, id: &EntityId, node: &Node<T>) {
        loop {
            let seen = node.snapshot();
            match &*seen {
                Slot::Live(_) => return,
                Slot::Nothing => break,
                Slot::Unborn(_) => {}
            }
            if planted(Fault::ForgetUnborn) {
                let is_it = |other: &Node<T>| Entity::ptr_eq(other, node);
                self.nodes.remove_if(id, is_it);
                return;
            }
            // Otherwise somebody was faster, or it only looks so: who helps an attempt that has failed puts
            // the same in its place.
            if node.try_commit_on(&seen, Slot::Nothing).is_ok() {
                break;
            }
        }
        self.forget(id, node);
    }
}
