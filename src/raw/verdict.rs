//! How several heads are decided at once.
//!
//! A transaction puts a node at each of its heads, in the order of their addresses, each by one
//! compare-and-exchange from the very word that it has prepared for. Then one more, on the word of its
//! *verdict*, decides for all of them. That is k + 1 exchanges for k entities.
//!
//! # What such a node means
//! The word of the head says that the node is tentative; the node's link says what is current:
//!
//! | link | current is |
//! |---|---|
//! | an entry of a verdict that is *undecided* or *aborted* | the predecessor, which the entry names |
//! | an entry of a verdict that is *committed* | the node, or the predecessor of a proxy |
//! | settled: null | the node |
//! | settled: the predecessor | the predecessor |
//!
//! So a load never waits and never helps. A *proxy* is what a transaction puts at a head that it only
//! reads: it stands for its predecessor whatever the verdict. Whoever decides *settles* all links
//! right after, and retires the verdict; a node that was committed is then as good as a plain one.
//!
//! A predecessor is a decided, current node, so there is one step from a head to it, never two.
//!
//! # Who retires what
//! | what | by whom, when |
//! |---|---|
//! | a current node, replaced by a single commit | the winner of the exchange |
//! | a current node, replaced by a transaction | the winner of the verdict, after it |
//! | an aborted node or a proxy at a head | whoever takes it out of the head |
//! | a verdict | its winner, when the links are settled; the owner, if it was never published |
//!
//! How a transaction gets there, and why this is so, is in `drive.rs`.

use super::node::Header;
use super::op::Op;
use super::pool;
use super::proxy::Proxy;
use super::reclaim::{Guard, Reclaim, Reclaimer};
use super::retired::{Releaser, Retired};
use super::word::{MARKS, TENTATIVE, Word, bare, has};
use crate::sync::coverage;
use crate::sync::fault::{Fault, planted};
use crate::sync::orderings::site;
use crate::sync::{AtomicUsize, Life};
use std::alloc::Layout;
use std::ptr::{self, NonNull};
use std::slice;

/// A verdict's word.
pub(super) const UNDECIDED: usize = 0;
pub(super) const COMMITTED: usize = 1;
/// With the index of the mismatch in the bits above.
pub(super) const ABORTED: usize = 2;
pub(super) const INDEX_SHIFT: u32 = 2;

/// A link's lowest bits: it is settled, and not null, so it points to the predecessor.
const SETTLED: usize = 1;
/// The node is a proxy.
const PROXY: usize = 2;

/// What becomes of the nodes of one transaction. Its entries follow it in memory.
pub(super) struct Verdict {
    pub(super) word: AtomicUsize,
    len: usize,
    life: Life,
}

/// One entity in a transaction. Immutable once it is published.
pub(super) struct Entry {
    pub(super) verdict: NonNull<Verdict>,
    pub(super) head: NonNull<Word>,
    /// The word that the owner has prepared for. Nobody else may follow it.
    pub(super) word: *mut Header,
    pub(super) base: Base,
    /// What was current there.
    pub(super) predecessor: NonNull<Header>,
    /// What is installed.
    pub(super) node: NonNull<Header>,
    pub(super) kind: &'static Kind,
}

#[cfg(not(any(snapcell_model, snapcell_epoch_model, snapcell_shuttle)))]
const _: () = assert!(
    size_of::<Verdict>() == 2 * size_of::<usize>()
        && size_of::<Entry>() == 6 * size_of::<usize>() + 8,
    "what the guarantees say that a transaction takes"
);

/// What an entry replaces, and by what.
///
/// | bits  | 63                 | 62 … 0                                            |
/// |-------|--------------------|---------------------------------------------------|
/// | field | a proxy goes there | sequence number of the node that was prepared for |
#[derive(Clone, Copy)]
pub(super) struct Base(u64);

impl Base {
    const PROXY: u64 = 1 << 63;

    #[inline(always)]
    pub(super) fn new(seq: u64, is_proxy: bool) -> Self {
        Base(seq | if is_proxy { Self::PROXY } else { 0 })
    }

    #[inline(always)]
    pub(super) fn seq(self) -> u64 {
        self.0 & !Self::PROXY
    }

    #[inline(always)]
    pub(super) fn is_proxy(self) -> bool {
        self.0 & Self::PROXY != 0
    }
}

