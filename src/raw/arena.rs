//! Blocks side by side, each found by its number: where a store keeps the entities that it names itself.
//!
//! A name of 126 bits says in which *entry* a block lies. So a look by name is an address, a comparison of
//! names, and then the head itself: no hash, no probe, no block elsewhere.
//!
//! # The life of an entry
//! ```text
//! free ──take──▶ vacant ──fill──▶ named ──unname──▶ unnamed ──the last handle goes──▶ free
//! ```
//! A named entry owns one handle of its block. Whoever unnames it, by the exchange of the name for none, has
//! that handle retired, as a commit does with the node that it replaced. When it has been given up, and the
//! last of all others, the block ends, and the entry is free: for another block, with another name. Which are
//! free is the business of `free.rs`, which relies on the grace between taking and giving back.
//!
//! # Why a look is safe
//! Whoever looks is pinned before it reads a name. If that is the one that it looks for, the handle of the
//! entry is there for as long as the guard is, by the argument of `reclaim.rs` with the name in the place
//! of the head: either it was pinned before the handle was retired, and the release waits for it; or it was
//! pinned later, and would have seen that the name is gone. So it may use the block as if it had a handle, and
//! take some of its own. And the entry can't get another name in the meantime: both halves of a name that
//! were read under one guard belong together.
//!
//! # Memory
//! Entries lie in rows, each twice as long as the one before, which are made when they are needed and stay
//! as long as the arena and all blocks in it. A row that is half used takes up half: nobody touches the rest.
//!
//! # Orderings
//! ROW_SET → ROW_LOAD: who finds a row finds its entries. NAME_SET → NAME_LOAD: who finds a name finds the
//! block. Checked by `loom-tests/arena.rs`.

use super::block::{Block, Handle};
use super::free::Free;
use super::node::Draft;
use super::reclaim::{Guard, Reclaim, Reclaimer};
use super::retired::Retired;
use crate::sync::fault::{Fault, planted};
use crate::sync::orderings::site;
use crate::sync::{AtomicPtr, AtomicU64, AtomicUsize, Life};
use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::cell::UnsafeCell;
use std::marker::PhantomData;
use std::mem::{self, ManuallyDrop, MaybeUninit};
use std::ops::Deref;
use std::ptr::{self, NonNull};
use std::sync::Arc;

/// The length of the first row. One in models, so that there are more.
const FIRST: usize = if MODEL { 1 } else { 64 };
/// With these all numbers of 32 bits have a row, but for some of the last.
const ROWS: usize = 32 - FIRST.trailing_zeros() as usize;
const MODEL: bool = cfg!(any(snapcell_model, snapcell_epoch_model, snapcell_shuttle));
/// The name of an entry that has none.
const NONE: u64 = 0;

/// See the header of this file.
pub(crate) struct Arena<T: Send + Sync + 'static, X>(Arc<Rows<T, X>>);

/// The entries, shared by the arena and all blocks that lie in them.
struct Rows<T: Send + Sync + 'static, X> {
    rows: [AtomicPtr<Entry<T, X>>; ROWS],
    /// How many were ever taken, each for the first time.
    fresh: AtomicUsize,
    /// Those that were given back.
    free: Free,
    /// How many have a name.
    named: AtomicUsize,
}

/// All zeros are a free entry, but in models, whose words are no bare numbers.
#[repr(C)]
struct Entry<T: Send + Sync + 'static, X> {
    /// The lower half of the name, and whether there is one.
    low: AtomicU64,
    /// Its upper half; in an entry that is free, which one is free besides.
    high: AtomicU64,
    /// Whole from `fill` to the end of the block.
    tenant: UnsafeCell<MaybeUninit<Tenant<T, X>>>,
    made: Life,
}

/// What is in an entry that isn't free.
#[repr(C)]
struct Tenant<T: Send + Sync + 'static, X> {
    /// The business of `block.rs`, and of whoever has a handle.
    block: MaybeUninit<Block<T, X>>,
    rows: Arc<Rows<T, X>>,
    life: Life,
}

#[cfg(not(any(snapcell_model, snapcell_epoch_model, snapcell_shuttle)))]
const _: () = assert!(
    size_of::<Entry<u64, u64>>() == 16 + 4 * size_of::<usize>()
        && !mem::needs_drop::<Entry<u64, u64>>(),
    "an entry is a name, a block, and where it belongs"
);

