//! The block behind an entity's handles: a count of them, the head, and what only some have.
//!
//! Whoever looks at a head does so through a handle that it borrows, so when the last handle goes
//! nobody can be looking: the block ends at once, and the value with it unless snapshots keep it.
//!
//! Transactions are the exception: who helps one looks at all its heads, without a handle, under a guard.
//! So a block remembers that it took part in one, by the lowest bit of its count of handles, set before
//! anybody could come to help. Such a block is retired when it ends, as nodes are.
//!
//! And whoever watches has a count of its own: a [`Watcher`] may look at the head of an
//! entity that has no handles any more, to see what its last value was. That count lies in the
//! [`Extra`], which is made when somebody waits for the first time; all handles together own one of
//! it. So the last handle ends the block, or leaves that to the last watcher.
//!
//! A block comes from the pool, or lies in an arena (`arena.rs`), which a bit of the same word tells.
//!
//! # Orderings
//! HANDLE_RELEASE → HANDLE_LAST: what was done through any handle comes before the end.
//! WATCHER_RELEASE → WATCHER_LAST, WATCHER_NONE: and so does what was done through any watcher.
//! EXTRA_SET → EXTRA_LOAD: who sees the extra sees what is in it. Checked by `loom-tests/end.rs` and
//! `loom-tests/wait.rs`.

#[cfg(feature = "store")]
use super::arena::give_back;
use super::crier;
use super::end::{Dead, quietly};
use super::head::Head;
use super::node::{Draft, Held, Node, Seen};
use super::pool;
use super::reclaim::{Reclaim, Reclaimer};
use super::retired::{Releaser, Retired};
use super::verdict::{self, Kind};
use super::word::Word;
use crate::sync::event::{Event, Listener};
use crate::sync::fault::{Fault, planted};
use crate::sync::orderings::site;
use crate::sync::{AtomicPtr, AtomicUsize, Life, Rank};
use std::alloc::Layout;
use std::marker::PhantomData;
use std::mem;
use std::ptr::{self, NonNull};
use std::task::Waker;

/// The beginning of a block is a [`Stem`].
#[repr(C)]
pub(super) struct Block<T, X> {
    /// In steps of [`ONE`]; the bits below are [`TRANSACTED`] and [`IN_ARENA`].
    handles: AtomicUsize,
    head: Head<T>,
    rank: Rank,
    /// Null, or a box of its own, as most entities need none. Set once.
    extra: AtomicPtr<Extra<X>>,
}

/// What a block begins with, whatever the types of its value and of its extra.
#[repr(C)]
pub(super) struct Stem {
    handles: AtomicUsize,
    pub(super) head: Word,
    rank: Rank,
}

impl Stem {
    /// Where the entity comes in the order in which all transactions install: by its address.
    #[inline(always)]
    pub(super) fn rank(&self) -> usize {
        self.rank.of(ptr::from_ref(self).addr())
    }

    /// Whether it is noted that somebody may look at the head without a handle.
    #[inline(always)]
    pub(super) fn is_transacted(&self) -> bool {
        self.handles.is_set(TRANSACTED, site::TRANSACTED_LOAD)
    }

    /// Notes it.
    pub(super) fn note_transacted(&self) {
        self.handles.fetch_or(TRANSACTED, site::TRANSACTED_SET);
    }
}

/// The block took part in a transaction.
const TRANSACTED: usize = 1;
/// The block lies in an arena.
const IN_ARENA: usize = 2;
/// What is no part of the count.
const FLAGS: usize = TRANSACTED | IN_ARENA;
/// One handle.
const ONE: usize = 4;

/// What only some entities have.
struct Extra<X> {
    /// One for each watcher, and one for all handles.
    watchers: AtomicUsize,
    /// Where those who wait for the next snapshot register.
    event: Event,
    content: X,
    life: Life,
}

