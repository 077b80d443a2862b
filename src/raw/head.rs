//! The head: one word that decides which node is current.
//!
//! An [`Attempt`] is a guard with the node that was seen under it. Its commit is one
//! compare-and-exchange from that node to a new one. Nodes are immutable, and none is freed or used
//! again while somebody is pinned or holds it, so the same pointer is the same stamp: the one
//! instruction checks version and time and publishes the next ones.
//!
//! # Marks
//! Nodes are aligned, so the pointer's lowest bits are free. Beside the node they say two things
//! that the next exchange has to know, and nothing else of the word does:
//!
//! | bit | name | set by | means |
//! |---|---|---|---|
//! | 0 | [`AWAITED`] | a waiter, after it has registered | whoever replaces this node has somebody to wake |
//! | 1 | [`CLOSED`] | the last handle | nobody will replace this node |
//!
//! A waiter sets its mark by an exchange on the very node that it looked at. That is its second look:
//! it fails if the node was replaced, and once it has succeeded, or the mark was there already, whoever
//! replaces the node takes the mark out and wakes all who have registered (`sync/event.rs`). So no
//! wake-up is lost, and a commit that nobody waits for only masks the marks. Checked by `loom-tests/wait.rs`.
//!
//! # Orderings
//! *fill* the draft is written; *publish* the compare-and-exchange; *load* a reader takes the head.
//! *fill* → *publish* (HEAD_CAS, Release) → *load* (HEAD_LOAD, Acquire): who sees the pointer sees
//! the node. A lost *publish* is a *load* of the winner's node, hence Acquire on failure. Marks are
//! set by read-modify-writes, which continue the release sequence of *publish*: a marked pointer is
//! as good as a bare one. Checked by `loom-tests/commit.rs` and `loom-tests/read.rs`.
//!
//! The list of those who wait has a lock, which orders whoever registers and whoever takes the list.
//! The mark only has to lead to the list: *make* it, the first time → *mark* (HEAD_MARK, Release) → the
//! exchange that fails on the mark (HEAD_CAS, failed, Acquire).

use super::node::{self, Draft, Held, Node, Seen};
use super::reclaim::{Guard, Reclaim, Reclaimer};
use crate::sync::AtomicPtr;
use crate::sync::fault::{Fault, planted};
use crate::sync::orderings::site;
use std::marker::PhantomData;
use std::ptr::{self, NonNull};

/// Somebody waits for the successor of this node.
const AWAITED: usize = 1;
/// There will be no successor.
const CLOSED: usize = 2;

/// The node that a word points to, without its marks.
#[inline(always)]
fn bare<T>(word: *mut Node<T>) -> *mut Node<T> {
    const {
        assert!(
            align_of::<Node<T>>() > AWAITED | CLOSED,
            "marks fit below a node's address"
        )
    };
    word.map_addr(|address| address & !(AWAITED | CLOSED))
}

#[inline(always)]
fn has<T>(word: *mut Node<T>, mark: usize) -> bool {
    word.addr() & mark != 0
}

#[inline(always)]
fn with<T>(word: *mut Node<T>, mark: usize) -> *mut Node<T> {
    word.map_addr(|address| address | mark)
}

/// The word. It owns one count of the node that it points to, and is never null.
pub(crate) struct Head<T> {
    word: AtomicPtr<Node<T>>,
}

