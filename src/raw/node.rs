//! What a node is made of, and who owns which count.
//!
//! ```text
//!  Vacant ──fill──▶ Draft ──published by a head──▶ Seen ──hold──▶ Held
//!  memory           a node that                    under a guard  with a count
//!                   nobody else knows
//! ```
//! A published node is immutable. Its counts: one belongs to the head, until the node is replaced
//! and the grace of its retirement is over; one belongs to each [`Held`], and to each place that keeps it
//! (`kept.rs`).
//!
//! # Why the count never goes from zero to one
//! Who takes a count has a [`Held`] already, or borrows a place that has one, or has [`Seen`] the node under a
//! guard. In the last case the guard was pinned before the head's count was retired, or the node would not have been
//! seen, so that count's release waits for the guard (`reclaim.rs`).
//!
//! # Who ends a value
//! Whoever takes the count to zero, at once. COUNT_RELEASE → COUNT_LAST: after everybody else's
//! looks. When the head's count comes out of its grace and is the only one, there is nobody to race
//! with, and a load (COUNT_SOLE) takes the place of the read-modify-write.

use super::end::{Dead, quietly};
use super::pool;
use super::reclaim::Guard;
use super::retired::{Releaser, Retired};
use crate::clock::Reading;
use crate::stamp::Stamp;
use crate::sync::fault::{Fault, planted};
use crate::sync::orderings::site;
use crate::sync::{AtomicPtr, AtomicUsize, Life};
use std::alloc::Layout;
use std::marker::PhantomData;
use std::mem;
use std::ptr::{self, NonNull};

/// A snapshot in memory. Immutable once it is published, but for its count and its link.
#[repr(C)]
pub(super) struct Node<T> {
    header: Header,
    value: T,
}

/// What a node begins with, whatever its value. A pointer to it is one to the whole node.
pub(super) struct Header {
    count: AtomicUsize,
    stamp: Stamp,
    /// How many nodes the head had before. More than the version, where transactions were aborted or
    /// only looked.
    seq: u64,
    /// What a node that a transaction has put at a head means (`verdict.rs`). Of others nobody reads it.
    pub(super) link: AtomicPtr<()>,
    life: Life,
}

impl Header {
    /// A header of a node that nobody else knows, with one count.
    #[inline(always)]
    pub(super) fn new(Place { stamp, seq }: Place) -> Self {
        Header {
            count: AtomicUsize::new(1),
            stamp,
            seq,
            link: AtomicPtr::new(ptr::null_mut()),
            life: Life::begin(),
        }
    }

    /// The node ends, in a model.
    #[inline(always)]
    pub(super) fn end(&self) {
        self.life.end();
    }

    #[inline]
    pub(super) fn stamp(&self) -> Stamp {
        self.stamp
    }

    #[inline]
    pub(super) fn seq(&self) -> u64 {
        self.seq
    }

    /// Follows a look in a model.
    #[inline(always)]
    pub(super) fn look(&self) {
        self.life.look();
    }

    /// Puts a draft in its place.
    #[inline(always)]
    pub(super) fn place(&mut self, place: Place) {
        self.stamp = place.stamp;
        self.seq = place.seq;
    }

    /// Puts a draft off to a time.
    pub(super) fn set_time(&mut self, time: u64) {
        self.stamp = Stamp::new(self.stamp.version(), time);
    }

    /// The place of a node that is to follow this one, unless the version is at its end.
    #[inline]
    fn next(&self, reading: Reading) -> Option<Place> {
        Some(Place {
            stamp: self.stamp.next(reading)?,
            seq: self.seq + 1,
        })
    }
}

/// Where a node stands in the life of its entity.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    stamp: Stamp,
    seq: u64,
}

impl Place {
    /// That of the first node.
    pub(crate) fn birth(stamp: Stamp) -> Self {
        Place { stamp, seq: 0 }
    }

    pub(super) fn new(stamp: Stamp, seq: u64) -> Self {
        Place { stamp, seq }
    }
}

