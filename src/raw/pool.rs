//! How memory is recycled: per thread, by size class.
//!
//! A commit takes one node and retires another, so the memory that comes out of its grace is what
//! the next commits need. A naive commit spends two thirds of its time in malloc and free.
//!
//! Class `k` holds blocks of `16 k + 8` bytes, the usable sizes of glibc's allocator, so a block
//! wastes no more here than there. A thread keeps at most [`BLOCKS`] blocks of a class and
//! [`BYTES`] bytes in all; what is more, too large, or aligned to more than 16 bytes goes to the
//! allocator, and so does everything while a thread ends.

use crate::sync::per_thread;
use std::alloc::{self, Layout};
use std::cell::Cell;
use std::ptr::{self, NonNull};

/// Blocks of one class that a thread keeps. In a build for the address sanitizer none: it should
/// see each free.
const BLOCKS: u32 = if cfg!(snapcell_sanitize) { 0 } else { 512 };
/// Bytes that a thread keeps.
const BYTES: usize = 1 << 22;
/// The largest class is that of 4152 bytes: a payload of a page with its header fits.
const CLASSES: usize = 260;
const ALIGN: usize = 16;

/// The class whose blocks fit `layout`.
const fn class_of(layout: Layout) -> Option<usize> {
    let class = layout.size().saturating_sub(8).div_ceil(16);
    if layout.align() <= ALIGN && class < CLASSES {
        Some(class)
    } else {
        None
    }
}

/// What is asked of the allocator for a block of `class`.
fn layout_of(class: usize) -> Layout {
    Layout::from_size_align(16 * class + 8, ALIGN)
        .expect("a class is small and its alignment a power of two")
}

/// A free block; the link to the next one lies in its own memory.
struct Free {
    next: *mut Free,
}

#[derive(Clone, Copy)]
struct List {
    first: *mut Free,
    len: u32,
}

struct Pool {
    lists: [Cell<List>; CLASSES],
    bytes: Cell<usize>,
}

per_thread! {
    static POOL: Pool = Pool::new();
}

impl Pool {
    const fn new() -> Self {
        let lists = [const {
            Cell::new(List {
                first: ptr::null_mut(),
                len: 0,
            })
        }; CLASSES];
        Pool {
            lists,
            bytes: Cell::new(0),
        }
    }

    #[inline]
    fn take(&self, class: usize) -> Option<NonNull<u8>> {
        let list = self.lists[class].get();
        let block = NonNull::new(list.first)?;
        // SAFETY: what is in a list was given to it by `give`, which wrote the link, and nobody
        // else has touched it since.
        let next = unsafe { block.as_ref() }.next;
        self.lists[class].set(List {
            first: next,
            len: list.len - 1,
        });
        self.bytes.set(self.bytes.get() - (16 * class + 8));
        Some(block.cast())
    }

    /// Whether the block was taken in.
    ///
    /// # Safety
    /// 1. `memory` is a block of `class` that the caller owns and gives up.
    #[inline]
    unsafe fn give(&self, memory: NonNull<u8>, class: usize) -> bool {
        let list = self.lists[class].get();
        let bytes = self.bytes.get() + 16 * class + 8;
        if list.len >= BLOCKS || bytes > BYTES {
            return false;
        }
        let block: NonNull<Free> = memory.cast();
        // SAFETY: (1) the block is ours, large enough for a pointer (8 bytes in the smallest
        // class) and aligned to 16.
        unsafe { block.write(Free { next: list.first }) };
        self.lists[class].set(List {
            first: block.as_ptr(),
            len: list.len + 1,
        });
        self.bytes.set(bytes);
        true
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        for class in 0..CLASSES {
            while let Some(block) = self.take(class) {
                // SAFETY: blocks of a class were allocated with the layout of that class.
                unsafe { alloc::dealloc(block.as_ptr(), layout_of(class)) };
            }
        }
    }
}

/// Memory for `layout`, its content arbitrary. `layout` is not of size zero: nodes have headers.
#[inline]
pub(super) fn take(layout: Layout) -> NonNull<u8> {
    debug_assert!(layout.size() > 0, "nodes have headers");
    let recycled =
        class_of(layout).and_then(|class| POOL.try_with(|pool| pool.take(class)).ok().flatten());
    recycled.unwrap_or_else(|| allocate(layout))
}

#[cold]
fn allocate(layout: Layout) -> NonNull<u8> {
    let layout = class_of(layout).map_or(layout, layout_of);
    // SAFETY: no layout that gets here has size zero.
    let memory = unsafe { alloc::alloc(layout) };
    NonNull::new(memory).unwrap_or_else(|| alloc::handle_alloc_error(layout))
}

/// Takes memory back.
///
/// # Safety
/// 1. It came from [`take`] with the same `layout`, on whatever thread. 2. Nobody uses it any more.
#[inline]
pub(super) unsafe fn give(memory: NonNull<u8>, layout: Layout) {
    let Some(class) = class_of(layout) else {
        // SAFETY: (1) without a class, `take` asked for just this layout.
        unsafe { alloc::dealloc(memory.as_ptr(), layout) };
        return;
    };
    // SAFETY: (1) the memory is a block of this class, (2) that the caller gives up.
    let kept = POOL
        .try_with(|pool| unsafe { pool.give(memory, class) })
        .unwrap_or(false);
    if !kept {
        // SAFETY: (1) blocks of a class were allocated with the layout of that class.
        unsafe { alloc::dealloc(memory.as_ptr(), layout_of(class)) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_fits_its_layouts_and_wastes_less_than_its_step() {
        for size in 1..=4152 {
            let class = class_of(Layout::from_size_align(size, 8).unwrap()).expect("small enough");
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
            "aligned to more"
        );
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
        if BLOCKS > 0 {
            assert_eq!((take(layout), take(layout)), (second, first));
            // SAFETY: as above.
            unsafe { give(first, layout) };
            // SAFETY: as above.
            unsafe { give(second, layout) };
        }
    }

    #[test]
    fn a_thread_keeps_a_bounded_number_of_blocks() {
        let layout = Layout::from_size_align(2000, 8).unwrap();
        let blocks: Vec<_> = (0..BLOCKS + 100).map(|_| take(layout)).collect();
        for block in blocks {
            // SAFETY: (1) it came from `take` with this layout; (2) nobody uses it.
            unsafe { give(block, layout) };
        }
        POOL.with(|pool| {
            assert!(pool.lists[class_of(layout).unwrap()].get().len <= BLOCKS);
            assert!(pool.bytes.get() <= BYTES);
        });
    }
}
