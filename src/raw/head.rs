//! The head: one word that decides which node is current.
//!
//! An [`Attempt`] is a guard with the node that was seen under it. Its commit is one
//! compare-and-exchange from that node to a new one. Nodes are immutable, and none is freed or used
//! again while somebody is pinned or holds it, so the same pointer is the same stamp: the one
//! instruction checks version and time and publishes the next ones.
//!
//! A head that a transaction has changed may need a second look to tell which node is current
//! (`verdict.rs`); the word says so by a mark (`word.rs`), and one without it needs none. Whoever finds an
//! undecided transaction at a head that it wants to change drives it to its end first.
//!
//! # Waiting
//! A waiter sets its mark by an exchange on the very node that it looked at. That is its second look:
//! it fails if the node was replaced, and once it has succeeded, or the mark was there already, whoever
//! replaces the node takes the mark out and wakes all who have registered (`sync/event.rs`). So no
//! wake-up is lost, and a commit that nobody waits for only masks the marks. Checked by `loom-tests/wait.rs`.
//! Nobody waits at an undecided head: whether it has changed is not known yet.
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

use super::drive::{self, Settled};
use super::node::{self, Draft, Header, Held, Node, Seen};
use super::reclaim::{Guard, Reclaim, Reclaimer};
use super::verdict::{self, Kind};
use super::word::{AWAITED, CLOSED, MARKS, TENTATIVE, Word, bare, has, with};
use crate::sync::AtomicPtr;
use crate::sync::fault::{Fault, planted};
use crate::sync::orderings::site;
use std::marker::PhantomData;
use std::ptr::{self, NonNull};

/// A head, whose nodes have values of one type.
#[repr(transparent)]
pub(crate) struct Head<T> {
    word: Word,
    nodes: PhantomData<AtomicPtr<Node<T>>>,
}

