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
//! # Helping
//! Whoever wants to change a head with an undecided node drives that transaction to its end first:
//! through the entries in order, installing what is missing. It doesn't help again in there: a node of
//! another transaction at a head says that this one is lost.
//!
//! # Why a late helper does no harm
//! Each exchange of a head replaces sequence number s by s + 1, so no head ever holds the same node
//! twice, and an entry's node gets in at most once: a helper compares the sequence number of a node that
//! it loaded under its own guard with that of the entry's base, and exchanges from that very word.
//! A transaction is aborted at the first mismatch only. So whatever comes before is in, that base is
//! gone for good, and nobody gets past it: nothing gets in after the verdict. The verdict names the
//! mismatch, and so the nodes that nobody has ever seen; those are the owner's again. Of an aborted node
//! that was installed the owner takes the value back, since nobody looks at it.
//!
//! The memory of a node that was never installed is free at once, and may come to that very head as another
//! node. So whether an entry's node is in, is asked by address *and* sequence number, of which each head has
//! had one node.
//!
//! # Who retires what
//! | what | by whom, when |
//! |---|---|
//! | a current node, replaced by a single commit | the winner of the exchange |
//! | a current node, replaced by a transaction | the winner of the verdict, after it |
//! | an aborted node or a proxy at a head | whoever takes it out of the head |
//! | a verdict | its winner, when the links are settled; the owner, if it was never published |
//!
//! # Orderings
//! *install* the exchange on a head; *decide* the one on the verdict; *settle* the store to a link.
//! *install* (HEAD_INSTALL, Release) → a load of the head (HEAD_LOAD): who sees the node sees the entry.
//! *install* of all → *decide* (VERDICT_CAS, Release) → VERDICT_LOAD, and → *settle* (LINK_SETTLE,
//! Release) → LINK_LOAD: who sees one of the nodes as current finds the others at their heads.
//! Whoever loses *decide* needs nothing of the winner. It has found all nodes at their heads itself; or it has
//! stopped at another one, which was put there by somebody who knew the verdict, and acquired that
//! (HEAD_INSTALL, failed, or HEAD_LOAD).
//! Retired after *settle*: a later pin sees the settled link, and follows neither the entry nor the
//! predecessor. Checked by `loom-tests/transaction.rs`.

use super::node::{Header, Proxy};
use super::pool;
use super::reclaim::{Guard, Reclaim, Reclaimer, is_computing};
use super::retired::{Releaser, Retired};
use super::word::{AWAITED, MARKS, TENTATIVE, Word, bare, has, with};
use crate::sync::coverage;
use crate::sync::fault::{Fault, planted};
use crate::sync::orderings::site;
use crate::sync::{AtomicUsize, Life};
use std::alloc::Layout;
use std::ptr::{self, NonNull};
use std::slice;

/// A verdict's word.
const UNDECIDED: usize = 0;
const COMMITTED: usize = 1;
/// With the index of the mismatch in the bits above.
const ABORTED: usize = 2;
const INDEX_SHIFT: u32 = 2;

/// A link's lowest bits: it is settled, and not null, so it points to the predecessor.
const SETTLED: usize = 1;
/// The node is a proxy.
const PROXY: usize = 2;

/// What becomes of the nodes of one transaction. Its entries follow it in memory.
pub(super) struct Verdict {
    word: AtomicUsize,
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
    fn seq(self) -> u64 {
        self.0 & !Self::PROXY
    }