impl<X> Extra<X> {
    fn new(content: X) -> Box<Self> {
        Box::new(Extra {
            watchers: AtomicUsize::new(1),
            event: Event::new(),
            content,
            life: Life::begin(),
        })
    }
}

#[cfg(not(any(snapcell_model, snapcell_epoch_model, snapcell_shuttle)))]
const _: () = assert!(
    size_of::<Block<u64, u64>>() == 3 * size_of::<usize>(),
    "a block is three words"
);

/// Counts beyond this abort, as `Arc`'s do.
const MOST: usize = isize::MAX as usize;

impl<T: Send + Sync + 'static, X> Block<T, X> {
    const LAYOUT: Layout = Layout::new::<Block<T, X>>();

    #[inline]
    fn extra(&self) -> Option<&Extra<X>> {
        // SAFETY: the extra is set once, whole, and lives as long as the block.
        let extra = unsafe { self.extra.load_set_once(site::EXTRA_LOAD).as_ref() }?;
        extra.life.look();
        Some(extra)
    }

    /// The extra, made now if there is none.
    fn need_extra(&self) -> &Extra<X>
    where
        X: Default,
    {
        if let Some(extra) = self.extra() {
            return extra;
        }
        let mine = Box::into_raw(Extra::new(X::default()));
        let set = match self
            .extra
            .compare_exchange(ptr::null_mut(), mine, site::EXTRA_SET)
        {
            Ok(_) => mine,
            Err(theirs) => {
                // SAFETY: it came from a box and was not published.
                let mine = unsafe { Box::from_raw(mine) };
                mine.life.end();
                theirs
            }
        };
        // SAFETY: as in `extra`.
        let extra = unsafe { &*set };
        extra.life.look();
        extra
    }

    /// Tells all who wait that there is something to see.
    #[cold]
    fn wake(&self) {
        if let Some(extra) = self.extra() {
            crier::wake(&extra.event);
        }
    }

    /// Ends the block, at once if nobody can look at its head, which the count of handles tells.
    ///
    /// # Safety
    /// 1. There are no handles and no watchers any more. 2. It is not used any more.
    #[inline]
    unsafe fn end_in_time(block: NonNull<Self>, handles: usize) {
        if handles & TRANSACTED != 0 && !planted(Fault::EndDespiteHelpers) {
            // SAFETY: (1), (2).
            unsafe { Self::retire(block, Self::release_erased) };
        } else {
            // SAFETY: (1), (2): nobody looks at the head of a block that was in no transaction.
            unsafe { Self::end(block) }.release();
        }
    }

    /// Has `release` end the block after the grace of what is at its head.
    ///
    /// # Safety
    /// 1. There are no handles and no watchers any more. 2. It is not used any more.
    #[cold]
    unsafe fn retire(block: NonNull<Self>, release: Releaser) {
        let retired = Retired {
            node: block.as_ptr().cast(),
            bytes: size_of::<Self>(),
            release,
        };
        // A thread may do nothing but this.
        Reclaimer::release_some();
        // SAFETY: (1) whoever helps a transaction has come by before it was decided, and so before the
        // last handle went, and is pinned since then.
        unsafe { Reclaimer::retire(&Reclaimer::pin(), retired) };
    }

    /// # Safety
    /// 1. `block` is a retired `Block<T, X>`. 2. Its grace is over. 3. Called once.
    unsafe fn release_erased(block: *mut ()) {
        // SAFETY: a block is not null.
        let block = unsafe { NonNull::new_unchecked(block.cast::<Self>()) };
        // SAFETY: (1), (2), (3).
        unsafe { Self::end(block) }.release();
    }

    /// As above, of a block whose last value was moved out.
    ///
    /// # Safety
    /// As above.
    unsafe fn release_hollow_erased(block: *mut ()) {
        // SAFETY: a block is not null.
        let block = unsafe { NonNull::new_unchecked(block.cast::<Self>()) };
        // SAFETY: (1), (2), (3).
        let last = unsafe { Self::end(block) }.0;
        let node = last.as_ptr().cast();
        mem::forget(last);
        // SAFETY: the node is without a value, and nobody can refer to it.
        unsafe { Node::<T>::release_hollow(node) };
    }

    /// What transactions have to know of such a block.
    const KIND: Kind = Kind {
        bytes: Node::<T>::BYTES,
        release: Node::<T>::RELEASE,
        release_hollow: Node::<T>::release_hollow,
        wake: Self::wake_erased,
    };

    /// # Safety
    /// 1. The argument is the head of a `Block<T, X>`, which is there.
    unsafe fn wake_erased(head: NonNull<Word>) {
        // SAFETY: (1) the head lies in the block at this place.
        let block = unsafe { head.byte_sub(mem::offset_of!(Block<T, X>, head)) };
        // SAFETY: (1).
        unsafe { block.cast::<Self>().as_ref() }.wake();
    }

    /// Ends the block; what is left is the head's count.
    ///
    /// # Safety
    /// 1. Nobody else refers to the block. 2. It is not used any more. 3. If it took part in a
    ///    transaction, its grace is over.
    #[inline(always)]
    unsafe fn end(block: NonNull<Self>) -> Last<T> {
        // SAFETY: (1), (2): the block is ours, whole, and not used as such any more.
        let whole = unsafe { block.read() };
        #[cfg(feature = "store")]
        let is_in_arena = whole.handles.load(site::TRANSACTED_LOAD) & IN_ARENA != 0;
        #[cfg(not(feature = "store"))]
        let is_in_arena = false;
        let Block { head, extra, .. } = whole;
        // SAFETY: (1), (2): nobody uses the head from now on; (3).
        let held = unsafe { head.take() };
        if is_in_arena {
            // SAFETY: (1), (2): it was made in an arena, and nothing lives in it.
            #[cfg(feature = "store")]
            unsafe {
                give_back(block);
            }
        } else {
            // SAFETY: (1), (2): it came from the pool with this layout, and nothing lives in it.
            unsafe { pool::give(block.cast(), Self::LAYOUT) };
        }
        let extra = extra.load(site::EXTRA_TAKE);
        if !extra.is_null() {
            // SAFETY: (1) it was the block's.
            unsafe { Self::bury_extra(extra) };
        }
        Last(held)
    }

    /// # Safety
    /// As [`end_extra`](Self::end_extra).
    #[cold]
    #[inline(never)]
    unsafe fn bury_extra(extra: *mut Extra<X>) {
        let dead = Dead {
            node: extra.cast(),
            end: Self::end_extra,
        };
        // SAFETY: (1), (2).
        unsafe { dead.bury() };
    }

    /// # Safety
    /// 1. `extra` came from a `Box<Extra<X>>`. 2. It is called once.
    unsafe fn end_extra(extra: *mut ()) {
        // SAFETY: (1), (2).
        let extra = unsafe { Box::from_raw(extra.cast::<Extra<X>>()) };
        extra.life.end();
        // A validator may own anything, other entities included.
        quietly(|| drop(extra));
    }

    /// Gives up a count of those in the extra, and ends the block if it was the last one.
    ///
    /// # Safety
    /// 1. The caller has such a count, of a block with an extra, and does not use the block any more.
    unsafe fn release(block: NonNull<Self>) {
        // SAFETY: (1) the count keeps the block.
        let Some(extra) = (unsafe { block.as_ref() }).extra() else {
            return;
        };
        if extra.watchers.fetch_sub(1, site::WATCHER_RELEASE) == 1 {
            // All that was done through other watchers is done: this reads the end of their releases.
            extra.watchers.load(site::WATCHER_LAST);
            // SAFETY: (1) the last watcher is gone, and since they own one count so are all handles;
            // (2) by the caller.
            let handles = unsafe { &block.as_ref().handles }.load(site::TRANSACTED_LOAD);
            // SAFETY: as above.
            unsafe { Self::end_in_time(block, handles) };
        }
    }
}

