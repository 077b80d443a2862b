//! What a transaction has read and is to write, the types of its entities forgotten.
//!
//! There is one operation for each entity: the stamp that it must still have, if it was read; the value
//! that is to be written, as a node that nobody else knows; the changes that are to be applied to whatever
//! is current. [`Log::attempt`] puts them in their places under one guard, and has the verdict decide.
//!
//! # Why what is lent stays
//! A read lends a value for as long as the log is borrowed. It lies in a node that the operation holds a
//! count of, or in the draft of an own write; neither is given up before the log is cleared, for which it
//! is borrowed mutably. A draft that was lent and is written over goes to a place of its own until then.
//!
//! # Who owns a draft
//! The operation, unless an attempt has it (`attempt.rs`). An aborted attempt may have shown its nodes to
//! others, who don't look at values of what isn't current; so the value moves to another node.

use super::alternative::Saved;
use super::attempt::Attempted;
use super::block::Handle;
use super::end;
use super::kept::Recorder;
use super::node::{Draft, Header, Held, Node, Seen};
use super::op::{Change, Erased, Folds, Subject, draft_of};
use super::ops::{Ops, give_spare, take_spare};
use super::reclaim::{Reclaim, Reclaimer};
use crate::clock::Reading;
use crate::stamp::Stamp;
use std::cell::{Cell, RefCell, RefMut};
use std::marker::PhantomData;
use std::mem::{self, ManuallyDrop};
use std::ptr::{self, NonNull};

/// An entity that a transaction is about: borrowed, or by a handle that it keeps.
pub(crate) enum Target<'e, T: Send + Sync + 'static, X> {
    Borrowed(&'e Handle<T, X>),
    Owned(Handle<T, X>),
}

impl<T: Send + Sync + 'static, X: Recorder<T>> Target<'_, T, X> {
    /// Forgets the types. A handle that was given is the subject's.
    #[inline(always)]
    fn subject(self) -> Subject {
        let (stem, owns_handle) = match self {
            Target::Borrowed(handle) => (handle.stem(), false),
            Target::Owned(handle) => (ManuallyDrop::new(handle).stem(), true),
        };
        Subject {
            stem,
            of: const { &Erased::<T, X>::OF },
            owns_handle,
        }
    }
}

/// The operations of a transaction.
pub(crate) struct Log<'e> {
    pub(super) ops: ManuallyDrop<Box<RefCell<Ops>>>,
    /// Neither longer nor shorter: it keeps borrows of entities and closures.
    entities: PhantomData<Cell<&'e ()>>,
}

/// Somebody has committed to what the transaction has read.
pub(crate) struct Overtaken;

impl<'e> Log<'e> {
    #[inline]
    pub(crate) fn new() -> Self {
        Log {
            ops: ManuallyDrop::new(take_spare()),
            entities: PhantomData,
        }
    }

    /// How many entities there are.
    pub(crate) fn len(&self) -> usize {
        self.ops.borrow().list.len()
    }

    /// Whether something was read, or is required.
    pub(crate) fn has_reads(&self) -> bool {
        self.ops.borrow().list.iter().any(|op| op.is_read)
    }

