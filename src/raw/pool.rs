//! How memory is recycled: per thread, by size class.
//!
//! A commit takes one node and retires another, so the memory that comes out of its grace is what
//! the next commits need. A naive commit spends two thirds of its time in malloc and free.
//!
//! Class `k` holds blocks of `16 k + 8` bytes, the usable sizes of glibc's allocator, so a block
//! wastes no more here than there. What asks to be aligned to a [`LINE`] of the caches gets whole lines, by classes of
//! their own. A thread keeps at most [`BYTES`] bytes; what is more it leaves to threads that lack some ([`shelf`]). What is
//! too much for those as well, too large, or aligned otherwise goes to the allocator, and so does everything while a
//! thread ends.
//!
//! The pool itself has no destructor, so that to get at it is one instruction. It is [closed](Closer)
//! by another thread-local that has one, made when the pool is opened, with its first block.

use super::shelf::{self, Chain};
use crate::sync::per_thread;
use std::alloc::{self, Layout};
use std::cell::Cell;
use std::mem::{self, ManuallyDrop};
use std::ptr::{self, NonNull};

/// Bytes that a thread keeps. What is retired comes back in waves of some hundred blocks, so that is
/// enough for blocks of the largest class. In a build for the address sanitizer none: it should see
/// each free.
const BYTES: usize = if cfg!(snapcell_sanitize) { 0 } else { 1 << 20 };
/// The largest class is that of 4152 bytes: a payload of a page with its header fits.
const SMALL: usize = 260;
/// Classes of whole lines, from one on.
const LINES: usize = 65;
const CLASSES: usize = SMALL + LINES;
const ALIGN: usize = 16;
/// What a processor moves at once between its caches, and from those of another one.
pub(super) const LINE: usize = 64;

/// Blocks of one size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Class {
    list: usize,
    size: usize,
}

/// The class whose blocks fit `layout`.
#[inline(always)]
const fn class_of(layout: Layout) -> Option<Class> {
    let size = layout.size();
    if layout.align() == LINE {
        // It wraps at size zero alone, which nobody asks for.
        let others = size.wrapping_sub(1) / LINE;
        if others >= LINES {
            return None;
        }
        return Some(Class {
            list: SMALL + others,
            size: (others + 1) * LINE,
        });
    }
    let list = size.saturating_sub(8).div_ceil(16);
    if layout.align() > ALIGN || list >= SMALL {
        return None;
    }
    Some(Class {
        list,
        size: 16 * list + 8,
    })
}

/// The class of the blocks in a list.
const fn class_in(list: usize) -> Class {
    let size = if list < SMALL {
        16 * list + 8
    } else {
        (list - SMALL + 1) * LINE
    };
    Class { list, size }
}

/// What is asked of the allocator for a block of `class`.
fn layout_of(class: Class) -> Layout {
    let align = if class.list < SMALL { ALIGN } else { LINE };
    Layout::from_size_align(class.size, align)
        .expect("a class is small and its alignment a power of two")
}

impl Class {
    /// Its shelf, if it has one: where a chain would have but few blocks there is none.
    fn shelf(self) -> Option<&'static shelf::Shelf> {
        const SMALL_ONES: usize = shelf::SHELVES - 8;
        shelf::number(match self.list.checked_sub(SMALL) {
            None if self.list < SMALL_ONES => self.list,
            None => return None,
            Some(lines) => SMALL_ONES + lines,
        })
    }

    /// How many blocks a chain of them has.
    fn chain(self) -> usize {
        shelf::CHAIN / self.size
    }
}

/// A free block; the link to the next one lies in its own memory.
struct Free {
    next: *mut Free,
}

struct Pool {
    /// The first block of each class.
    lists: [Cell<*mut Free>; CLASSES],
    /// Bytes that may still be taken in. None as long as the pool isn't open.
    room: Cell<usize>,
    /// How often the next shelf isn't asked, since the last one was asked in vain.
    unasked: Cell<u32>,
}

/// See [`Pool::unasked`].
const IN_VAIN: u32 = 16;

per_thread! {
    static POOL: ManuallyDrop<Pool> = ManuallyDrop::new(Pool::new());
}