// SAFETY: an arena is a handle of each entity in it, for those who share it and for whoever ends it, and a
// handle is `Send` and `Sync` for such types.
unsafe impl<T: Send + Sync + 'static, X: Send + Sync> Send for Arena<T, X> {}
// SAFETY: as above.
unsafe impl<T: Send + Sync + 'static, X: Send + Sync> Sync for Arena<T, X> {}

/// The row of a number, and the place in it.
#[inline]
fn spot(number: u32) -> (usize, usize) {
    let at = number as usize + FIRST;
    let row = (at.ilog2() - FIRST.ilog2()) as usize;
    (row, at - (FIRST << row))
}

impl<T: Send + Sync + 'static, X> Entry<T, X> {
    /// Where the block lies in the entry.
    const BLOCK: usize =
        mem::offset_of!(Entry<T, X>, tenant) + mem::offset_of!(Tenant<T, X>, block);

    /// Makes what all zeros are not, in models.
    fn free() -> Self {
        Entry {
            low: AtomicU64::new(NONE),
            high: AtomicU64::new(NONE),
            tenant: UnsafeCell::new(MaybeUninit::uninit()),
            made: Life::begin(),
        }
    }

    #[inline]
    fn tenant(&self) -> NonNull<Tenant<T, X>> {
        // SAFETY: what is in a cell has an address.
        unsafe { NonNull::new_unchecked(self.tenant.get().cast()) }
    }

    /// Puts into an entry where it belongs, and no block.
    ///
    /// # Safety
    /// 1. The entry was taken by the caller, and has no name.
    unsafe fn settle(&self, rows: &Arc<Rows<T, X>>) {
        let tenant = Tenant {
            block: MaybeUninit::uninit(),
            rows: Arc::clone(rows),
            life: Life::begin(),
        };
        // SAFETY: (1) nobody else looks into it.
        unsafe { self.tenant().write(tenant) };
    }

    #[inline]
    fn block(&self) -> NonNull<Block<T, X>> {
        // `Tenant` begins with it.
        self.tenant().cast()
    }

    /// Whether it has this name, which may be anybody's idea. Only to be believed under a guard.
    #[inline]
    fn is_named(&self, [low, high]: [u64; 2]) -> bool {
        low != NONE
            && self.low.load(site::NAME_LOAD) == low
            && self.high.load(site::NAME_HIGH_LOAD) == high
    }

    /// The handle that the entry owns, for those who look.
    ///
    /// # Safety
    /// 1. The entry has a name, and the caller a guard under which it found that out; it doesn't use the handle
    ///    for longer, nor give it up.
    #[inline]
    unsafe fn lend(&self) -> ManuallyDrop<Handle<T, X>> {
        // SAFETY: (1) whoever has a name is there.
        unsafe { self.tenant().as_ref() }.life.look();
        // SAFETY: (1) the block is there, and the handle not given up.
        ManuallyDrop::new(unsafe { Handle::from_block(self.block()) })
    }
}

/// An entity that was found in an arena, under the guard that keeps it there.
pub(crate) struct Lent<'s, H> {
    /// It shows the handle of the entry, which is not its own.
    shown: ManuallyDrop<H>,
    guard: Guard,
    arena: PhantomData<&'s ()>,
}

impl<H> Lent<'_, H> {
    /// The guard, for looks at the entity.
    #[inline]
    pub(crate) fn guard(&self) -> &Guard {
        &self.guard
    }
}

impl<H> Deref for Lent<'_, H> {
    type Target = H;

    #[inline]
    fn deref(&self) -> &H {
        &self.shown
    }
}

/// The halves of a name.
#[inline]
fn halves(name: u128) -> [u64; 2] {
    [name as u64, (name >> 64) as u64]
}