    /// The value of an entity as this transaction sees it: what it has written, or what it has read, or
    /// what is current, if that was so at one moment with all that it has read.
    pub(crate) fn read<T, X>(&self, target: Target<'e, T, X>) -> Result<&T, Overtaken>
    where
        T: Send + Sync + 'static,
        X: Recorder<T>,
    {
        let index = self.enter(target);
        let node = match self.kept::<T>(index)? {
            Some(node) => node,
            None => self.hold::<T>(index)?,
        };
        // SAFETY: it has a `T`, since the entity has; it stays until the log is cleared, and is not
        // changed meanwhile: see the header of this file.
        Ok(unsafe { Node::<T>::value_of(Node::of(node)) })
    }

    /// What `look` makes of that value. It runs under a guard, or not.
    #[inline(always)]
    pub(crate) fn look<T, X, R>(
        &self,
        target: Target<'e, T, X>,
        look: impl FnOnce(&T) -> R,
    ) -> Result<R, Overtaken>
    where
        T: Send + Sync + 'static,
        X: Recorder<T>,
    {
        Ok(self.look_and_enter(target, look)?.1)
    }

    /// The same, and which operation is that of the entity.
    #[inline(always)]
    fn look_and_enter<T, X, R>(
        &self,
        target: Target<'e, T, X>,
        look: impl FnOnce(&T) -> R,
    ) -> Result<(usize, R), Overtaken>
    where
        T: Send + Sync + 'static,
        X: Recorder<T>,
    {
        let subject = target.subject();
        let mut ops = self.ops.borrow_mut();
        if let Some(index) = ops.find(subject.stem) {
            subject.give_up();
            drop(ops);
            return Ok((index, self.look_at(index, look)?));
        }
        let guard = Reclaimer::pin();
        let (index, node) = ops.see_first(subject, &guard)?;
        drop(ops);
        // SAFETY: the guard protects it, whose value is a `T`.
        Ok((index, look(unsafe { Node::<T>::value_of(Node::of(node)) })))
    }

    /// Has the value of an entity replaced by what `f` makes of it, as this transaction sees it.
    #[inline(always)]
    pub(crate) fn update<T, X>(
        &self,
        target: Target<'e, T, X>,
        reading: Option<Reading>,
        f: impl FnOnce(&T) -> T,
    ) -> Result<(), Overtaken>
    where
        T: Send + Sync + 'static,
        X: Recorder<T>,
    {
        let (index, value) = self.look_and_enter(target, f)?;
        self.put(self.ops.borrow_mut(), index, reading, value);
        Ok(())
    }

    #[inline(never)]
    fn look_at<T: Send + Sync + 'static, R>(
        &self,
        index: usize,
        look: impl FnOnce(&T) -> R,
    ) -> Result<R, Overtaken> {
        if let Some(node) = self.kept::<T>(index)? {
            // SAFETY: as in `read`.
            return Ok(look(unsafe { Node::<T>::value_of(Node::of(node)) }));
        }
        self.observe::<T, R>(index, |seen| look(seen.value()))
    }