per_thread! {
    static CLOSER: Closer = Closer(Cell::new(false));
}

/// Notes that the pool was opened, and closes it for good when the thread ends.
struct Closer(Cell<bool>);

impl Drop for Closer {
    fn drop(&mut self) {
        let _ = POOL.try_with(|pool| pool.close());
    }
}

impl Pool {
    const fn new() -> Self {
        Pool {
            lists: [const { Cell::new(ptr::null_mut()) }; CLASSES],
            room: Cell::new(0),
            unasked: Cell::new(0),
        }
    }

    #[inline(always)]
    fn take(&self, class: Class) -> Option<NonNull<u8>> {
        let list = &self.lists[class.list];
        let block = NonNull::new(list.get())?;
        // SAFETY: what is in a list was given to it by `give`, which wrote the link, and nobody
        // else has touched it since.
        list.set(unsafe { block.as_ref() }.next);
        self.room.set(self.room.get() + class.size);
        Some(block.cast())
    }

    /// Whether the block was taken in.
    ///
    /// # Safety
    /// 1. `memory` is a block of `class` that the caller owns and gives up.
    #[inline(always)]
    unsafe fn give(&self, memory: NonNull<u8>, class: Class) -> bool {
        let Some(room) = self.room.get().checked_sub(class.size) else {
            return false;
        };
        let list = &self.lists[class.list];
        let block: NonNull<Free> = memory.cast();
        // SAFETY: (1) the block is ours, large enough for a pointer (8 bytes in the smallest
        // class) and aligned to 16.
        unsafe { block.write(Free { next: list.get() }) };
        list.set(block.as_ptr());
        self.room.set(room);
        true
    }

    /// Opens the pool, if it has not been opened before. Whether it did.
    #[cold]
    fn open(&self) -> bool {
        let is_new = CLOSER.try_with(|closer| !closer.0.replace(true));
        if is_new.unwrap_or(false) {
            self.room.set(BYTES);
            return true;
        }
        false
    }

    /// Whether it pays to ask a shelf.
    fn asks(&self) -> bool {
        let unasked = self.unasked.get();
        self.unasked.set(unasked.saturating_sub(1));
        unasked == 0
    }

    /// Gets a chain of blocks of a class from others. Whether it did.
    fn restock(&self, class: Class) -> bool {
        let bytes = class.chain() * class.size;
        let (Some(shelf), Some(room)) = (class.shelf(), self.room.get().checked_sub(bytes)) else {
            return false;
        };
        if !self.asks() {
            return false;
        }
        let Some(Chain(first)) = shelf.take() else {
            self.unasked.set(IN_VAIN);
            return false;
        };
        self.lists[class.list].set(first.as_ptr().cast());
        self.room.set(room);
        true
    }

    /// Leaves a chain of blocks of a class to others. Whether it did.
    fn make_room(&self, class: Class) -> bool {
        // A pool that isn't open, or not any more, has no room either.
        let is_full = !self.lists[class.list].get().is_null();
        let Some(shelf) = class.shelf().filter(|_| is_full && self.asks()) else {
            return false;
        };
        let is_put = shelf.put(|| self.cut(class));
        if !is_put {
            self.unasked.set(IN_VAIN);
        }
        is_put
    }

    /// Takes a chain of blocks out, if there are so many.
    fn cut(&self, class: Class) -> Option<Chain> {
        let list = &self.lists[class.list];
        let first = NonNull::new(list.get())?;
        let mut last = first;
        for _ in 1..class.chain() {
            // SAFETY: what is in a list was given to it, with a link.
            last = NonNull::new(unsafe { last.as_ref() }.next)?;
        }
        // SAFETY: as above, and nobody else looks at it.
        let rest = mem::replace(unsafe { &mut last.as_mut().next }, ptr::null_mut());
        list.set(rest);
        self.room.set(self.room.get() + class.chain() * class.size);
        Some(Chain(first.cast()))
    }

    fn close(&self) {
        for class in (0..CLASSES).map(class_in) {
            while let Some(block) = self.take(class) {
                // SAFETY: blocks of a class were allocated with the layout of that class.
                unsafe { alloc::dealloc(block.as_ptr(), layout_of(class)) };
            }
        }
        self.room.set(0);
    }
}