    #[inline(always)]
    fn is_proxy(self) -> bool {
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
pub(super) unsafe fn resolve(node: NonNull<Header>) -> Resolved {
    // SAFETY: (1) the guard protects it.
    let header = unsafe { node.as_ref() };
    header.look();
    let link = header.link.load(site::LINK_LOAD);
    if link.is_null() {
        return Resolved {
            current: node,
            undecided: None,
        };
    }
    // SAFETY: (1).
    unsafe { resolve_by(node, link) }
}

/// As above, with a link that is not null.
///
/// # Safety
/// 1. As above, and the link was loaded from the node then.
#[cold]
#[inline(never)]
unsafe fn resolve_by(node: NonNull<Header>, link: *mut ()) -> Resolved {
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
    match current_at_once(word) {
        Some(node) => node,
        // SAFETY: (1).
        None => unsafe { current_of_marked(word) },
    }
}

/// The same, if the word has no mark.
#[inline(always)]
pub(super) fn current_at_once(word: *mut Header) -> Option<NonNull<Header>> {
    if word.addr() & MARKS == 0 {
        // SAFETY: heads are never null.
        Some(unsafe { NonNull::new_unchecked(word) })
    } else {
        None
    }
}

/// Out of line, so that a word without marks needs one test and nothing else.
///
/// # Safety
/// As [`current`].
#[cold]
#[inline(never)]
unsafe fn current_of_marked(word: *mut Header) -> NonNull<Header> {
    // SAFETY: (1).
    unsafe { current_of_any(word) }
}

/// As [`current`], where the word is likely to have a mark.
///
/// # Safety
/// As [`current`].
#[inline(always)]
pub(super) unsafe fn current_of_any(word: *mut Header) -> NonNull<Header> {
    // SAFETY: heads are never null.
    let node = unsafe { NonNull::new_unchecked(bare(word)) };
    if has(word, TENTATIVE) {
        // SAFETY: (1).
        return unsafe { resolve(node) }.current;
    }
    node
}

/// A word of a head, and what is current there, when there is nothing to help any more.
pub(super) struct Settled {
    pub(super) word: *mut Header,
    pub(super) current: NonNull<Header>,
}

/// Loads a head to be changed: helps what is not decided there, until `is_enough` is content with what is
/// current, or until it is decided.
///
/// Lock-free: it helps only if somebody else has installed something.
///
/// # Safety
/// 1. The block of the head is there as long as the guard.
pub(super) unsafe fn load_to_change(
    head: &Word,
    guard: &Guard,
    is_enough: impl Fn(NonNull<Header>) -> bool,
) -> Settled {
    loop {
        let word = head.load(site::HEAD_LOAD);
        // SAFETY: heads are never null.
        let node = unsafe { NonNull::new_unchecked(bare(word)) };
        if !has(word, TENTATIVE) {
            return Settled {
                word,
                current: node,
            };
        }
        // SAFETY: (1) it was loaded under the guard.
        let Resolved { current, undecided } = unsafe { resolve(node) };
        let Some(verdict) = undecided else {
            return Settled { word, current };
        };
        if is_enough(current) || planted(Fault::ReplaceUndecided) {
            return Settled { word, current };
        }
        // SAFETY: (1) it was read as undecided under the guard.
        unsafe { help(verdict, guard) };
    }
}

/// Drives somebody else's transaction to its end.
///
/// # Safety
/// 1. The verdict was read as undecided under the guard.
#[cold]
pub(super) unsafe fn help(verdict: NonNull<Verdict>, guard: &Guard) {
    coverage::helped();
    if planted(Fault::AbortInsteadOfHelp) {
        // SAFETY: violated on purpose.
        unsafe { Verdict::decide(verdict, ABORTED, guard, Role::Helper) };
        return;
    }
    // SAFETY: (1).
    unsafe { Verdict::drive(verdict, guard, Role::Helper, || true) };
}

/// Retires what was taken out of a head and was not current there: a proxy, or an aborted node.
///
/// # Safety
/// 1. The caller's exchange took `node` out of a head of this kind, under `guard`, with the tentative
///    mark, and something else was current there.
pub(super) unsafe fn retire_hollow(node: NonNull<Header>, kind: &'static Kind, guard: &Guard) {
    // SAFETY: (1) the guard protects it.
    let link = unsafe { node.as_ref() }.link.load(site::LINK_KIND);
    let (bytes, release): (_, Releaser) = if link.addr() & PROXY != 0 {
        (Proxy::BYTES, Proxy::release)
    } else {
        (kind.bytes, kind.release_hollow)
    };
    let retired = Retired {
        node: node.as_ptr().cast(),
        bytes,
        release,
    };
    // SAFETY: (1) only the exchange that takes it out gets here, once.
    unsafe { Reclaimer::retire(guard, retired) };
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
        let link = unsafe { node.as_ref() }.link.load(site::LINK_KIND);
        let release: Releaser = if link.addr() & PROXY != 0 {
            Proxy::release
        } else {
            kind.release_hollow
        };
        // SAFETY: (1) nobody else refers to it.
        unsafe { release(node.as_ptr().cast()) };
    }
    current
}

/// Who drives a transaction.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// Whose it is: it goes from the words that it has prepared for.
    Owner,
    /// Anybody else: it goes from what it finds.
    Helper,
}

/// What became of a transaction.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Committed,
    /// At the entry with this index: those before it were installed, it and those behind never.
    Aborted(usize),
}

