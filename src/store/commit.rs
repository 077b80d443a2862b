//! Changes of one entity from outside of a transaction.
//!
//! Where no key changes a change is a commit at the head of the entity. Where keys come or go it is a transaction of
//! precomputed changes, of the entity and the buckets of these keys.
#![forbid(unsafe_code)]

use super::Inner;
use super::error::{StoreError, StoreRefusal, Unknown};
use super::id::EntityId;
use super::index::Step;
use super::version::{Node, Slot, Version};
use crate::cell::{Backoff, Changes, Retry, Snapshot, UpdateError, transaction, try_transaction};
use crate::stamp::Stamp;
use crate::sync::fault::{Fault, planted};

impl<T: Send + Sync + 'static> Inner<T> {
    /// Whether a change of the value changes keys.
    #[inline]
    fn is_moved(&self, old: &T, new: &T) -> bool {
        self.indexes.iter().any(|index| index.is_moved(old, new))
    }

    /// Replaces the value of the entity at an id by what `f` makes of it.
    #[inline]
    pub(super) fn update_at<F: From<Unknown>>(
        &self,
        id: &EntityId,
        mut f: impl FnMut(&T) -> Result<T, F>,
    ) -> Result<Stamp, F> {
        let Some(node) = self.nodes.in_arena(id) else {
            let updated = self.nodes.look(id, |node| self.update(*id, node, f));
            return updated.unwrap_or_else(|| Err(F::from(Unknown(*id))));
        };
        match self.update_once(*id, &node, Retry::at_most(0), &mut f) {
            Ok(stamp) => Ok(stamp),
            Err(Left::Refused(refusal)) => Err(refusal),
            // The rest by a handle, since the guard would be in everybody's way for as long as it takes.
            Err(left) => {
                let kept = Node::clone(&node);
                drop(node);
                self.go_on(*id, &kept, &left, f)
            }
        }
    }

    /// What is left of an update after an attempt.
    #[cold]
    #[inline(never)]
    fn go_on<F: From<Unknown>>(
        &self,
        id: EntityId,
        node: &Node<T>,
        left: &Left<F>,
        f: impl FnMut(&T) -> Result<T, F>,
    ) -> Result<Stamp, F> {
        match left {
            Left::Moved => self.update_moved(id, node, f),
            _ => self.update(id, node, f),
        }
    }

    /// Replaces the value at a node by what `f` makes of it.
    #[inline]
    pub(super) fn update<F: From<Unknown>>(
        &self,
        id: EntityId,
        node: &Node<T>,
        mut f: impl FnMut(&T) -> Result<T, F>,
    ) -> Result<Stamp, F> {
        match self.update_once(id, node, Retry::unbounded(), &mut f) {
            Ok(stamp) => Ok(stamp),
            Err(Left::Refused(refusal)) => Err(refusal),
            Err(left) => self.go_on(id, node, &left, f),
        }
    }

    /// The same by so many attempts, where no key changes.
    #[inline(always)]
    fn update_once<F: From<Unknown>>(
        &self,
        id: EntityId,
        node: &Node<T>,
        retry: Retry,
        f: &mut impl FnMut(&T) -> Result<T, F>,
    ) -> Result<Stamp, Left<F>> {
        let change = |slot: &Slot<T>| {
            let Slot::Live(old) = slot else {
                return Err(Left::Refused(F::from(Unknown(id))));
            };
            let new = f(old).map_err(Left::Refused)?;
            match self.is_moved(old, &new) {
                false => Ok(Some(Slot::Live(new))),
                true => Err(Left::Moved),
            }
        };
        match node.try_update_with(retry, change) {
            Ok(updated) => Ok(updated.stamp()),
            Err(UpdateError::Exhausted { .. }) => Err(Left::Lost),
            Err(error) => Err(error.into_refusal()),
        }
    }

    /// The same, where keys change.
    #[cold]
    fn update_moved<F: From<Unknown>>(
        &self,
        id: EntityId,
        node: &Node<T>,
        mut f: impl FnMut(&T) -> Result<T, F>,
    ) -> Result<Stamp, F> {
        let mut backoff = Backoff::new();
        loop {
            let base = node.snapshot();
            let value = f(base.live().ok_or(Unknown(id))?)?;
            match self.commit(id, node, &base, Slot::Live(value)) {
                Ok(stamp) => return Ok(stamp),
                Err((_, Lost::Conflict)) => backoff.lost(),
                Err((_, Lost::VersionLimit)) => panic!("the version of {id} is at its end"),
            }
        }
    }

    /// Replaces the value at a node, if it still has the stamp that is expected, if one is.
    pub(super) fn try_commit(
        &self,
        id: EntityId,
        node: &Node<T>,
        expected: Option<Stamp>,
        proposed: T,
    ) -> Result<Stamp, StoreError<T>> {
        let mut proposed = proposed;
        let mut backoff = Backoff::new();
        loop {
            let base = node.snapshot();
            let Some(current) = Version::new(id, base.clone()) else {
                return Err(StoreError::unknown(proposed, id));
            };
            if let Some(expected) = expected.filter(|expected| *expected != base.stamp()) {
                let refusal = StoreRefusal::Conflict { expected, current };
                return Err(StoreError::new(proposed, refusal));
            }
            match self.commit(id, node, &base, Slot::Live(proposed)) {
                Ok(stamp) => return Ok(stamp),
                Err((Slot::Live(value), Lost::Conflict)) => proposed = value,
                Err((Slot::Live(value), Lost::VersionLimit)) => {
                    return Err(StoreError::new(value, StoreRefusal::VersionLimit(id)));
                }
                Err((Slot::Nothing | Slot::Unborn(_), _)) => {
                    unreachable!("a value was to be committed")
                }
            }
            backoff.lost();
        }
    }

    /// Replaces what is at a node, if it is `base`, and has the indexes follow. One attempt, as far as the
    /// node is concerned.
    pub(super) fn commit(
        &self,
        id: EntityId,
        node: &Node<T>,
        base: &Snapshot<Slot<T>>,
        proposed: Slot<T>,
    ) -> Result<Stamp, (Slot<T>, Lost)> {
        let is_moved = match (base.live(), proposed.live()) {
            (Some(old), Some(new)) => self.is_moved(old, new),
            _ => !self.indexes.is_empty(),
        };
        if is_moved && !planted(Fault::IndexAfterwards) {
            return self.commit_with_keys(id, node, base, proposed);
        }
        let result = match node.try_commit_on(base, proposed) {
            Ok(committed) => Ok(committed.stamp()),
            Err(error) if error.is_conflict() => Err((error.into_proposed(), Lost::Conflict)),
            Err(error) => Err((error.into_proposed(), Lost::VersionLimit)),
        };
        if planted(Fault::IndexAfterwards) {
            let now = node.snapshot();
            transaction(|tx| {
                let mut indexes = self.indexes.iter();
                indexes.try_for_each(|index| index.follow(tx, id, base.live(), now.live()))
            });
        }
        result
    }

    /// The same, by a transaction of the node and the buckets of all keys that come or go.
    fn commit_with_keys(
        &self,
        id: EntityId,
        node: &Node<T>,
        base: &Snapshot<Slot<T>>,
        mut proposed: Slot<T>,
    ) -> Result<Stamp, (Slot<T>, Lost)> {
        let mut backoff = Backoff::new();
        loop {
            let mut changes = Changes::new();
            let step = Step {
                id,
                old: base.live(),
                new: proposed.live(),
            };
            for index in &self.indexes {
                changes = index.plan(changes, std::slice::from_ref(&step));
            }
            let changes = changes.write(node.clone(), base.stamp(), proposed);
            let refused = match try_transaction(changes) {
                Ok(done) => return Ok(done.stamp(node).unwrap_or_else(|| base.stamp())),
                Err(refused) => refused,
            };
            let is_over = refused.is_about(node);
            let lost = match refused.is_conflict() {
                true => Lost::Conflict,
                false => Lost::VersionLimit,
            };
            let value = refused.into_changes().take(node);
            proposed = value.unwrap_or_else(|| unreachable!("all values are given back"));
            if is_over {
                return Err((proposed, lost));
            }
            // Another entity was faster at a bucket.
            backoff.lost();
        }
    }
}

/// Why an update is not one of the entity alone.
enum Left<F> {
    Refused(F),
    /// Keys change as well.
    Moved,
    /// Others were faster.
    Lost,
}

/// Why a commit was not made.
pub(super) enum Lost {
    Conflict,
    VersionLimit,
}