/// The count of a head that is no more.
struct Last<T>(Held<T>);

impl<T> Last<T> {
    /// Gives it up.
    fn release(self) {
        if planted(Fault::ForgetHead) {
            return mem::forget(self.0);
        }
        drop(self.0);
    }
}

/// A counted reference to a block, by which its head may be changed.
pub(crate) struct Handle<T: Send + Sync + 'static, X>(NonNull<Block<T, X>>);

// SAFETY: handles share the head, which gives out `&T` on all threads and drops `T`s on any; and
// `&X`, dropped on the last handle's thread.
unsafe impl<T: Send + Sync + 'static, X: Send + Sync> Send for Handle<T, X> {}
// SAFETY: as above: a `&Handle` can be cloned into a `Handle`.
unsafe impl<T: Send + Sync + 'static, X: Send + Sync> Sync for Handle<T, X> {}

impl<T: Send + Sync + 'static, X> Handle<T, X> {
    pub(crate) fn new(first: Draft<T>, extra: Option<X>) -> Self {
        let block = pool::take(Block::<T, X>::LAYOUT).cast();
        // SAFETY: (1) the memory is ours, large enough and aligned; (2) it is no arena's.
        unsafe { Handle::write(block, ONE, first, extra) }
    }

    /// As above, in an arena.
    ///
    /// # Safety
    /// 1. `block` is that of an entry of an arena, which is the caller's, and without a block.
    #[cfg(feature = "store")]
    pub(super) unsafe fn new_at(
        block: NonNull<Block<T, X>>,
        first: Draft<T>,
        extra: Option<X>,
    ) -> Self {
        // SAFETY: (1), (2): by the caller.
        unsafe { Handle::write(block, ONE | IN_ARENA, first, extra) }
    }

    /// # Safety
    /// 1. There is room for a block, which is the caller's. 2. `handles` says where it lies.
    #[inline(always)]
    unsafe fn write(
        block: NonNull<Block<T, X>>,
        handles: usize,
        first: Draft<T>,
        extra: Option<X>,
    ) -> Self {
        let extra = extra.map_or(ptr::null_mut(), |content| {
            Box::into_raw(Extra::new(content))
        });
        let content = Block {
            handles: AtomicUsize::new(handles),
            head: Head::new(first),
            rank: Rank::next(),
            extra: AtomicPtr::new(extra),
        };
        // SAFETY: (1).
        unsafe { block.write(content) };
        Handle(block)
    }

    /// # Safety
    /// 1. The caller has a handle of the block, and gives it up to this.
    #[cfg(feature = "store")]
    #[inline]
    pub(super) unsafe fn from_block(block: NonNull<Block<T, X>>) -> Self {
        Handle(block)
    }

    #[inline]
    fn block(&self) -> &Block<T, X> {
        // SAFETY: our count keeps the block.
        unsafe { self.0.as_ref() }
    }

    #[inline]
    pub(crate) fn head(&self) -> &Head<T> {
        &self.block().head
    }

    /// Where the entity comes in the order of all entities: what tells it from all others that exist.
    #[cfg(feature = "scheduler")]
    #[inline]
    pub(crate) fn rank(&self) -> usize {
        self.block().rank.of(self.0.as_ptr().addr())
    }

    #[inline]
    pub(crate) fn extra(&self) -> Option<&X> {
        self.block().extra().map(|extra| &extra.content)
    }

    /// What tells all who wait that there is something to see. Of one type for all who commit by such a handle, so
    /// that what a head does with it is compiled once, and not for each closure that computes a change.
    #[inline(always)]
    pub(crate) fn waker(&self) -> impl Fn() {
        || self.block().wake()
    }

    /// Whether the two are handles of the same block.
    pub(crate) fn is(&self, other: &Self) -> bool {
        self.0 == other.0
    }

    /// Takes the value out of the entity if this is its only handle, nobody watches, and nobody
    /// holds its snapshot; otherwise the current snapshot.
    pub(crate) fn into_inner(self) -> Result<T, Held<T>> {
        let block = self.block();
        let unwatched = |extra: &Extra<X>| {
            extra.watchers.load(site::WATCHER_NONE) == 1 || planted(Fault::MoveDespiteWatchers)
        };
        let handles = block.handles.load(site::HANDLE_SOLE);
        if handles & !FLAGS != ONE || !block.extra().is_none_or(unwatched) {
            let guard = Reclaimer::pin();
            return Err(self.head().load(&guard).hold());
        }
        if handles & TRANSACTED != 0 && !planted(Fault::EndDespiteHelpers) {
            return self.into_inner_of_transacted();
        }
        let block = self.0;
        mem::forget(self);
        // SAFETY: (1) the only handle was ours, and with it the only way to get a watcher, of which
        // there are none; (2) it ends here.
        let last = unsafe { Block::end(block) };
        // SAFETY: (1) who looks under a guard borrows a handle or a watcher.
        unsafe { last.0.into_value() }
    }

    /// As above. The handle is the only one, but helpers of transactions may look at the head: not at the
    /// value, but at what is in front of it. So the node stays until its grace is over.
    #[cold]
    fn into_inner_of_transacted(self) -> Result<T, Held<T>> {
        let _guard = Reclaimer::pin();
        // SAFETY: (1) loaded under the guard.
        let node = unsafe { verdict::current(self.head().word().load(site::HEAD_LOAD)) };
        let node = Node::<T>::of(node);
        // SAFETY: (1) the guard protects it, (2) and the handle its head.
        let seen = unsafe { Seen::new(node) };
        if !seen.is_unheld() {
            return Err(seen.hold());
        }
        // SAFETY: (1) nobody holds it, and nobody can look at it but by way of this handle.
        let value = unsafe { Node::take_value(node) };
        let block = self.0;
        mem::forget(self);
        // SAFETY: (1) the only handle was ours; (2) it ends here.
        unsafe { Block::<T, X>::retire(block, Block::<T, X>::release_hollow_erased) };
        Ok(value)
    }

    /// What transactions know the entity by.
    pub(super) fn stem(&self) -> NonNull<Stem> {
        self.0.cast()
    }

    /// # Safety
    /// 1. `stem` is that of a `Block<T, X>` of which the caller has a handle, and gives it up to this.
    pub(super) unsafe fn from_stem(stem: NonNull<Stem>) -> Self {
        Handle(stem.cast())
    }

    /// What transactions have to know of the entity.
    pub(super) const KIND: Kind = Block::<T, X>::KIND;

    /// Where those who wait register.
    pub(super) fn need_event(&self) -> &Event
    where
        X: Default,
    {
        &self.block().need_extra().event
    }

    /// What somebody waits by.
    pub(crate) fn waitable(&self) -> Waitable<'_, T, X>
    where
        X: Default,
    {
        Waitable::new(self.block())
    }

    /// A watcher of the same block.
    pub(crate) fn watcher(&self) -> Watcher<T, X>
    where
        X: Default,
    {
        take_watcher(self.block().need_extra());
        Watcher(self.0)
    }
}