/// What became of one exchange.
enum Install {
    Done { is_awaited: bool },
    DoneByAnother,
    Mismatch,
}

impl Verdict {
    fn layout(len: usize) -> Layout {
        const {
            assert!(
                size_of::<Verdict>().is_multiple_of(align_of::<Entry>())
                    && align_of::<Verdict>() >= align_of::<Entry>(),
                "entries follow a verdict without a gap"
            )
        };
        // There are as many operations in memory, which are larger.
        let size = size_of::<Verdict>() + len * size_of::<Entry>();
        Layout::from_size_align(size, align_of::<Verdict>())
            .expect("a transaction fits into memory")
    }

    /// A verdict over entries that are still to be written, all of them, before it is driven.
    pub(super) fn make(len: usize) -> NonNull<Verdict> {
        let verdict: NonNull<Verdict> = pool::take(Self::layout(len)).cast();
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
    pub(super) unsafe fn write(
        verdict: NonNull<Verdict>,
        index: usize,
        entry: impl FnOnce(NonNull<Verdict>) -> Entry,
    ) {
        // SAFETY: (1) it lies within the verdict's memory.
        let place = unsafe { Self::first(verdict).add(index) };
        // SAFETY: (1) the memory is ours.
        unsafe { place.write(entry(verdict)) };
        // SAFETY: it was just written.
        let Entry { node, base, .. } = unsafe { place.as_ref() };
        let link = place.as_ptr().cast::<()>();
        let link = link.map_addr(|address| address | if base.is_proxy() { PROXY } else { 0 });
        // SAFETY: (2).
        unsafe { node.as_ref() }.link.store(link, site::LINK_BEGIN);
    }

    fn first(verdict: NonNull<Verdict>) -> NonNull<Entry> {
        // SAFETY: the entries lie right behind the verdict, in the same memory.
        unsafe { verdict.add(1) }.cast()
    }

    /// # Safety
    /// 1. The verdict is whole, and is there for `'v`.
    unsafe fn entries<'v>(verdict: NonNull<Verdict>) -> &'v [Entry] {
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
        let layout = Self::layout(content.len);
        // SAFETY: (1), (2): the memory came from the pool with this layout.
        unsafe { pool::give(verdict.cast(), layout) };
    }

    /// Installs what is missing, in order, and decides. What the outcome is, whoever decided; of an owner
    /// that is aborted at index zero, nothing was published. `still_true` is for a planted fault alone.
    ///
    /// # Safety
    /// 1. All entries are written. 2. The owner was pinned by `guard` when it loaded their bases; a helper,
    ///    when it read the verdict as undecided. 3. The blocks of all entries stay as long as the guard.
    #[inline(always)]
    pub(super) unsafe fn drive(
        verdict: NonNull<Verdict>,
        guard: &Guard,
        role: Role,
        still_true: impl Fn() -> bool,
    ) -> Outcome {
        // SAFETY: (1), (2): it is retired after the guard was pinned, if at all.
        let entries = unsafe { Self::entries(verdict) };
        let mut awaited: u64 = 0;
        let mut proposal = COMMITTED;
        for (index, entry) in entries.iter().enumerate() {
            // SAFETY: (3).
            let head = unsafe { entry.head.as_ref() };
            let expected = match role {
                Role::Owner => entry.word,
                Role::Helper => {
                    let found = head.load(site::HEAD_LOAD);
                    // SAFETY: it was loaded under the guard.
                    if unsafe { entry.is_in(found) } {
                        continue;
                    }
                    // SAFETY: as above.
                    if !unsafe { entry.is_at_base(found) } {
                        proposal = ABORTED | index << INDEX_SHIFT;
                        break;
                    }
                    found
                }
            };
            // SAFETY: (2), (3): the guard protects what is replaced.
            match unsafe { entry.install(head, expected, guard, role) } {
                Install::Done { is_awaited } => {
                    awaited |= u64::from(is_awaited) << index.min(63);
                }
                Install::DoneByAnother => {}
                Install::Mismatch => {
                    proposal = ABORTED | index << INDEX_SHIFT;
                    break;
                }
            }
            if planted(Fault::DecideEarly) {
                break;
            }
        }
        if role == Role::Owner && proposal == ABORTED {
            return Outcome::Aborted(0);
        }
        if planted(Fault::ValidateThenDecide) && proposal == COMMITTED && !still_true() {
            proposal = ABORTED | entries.len() << INDEX_SHIFT;
        }
        // Not after the verdict: this thread may be stopped here, and others decide. Whoever is woken too early
        // decides as well, before it waits again.
        if awaited != 0 && !planted(Fault::InstallWakesNobody) {
            // SAFETY: (3).
            unsafe { Self::wake(entries, awaited) };
        }
        if role == Role::Owner {
            crate::sync::fault::stop_here(Fault::StopBeforeVerdict);
        }
        // SAFETY: (1), (2).
        let word = unsafe { Self::decide(verdict, proposal, guard, role) };
        if word == COMMITTED {
            Outcome::Committed
        } else {
            Outcome::Aborted(word >> INDEX_SHIFT)
        }
    }

    /// Wakes all who waited at the heads whose mark was taken out.
    ///
    /// # Safety
    /// 1. The blocks of the entries are there.
    #[cold]
    unsafe fn wake(entries: &[Entry], awaited: u64) {
        for (index, entry) in entries.iter().enumerate() {
            if awaited >> index.min(63) & 1 != 0 {
                // SAFETY: (1).
                unsafe { (entry.kind.wake)(entry.head) };
            }
        }
    }

    /// Decides, unless somebody has. The winner settles the links and retires what is left. Returns the
    /// verdict's word.
    ///
    /// # Safety
    /// As [`drive`](Self::drive). 4. What is proposed is true: everything is installed, or everything
    ///    before the index and what is there can't be any more.
    unsafe fn decide(
        verdict: NonNull<Verdict>,
        proposal: usize,
        guard: &Guard,
        role: Role,
    ) -> usize {
        // SAFETY: (1), (2).
        let word = unsafe { &(*verdict.as_ptr()).word };
        match word.compare_exchange(UNDECIDED, proposal, site::VERDICT_CAS) {
            Ok(_) => {}
            Err(_) if planted(Fault::LoserRetires) => {}
            Err(decided) => return decided,
        }
        coverage::decided(verdict.as_ptr().addr(), proposal != COMMITTED);
        // SAFETY: (1), (2).
        let entries = unsafe { Self::entries(verdict) };
        let installed = if proposal == COMMITTED {
            entries.len()
        } else {
            proposal >> INDEX_SHIFT
        };
        let replaces = proposal == COMMITTED && !planted(Fault::RetireAtInstall);
        // Whoever computes asks for what this thread has committed meanwhile, node by node. What it has only
        // helped with is none of that.
        let one_by_one = replaces
            && (role == Role::Owner && is_computing() || planted(Fault::FreeVerdictAtOnce));
        let settle = || {
            let mut bytes = 0;
            for entry in &entries[..installed] {
                // SAFETY: it was at a head when this thread decided, and so was retired after the guard
                // was pinned, if at all.
                unsafe { entry.settle(proposal == COMMITTED) };
                if replaces && !one_by_one && !entry.base.is_proxy() {
                    bytes += entry.kind.bytes;
                }
            }
            bytes
        };
        let mut bytes = Self::layout(entries.len()).size();
        if !planted(Fault::RetireBeforeSettling) {
            bytes += settle();
        }
        if one_by_one {
            for entry in entries.iter().filter(|entry| !entry.base.is_proxy()) {
                // SAFETY: the verdict has replaced it, and only the verdict's winner gets here.
                unsafe { Reclaimer::retire(guard, entry.replaced()) };
            }
        }
        let release = if replaces && !one_by_one {
            Self::release_all
        } else {
            Self::release
        };
        // SAFETY: no link leads to it any more, nor to what it has replaced, and only the verdict's winner
        // gets here.
        unsafe { Self::retire(verdict, bytes, release, guard) };
        if planted(Fault::RetireBeforeSettling) {
            settle();
        }
        proposal
    }

    /// # Safety
    /// As [`Reclaim::retire`].
    unsafe fn retire(verdict: NonNull<Verdict>, bytes: usize, release: Releaser, guard: &Guard) {
        if planted(Fault::FreeVerdictAtOnce) {
            // SAFETY: violated on purpose: somebody may look at it.
            unsafe { Self::release(verdict.as_ptr().cast()) };
            return;
        }
        let retired = Retired {
            node: verdict.as_ptr().cast(),
            bytes,
            release,
        };
        // SAFETY: by the caller.
        unsafe { Reclaimer::retire(guard, retired) };
    }

    /// Gives up the counts of what a committed transaction has replaced, and the memory. All of it is
    /// retired as one.
    ///
    /// # Safety
    /// As [`release`](Self::release). 3. It is committed, and the grace of what it has replaced is over.
    unsafe fn release_all(verdict: *mut ()) {
        // SAFETY: a verdict is not null.
        let whole = unsafe { NonNull::new_unchecked(verdict.cast()) };
        // SAFETY: (1).
        let entries = unsafe { Self::entries(whole) };
        for entry in entries.iter().filter(|entry| !entry.base.is_proxy()) {
            let replaced = entry.replaced();
            // SAFETY: (3), and only here.
            unsafe { replaced.release() };
        }
        // SAFETY: (1), (2).
        unsafe { Self::release(verdict) };
    }
}

impl Entry {
    /// What a committed one has replaced.
    fn replaced(&self) -> Retired {
        Retired {
            node: self.predecessor.as_ptr().cast(),
            bytes: self.kind.bytes,
            release: self.kind.release,
        }
    }