impl<T: Send + Sync + 'static> Head<T> {
    /// A head at birth.
    pub(crate) fn new(first: Draft<T>) -> Self {
        Head {
            word: AtomicPtr::new(first.into_raw().as_ptr()),
        }
    }

    /// The current node. Wait-free: one load.
    #[inline]
    pub(crate) fn load<'g>(&'g self, _guard: &'g Guard) -> Seen<'g, T> {
        // SAFETY: heads are never null.
        let node = unsafe { NonNull::new_unchecked(bare(self.word.load(site::HEAD_LOAD))) };
        // SAFETY: (1) it was reachable just now, under the guard; (2) the head is borrowed for 'g.
        unsafe { Seen::new(node) }
    }

    /// Whether `held` is current. Wait-free: one load, of a pointer that is only compared. Since
    /// `held` keeps its node, no other node has its address.
    #[inline]
    pub(crate) fn is(&self, held: &Held<T>) -> bool {
        let word = self.word.load(site::HEAD_COMPARE);
        // They differ in the marks at most.
        word.addr() ^ held.as_ptr().addr() <= AWAITED | CLOSED
    }

    /// Whether `held` is current and will remain so. Wait-free: one load.
    pub(crate) fn is_closed(&self) -> bool {
        has(self.word.load(site::HEAD_COMPARE), CLOSED)
    }

    /// Marks `held` as awaited, if it is current and will be replaced. Whether it is: then whoever
    /// replaces it finds the caller, who has registered before.
    ///
    /// Wait-free: it tries again only if somebody else has set a mark, of which there are two.
    pub(super) fn mark(&self, held: &Held<T>) -> bool {
        let mut found = self.word.load(site::HEAD_COMPARE);
        loop {
            if bare(found) != held.as_ptr() || has(found, CLOSED) {
                return planted(Fault::WaitWithoutSecondLook);
            }
            if has(found, AWAITED) {
                return true;
            }
            match self
                .word
                .compare_exchange(found, with(found, AWAITED), site::HEAD_MARK)
            {
                Ok(_) => return true,
                Err(newer) => found = newer,
            }
        }
    }

    /// Says that nobody will commit any more. Whether somebody waits for it.
    ///
    /// The caller is alone but for those who set marks.
    pub(super) fn close(&self) -> bool {
        let current = self.word.load(site::HEAD_TAKE);
        let found = self.word.swap(with(current, CLOSED), site::HEAD_CLOSE);
        has(found, AWAITED)
    }

    /// Pins, and loads the current node as the one to commit on.
    #[inline(always)]
    pub(crate) fn attempt(&self) -> Attempt<'_, T> {
        let guard = Reclaimer::pin();
        // SAFETY: heads are never null.
        let seen = unsafe { NonNull::new_unchecked(bare(self.word.load(site::HEAD_LOAD))) };
        Attempt {
            head: self,
            guard,
            seen,
        }
    }

    /// Replaces `held` by `draft`, if it is current: no load is needed to find out. Otherwise the
    /// attempt sees the node that is, and the draft comes back. `wake` as in [`Attempt::commit`].
    #[inline]
    pub(crate) fn commit_on(
        &self,
        held: &Held<T>,
        draft: Draft<T>,
        wake: impl Fn(),
    ) -> Result<Publication<'_, T>, Lost<'_, T>> {
        let guard = Reclaimer::pin();
        // SAFETY: `held` is not null.
        let seen = unsafe { NonNull::new_unchecked(held.as_ptr()) };
        // `held` keeps the node up to here; from the exchange on it is the guard, or not needed.
        let mut attempt = Attempt {
            head: self,
            guard,
            seen,
        };
        match attempt.commit(draft, wake) {
            Ok(published) => Ok(attempt.publication(published)),
            Err(draft) => Err((attempt, draft)),
        }
    }

    /// Takes the node out of a head that is not used any more.
    ///
    /// # Safety
    /// 1. Nobody uses the head from now on.
    pub(super) unsafe fn take(&self) -> Held<T> {
        // SAFETY: heads are never null.
        let node = unsafe { NonNull::new_unchecked(bare(self.word.load(site::HEAD_TAKE))) };
        // SAFETY: (1) the head's count is given up to this.
        unsafe { Held::from_raw(node) }
    }
}

/// An attempt that lost, and now sees the winner's node; and the draft that was not published.
pub(crate) type Lost<'h, T> = (Attempt<'h, T>, Draft<T>);

/// A guard, and the node that was seen under it.
///
/// The order of the fields is such that no two neighbours become neighbours in a [`Publication`]. They
/// would be copied together, sixteen bytes at once, and whoever reads one of them right after that waits for
/// the store buffer: ten nanoseconds.
#[repr(C)]
pub(crate) struct Attempt<'h, T> {
    guard: Guard,
    head: &'h Head<T>,
    seen: NonNull<Node<T>>,
}

