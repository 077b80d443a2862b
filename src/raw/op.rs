//! What a transaction is to do with one entity, its types forgotten.
//!
//! An operation points to what belongs to it: a count of a node that was read, a node with a value that is
//! to be written and that nobody else knows, closures, a handle. What has to be done with these is said by
//! functions for the entity's types (`OfType`).

use super::block::{Handle, Stem};
use super::drive::Settled;
use super::end;
use super::kept::Recorder;
use super::node::{Draft, Header, Held, Node, Place, Seen};
use super::reclaim::Guard;
use super::retired::Releaser;
use super::verdict::{self, Kind};
use crate::clock::Reading;
use crate::stamp::Stamp;
use crate::sync::event::Event;
use crate::sync::fault::{Fault, planted};
use crate::sync::orderings::site;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ptr::{self, NonNull};

/// An entity that an operation is about, its types forgotten.
pub(super) struct Subject {
    pub(super) stem: NonNull<Stem>,
    pub(super) of: &'static OfType,
    pub(super) owns_handle: bool,
}

impl Subject {
    /// Gives up the handle, if there is one. It is not needed where there is an operation already, nor the last.
    #[inline(always)]
    pub(super) fn give_up(self) {
        if self.owns_handle {
            // SAFETY: (1) the handle is the subject's.
            unsafe { (self.of.drop_handle)(self.stem) };
        }
    }
}

/// What a transaction is to do with one entity.
pub(super) struct Op {
    pub(super) stem: NonNull<Stem>,
    pub(super) of: &'static OfType,
    pub(super) owns_handle: bool,
    /// The stamp that the entity must still have, if it is read.
    pub(super) expected: Stamp,
    pub(super) is_read: bool,
    /// A count of the node with that stamp, or null.
    pub(super) held: *mut Header,
    pub(super) change: Change,
    /// What the entity's own clock said, if it has one.
    pub(super) reading: Option<Reading>,
    /// Whether what is current is to be held when it commits.
    pub(super) holds_current: bool,
    /// What an attempt has found to be current that has to look at all before any takes its place. It means something
    /// in that attempt alone, under its guard.
    pub(super) found: Option<Settled>,
    /// Whether the draft has its place in an attempt, or is published; and the version that it has there.
    pub(super) is_placed: bool,
    pub(super) version: u64,
}

/// What is to become of an entity.
#[derive(Clone, Copy)]
pub(super) struct Change {
    /// A node with the value, or null.
    pub(super) draft: *mut Header,
    /// A box of closures, or null. The draft, if there is one, was made by them in an earlier attempt.
    pub(super) folds: *mut (),
    /// How many of them count.
    pub(super) folds_len: u32,
    /// Whether the value was lent.
    pub(super) is_lent: bool,
}

/// A copy of it is made without a call.
#[cfg(not(any(snapcell_model, snapcell_epoch_model, snapcell_shuttle)))]
const _: () = assert!(size_of::<Op>() <= 128, "an operation is small");

impl Change {
    pub(super) const NONE: Change = Change {
        draft: ptr::null_mut(),
        is_lent: false,
        folds: ptr::null_mut(),
        folds_len: 0,
    };

    /// Whether nothing is to become of it.
    #[inline]
    pub(super) fn is_none(&self) -> bool {
        self.draft.is_null() && self.folds_len == 0
    }

    /// Whether there is nothing to be dropped either.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.draft.is_null() && self.folds.is_null()
    }
}

/// What has to be done with what an operation points to.
pub(super) struct OfType {
    pub(super) kind: Kind,
    /// Ends a draft.
    pub(super) end: Releaser,
    /// Moves the value of a node to another one, and leaves the memory of the first.
    pub(super) refill: unsafe fn(NonNull<Header>) -> NonNull<Header>,
    pub(super) drop_held: unsafe fn(NonNull<Header>),
    pub(super) drop_handle: unsafe fn(NonNull<Stem>),
    /// Applies so many closures to the value of a node, for a draft.
    pub(super) fold: unsafe fn(*mut (), u32, NonNull<Header>) -> NonNull<Header>,
    pub(super) drop_folds: unsafe fn(*mut ()),
    pub(super) event: unsafe fn(NonNull<Stem>) -> NonNull<Event>,
    /// Has what is current recorded, where there is something that records.
    pub(super) record: unsafe fn(NonNull<Stem>, NonNull<Header>),
}