    /// Whether a head is still as the owner has prepared for.
    ///
    /// # Safety
    /// 1. `found` was loaded from it under a guard that still lives.
    unsafe fn is_at_base(&self, found: *mut Header) -> bool {
        if planted(Fault::CompareLogical) {
            // SAFETY: (1).
            return unsafe { current(found) } == self.predecessor;
        }
        // SAFETY: (1), and heads are never null.
        let header = unsafe { &*bare(found) };
        header.look();
        header.seq() == self.base.seq()
    }

    /// Whether the node is at the head. Its address alone doesn't say so: if the entry was never installed its
    /// memory is free as soon as that is decided, and what is made of it next may be put at this very head.
    ///
    /// # Safety
    /// 1. `found` was loaded from the head under a guard that still lives.
    unsafe fn is_in(&self, found: *mut Header) -> bool {
        if bare(found) != self.node.as_ptr() {
            return false;
        }
        if planted(Fault::AddressAlone) {
            return true;
        }
        // SAFETY: (1), and heads are never null.
        let header = unsafe { &*bare(found) };
        header.look();
        header.seq() == self.base.seq() + 1
    }

    /// Puts the node at the head, if that still has the expected word.
    ///
    /// # Safety
    /// 1. The guard protects what the word points to.
    #[inline(always)]
    unsafe fn install(
        &self,
        head: &Word,
        expected: *mut Header,
        guard: &Guard,
        role: Role,
    ) -> Install {
        let new = with(self.node.as_ptr(), TENTATIVE);
        let mut expected = expected;
        loop {
            match head.compare_exchange(expected, new, site::HEAD_INSTALL) {
                Ok(_) => break,
                // SAFETY: it was found under the guard.
                Err(found) if unsafe { self.is_in(found) } => return Install::DoneByAnother,
                // Somebody has begun to wait: the same node, with another mark.
                Err(found) if bare(found) == bare(expected) => expected = found,
                Err(_) => return Install::Mismatch,
            }
        }
        coverage::installed(self.verdict.as_ptr().addr(), role == Role::Helper);
        // SAFETY: heads are never null.
        let replaced = unsafe { NonNull::new_unchecked(bare(expected)) };
        if replaced != self.predecessor {
            // SAFETY: our exchange took it out, and the predecessor is what was current.
            unsafe { retire_hollow(replaced, self.kind, guard) };
        }
        if planted(Fault::RetireAtInstall) && !self.base.is_proxy() {
            // SAFETY: violated on purpose: it is still current.
            unsafe { Reclaimer::retire(guard, self.replaced()) };
        }
        Install::Done {
            is_awaited: has(expected, AWAITED),
        }
    }

    /// Has the node's link say by itself what is current.
    ///
    /// # Safety
    /// 1. The node is there, and the verdict is decided.
    unsafe fn settle(&self, is_committed: bool) {
        if planted(Fault::NeverSettle) {
            return;
        }
        let link = if is_committed && !self.base.is_proxy() {
            ptr::null_mut()
        } else {
            let proxy = if self.base.is_proxy() { PROXY } else { 0 };
            let predecessor = self.predecessor.as_ptr().cast::<()>();
            predecessor.map_addr(|address| address | SETTLED | proxy)
        };
        // SAFETY: (1).
        unsafe { self.node.as_ref() }
            .link
            .store(link, site::LINK_SETTLE);
    }
}