impl<T: Send + Sync + 'static, X> Clone for Handle<T, X> {
    fn clone(&self) -> Self {
        if self.block().handles.fetch_add(ONE, site::HANDLE_TAKE) > MOST {
            std::process::abort();
        }
        Handle(self.0)
    }
}

impl<T: Send + Sync + 'static, X> Drop for Handle<T, X> {
    fn drop(&mut self) {
        let handles = self.block().handles.fetch_sub(ONE, site::HANDLE_RELEASE);
        if handles & !FLAGS == ONE {
            self.end(handles);
        }
    }
}

impl<T: Send + Sync + 'static, X> Handle<T, X> {
    /// The last one has gone. Out of line, so that others need nothing but the count.
    #[inline(never)]
    fn end(&self, handles: usize) {
        let block = self.block();
        // All that was done through other handles is done: this reads the end of their releases.
        block.handles.load(site::HANDLE_LAST);
        if block.extra().is_some() && !planted(Fault::EndDespiteWatchers) {
            self.close();
        } else {
            // SAFETY: (1) that was the last handle, and without an extra there are no watchers;
            // (2) it ends here.
            unsafe { Block::end_in_time(self.0, handles) };
        }
    }

    /// The last one has gone, and somebody may watch.
    #[cold]
    #[inline(never)]
    fn close(&self) {
        let block = self.block();
        if block.head.close() && !planted(Fault::CloseSilently) {
            block.wake();
        }
        // SAFETY: (1) that of all handles, of which this was the last.
        unsafe { Block::release(self.0) };
    }
}