/// The closures of an operation.
pub(super) type Folds<'e, T> = Vec<Box<dyn Fn(&T) -> T + 'e>>;

/// For entities of these types.
pub(super) struct Erased<T, X>(PhantomData<(T, X)>);

impl<T: Send + Sync + 'static, X: Recorder<T>> Erased<T, X> {
    pub(super) const OF: OfType = OfType {
        kind: Handle::<T, X>::KIND,
        end: Self::end,
        refill: Self::refill,
        drop_held: Self::drop_held,
        drop_handle: Self::drop_handle,
        fold: Self::fold,
        drop_folds: Self::drop_folds,
        event: Self::event,
        record: Self::record,
    };

    /// # Safety
    /// 1. `draft` is a draft of a `T` that nobody else refers to. 2. Called once.
    unsafe fn end(draft: *mut ()) {
        // SAFETY: a draft is not null.
        let draft = unsafe { NonNull::new_unchecked(draft.cast::<Header>()) };
        // SAFETY: (1), (2).
        drop(unsafe { Draft::<T>::from_raw(Node::of(draft)) });
    }

    /// # Safety
    /// 1. `node` has a `T` that nobody looks at. 2. Called once.
    unsafe fn refill(node: NonNull<Header>) -> NonNull<Header> {
        // SAFETY: (1), (2).
        let value = unsafe { Node::<T>::take_value(Node::of(node)) };
        draft_of(value)
    }

    /// # Safety
    /// 1. The caller has a count of `node`, a node of a `T`, and gives it up.
    unsafe fn drop_held(node: NonNull<Header>) {
        // SAFETY: (1).
        drop(unsafe { Held::<T>::from_raw(Node::of(node)) });
    }

    /// # Safety
    /// 1. The caller has a handle of the stem's block, a `Block<T, X>`, and gives it up.
    unsafe fn drop_handle(stem: NonNull<Stem>) {
        // SAFETY: (1).
        drop(unsafe { Handle::<T, X>::from_stem(stem) });
    }

    /// # Safety
    /// 1. `folds` is a `Box<Folds<T>>`, of which `len` are there. 2. `node` has a `T` that is protected.
    unsafe fn fold(folds: *mut (), len: u32, node: NonNull<Header>) -> NonNull<Header> {
        // SAFETY: (1).
        let folds = unsafe { &*folds.cast::<Folds<'_, T>>() };
        // SAFETY: (2).
        let before = unsafe { Node::<T>::value_of(Node::of(node)) };
        let [first, others @ ..] = &folds[..len as usize] else {
            unreachable!("a fold has a closure");
        };
        let value = others
            .iter()
            .fold(first(before), |value, next| next(&value));
        draft_of(value)
    }

    /// # Safety
    /// 1. `folds` is a `Box<Folds<T>>`. 2. Called once.
    unsafe fn drop_folds(folds: *mut ()) {
        // SAFETY: (1), (2).
        let folds = unsafe { Box::from_raw(folds.cast::<Folds<'_, T>>()) };
        end::quietly(|| drop(folds));
    }

    /// # Safety
    /// 1. The stem is that of a `Block<T, X>`, which is there as long as the event is used.
    unsafe fn event(stem: NonNull<Stem>) -> NonNull<Event> {
        // SAFETY: (1).
        let handle = ManuallyDrop::new(unsafe { Handle::<T, X>::from_stem(stem) });
        NonNull::from(handle.need_event())
    }

    /// # Safety
    /// 1. The stem is that of a `Block<T, X>`, which is there. 2. `node` has a `T`, was current there, and is
    ///    protected.
    unsafe fn record(stem: NonNull<Stem>, node: NonNull<Header>) {
        // SAFETY: (1).
        let handle = ManuallyDrop::new(unsafe { Handle::<T, X>::from_stem(stem) });
        if let Some(extra) = handle.extra() {
            // SAFETY: (1), (2): for as long as this call.
            extra.record(unsafe { Seen::new(Node::of(node)) });
        }
    }
}

/// A draft whose place is not known yet.
pub(super) fn draft_of<T>(value: T) -> NonNull<Header> {
    Draft::new(Place::birth(Stamp::new(0, 0)), value)
        .into_raw()
        .cast()
}

impl Op {
    /// Where its entity comes in the order in which all transactions install.
    #[inline(always)]
    pub(super) fn rank(&self) -> usize {
        // SAFETY: the log keeps the entity.
        unsafe { self.stem.as_ref() }.rank()
    }

    /// Whether the commit is to put something at its head, be it what only stands for what is there.
    #[inline(always)]
    pub(super) fn takes_part(&self) -> bool {
        let is_asked =
            self.is_read && !planted(Fault::NoProxies) && !planted(Fault::ValidateThenDecide);
        self.is_act() || is_asked
    }

    /// Whether it is more than a question.
    #[inline(always)]
    pub(super) fn is_act(&self) -> bool {
        !self.change.is_none() || self.holds_current
    }

    /// Whether what it writes gets its time from the clock of all that have none of their own.
    #[inline(always)]
    pub(super) fn needs_clock(&self) -> bool {
        !self.change.is_none() && self.reading.is_none()
    }

    /// What is expected and isn't so.
    #[inline]
    pub(super) fn mismatch(&self, found: Stamp) -> Option<Stamp> {
        (self.is_read && self.expected != found).then_some(self.expected)
    }

    /// Whether the entity has the stamp that was read.
    ///
    /// # Safety
    /// 1. The entity is there as long as the guard.
    #[inline(always)]
    pub(super) unsafe fn is_current(&self, guard: &Guard) -> bool {
        // SAFETY: (1).
        let node = unsafe { current_of(self.stem, guard) };
        // SAFETY: the guard protects it.
        self.expected == unsafe { node.as_ref() }.stamp()
    }

    /// # Safety
    /// 1. The entity is there as long as the guard.
    #[inline(always)]
    pub(super) unsafe fn current(&self, guard: &Guard) -> NonNull<Header> {
        // SAFETY: (1).
        unsafe { current_of(self.stem, guard) }
    }
}

/// What is current of an entity.
///
/// # Safety
/// 1. The entity is there as long as the guard.
#[inline(always)]
pub(super) unsafe fn current_of(stem: NonNull<Stem>, _guard: &Guard) -> NonNull<Header> {
    // SAFETY: (1).
    let stem = unsafe { stem.as_ref() };
    // SAFETY: (1) loaded under the guard.
    unsafe { verdict::current(stem.head.load(site::HEAD_LOAD)) }
}

/// When nothing is lent any more.
impl Drop for Op {
    #[inline(always)]
    fn drop(&mut self) {
        if self.has_something() {
            self.end();
        }
    }
}

impl Op {
    /// Whether its end is anything to anybody.
    #[inline(always)]
    pub(super) fn has_something(&self) -> bool {
        let Change { draft, folds, .. } = self.change;
        let all = draft.addr() | folds.addr() | self.held.addr() | usize::from(self.owns_handle);
        all != 0
    }

    /// Gives up what it points to.
    #[inline(never)]
    pub(super) fn end(&mut self) {
        // SAFETY: (1) nothing is lent.
        unsafe { self.of.drop_change(self.change) };
        if let Some(held) = NonNull::new(self.held) {
            // SAFETY: (1) the count was the operation's.
            unsafe { (self.of.drop_held)(held) };
        }
        if self.owns_handle {
            // SAFETY: (1) the handle was the operation's.
            unsafe { (self.of.drop_handle)(self.stem) };
        }
    }
}

impl OfType {
    /// # Safety
    /// 1. The change is that of an operation of this type, and nobody refers to what it points to.
    pub(super) unsafe fn drop_change(&self, change: Change) {
        if !change.draft.is_null() {
            // SAFETY: (1).
            unsafe { (self.end)(change.draft.cast()) };
        }
        if !change.folds.is_null() {
            // SAFETY: (1).
            unsafe { (self.drop_folds)(change.folds) };
        }
    }
}