impl<T: Send + Sync + 'static> Head<T> {
    /// A head at birth.
    pub(crate) fn new(first: Draft<T>) -> Self {
        Head {
            word: Word::new(first.into_raw().as_ptr().cast()),
            nodes: PhantomData,
        }
    }

    pub(super) fn word(&self) -> &Word {
        &self.word
    }

    /// The current node. Wait-free: one load; one more where a transaction was the last to change it, and two
    /// where one is under way.
    #[inline]
    pub(crate) fn load<'g>(&'g self, _guard: &'g Guard) -> Seen<'g, T> {
        // SAFETY: (1) loaded under the guard.
        let node = unsafe { verdict::current(self.word.load(site::HEAD_LOAD)) };
        // SAFETY: (1) it was reachable just now, under the guard; (2) the head is borrowed for 'g.
        unsafe { Seen::new(Node::of(node)) }
    }

    /// The same, unless that takes more than a look at the node.
    #[inline(always)]
    pub(crate) fn load_at_once<'g>(&'g self, _guard: &'g Guard) -> Option<Seen<'g, T>> {
        // SAFETY: (1) loaded under the guard.
        let node = unsafe { verdict::current_at_once(self.word.load(site::HEAD_LOAD)) }.ok()?;
        // SAFETY: as in `load`.
        Some(unsafe { Seen::new(Node::of(node)) })
    }

    /// Whether `held` is current. Wait-free: one load, of a pointer that is only compared. Since
    /// `held` keeps its node, no other node has its address. Where a transaction has left a node that
    /// only stands for the current one, as [`load`](Self::load).
    #[inline]
    pub(crate) fn is(&self, held: &Held<T>) -> bool {
        let word = self.word.load(site::HEAD_COMPARE);
        // They differ in the marks at most.
        word.addr() ^ held.as_ptr().addr() <= MARKS || self.stands_for(word, held)
    }

    /// The same, where another node may stand for it.
    #[cold]
    #[inline(never)]
    fn stands_for(&self, found: *mut Header, held: &Held<T>) -> bool {
        if !has(found, TENTATIVE) {
            return false;
        }
        let _guard = Reclaimer::pin();
        // SAFETY: (1) loaded under the guard.
        let node = unsafe { verdict::current(self.word.load(site::HEAD_LOAD)) };
        node.as_ptr() == held.as_ptr()
    }

    /// Whether `held` is current and will remain so. Wait-free: one load.
    pub(crate) fn is_closed(&self) -> bool {
        has(self.word.load(site::HEAD_COMPARE), CLOSED)
    }

    /// Marks `held` as awaited, if it is current and will be replaced. Whether it is: then whoever
    /// replaces it finds the caller, who has registered before.
    ///
    /// Wait-free: it tries again only if somebody else has set a mark, of which there are two. Lock-free
    /// where there are transactions.
    pub(super) fn mark(&self, held: &Held<T>) -> bool {
        let mut found = self.word.load(site::HEAD_COMPARE);
        loop {
            if bare(found) != held.as_ptr() && has(found, TENTATIVE) {
                // It may help, and so retire, and do nothing else on this thread.
                Reclaimer::release_some();
                let guard = Reclaimer::pin();
                // SAFETY: (1) `held` keeps the block, by way of whoever has it.
                return unsafe {
                    mark(&self.word, &guard, |current| {
                        current.as_ptr() == held.as_ptr()
                    })
                };
            }
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

    /// As [`Word::close`].
    pub(super) fn close(&self) -> bool {
        self.word.close()
    }

    /// Pins, and loads the current node as the one to commit on.
    #[inline(always)]
    pub(crate) fn attempt(&self) -> Attempt<'_, T> {
        let guard = Reclaimer::pin();
        let word = self.word.load(site::HEAD_LOAD);
        let node = if word.addr() & MARKS != 0 {
            // SAFETY: (1) the head is borrowed.
            unsafe { self.decided(&guard) }
        } else {
            // SAFETY: heads are never null.
            unsafe { NonNull::new_unchecked(word) }
        };
        Attempt {
            head: self,
            guard,
            seen: Node::of(node),
        }
    }

    /// The current node, when nothing is undecided.
    ///
    /// # Safety
    /// As [`drive::load_to_change`].
    #[cold]
    #[inline(never)]
    unsafe fn decided(&self, guard: &Guard) -> NonNull<Header> {
        // SAFETY: (1).
        unsafe { drive::load_to_change(&self.word, guard, |_| false) }.current
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
            seen: Node::of(seen),
        };
        match attempt.commit(draft, wake) {
            Ok(published) => Ok(attempt.publication(published)),
            Err(draft) => Err((attempt, draft)),
        }
    }

    /// Takes the node out of a head that is not used any more, and frees what else is there.
    ///
    /// # Safety
    /// 1. Nobody uses the head from now on. 2. If it took part in a transaction, no guard is left of those
    ///    that could have seen what is there.
    pub(super) unsafe fn take(&self) -> Held<T> {
        let word = self.word.load(site::HEAD_TAKE);
        // SAFETY: (1), (2): without transactions there is nothing but the current node.
        let node = unsafe { verdict::take_apart(word, const { &node_kind::<T>() }) };
        // SAFETY: (1) the head's count is given up to this.
        unsafe { Held::from_raw(Node::of(node)) }
    }
}

/// Marks what a word of a head leads to as awaited, if what is current there is as `is_it` says, and will
/// be replaced. Whether it is, as in [`Head::mark`]. What is undecided is helped first.
///
/// # Safety
/// 1. The block of the head is there as long as the guard.
pub(super) unsafe fn mark(
    head: &Word,
    guard: &Guard,
    is_it: impl Fn(NonNull<Header>) -> bool,
) -> bool {
    loop {
        let wait_at_undecided = planted(Fault::WaitAtUndecided);
        // SAFETY: (1).
        let Settled { word, current } =
            unsafe { drive::load_to_change(head, guard, |_| wait_at_undecided) };
        if !is_it(current) || has(word, CLOSED) {
            return planted(Fault::WaitWithoutSecondLook);
        }
        if has(word, AWAITED) {
            return true;
        }
        let marked = with(word, AWAITED);
        if head.compare_exchange(word, marked, site::HEAD_MARK).is_ok() {
            return true;
        }
    }
}