/// What has to be known of an entity whose type is forgotten.
pub(super) struct Kind {
    /// The size of a node.
    pub(super) bytes: usize,
    /// Gives up the head's count of a node.
    pub(super) release: Releaser,
    /// Gives the memory of a node back that has no value.
    pub(super) release_hollow: Releaser,
    /// Wakes all who wait for the entity.
    ///
    /// # Safety
    /// 1. The argument is the head of an entity of this kind, whose block is there.
    pub(super) wake: unsafe fn(NonNull<Word>),
}

/// What is current at a head with a tentative node.
pub(super) struct Resolved {
    pub(super) current: NonNull<Header>,
    /// The transaction that is not decided yet.
    pub(super) undecided: Option<NonNull<Verdict>>,
}

/// What a tentative node means. Wait-free: at most two loads.
///
/// # Safety
/// 1. `node` was loaded, with the tentative mark, from a head, under a guard that still lives.
#[inline]
unsafe fn resolve(node: NonNull<Header>) -> Resolved {
    // SAFETY: (1).
    let link = unsafe { link_of(node) };
    if link.is_null() {
        return Resolved {
            current: node,
            undecided: None,
        };
    }
    // SAFETY: (1).
    unsafe { resolve_by(node, link) }
}

/// # Safety
/// As above.
#[inline(always)]
unsafe fn link_of(node: NonNull<Header>) -> *mut () {
    // SAFETY: (1) the guard protects it.
    let header = unsafe { node.as_ref() };
    header.look();
    header.link.load(site::LINK_LOAD)
}

/// As [`resolve`], with a link that is not null.
///
/// # Safety
/// 1. As there, and the link was loaded from the node then.
#[cold]
#[inline(never)]
pub(super) unsafe fn resolve_by(node: NonNull<Header>, link: *mut ()) -> Resolved {
    let target = link.map_addr(|address| address & !(SETTLED | PROXY));
    let decided = |current| Resolved {
        current,
        undecided: None,
    };
    let Some(target) = NonNull::new(target) else {
        unreachable!("a link is null, or leads somewhere");
    };
    if link.addr() & SETTLED != 0 {
        return decided(target.cast());
    }
    // SAFETY: the link is not settled, so the verdict is retired after this look, or was when we were
    // pinned already.
    let entry = unsafe { target.cast::<Entry>().as_ref() };
    // SAFETY: as above.
    let verdict = unsafe { entry.verdict.as_ref() };
    verdict.life.look();
    match verdict.word.load(site::VERDICT_LOAD) {
        UNDECIDED if planted(Fault::TakeUndecided) => decided(node),
        UNDECIDED => Resolved {
            current: entry.predecessor,
            undecided: Some(entry.verdict),
        },
        COMMITTED if !entry.base.is_proxy() => decided(node),
        _ => decided(entry.predecessor),
    }
}

/// As [`resolve`], of any word: what is current there.
///
/// # Safety
/// 1. `word` was loaded from a head under a guard that still lives.
#[inline(always)]
pub(super) unsafe fn current(word: *mut Header) -> NonNull<Header> {
    // SAFETY: (1).
    match unsafe { current_at_once(word) } {
        Ok(node) => node,
        // SAFETY: (1) the link was loaded from the node that the word points to.
        Err((node, link)) => unsafe { resolve_by(node, link) }.current,
    }
}

/// The same, unless a verdict or a predecessor has to be looked at: then the node and its link.
///
/// In line, since it is a load and three tests where a transaction was the last to change the entity, and one
/// test of a word without a mark.
///
/// # Safety
/// As [`current`].
#[inline(always)]
pub(super) unsafe fn current_at_once(
    word: *mut Header,
) -> Result<NonNull<Header>, (NonNull<Header>, *mut ())> {
    if word.addr() & MARKS == 0 {
        // SAFETY: heads are never null.
        return Ok(unsafe { NonNull::new_unchecked(word) });
    }
    // SAFETY: as above.
    let node = unsafe { NonNull::new_unchecked(bare(word)) };
    if has(word, TENTATIVE) {
        // SAFETY: (1) with the mark, just now.
        let link = unsafe { link_of(node) };
        if !link.is_null() {
            return Err((node, link));
        }
    }
    Ok(node)
}