#[cfg(not(any(snapcell_model, snapcell_epoch_model, snapcell_shuttle)))]
const _: () = assert!(size_of::<Header>() <= 40, "a header is at most 40 bytes");

/// Counts beyond this abort, as `Arc`'s do: only forgetting snapshots in a loop gets there.
const MOST: usize = isize::MAX as usize;

impl<T> Node<T> {
    const LAYOUT: Layout = Layout::new::<Node<T>>();

    /// How a count of such a node is given up, its type forgotten.
    pub(super) const RELEASE: Releaser = Self::release_erased;
    /// What such a node takes in memory.
    pub(super) const BYTES: usize = size_of::<Self>();

    /// The node that a header is the beginning of.
    #[inline(always)]
    pub(super) fn of(header: NonNull<Header>) -> NonNull<Self> {
        header.cast()
    }

    /// Ends the value and gives the memory back, now or after what is ending on this thread.
    ///
    /// # Safety
    /// 1. Nobody else refers to the node.
    pub(super) unsafe fn end(node: NonNull<Node<T>>) {
        if mem::needs_drop::<T>() {
            let dead = Dead {
                node: node.as_ptr().cast(),
                end: Self::end_erased,
            };
            // SAFETY: (1) by the caller.
            unsafe { dead.bury() };
        } else {
            // SAFETY: (1) the node is itself. (2) This is the only call.
            unsafe { Self::end_erased(node.as_ptr().cast()) };
        }
    }

    /// # Safety
    /// 1. `node` is a `Node<T>` that nobody else refers to. 2. It is called once.
    unsafe fn end_erased(node: *mut ()) {
        // SAFETY: a node is not null.
        let node = unsafe { NonNull::new_unchecked(node.cast::<Node<T>>()) };
        // SAFETY: (1) the node is ours and alive.
        unsafe { node.as_ref() }.header.life.end();
        // SAFETY: (1) the field lies in a node of ours.
        let value = unsafe { &raw mut (*node.as_ptr()).value };
        // SAFETY: (2) the value is dropped here and nowhere else.
        quietly(|| unsafe { ptr::drop_in_place(value) });
        // SAFETY: the memory came from the pool with this layout, and nothing lives in it now.
        unsafe { pool::give(node.cast(), Self::LAYOUT) };
    }

    /// Gives up the head's count of a node whose grace is over.
    ///
    /// # Safety
    /// 1. `node` is a `Node<T>` whose count the caller has. 2. Its grace is over. 3. Called once.
    unsafe fn release_erased(node: *mut ()) {
        // SAFETY: a retired node is not null.
        let node = unsafe { NonNull::new_unchecked(node.cast::<Node<T>>()) };
        // SAFETY: (1) our count keeps it alive.
        let count = unsafe { &node.as_ref().header.count };
        if planted(Fault::IgnoreHolders) || count.load(site::COUNT_SOLE) == 1 {
            // SAFETY: (1) one count is ours, there is no other, and (2) nobody can take one: see
            // the header of this file.
            unsafe { Self::end(node) };
        } else {
            // SAFETY: the count is ours to give up.
            unsafe { Self::give_up(node) };
        }
    }

    /// Gives the memory of a node back whose value has been moved out.
    ///
    /// # Safety
    /// 1. `node` is a `Node<T>` without a value. 2. Nobody refers to it. 3. Called once.
    pub(super) unsafe fn release_hollow(node: *mut ()) {
        // SAFETY: a node is not null.
        let node = unsafe { NonNull::new_unchecked(node.cast::<Header>()) };
        // SAFETY: (2) it is ours and alive.
        unsafe { node.as_ref() }.life.end();
        // SAFETY: (1), (2): the memory came from the pool with this layout, and nothing lives in it.
        unsafe { pool::give(node.cast(), Self::LAYOUT) };
    }

    /// The value of a node.
    ///
    /// # Safety
    /// 1. `node` is a whole `Node<T>`, and stays so for `'v`.
    pub(super) unsafe fn value_of<'v>(node: NonNull<Self>) -> &'v T {
        // SAFETY: (1).
        &unsafe { node.as_ref() }.value
    }