/// What is to be known of nodes alone, where nobody has to be woken.
const fn node_kind<T: Send + Sync + 'static>() -> Kind {
    /// # Safety
    /// 1. It does nothing.
    unsafe fn nobody(_: NonNull<Word>) {}
    Kind {
        bytes: Node::<T>::BYTES,
        release: Node::<T>::RELEASE,
        release_hollow: Node::<T>::release_hollow,
        wake: nobody,
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
        let (seen, new) = (self.seen.as_ptr().cast(), node.as_ptr().cast());
        match head.compare_exchange(seen, new, site::HEAD_CAS) {
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

    /// As [`commit`](Self::commit), and keeps what was published. Its count is taken while nobody else knows the node:
    /// afterwards that would be a read-modify-write.
    #[cfg(feature = "scheduler")]
    #[inline(always)]
    pub(crate) fn commit_and_hold(
        &mut self,
        mut draft: Draft<T>,
        wake: impl Fn(),
    ) -> Result<Held<T>, Draft<T>> {
        draft.take_count();
        let published = self.commit(draft, wake)?;
        // SAFETY: (1) the second count is ours, and was there before anybody could give one up.
        Ok(unsafe { Held::from_raw(published.0) })
    }

    /// After an exchange that found something else: another node, or the same one with a mark, or one that
    /// a transaction has left and that stands for the same.
    ///
    /// Lock-free: each round but the last has helped somebody's transaction, or found a new mark or a new
    /// such node.
    #[cold]
    fn commit_once_more(
        &mut self,
        node: NonNull<Node<T>>,
        found: *mut Header,
        wake: impl Fn(),
    ) -> Result<Published<T>, Draft<T>> {
        let head = &self.head.word;
        let seen: NonNull<Header> = self.seen.cast();
        // SAFETY: (1) it was not published.
        let mut draft = unsafe { Draft::from_raw(node) };
        let mut settled = Settled {
            word: found,
            // SAFETY: heads are never null.
            current: unsafe { NonNull::new_unchecked(bare(found)) },
        };
        loop {
            if has(settled.word, TENTATIVE) {
                // Another current node is enough to know that this has lost.
                // SAFETY: (1) the head is borrowed.
                settled =
                    unsafe { drive::load_to_change(head, &self.guard, |current| current != seen) };
            }
            let Settled { word, current } = settled;
            if current != seen {
                break;
            }
            // SAFETY: heads are never null.
            let replaced = unsafe { NonNull::new_unchecked(bare(word)) };
            if replaced != seen && !planted(Fault::FollowCurrent) {
                // SAFETY: the guard protects it.
                let seq = unsafe { replaced.as_ref() }.seq();
                draft.follow(seq);
            }
            if has(word, AWAITED) && planted(Fault::WakeBeforePublish) {
                wake();
            }
            let node = draft.into_raw();
            match head.compare_exchange(word, node.as_ptr().cast(), site::HEAD_CAS_MARKED) {
                Ok(_) => {
                    // SAFETY: as in `commit`.
                    unsafe { retire(&self.guard, self.seen) };
                    if replaced != seen && !planted(Fault::ForgetHollow) {
                        // SAFETY: (1) our exchange took it out, and something else was current.
                        unsafe {
                            verdict::retire_hollow(
                                replaced,
                                const { &node_kind::<T>() },
                                &self.guard,
                            )
                        };
                    }
                    if has(word, AWAITED)
                        && !planted(Fault::WakeNobody)
                        && !planted(Fault::WakeBeforePublish)
                    {
                        wake();
                    }
                    return Ok(Published(node));
                }
                Err(newer) => {
                    // SAFETY: (1) it was not published.
                    draft = unsafe { Draft::from_raw(node) };
                    settled.word = newer;
                    // SAFETY: heads are never null.
                    settled.current = unsafe { NonNull::new_unchecked(bare(newer)) };
                }
            }
        }
        unpin_for_a_moment(&mut self.guard, Fault::LoserRepins);
        self.seen = Node::of(settled.current);
        Err(draft)
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