impl<T: Send + Sync + 'static, X: Send + Sync> Arena<T, X> {
    pub(crate) fn new() -> Self {
        Arena(Arc::new(Rows {
            rows: [const { ptr::null_mut() }; ROWS].map(AtomicPtr::new),
            fresh: AtomicUsize::new(0),
            free: Free::new(),
            named: AtomicUsize::new(0),
        }))
    }

    /// How many entries have a name.
    pub(crate) fn len(&self) -> usize {
        self.0.named.load(site::GAUGE_LOAD)
    }

    /// An entry for a block, unless all numbers are taken, or there is no memory for another row.
    ///
    /// # Progress
    /// As good as a pin, and then lock-free.
    pub(crate) fn take(&self) -> Option<Vacancy<'_, T, X>> {
        let free = self.0.free.take(|number| &self.0.taken(number).high);
        let number = free.or_else(|| self.0.need_fresh())?;
        Some(Vacancy {
            arena: self,
            number,
        })
    }

    /// The entity of this name in this entry, if it is there, under a guard, as `wrap` shows a handle: a
    /// constructor, which keeps it and does nothing besides.
    ///
    /// # Progress
    /// As good as a pin, and then wait-free.
    #[inline(always)]
    pub(crate) fn find<H>(
        &self,
        number: u32,
        name: u128,
        wrap: fn(Handle<T, X>) -> H,
    ) -> Option<Lent<'_, H>> {
        let entry = self.0.entry(number)?;
        let guard = Reclaimer::pin();
        if !entry.is_named(halves(name)) {
            return None;
        }
        // SAFETY: (1) it was found under the guard, which stays with it.
        let handle = unsafe { entry.lend() };
        Some(Lent {
            shown: ManuallyDrop::new(wrap(ManuallyDrop::into_inner(handle))),
            guard,
            arena: PhantomData,
        })
    }

    /// Takes the name from an entry, and the entity out of the arena, if it has that name. Whether it had, and
    /// nobody was faster. The entity lives on through other handles.
    ///
    /// # Progress
    /// Lock-free.
    pub(crate) fn unname(&self, number: u32, name: u128) -> bool {
        let Some(entry) = self.0.entry(number) else {
            return false;
        };
        // A thread may do nothing but this.
        Reclaimer::release_some();
        let guard = Reclaimer::pin();
        if !entry.is_named(halves(name)) {
            return false;
        }
        let taken = match planted(Fault::UnnameTwice) {
            true => {
                entry.low.store(NONE, site::NAME_SET);
                true
            }
            false => {
                let low = halves(name)[0];
                entry
                    .low
                    .compare_exchange(low, NONE, site::NAME_TAKE)
                    .is_ok()
            }
        };
        if !taken {
            return false;
        }
        self.0.named.fetch_sub(1, site::GAUGE_ADD);
        let retired = Retired {
            node: entry.block().as_ptr().cast(),
            bytes: size_of::<Entry<T, X>>(),
            release: Self::give_up,
        };
        if planted(Fault::UnnameAtOnce) {
            // SAFETY: none, which is the fault.
            unsafe { retired.release() };
            return true;
        }
        // SAFETY: (1) this thread has taken the name, under the guard; (2) and so nobody else does this.
        unsafe { Reclaimer::retire(&guard, retired) };
        true
    }

    /// Gives up the handle of an entry.
    ///
    /// # Safety
    /// 1. `block` is that of an unnamed entry. 2. Its grace is over. 3. Called once.
    unsafe fn give_up(block: *mut ()) {
        // SAFETY: a block is not null.
        let block = unsafe { NonNull::new_unchecked(block.cast::<Block<T, X>>()) };
        // SAFETY: (1), (2), (3): the handle was the entry's.
        drop(unsafe { Handle::from_block(block) });
    }

    /// What `each` makes of the number and the name of each entity that is there all the while, through what
    /// `wrap` makes of a handle of its own, and of some of the others.
    pub(crate) fn each<H, R>(
        &self,
        wrap: fn(Handle<T, X>) -> H,
        mut each: impl FnMut(u128, H) -> R,
    ) -> Vec<R> {
        let taken = self.0.fresh.load(site::GAUGE_LOAD).min(MOST);
        let mut all = Vec::with_capacity(self.len().min(taken));
        for number in 0..taken {
            // Those that were taken a moment ago may have no row yet.
            let Some(entry) = self.0.entry(number as u32) else {
                continue;
            };
            if entry.low.load(site::GAUGE_LOAD) == NONE {
                continue;
            }
            let found = {
                let _guard = Reclaimer::pin();
                let low = entry.low.load(site::NAME_LOAD);
                let high = entry.high.load(site::NAME_HIGH_LOAD);
                (low != NONE).then(|| {
                    // SAFETY: (1) it was found under the guard, and nothing is dropped.
                    let lent = unsafe { entry.lend() };
                    let name = u128::from(high) << 64 | u128::from(low);
                    (name, Handle::clone(&lent))
                })
            };
            if let Some((name, handle)) = found {
                all.push(each(name, wrap(handle)));
            }
        }
        all
    }
}