    /// The value of a draft, to be changed.
    ///
    /// # Safety
    /// 1. `node` is a whole `Node<T>` that nobody else refers to for `'v`.
    pub(super) unsafe fn value_mut<'v>(mut node: NonNull<Self>) -> &'v mut T {
        // SAFETY: (1).
        &mut unsafe { node.as_mut() }.value
    }

    /// Moves the value of a node out.
    ///
    /// # Safety
    /// 1. `node` is a whole `Node<T>`, whose value nobody looks at from now on.
    pub(super) unsafe fn take_value(node: NonNull<Self>) -> T {
        // SAFETY: the field lies in a node, by (1).
        let place = unsafe { &raw const (*node.as_ptr()).value };
        // SAFETY: (1).
        unsafe { place.read() }
    }

    /// Gives up a count of a node that others hold too.
    ///
    /// # Safety
    /// 1. The caller has a count.
    #[cold]
    #[inline(never)]
    unsafe fn give_up(node: NonNull<Node<T>>) {
        // SAFETY: (1).
        drop(unsafe { Held::from_raw(node) });
    }
}

/// Memory for a node.
pub(crate) struct Vacant<T>(NonNull<Node<T>>);

impl<T> Vacant<T> {
    #[inline]
    pub(crate) fn new() -> Self {
        Vacant(pool::take(Node::<T>::LAYOUT).cast())
    }

    /// Makes a node of the stamp and what `value` returns, which is written in place. Should
    /// `value` panic, the memory goes back to the pool.
    #[inline]
    pub(crate) fn fill(self, place: Place, value: impl FnOnce() -> T) -> Draft<T> {
        let node = self.0.as_ptr();
        // SAFETY: the field lies in memory that is ours.
        let of_value = unsafe { &raw mut (*node).value };
        // SAFETY: the memory is ours, large enough and aligned, and holds nothing that needs a drop.
        unsafe { of_value.write(value()) };
        let header = Header::new(place);
        // SAFETY: the field lies in memory that is ours.
        let of_header = unsafe { &raw mut (*node).header };
        // SAFETY: as for the value.
        unsafe { of_header.write(header) };
        mem::forget(self);
        // SAFETY: from `NonNull`.
        Draft(unsafe { NonNull::new_unchecked(node) })
    }
}

impl<T> Drop for Vacant<T> {
    fn drop(&mut self) {
        // SAFETY: (1) it came from the pool with this layout; (2) nothing lives in it.
        unsafe { pool::give(self.0.cast(), Node::<T>::LAYOUT) };
    }
}

/// A whole node that nobody else knows. Its one count is the one that the head will own; a second one is that of whoever
/// publishes it.
pub(crate) struct Draft<T>(NonNull<Node<T>>);

impl<T> Draft<T> {
    #[inline]
    pub(crate) fn new(place: Place, value: T) -> Self {
        Vacant::new().fill(place, || value)
    }

    /// Has the draft follow the node with this number.
    pub(super) fn follow(&mut self, seq: u64) {
        // SAFETY: the node is ours and whole, and nobody else looks at it.
        unsafe { self.0.as_mut() }.header.seq = seq + 1;
    }

    #[inline]
    pub(crate) fn value(&self) -> &T {
        // SAFETY: the node is ours and whole.
        &unsafe { self.0.as_ref() }.value
    }

    #[inline]
    pub(crate) fn value_mut(&mut self) -> &mut T {
        // SAFETY: the node is ours and whole, and nobody else looks at it.
        &mut unsafe { self.0.as_mut() }.value
    }

    /// Gives it a second count, for whoever publishes it and keeps it. If it isn't published it ends all the same: while
    /// nobody else knows a node its count says nothing.
    #[cfg(feature = "scheduler")]
    #[inline(always)]
    pub(super) fn take_count(&mut self) {
        if !planted(Fault::PublishUncounted) {
            // SAFETY: the node is ours and whole, and nobody else looks at it.
            unsafe { self.0.as_mut() }.header.count = AtomicUsize::new(2);
        }
    }