/// A counted reference to a block, by which its head may be looked at only. It outlives the handles.
pub(crate) struct Watcher<T: Send + Sync + 'static, X>(NonNull<Block<T, X>>);

// SAFETY: as a handle.
unsafe impl<T: Send + Sync + 'static, X: Send + Sync> Send for Watcher<T, X> {}
// SAFETY: as a handle.
unsafe impl<T: Send + Sync + 'static, X: Send + Sync> Sync for Watcher<T, X> {}

impl<T: Send + Sync + 'static, X> Watcher<T, X> {
    fn block(&self) -> &Block<T, X> {
        // SAFETY: our count keeps the block.
        unsafe { self.0.as_ref() }
    }

    #[inline]
    pub(crate) fn head(&self) -> &Head<T> {
        &self.block().head
    }

    /// What somebody waits by.
    pub(crate) fn waitable(&self) -> Waitable<'_, T, X>
    where
        X: Default,
    {
        Waitable::new(self.block())
    }
}

fn take_watcher<X>(extra: &Extra<X>) {
    if extra.watchers.fetch_add(1, site::WATCHER_TAKE) > MOST {
        std::process::abort();
    }
}

impl<T: Send + Sync + 'static, X> Clone for Watcher<T, X> {
    fn clone(&self) -> Self {
        if let Some(extra) = self.block().extra() {
            take_watcher(extra);
        }
        Watcher(self.0)
    }
}