/// So many numbers there are.
const MOST: usize = u32::MAX as usize - FIRST;

impl<T: Send + Sync + 'static, X> Rows<T, X> {
    /// The entry of a number, if there is such a row.
    #[inline]
    fn entry(&self, number: u32) -> Option<&Entry<T, X>> {
        if number as usize >= MOST {
            return None;
        }
        let (row, at) = spot(number);
        let first = NonNull::new(self.rows.get(row)?.load_set_once(site::ROW_LOAD))?;
        // SAFETY: `at` is less than the length of the row.
        let entry = unsafe { first.add(at) };
        // SAFETY: rows are set once, whole, and live as long as this.
        let entry = unsafe { entry.as_ref() };
        entry.made.look();
        Some(entry)
    }

    /// The entry of a number that was taken at some time.
    fn taken(&self, number: u32) -> &Entry<T, X> {
        let entry = self.entry(number);
        entry.unwrap_or_else(|| unreachable!("whoever takes a number has its row"))
    }

    /// A number that was never taken, with its row.
    fn need_fresh(&self) -> Option<u32> {
        let number = self.fresh.fetch_add(1, site::GAUGE_ADD);
        if number >= MOST {
            // So it can't come around.
            self.fresh.fetch_sub(1, site::GAUGE_ADD);
            return None;
        }
        let row = spot(number as u32).0;
        if self.rows[row].load_set_once(site::ROW_LOAD).is_null() {
            // Where there is no memory for so many, the number is lost.
            self.make(row)?;
        }
        Some(number as u32)
    }

    /// Makes a row, unless somebody is faster, or there is no memory.
    #[cold]
    fn make(&self, row: usize) -> Option<()> {
        let layout = Self::layout(row)?;
        // SAFETY: an entry has a size.
        let first = unsafe { alloc_zeroed(layout) }.cast::<Entry<T, X>>();
        if first.is_null() {
            return None;
        }
        if MODEL {
            for at in 0..FIRST << row {
                // SAFETY: `at` is less than the length of the row.
                let entry = unsafe { first.add(at) };
                // SAFETY: the row is ours.
                unsafe { entry.write(Entry::free()) };
            }
        }
        let set = self.rows[row].compare_exchange(ptr::null_mut(), first, site::ROW_SET);
        if set.is_err() {
            // SAFETY: it was made just now, and not published.
            unsafe { Self::end(first, row) };
        }
        Some(())
    }

    fn layout(row: usize) -> Option<Layout> {
        Layout::array::<Entry<T, X>>(FIRST << row).ok()
    }

    /// # Safety
    /// 1. `first` is a row made by `make`, which nobody uses any more, and without a block.
    unsafe fn end(first: *mut Entry<T, X>, row: usize) {
        if MODEL {
            for at in 0..FIRST << row {
                // SAFETY: `at` is less than the length of the row.
                let entry = unsafe { first.add(at) };
                // SAFETY: (1).
                unsafe { entry.read() }.made.end();
            }
        }
        if let Some(layout) = Self::layout(row) {
            // SAFETY: (1) it was allocated with this layout.
            unsafe { dealloc(first.cast(), layout) };
        }
    }

    /// The number of an entry.
    fn number_of(&self, entry: NonNull<Entry<T, X>>) -> u32 {
        let row = (0..ROWS).find_map(|row| {
            let first = self.rows[row].load_set_once(site::ROW_LOAD).addr();
            let at = entry.addr().get().wrapping_sub(first) / size_of::<Entry<T, X>>();
            (first != 0 && entry.addr().get() >= first && at < FIRST << row)
                .then(|| (FIRST << row) + at - FIRST)
        });
        let number = row.unwrap_or_else(|| unreachable!("each entry lies in a row"));
        number as u32
    }
}

impl<T: Send + Sync + 'static, X> Drop for Rows<T, X> {
    fn drop(&mut self) {
        for (row, first) in self.rows.iter().enumerate() {
            let first = first.load(site::ROW_TAKE);
            if !first.is_null() {
                // SAFETY: (1) each block in it had a count of this.
                unsafe { Self::end(first, row) };
            }
        }
    }
}