    /// Takes the value out; the memory is vacant again.
    #[inline]
    pub(crate) fn empty(self) -> (T, Vacant<T>) {
        // SAFETY: the node is ours and whole.
        unsafe { &self.0.as_ref().header }.life.end();
        // SAFETY: the field lies in a node of ours.
        let place = unsafe { &raw const (*self.0.as_ptr()).value };
        // SAFETY: the node is ours and whole, and is not used as one any more.
        let value = unsafe { place.read() };
        let vacant = Vacant(self.0);
        mem::forget(self);
        (value, vacant)
    }

    /// Gives the node away, for a head to publish.
    #[inline]
    pub(super) fn into_raw(self) -> NonNull<Node<T>> {
        let node = self.0;
        mem::forget(self);
        node
    }

    /// # Safety
    /// 1. `node` came from [`into_raw`](Self::into_raw) and was not published.
    #[inline]
    pub(super) unsafe fn from_raw(node: NonNull<Node<T>>) -> Self {
        Draft(node)
    }
}

impl<T> Drop for Draft<T> {
    fn drop(&mut self) {
        // SAFETY: (1) nobody else knows it.
        unsafe { Node::end(self.0) };
    }
}

/// A node under somebody's eyes: `'g` lies within the life of a guard that was pinned before the
/// node was seen, and within the life of the head that it was seen at; or within that of a count.
pub(crate) struct Seen<'g, T> {
    node: NonNull<Node<T>>,
    guard: PhantomData<&'g (Guard, T)>,
}

impl<T> Clone for Seen<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Seen<'_, T> {}

impl<'g, T> Seen<'g, T> {
    /// # Safety
    /// 1. `node` was reachable from a head at some moment after a guard was pinned that outlives
    ///    `'g`, or somebody owns a count of it for as long. 2. In the first case the head outlives `'g`, too.
    #[inline]
    pub(super) unsafe fn new(node: NonNull<Node<T>>) -> Self {
        Seen {
            node,
            guard: PhantomData,
        }
    }

    #[inline]
    fn get(self) -> &'g Node<T> {
        // SAFETY: by the contract of `new`, the node outlives 'g.
        let node: &'g Node<T> = unsafe { self.node.as_ref() };
        node.header.life.look();
        node
    }

    #[inline]
    pub(crate) fn stamp(self) -> Stamp {
        self.get().header.stamp
    }

    /// The place of what is to follow it, unless the version is at its end.
    #[inline]
    pub(crate) fn next(self, reading: Reading) -> Option<Place> {
        self.get().header.next(reading)
    }

    #[inline]
    pub(crate) fn value(self) -> &'g T {
        &self.get().value
    }

    /// Takes a count, with which the node may be kept.
    #[inline]
    pub(crate) fn hold(self) -> Held<T> {
        take_count(&self.get().header);
        Held(self.node)
    }

    /// Whether nobody but the head has a count.
    pub(super) fn is_unheld(self) -> bool {
        self.get().header.count.load(site::COUNT_OWN) == 1 || planted(Fault::TakeDespiteHolders)
    }

    /// Tells nodes apart, where the type is no matter.
    pub(crate) fn address(self) -> *const () {
        self.node.as_ptr().cast()
    }
}

#[inline]
pub(super) fn take_count(header: &Header) {
    if header.count.fetch_add(1, site::COUNT_TAKE) > MOST {
        std::process::abort();
    }
}

/// A count of a node.
pub(crate) struct Held<T>(NonNull<Node<T>>);

// SAFETY: a `Held` shares `&T`, and whoever drops the last one drops the `T`, as with `Arc`.
unsafe impl<T: Send + Sync> Send for Held<T> {}
// SAFETY: as above: a `&Held` can be cloned into a `Held`.
unsafe impl<T: Send + Sync> Sync for Held<T> {}