/// Memory for `layout`, its content arbitrary. `layout` is not of size zero: nodes have headers.
#[inline(always)]
pub(super) fn take(layout: Layout) -> NonNull<u8> {
    debug_assert!(layout.size() > 0, "nodes have headers");
    let recycled =
        class_of(layout).and_then(|class| POOL.try_with(|pool| pool.take(class)).ok().flatten());
    recycled.unwrap_or_else(|| allocate(layout))
}

#[cold]
#[inline(never)]
fn allocate(layout: Layout) -> NonNull<u8> {
    let class = class_of(layout);
    let others = class.and_then(|class| {
        let restock = |pool: &ManuallyDrop<Pool>| {
            if pool.room.get() == 0 {
                // A thread may do nothing but take.
                pool.open();
            }
            pool.restock(class).then(|| pool.take(class)).flatten()
        };
        POOL.try_with(restock).ok().flatten()
    });
    if let Some(block) = others {
        return block;
    }
    let layout = class.map_or(layout, layout_of);
    // SAFETY: no layout that gets here has size zero.
    let memory = unsafe { alloc::alloc(layout) };
    NonNull::new(memory).unwrap_or_else(|| alloc::handle_alloc_error(layout))
}

/// Takes memory back.
///
/// # Safety
/// 1. It came from [`take`] with the same `layout`, on whatever thread. 2. Nobody uses it any more.
#[inline(always)]
pub(super) unsafe fn give(memory: NonNull<u8>, layout: Layout) {
    if let Some(class) = class_of(layout) {
        // SAFETY: (1) the memory is a block of this class, (2) that the caller gives up.
        let kept = POOL.try_with(|pool| unsafe { pool.give(memory, class) });
        if kept.unwrap_or(false) {
            return;
        }
    }
    // SAFETY: (1), (2).
    unsafe { deallocate(memory, layout) };
}

/// Gives memory to the allocator, unless the pool has not been opened yet.
///
/// # Safety
/// As [`give`].
#[cold]
#[inline(never)]
unsafe fn deallocate(memory: NonNull<u8>, layout: Layout) {
    let Some(class) = class_of(layout) else {
        // SAFETY: (1) without a class, `take` asked for just this layout.
        unsafe { alloc::dealloc(memory.as_ptr(), layout) };
        return;
    };
    let kept = POOL.try_with(|pool| {
        let has_room = pool.open() || pool.make_room(class);
        // SAFETY: (1) the memory is a block of this class, (2) that the caller gives up.
        has_room && unsafe { pool.give(memory, class) }
    });
    if !kept.unwrap_or(false) {
        // SAFETY: (1) blocks of a class were allocated with the layout of that class.
        unsafe { alloc::dealloc(memory.as_ptr(), layout_of(class)) };
    }
}