/// Retires what was taken out of a head and was not current there: a proxy, or an aborted node.
///
/// # Safety
/// 1. The caller's exchange took `node` out of a head of this kind, under `guard`, with the tentative
///    mark, and something else was current there.
pub(super) unsafe fn retire_hollow(node: NonNull<Header>, kind: &'static Kind, guard: &Guard) {
    // SAFETY: (1) the guard protects it.
    let retired = unsafe { hollow(node, kind) };
    // SAFETY: (1) only the exchange that takes it out gets here, once.
    unsafe { Reclaimer::retire(guard, retired) };
}

/// The memory of a proxy or of an aborted node, to be given back.
///
/// # Safety
/// 1. `node` is one of these, was at a head of this kind, and is there.
unsafe fn hollow(node: NonNull<Header>, kind: &'static Kind) -> Retired {
    // SAFETY: (1).
    let link = unsafe { node.as_ref() }.link.load(site::LINK_KIND);
    let (bytes, release): (_, Releaser) = if link.addr() & PROXY != 0 {
        (Proxy::BYTES, Proxy::release)
    } else {
        (kind.bytes, kind.release_hollow)
    };
    Retired {
        node: node.as_ptr().cast(),
        bytes,
        release,
    }
}

/// Frees what is left at the head of an entity that ends, beside the current node, which it returns.
///
/// # Safety
/// 1. Nobody uses the head, and no guard is left of those that could have seen what is there.
#[inline]
pub(super) unsafe fn take_apart(word: *mut Header, kind: &'static Kind) -> NonNull<Header> {
    // SAFETY: heads are never null.
    let node = unsafe { NonNull::new_unchecked(bare(word)) };
    if has(word, TENTATIVE) {
        // SAFETY: (1).
        return unsafe { take_apart_tentative(node, kind) };
    }
    node
}

/// # Safety
/// As above.
#[cold]
#[inline(never)]
unsafe fn take_apart_tentative(node: NonNull<Header>, kind: &'static Kind) -> NonNull<Header> {
    // SAFETY: (1) nobody else refers to it, and nobody has retired it.
    let Resolved { current, .. } = unsafe { resolve(node) };
    if current != node {
        // SAFETY: (1) it is ours, as long as it was there.
        let hollow = unsafe { hollow(node, kind) };
        // SAFETY: (1) nobody else refers to it.
        unsafe { hollow.release() };
    }
    current
}

impl Verdict {
    /// On lines of their own: an owner whose lines nobody else writes to doesn't wait for them.
    ///
    /// # Safety
    /// 1. In memory there are so many operations, or there is room for so many entries.
    pub(super) unsafe fn layout(len: usize) -> Layout {
        const {
            assert!(
                size_of::<Verdict>().is_multiple_of(align_of::<Entry>())
                    && align_of::<Verdict>() >= align_of::<Entry>(),
                "entries follow a verdict without a gap"
            )
        };
        let size = size_of::<Verdict>() + len * size_of::<Entry>();
        const {
            assert!(
                size_of::<Op>() >= size_of::<Entry>(),
                "operations take more"
            )
        };
        const { assert!(align_of::<Verdict>() <= pool::LINE) };
        // SAFETY: by (1), and what is in memory beside this program is below the limit, by more than a verdict and a line.
        unsafe { Layout::from_size_align_unchecked(size, pool::LINE) }
    }

    /// A verdict over entries that are still to be written, all of them, before it is driven.
    ///
    /// # Safety
    /// 1. As [`layout`](Self::layout).
    pub(super) unsafe fn make(len: usize) -> NonNull<Verdict> {
        // SAFETY: (1).
        let verdict: NonNull<Verdict> = pool::take(unsafe { Self::layout(len) }).cast();
        let content = Verdict {
            word: AtomicUsize::new(UNDECIDED),
            len,
            life: Life::begin(),
        };
        // SAFETY: the memory is ours, large enough and aligned.
        unsafe { verdict.write(content) };
        coverage::begun(verdict.as_ptr().addr());
        verdict
    }