impl<'h, T: Send + Sync + 'static> Attempt<'h, T> {
    /// The node that the commit will be made on.
    #[inline]
    pub(crate) fn seen(&self) -> Seen<'_, T> {
        // SAFETY: (1) `seen` was loaded from the head under `guard`, or found there by a lost
        // exchange; (2) the head outlives 'h.
        unsafe { Seen::new(self.seen) }
    }

    /// Replaces the node that was seen by `draft`, unless it is not current any more. Then the
    /// attempt sees the winner's node, and the draft comes back. `wake` is called if somebody waits
    /// for what was published.
    ///
    /// It changes the attempt in place, and what it returns fits into registers: what is stored after
    /// the exchange and read back at once, in pieces of another size, waits for the store buffer.
    #[inline(always)]
    pub(crate) fn commit(
        &mut self,
        draft: Draft<T>,
        wake: impl Fn(),
    ) -> Result<Published<T>, Draft<T>> {
        let node = draft.into_raw();
        let head = &self.head.word;
        match head.compare_exchange(self.seen.as_ptr(), node.as_ptr(), site::HEAD_CAS) {
            Ok(_) => {}
            Err(_) if planted(Fault::SuccessAfterLostCas) => {}
            Err(found) => return self.commit_once_more(node, found, wake),
        }
        // SAFETY: (1) our exchange took `seen` out of the head, under `guard`; (2) only the
        // exchange that takes a node out retires it, and no head ever holds a node twice.
        unsafe { retire(&self.guard, self.seen) };
        unpin_for_a_moment(&mut self.guard, Fault::CommittedRepins);
        Ok(Published(node))
    }

    /// After an exchange that found something else: another node, or the same one with a mark.
    #[cold]
    fn commit_once_more(
        &mut self,
        node: NonNull<Node<T>>,
        found: *mut Node<T>,
        wake: impl Fn(),
    ) -> Result<Published<T>, Draft<T>> {
        let mut found = found;
        if bare(found) == self.seen.as_ptr() {
            if planted(Fault::WakeBeforePublish) {
                wake();
            }
            let head = &self.head.word;
            match head.compare_exchange(found, node.as_ptr(), site::HEAD_CAS_AWAITED) {
                Ok(_) => {
                    // SAFETY: as in `commit`.
                    unsafe { retire(&self.guard, self.seen) };
                    if !planted(Fault::WakeNobody) && !planted(Fault::WakeBeforePublish) {
                        wake();
                    }
                    return Ok(Published(node));
                }
                // There is one mark that a head with handles can have, and it was there.
                Err(winner) => found = winner,
            }
        }
        unpin_for_a_moment(&mut self.guard, Fault::LoserRepins);
        // SAFETY: heads are never null.
        self.seen = unsafe { NonNull::new_unchecked(bare(found)) };
        // SAFETY: (1) neither exchange succeeded, so it was not published.
        Err(unsafe { Draft::from_raw(node) })
    }

    /// Shows what this attempt published, and what it replaced. (`published` is its own: an attempt is
    /// begun and ended in one function each time.)
    #[inline(always)]
    pub(crate) fn publication(self, published: Published<T>) -> Publication<'h, T> {
        let Attempt { guard, seen, .. } = self;
        Publication {
            head: PhantomData,
            _guard: guard,
            published: published.0,
            replaced: seen,
        }
    }
}

/// The node that an attempt has published, for the same attempt to show.
pub(crate) struct Published<T>(NonNull<Node<T>>);

/// The place of two planted faults: nothing, in an ordinary build.
#[inline(always)]
fn unpin_for_a_moment(guard: &mut Guard, fault: Fault) {
    if planted(fault) {
        // SAFETY: it is written again before anybody uses it.
        unsafe { ptr::drop_in_place(guard) };
        // SAFETY: the place is the guard's, which is gone.
        unsafe { ptr::write(guard, Reclaimer::pin()) };
    }
}

/// # Safety
/// As [`Reclaim::retire`], for the head's count of the node.
#[inline(always)]
unsafe fn retire<T: Send + Sync + 'static>(guard: &Guard, replaced: NonNull<Node<T>>) {
    // SAFETY: only a planted fault makes this do anything.
    if unsafe { node::mistreat(replaced) } {
        return;
    }
    // SAFETY: by the caller.
    unsafe { Reclaimer::retire(guard, node::retired(replaced)) };
    if planted(Fault::RetireTwice) {
        // SAFETY: violated on purpose.
        unsafe { Reclaimer::retire(guard, node::retired(replaced)) };
    }
}

/// A commit that succeeded, with the guard under which it did: both nodes can still be seen.
#[repr(C)]
pub(crate) struct Publication<'h, T> {
    published: NonNull<Node<T>>,
    replaced: NonNull<Node<T>>,
    _guard: Guard,
    head: PhantomData<&'h Head<T>>,
}

impl<T> Publication<'_, T> {
    /// The node that was published. It may have been replaced since.
    #[inline]
    pub(crate) fn published(&self) -> Seen<'_, T> {
        // SAFETY: (1) it was reachable after the guard was pinned; (2) the head is borrowed.
        unsafe { Seen::new(self.published) }
    }

    /// The node that it replaced.
    #[inline]
    pub(crate) fn replaced(&self) -> Seen<'_, T> {
        // SAFETY: (1) it was reachable after the guard was pinned; (2) the head is borrowed.
        unsafe { Seen::new(self.replaced) }
    }
}