/// Its entities live on through other handles, nameless.
impl<T: Send + Sync + 'static, X> Drop for Arena<T, X> {
    fn drop(&mut self) {
        let taken = self.0.fresh.load(site::GAUGE_LOAD).min(MOST);
        for number in 0..taken {
            let Some(entry) = self.0.entry(number as u32) else {
                continue;
            };
            if entry.low.load(site::NAME_LOAD) != NONE {
                // SAFETY: a named entry owns a handle; nobody looks, since that takes the arena; and this
                // happens once.
                drop(unsafe { Handle::from_block(entry.block()) });
            }
        }
    }
}

/// An entry that is nobody else's, without a block. Free again if it isn't filled.
pub(crate) struct Vacancy<'s, T: Send + Sync + 'static, X> {
    arena: &'s Arena<T, X>,
    number: u32,
}

impl<T: Send + Sync + 'static, X> Vacancy<'_, T, X> {
    /// The number of the entry.
    pub(crate) fn number(&self) -> u32 {
        self.number
    }

    /// Has an entity begin in it, under a name that no other one had or will have.
    ///
    /// # Linearization
    /// The store of the name.
    /// # Panics
    /// If the lower half of the name is zero.
    pub(crate) fn fill(self, name: u128, first: Draft<T>, extra: Option<X>) {
        let [low, high] = halves(name);
        assert_ne!(low, NONE, "a name is no zero");
        let rows = &self.arena.0;
        let entry = rows.taken(self.number);
        // SAFETY: (1) the entry is ours.
        unsafe { entry.settle(rows) };
        // SAFETY: (1) the entry is ours, and nobody looks into one without a name.
        mem::forget(unsafe { Handle::new_at(entry.block(), first, extra) });
        entry.high.store(high, site::NAME_HIGH_SET);
        // Before the name, which somebody may take at once.
        rows.named.fetch_add(1, site::GAUGE_ADD);
        entry.low.store(low, site::NAME_SET);
        mem::forget(self);
    }
}

/// After a grace, as all that was taken.
impl<T: Send + Sync + 'static, X> Drop for Vacancy<'_, T, X> {
    fn drop(&mut self) {
        let rows = &self.arena.0;
        let entry = rows.taken(self.number);
        if planted(Fault::VacateAtOnce) {
            rows.free.put(self.number, &entry.high);
            return;
        }
        // SAFETY: (1) the entry is ours.
        unsafe { entry.settle(rows) };
        let retired = Retired {
            node: entry.block().as_ptr().cast(),
            bytes: size_of::<Entry<T, X>>(),
            release: Self::vacate,
        };
        let guard = Reclaimer::pin();
        // SAFETY: (1) the number is ours, since it was taken; (2) and so nobody else does this.
        unsafe { Reclaimer::retire(&guard, retired) };
    }
}

impl<T: Send + Sync + 'static, X> Vacancy<'_, T, X> {
    /// Gives back an entry.
    ///
    /// # Safety
    /// 1. `block` is where there would be one, in an entry that was settled. 2. Its grace is over. 3. Called once.
    unsafe fn vacate(block: *mut ()) {
        // SAFETY: a block is not null.
        let block = unsafe { NonNull::new_unchecked(block.cast::<Block<T, X>>()) };
        // SAFETY: (1), (3): there is nothing in it but what `settle` has put there; (2).
        unsafe { give_back(block) };
    }
}

/// Gives back the memory of a block that lies in an entry.
///
/// # Safety
/// 1. The block was made by [`Vacancy::fill`], and nothing of it lives any more; or there was none, but
///    [`Entry::settle`]. 2. It is called once, after a grace that began after the entry was taken.
#[inline(never)]
pub(super) unsafe fn give_back<T: Send + Sync + 'static, X>(block: NonNull<Block<T, X>>) {
    // SAFETY: (1) the block lies in an entry, at this place.
    let entry = unsafe { block.byte_sub(Entry::<T, X>::BLOCK) }.cast::<Entry<T, X>>();
    // SAFETY: (1) it is the beginning of what is in the entry, which is whole; (2) nobody else looks at it.
    let Tenant { rows, life, .. } = unsafe { block.cast::<Tenant<T, X>>().read() };
    life.end();
    // SAFETY: (1) entries live as long as their rows.
    let link = unsafe { &entry.as_ref().high };
    rows.free.put(rows.number_of(entry), link);
}
