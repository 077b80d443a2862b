//! The word of a head: a pointer to a node, and marks below it.
//!
//! Nodes are aligned, so the pointer's lowest bits are free. They say what the next exchange, or the next
//! look, has to know, and nothing else of the word does:
//!
//! | bit | name | set by | means |
//! |---|---|---|---|
//! | 0 | [`AWAITED`] | a waiter, after it has registered | whoever replaces this node has somebody to wake |
//! | 1 | [`CLOSED`] | the last handle | nobody will replace this node |
//! | 2 | [`TENTATIVE`] | a transaction, with the node | what is current is said by the node's link, see `verdict.rs` |

use super::node::Header;
use crate::sync::AtomicPtr;
use crate::sync::orderings::{Site, site};

/// Somebody waits for the successor of this node.
pub(super) const AWAITED: usize = 1;
/// There will be no successor.
pub(super) const CLOSED: usize = 2;
/// A transaction has put the node here.
pub(super) const TENTATIVE: usize = 4;
/// All of them.
pub(super) const MARKS: usize = AWAITED | CLOSED | TENTATIVE;

const _: () = assert!(
    align_of::<Header>() > MARKS,
    "marks fit below a node's address"
);

/// The node that a word points to, without its marks.
#[inline(always)]
pub(super) fn bare(word: *mut Header) -> *mut Header {
    word.map_addr(|address| address & !MARKS)
}

#[inline(always)]
pub(super) fn has(word: *mut Header, mark: usize) -> bool {
    word.addr() & mark != 0
}

#[inline(always)]
pub(super) fn with(word: *mut Header, mark: usize) -> *mut Header {
    word.map_addr(|address| address | mark)
}

/// The word. It owns one count of the current node, and of the node that it points to, if that is
/// another one. Never null.
pub(super) struct Word(AtomicPtr<Header>);

impl Word {
    pub(super) fn new(node: *mut Header) -> Self {
        Word(AtomicPtr::new(node))
    }

    #[inline(always)]
    pub(super) fn load(&self, site: Site) -> *mut Header {
        self.0.load(site)
    }

    #[inline(always)]
    pub(super) fn compare_exchange(
        &self,
        expected: *mut Header,
        new: *mut Header,
        site: Site,
    ) -> Result<*mut Header, *mut Header> {
        self.0.compare_exchange(expected, new, site)
    }

    /// Says that nobody will commit any more. Whether somebody waits for it.
    ///
    /// The caller is alone but for those who set marks.
    pub(super) fn close(&self) -> bool {
        let current = self.0.load(site::HEAD_TAKE);
        let found = self.0.swap(with(current, CLOSED), site::HEAD_CLOSE);
        has(found, AWAITED)
    }
}