/// What the end of a thread does, called by the threads of models.
#[cfg(any(snapcell_model, snapcell_epoch_model, snapcell_shuttle))]
pub(super) fn leave() {
    CLOSER.with(|closer| closer.0.set(true));
    POOL.with(|pool| pool.close());
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_class_fits_its_layouts_and_wastes_less_than_its_step() {
        for size in 1..=4152 {
            let class = class_of(Layout::from_size_align(size, 8).unwrap()).expect("small enough");
            assert_eq!(class, class_in(class.list));
            let block = layout_of(class).size();
            assert!(
                block >= size && block < size.max(8) + 16,
                "{size} bytes in a block of {block}"
            );
        }
        assert_eq!(
            class_of(Layout::from_size_align(4153, 8).unwrap()),
            None,
            "too large"
        );
        assert_eq!(
            class_of(Layout::from_size_align(64, 32).unwrap()),
            None,
            "aligned otherwise"
        );
    }

    #[test]
    fn what_asks_for_lines_gets_whole_ones() {
        let layout = |size| Layout::from_size_align(size, LINE).unwrap();
        for size in 1..=LINES * LINE {
            let class = class_of(layout(size)).expect("small enough");
            assert_eq!(class, class_in(class.list));
            assert_eq!(layout_of(class), layout(size.next_multiple_of(LINE)));
        }
        assert_eq!(class_of(layout(LINES * LINE + 1)), None, "too large");
        let block = take(layout(100));
        assert!(block.as_ptr().addr().is_multiple_of(LINE));
        // SAFETY: (1) it came from `take` with this layout; (2) nobody uses it.
        unsafe { give(block, layout(100)) };
    }

    #[test]
    fn the_last_block_given_is_the_first_one_taken() {
        let layout = Layout::from_size_align(3000, 8).unwrap();
        let first = take(layout);
        let second = take(layout);
        assert_ne!(first, second, "a block is handed out once");
        // SAFETY: (1) both came from `take` with this layout; (2) nobody uses them.
        unsafe { give(first, layout) };
        // SAFETY: as above.
        unsafe { give(second, layout) };
        if BYTES > 0 {
            assert_eq!((take(layout), take(layout)), (second, first));
            // SAFETY: as above.
            unsafe { give(first, layout) };
            // SAFETY: as above.
            unsafe { give(second, layout) };
        }
    }

    #[test]
    fn a_thread_keeps_a_bounded_number_of_bytes() {
        let layout = Layout::from_size_align(2000, 8).unwrap();
        let blocks: Vec<_> = (0..BYTES / 2000 + 100).map(|_| take(layout)).collect();
        for block in blocks {
            // SAFETY: (1) it came from `take` with this layout; (2) nobody uses it.
            unsafe { give(block, layout) };
        }
        let class = class_of(layout).unwrap();
        POOL.with(|pool| {
            assert!(pool.room.get() < class.size, "it is full");
            let mut kept = 0;
            while let Some(block) = pool.take(class) {
                kept += class.size;
                // SAFETY: blocks of a class were allocated with the layout of that class.
                unsafe { alloc::dealloc(block.as_ptr(), layout_of(class)) };
            }
            assert!(kept <= BYTES, "{kept} bytes");
        });
    }

    /// What this thread has too many of another one gets, which has never given anything.
    #[test]
    fn what_is_too_much_for_one_thread_is_there_for_others() {
        // A size that nobody else in this program asks for.
        let layout = Layout::from_size_align(470, 8).unwrap();
        let class = class_of(layout).unwrap();
        let many = BYTES / class.size + 3 * class.chain();
        let blocks: Vec<_> = (0..many).map(|_| take(layout)).collect();
        let given: BTreeSet<_> = blocks.iter().map(|block| block.as_ptr().addr()).collect();
        assert_eq!(given.len(), many, "a block is handed out once");
        for block in blocks {
            // SAFETY: (1) it came from `take` with this layout; (2) nobody uses it.
            unsafe { give(block, layout) };
        }
        let chain = class.chain();
        let take_and_give = move || {
            let blocks: Vec<_> = (0..chain).map(|_| take(layout)).collect();
            let addresses: Vec<_> = blocks.iter().map(|block| block.as_ptr().addr()).collect();
            for block in blocks {
                // SAFETY: as above.
                unsafe { give(block, layout) };
            }
            addresses
        };
        let recycled = std::thread::scope(|s| s.spawn(take_and_give).join().unwrap());
        let distinct: BTreeSet<_> = recycled.iter().collect();
        assert_eq!(distinct.len(), chain, "a block is handed out once");
        if BYTES > 0 {
            let ours = recycled.iter().filter(|address| given.contains(address));
            assert_eq!(ours.count(), chain);
        }
    }

    #[test]
    fn a_thread_that_only_gives_opens_its_pool() {
        let layout = Layout::from_size_align(100, 8).unwrap();
        let block = take(layout);
        let address = block.as_ptr().addr();
        let again = std::thread::scope(|s| {
            let give_and_take = s.spawn(move || {
                let block = NonNull::new(ptr::with_exposed_provenance_mut(address)).unwrap();
                // SAFETY: (1) it came from `take` with this layout; (2) nobody uses it.
                unsafe { give(block, layout) };
                let block = take(layout);
                // SAFETY: as above.
                unsafe { give(block, layout) };
                block.as_ptr().addr()
            });
            block.as_ptr().expose_provenance();
            give_and_take.join().unwrap()
        });
        assert_eq!(again == address, BYTES > 0);
    }
}