    /// Has the commit depend on an entity being as it is.
    pub(crate) fn require<T, X>(&self, target: Target<'e, T, X>) -> Result<Stamp, Overtaken>
    where
        T: Send + Sync + 'static,
        X: Recorder<T>,
    {
        let index = self.enter(target);
        self.observe::<T, _>(index, |seen| seen.stamp())
    }

    /// Has the commit depend on an entity having a stamp. If that contradicts what is expected already, the
    /// commit will be refused.
    pub(crate) fn expect<T, X>(&self, target: Target<'e, T, X>, stamp: Stamp)
    where
        T: Send + Sync + 'static,
        X: Recorder<T>,
    {
        self.expect_at(self.enter(target), stamp);
    }

    /// As above, of an operation.
    pub(crate) fn expect_at(&self, index: usize, stamp: Stamp) {
        let mut ops = self.ops.borrow_mut();
        let ops = &mut *ops;
        let op = &mut ops.list[index];
        if op.is_read && op.expected != stamp {
            ops.contradictions.push((index, stamp));
        } else {
            op.expected = stamp;
            op.is_read = true;
        }
    }

    /// Has the value of an entity replaced, whatever it is then. Which operation that is.
    #[inline(always)]
    pub(crate) fn write<T, X>(
        &self,
        target: Target<'e, T, X>,
        reading: Option<Reading>,
        value: T,
    ) -> usize
    where
        T: Send + Sync + 'static,
        X: Recorder<T>,
    {
        let mut ops = self.ops.borrow_mut();
        let index = ops.enter(target.subject());
        self.put(ops, index, reading, value);
        index
    }

    /// Has the current value of an entity changed by `f`, whatever it is then.
    pub(crate) fn fold<T, X>(
        &self,
        target: Target<'e, T, X>,
        reading: Option<Reading>,
        f: impl Fn(&T) -> T + 'e,
    ) where
        T: Send + Sync + 'static,
        X: Recorder<T>,
    {
        let index = self.enter(target);
        let draft = {
            let mut ops = self.ops.borrow_mut();
            let op = &mut ops.list[index];
            op.reading = reading;
            if op.change.folds_len > 0 {
                ptr::null_mut()
            } else {
                op.change.draft
            }
        };
        if let Some(draft) = NonNull::new(draft) {
            // SAFETY: the draft is the operation's, and nothing that `f` can reach changes the log.
            let value = f(unsafe { Node::<T>::value_of(Node::of(draft)) });
            self.put(self.ops.borrow_mut(), index, reading, value);
            return;
        }
        let mut ops = self.ops.borrow_mut();
        let ops = &mut *ops;
        ops.is_special = true;
        let op = &mut ops.list[index];
        if ops.depth > 0 {
            ops.journal.push(Saved {
                index,
                of: op.of,
                // Only the number: the closures stay where they are.
                change: Change {
                    folds_len: op.change.folds_len,
                    ..Change::NONE
                },
            });
        }
        if op.change.folds.is_null() {
            op.change.folds = Box::into_raw(Box::new(Folds::<'e, T>::new())).cast();
        }
        // SAFETY: the operation's closures are for values of its entity, which is one of `T`, and live as
        // long as 'e.
        let folds = unsafe { &mut *op.change.folds.cast::<Folds<'e, T>>() };
        folds.truncate(op.change.folds_len as usize);
        folds.push(Box::new(f));
        op.change.folds_len = folds.len() as u32;
    }

    /// The operation of an entity, made now if there is none.
    #[inline]
    fn enter<T, X>(&self, target: Target<'e, T, X>) -> usize
    where
        T: Send + Sync + 'static,
        X: Recorder<T>,
    {
        self.ops.borrow_mut().enter(target.subject())
    }

    /// Looks at what is current of an entity, and has the commit depend on it.
    fn observe<T: Send + Sync + 'static, R>(
        &self,
        index: usize,
        look: impl FnOnce(Seen<'_, T>) -> R,
    ) -> Result<R, Overtaken> {
        let guard = Reclaimer::pin();
        let node = self.ops.borrow_mut().see(index, &guard)?;
        // SAFETY: (1) it was loaded under the guard, (2) from a head that the log keeps.
        Ok(look(unsafe { Seen::new(Node::of(node)) }))
    }

    /// Looks at what is current of an entity, and keeps it.
    fn hold<T: Send + Sync + 'static>(&self, index: usize) -> Result<NonNull<Header>, Overtaken> {
        let held = self.observe::<T, _>(index, |seen| seen.hold())?;
        let held = held.into_raw().cast();
        self.ops.borrow_mut().list[index].held = held.as_ptr();
        Ok(held)
    }

    /// The node of an own write, or of what is held; it is lent from now on.
    #[inline]
    fn kept<T: Send + Sync + 'static>(
        &self,
        index: usize,
    ) -> Result<Option<NonNull<Header>>, Overtaken> {
        if self.ops.borrow().list[index].change.folds_len > 0 {
            self.unfold::<T>(index)?;
        }
        let op = &mut self.ops.borrow_mut().list[index];
        op.change.is_lent |= !op.change.draft.is_null();
        Ok(NonNull::new(op.change.draft).or(NonNull::new(op.held)))
    }

    /// Turns changes that were to be applied later into a value that is to be written.
    #[cold]
    fn unfold<T: Send + Sync + 'static>(&self, index: usize) -> Result<(), Overtaken> {
        let (of, folds, len, held) = {
            let op = &self.ops.borrow().list[index];
            (op.of, op.change.folds, op.change.folds_len, op.held)
        };
        let held = match NonNull::new(held) {
            Some(held) => held,
            None => self.hold::<T>(index)?,
        };
        // SAFETY: (1) they are the operation's; (2) it holds the node.
        let draft = unsafe { (of.fold)(folds, len, held) };
        self.replace_change(index, draft);
        Ok(())
    }

    /// Has a value written.
    #[inline(always)]
    fn put<T: Send + Sync + 'static>(
        &self,
        mut ops: RefMut<'_, Ops>,
        index: usize,
        reading: Option<Reading>,
        value: T,
    ) {
        let is_outermost = ops.depth == 0;
        let op = &mut ops.list[index];
        if reading.is_some() {
            op.reading = reading;
        }
        if is_outermost && op.change.is_empty() {
            op.change.draft = draft_of(value).as_ptr();
            return;
        }
        drop(ops);
        self.put_over(index, value);
    }

    /// The same, over what was written before.
    #[inline(never)]
    fn put_over<T: Send + Sync + 'static>(&self, index: usize, value: T) {
        let draft = {
            let ops = self.ops.borrow();
            let change = &ops.list[index].change;
            if ops.depth == 0 && !change.is_lent && change.folds.is_null() {
                change.draft
            } else {
                ptr::null_mut()
            }
        };
        if let Some(draft) = NonNull::new(draft) {
            // SAFETY: nobody else refers to the draft, whose value is a `T`.
            let place = unsafe { Node::<T>::value_mut(Node::of(draft)) };
            let before = mem::replace(place, value);
            end::quietly(|| drop(before));
        } else {
            self.replace_change(index, draft_of(value));
        }
    }

    fn replace_change(&self, index: usize, draft: NonNull<Header>) {
        let mut ops = self.ops.borrow_mut();
        let ops = &mut *ops;
        let op = &mut ops.list[index];
        let change = Change {
            draft: draft.as_ptr(),
            ..Change::NONE
        };
        let before = mem::replace(&mut op.change, change);
        if ops.depth > 0 || !before.is_empty() {
            // It may have been lent, or be needed again.
            ops.journal.push(Saved {
                index,
                of: op.of,
                change: before,
            });
        }
    }

    /// Whether what was read is consistent: asked before anything is believed that was computed from it.
    pub(crate) fn is_consistent(&self) -> bool {
        if self.is_doomed() {
            return false;
        }
        if self.reads() < 2 {
            return true;
        }
        matches!(self.validate(1), Attempted::Committed)
    }

    /// Whether something that was read has changed, as a read has found out.
    #[inline]
    pub(crate) fn is_doomed(&self) -> bool {
        self.ops.borrow().is_doomed
    }

    /// Has what is current of an entity held, and nobody change it, at the moment of the commit.
    pub(crate) fn hold_at_commit<T, X>(&self, target: Target<'e, T, X>)
    where
        T: Send + Sync + 'static,
        X: Recorder<T>,
    {
        let mut ops = self.ops.borrow_mut();
        let index = ops.enter(target.subject());
        ops.list[index].holds_current = true;
        ops.is_special = true;
    }

    /// What is held of an entity.
    pub(crate) fn held<T, X>(&self, handle: &Handle<T, X>) -> Option<Held<T>>
    where
        T: Send + Sync + 'static,
    {
        let mut ops = self.ops.borrow_mut();
        let index = ops.find(handle.stem())?;
        let held = NonNull::new(ops.list[index].held)?;
        // SAFETY: the operation has a count of the node, whose value is a `T` as the entity's is.
        let held = ManuallyDrop::new(unsafe { Held::<T>::from_raw(Node::of(held)) });
        Some((*held).clone())
    }

    /// Takes back the value that was to be written to an entity.
    pub(crate) fn take_value<T, X>(&mut self, handle: &Handle<T, X>) -> Option<T>
    where
        T: Send + Sync + 'static,
    {
        let ops = self.ops.get_mut();
        let index = ops.find(handle.stem())?;
        let op = &mut ops.list[index];
        if op.change.folds_len > 0 {
            return None;
        }
        let draft = NonNull::new(mem::replace(&mut op.change.draft, ptr::null_mut()))?;
        // SAFETY: (1) it was the operation's, of a `T`, and is not published.
        Some(unsafe { Draft::<T>::from_raw(Node::of(draft)) }.empty().0)
    }

    /// Which operation is that of an entity.
    pub(crate) fn index_of<T, X>(&self, handle: &Handle<T, X>) -> Option<usize>
    where
        T: Send + Sync + 'static,
    {
        self.ops.borrow_mut().find(handle.stem())
    }

    /// The stamp that an entity got by the commit.
    pub(crate) fn stamp_of<T, X>(&self, handle: &Handle<T, X>) -> Option<Stamp>
    where
        T: Send + Sync + 'static,
    {
        let mut ops = self.ops.borrow_mut();
        let index = ops.find(handle.stem())?;
        let op = &ops.list[index];
        op.is_placed.then(|| Stamp::new(op.version, ops.time))
    }

    /// Forgets everything.
    #[inline]
    pub(crate) fn clear(&mut self) {
        // Borrowed mutably, so nothing is lent.
        self.ops.get_mut().clear();
    }
}

impl Drop for Log<'_> {
    #[inline]
    fn drop(&mut self) {
        self.clear();
        // SAFETY: it is not used any more: this is the end of the log.
        give_spare(unsafe { ManuallyDrop::take(&mut self.ops) });
    }
}