impl<T> Held<T> {
    /// # Safety
    /// 1. The caller has a count of the node, and gives it up to this.
    #[inline]
    pub(super) unsafe fn from_raw(node: NonNull<Node<T>>) -> Self {
        Held(node)
    }

    /// Gives the count away.
    pub(super) fn into_raw(self) -> NonNull<Node<T>> {
        let node = self.0;
        mem::forget(self);
        node
    }

    #[inline]
    fn get(&self) -> &Node<T> {
        // SAFETY: our count keeps it alive.
        let node = unsafe { self.0.as_ref() };
        node.header.life.look();
        node
    }

    #[inline]
    pub(crate) fn stamp(&self) -> Stamp {
        self.get().header.stamp
    }

    #[inline]
    pub(crate) fn value(&self) -> &T {
        &self.get().value
    }

    /// The node, for as long as it is held.
    #[inline]
    pub(crate) fn seen(&self) -> Seen<'_, T> {
        // SAFETY: (1), (2): the count is borrowed.
        unsafe { Seen::new(self.0) }
    }

    #[inline]
    pub(super) fn as_ptr(&self) -> *mut Header {
        self.0.as_ptr().cast()
    }

    /// Plants a fault: the count is given up though this goes on as if it had one.
    pub(crate) fn disown(&self) {
        // SAFETY: violated on purpose. Never called in an ordinary build.
        drop(unsafe { Held::from_raw(self.0) });
    }

    /// Whether the two are the same node.
    #[inline]
    pub(crate) fn is(&self, other: &Self) -> bool {
        self.0 == other.0
    }

    /// Takes the value out if this is the only count.
    ///
    /// # Safety
    /// 1. Nobody has the node under a guard, or can get to see it.
    pub(super) unsafe fn into_value(self) -> Result<T, Self> {
        if self.get().header.count.load(site::COUNT_OWN) != 1 && !planted(Fault::TakeDespiteHolders)
        {
            return Err(self);
        }
        // SAFETY: our count is the only one and, with (1), nobody else refers to the node: it is as
        // if it had not been published.
        let draft = unsafe { Draft::from_raw(self.0) };
        mem::forget(self);
        Ok(draft.empty().0)
    }
}

impl<T> Clone for Held<T> {
    #[inline]
    fn clone(&self) -> Self {
        take_count(&self.get().header);
        Held(self.0)
    }
}

impl<T> Drop for Held<T> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: our count keeps it alive, until the next line.
        let count = unsafe { &self.0.as_ref().header.count };
        if count.fetch_sub(1, site::COUNT_RELEASE) == 1 {
            // All other holders are done: this reads the end of their releases.
            count.load(site::COUNT_LAST);
            // SAFETY: (1) that was the last count, and it never goes up from zero.
            unsafe { Node::end(self.0) };
        }
    }
}

/// The head's count of a replaced node, for its retirement.
#[inline]
pub(super) fn retired<T: Send + Sync + 'static>(node: NonNull<Node<T>>) -> Retired {
    Retired {
        node: node.as_ptr().cast(),
        bytes: Node::<T>::BYTES,
        release: Node::<T>::RELEASE,
    }
}

/// Plants the faults that treat a replaced node otherwise. Says whether one did.
///
/// # Safety
/// None is kept: that is the point. Never called in an ordinary build.
#[inline(always)]
pub(super) unsafe fn mistreat<T>(node: NonNull<Node<T>>) -> bool {
    if planted(Fault::NeverRetire) {
        return true;
    }
    if planted(Fault::FreeAtOnce) {
        // SAFETY: violated on purpose.
        unsafe { Node::end(node) };
        return true;
    }
    if planted(Fault::ReleaseHeadAtOnce) {
        // SAFETY: violated on purpose.
        drop(unsafe { Held::from_raw(node) });
        return true;
    }
    if planted(Fault::RecycleWithoutGrace) {
        // SAFETY: violated on purpose.
        drop(unsafe { Draft::from_raw(node) }.empty());
        return true;
    }
    false
}