impl<T: Send + Sync + 'static, X> Drop for Watcher<T, X> {
    fn drop(&mut self) {
        // SAFETY: (1) ours, and it is not used any more.
        unsafe { Block::release(self.0) };
    }
}

/// A block, as those see it who wait for what becomes of its head.
pub(crate) struct Waitable<'e, T, X> {
    block: &'e Block<T, X>,
    /// It crosses threads if what it shows may be shared.
    shows: PhantomData<&'e (T, X)>,
}

impl<T, X> Clone for Waitable<'_, T, X> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T, X> Copy for Waitable<'_, T, X> {}

impl<'e, T: Send + Sync + 'static, X: Default> Waitable<'e, T, X> {
    fn new(block: &'e Block<T, X>) -> Self {
        Waitable {
            block,
            shows: PhantomData,
        }
    }

    pub(crate) fn head(self) -> &'e Head<T> {
        &self.block.head
    }

    /// Registers, to be woken by whoever takes a mark out of the head.
    pub(crate) fn listen(self, waker: &Waker, is_thread: bool) -> Listener<'e> {
        self.block.need_extra().event.listen(waker, is_thread)
    }

    /// Marks `held` as awaited by those who have registered before. Whether it is current and will be
    /// replaced: otherwise nobody will be woken.
    pub(crate) fn mark(self, held: &Held<T>) -> bool {
        self.head().mark(held)
    }

    /// Tells all who wait to look again.
    pub(crate) fn wake(self) {
        self.block.wake();
    }
}