    /// Writes an entry, and has its node link to it.
    ///
    /// Inlined, so that each field goes where it is to stay.
    ///
    /// # Safety
    /// 1. The verdict is not published, and `index` is below its length. 2. The node of the entry is the
    ///    caller's.
    #[inline(always)]
    pub(super) unsafe fn write(verdict: NonNull<Verdict>, index: usize, entry: Entry) {
        // SAFETY: (1) it lies within the verdict's memory.
        let place = unsafe { Self::first(verdict).add(index) };
        let Entry { node, base, .. } = entry;
        // SAFETY: (1) the memory is ours.
        unsafe { place.write(entry) };
        let link = place.as_ptr().cast::<()>();
        let link = link.map_addr(|address| address | if base.is_proxy() { PROXY } else { 0 });
        // SAFETY: (2).
        unsafe { node.as_ref() }.link.store(link, site::LINK_BEGIN);
    }

    /// Puts all drafts off to a time.
    ///
    /// # Safety
    /// 1. All entries are written, and nothing is published.
    #[cold]
    pub(super) unsafe fn set_time(verdict: NonNull<Verdict>, time: u64) {
        if planted(Fault::KeepEarlyTimes) {
            return;
        }
        // SAFETY: (1).
        for entry in unsafe { Self::entries(verdict) } {
            if !entry.base.is_proxy() {
                let mut node = entry.node;
                // SAFETY: (1) it is ours.
                unsafe { node.as_mut() }.set_time(time);
            }
        }
    }

    /// One of the entries.
    ///
    /// # Safety
    /// 1. It is written, and the verdict is there for `'v`.
    pub(super) unsafe fn entry<'v>(verdict: NonNull<Verdict>, index: usize) -> &'v Entry {
        // SAFETY: (1) it lies behind the verdict.
        unsafe { verdict.as_ref() }.life.look();
        // SAFETY: (1) it lies within the verdict's memory.
        let place = unsafe { Self::first(verdict).add(index) };
        // SAFETY: (1).
        unsafe { place.as_ref() }
    }

    fn first(verdict: NonNull<Verdict>) -> NonNull<Entry> {
        // SAFETY: the entries lie right behind the verdict, in the same memory.
        unsafe { verdict.add(1) }.cast()
    }

    /// # Safety
    /// 1. The verdict is whole, and is there for `'v`.
    pub(super) unsafe fn entries<'v>(verdict: NonNull<Verdict>) -> &'v [Entry] {
        // SAFETY: (1).
        let content = unsafe { verdict.as_ref() };
        content.life.look();
        // SAFETY: (1) so many entries were written.
        unsafe { slice::from_raw_parts(Self::first(verdict).as_ptr(), content.len) }
    }

    /// Gives the memory back.
    ///
    /// # Safety
    /// 1. `verdict` is one that nobody refers to. 2. Called once.
    pub(super) unsafe fn release(verdict: *mut ()) {
        // SAFETY: a verdict is not null.
        let verdict = unsafe { NonNull::new_unchecked(verdict.cast::<Verdict>()) };
        // SAFETY: (1) it is ours.
        let content = unsafe { verdict.as_ref() };
        content.life.end();
        // SAFETY: (1) so many entries are behind it.
        let layout = unsafe { Self::layout(content.len) };
        // SAFETY: (1), (2): the memory came from the pool with this layout.
        unsafe { pool::give(verdict.cast(), layout) };
    }
}

impl Entry {
    /// What a committed one has replaced.
    pub(super) fn replaced(&self) -> Retired {
        Retired {
            node: self.predecessor.as_ptr().cast(),
            bytes: self.kind.bytes,
            release: self.kind.release,
        }
    }

    /// Has the node's link say by itself what is current. The size of what the node has replaced, if it is
    /// current itself.
    ///
    /// # Safety
    /// 1. The node is there, and the verdict is decided.
    #[inline(always)]
    pub(super) unsafe fn settle(&self, is_committed: bool) -> usize {
        let (link, replaced) = if is_committed && !self.base.is_proxy() {
            (ptr::null_mut(), self.kind.bytes)
        } else {
            let proxy = if self.base.is_proxy() { PROXY } else { 0 };
            let predecessor = self.predecessor.as_ptr().cast::<()>();
            let link = predecessor.map_addr(|address| address | SETTLED | proxy);
            (link, 0)
        };
        if !planted(Fault::NeverSettle) {
            // SAFETY: (1).
            unsafe { self.node.as_ref() }
                .link
                .store(link, site::LINK_SETTLE);
        }
        replaced
    }
}
