//! What a transaction puts at a head that it only reads.

use super::node::{Header, Place};
use super::pool;
use crate::stamp::Stamp;
use std::alloc::Layout;
use std::ptr::NonNull;

/// A node without a value, by which a head stands for its current node until the next commit there: a
/// header, whatever the type of the head's values.
pub(super) struct Proxy;

impl Proxy {
    const LAYOUT: Layout = Layout::new::<Header>();
    /// What it takes in memory.
    pub(super) const BYTES: usize = size_of::<Header>();

    /// A proxy with a sequence number; it needs no stamp.
    pub(super) fn make(seq: u64) -> NonNull<Header> {
        let node: NonNull<Header> = pool::take(Self::LAYOUT).cast();
        // SAFETY: the memory is ours, large enough and aligned.
        unsafe { node.write(Header::new(Place::new(Stamp::new(0, 0), seq))) };
        node
    }

    /// Gives its memory back.
    ///
    /// # Safety
    /// 1. `node` was made by [`make`](Self::make). 2. Nobody refers to it. 3. Called once.
    pub(super) unsafe fn release(node: *mut ()) {
        // SAFETY: a node is not null.
        let node = unsafe { NonNull::new_unchecked(node.cast::<Header>()) };
        // SAFETY: (2) it is ours and alive.
        unsafe { node.as_ref() }.end();
        // SAFETY: (1), (2): the memory came from the pool with this layout, and nothing lives in it.
        unsafe { pool::give(node.cast(), Self::LAYOUT) };
    }
}
