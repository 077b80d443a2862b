//! How a transaction is driven to its end: by its owner, or by whoever finds it in the way.
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
//! # Waking
//! Whoever takes a waiter's mark out of a head by installing wakes him before it decides: were it stopped in
//! between, others would decide, and nobody would wake. Who is woken too early drives the transaction to its
//! end before he waits again.
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

use super::node::Header;
use super::reclaim::{Guard, Reclaim, Reclaimer, is_computing};
use super::retired::{Releaser, Retired};
use super::verdict::{
    ABORTED, COMMITTED, Entry, INDEX_SHIFT, Resolved, UNDECIDED, Verdict, current, current_at_once,
    resolve_by, retire_hollow,
};
use super::word::{AWAITED, TENTATIVE, Word, bare, has, with};
use crate::sync::coverage;
use crate::sync::fault::{Fault, planted};
use crate::sync::orderings::site;
use std::ptr::NonNull;

/// A word of a head, and what is current there, when there is nothing to help any more.
#[derive(Clone, Copy)]
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
#[inline(always)]
pub(super) unsafe fn load_to_change(
    head: &Word,
    guard: &Guard,
    is_enough: impl Fn(NonNull<Header>) -> bool,
) -> Settled {
    let word = head.load(site::HEAD_LOAD);
    // SAFETY: (1) it was loaded under the guard.
    match unsafe { current_at_once(word) } {
        Ok(current) => Settled { word, current },
        // SAFETY: (1), and all this was loaded under the guard.
        Err(seen) => unsafe { resolve_to_change(head, guard, is_enough, word, seen) },
    }
}

/// The same, of a word that leads to a node with a link that is not null.
///
/// # Safety
/// 1. As [`load_to_change`]. 2. The word, the node and the link were loaded under the guard, one from the other.
#[cold]
#[inline(never)]
unsafe fn resolve_to_change(
    head: &Word,
    guard: &Guard,
    is_enough: impl Fn(NonNull<Header>) -> bool,
    mut word: *mut Header,
    mut seen: (NonNull<Header>, *mut ()),
) -> Settled {
    loop {
        // SAFETY: (1) by (2).
        let Resolved { current, undecided } = unsafe { resolve_by(seen.0, seen.1) };
        let Some(verdict) = undecided else {
            return Settled { word, current };
        };
        if is_enough(current) || planted(Fault::ReplaceUndecided) {
            return Settled { word, current };
        }
        // SAFETY: (1) it was read as undecided under the guard.
        unsafe { help(verdict, guard) };
        word = head.load(site::HEAD_LOAD);
        // SAFETY: (1) it was loaded under the guard.
        match unsafe { current_at_once(word) } {
            Ok(current) => return Settled { word, current },
            Err(newer) => seen = newer,
        }
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
        unsafe { decide(verdict, ABORTED, guard, Role::Helper) };
        return;
    }
    // SAFETY: (1).
    unsafe { drive(verdict, guard, Role::Helper, || true) };
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
    let entries = unsafe { Verdict::entries(verdict) };
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
            Install::Done { is_awaited: false } | Install::DoneByAnother => {}
            Install::Done { is_awaited: true } => awaited |= 1 << index.min(63),
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
    // Not after the verdict: see the header of this file.
    if awaited != 0 && !planted(Fault::InstallWakesNobody) {
        // SAFETY: (3).
        unsafe { wake(entries, awaited) };
    }
    if role == Role::Owner {
        crate::sync::fault::stop_here(Fault::StopBeforeVerdict);
    }
    // SAFETY: (1), (2).
    let word = unsafe { decide(verdict, proposal, guard, role) };
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
/// As [`drive`]. 4. What is proposed is true: everything is installed, or everything
///    before the index and what is there can't be any more.
#[inline(always)]
unsafe fn decide(verdict: NonNull<Verdict>, proposal: usize, guard: &Guard, role: Role) -> usize {
    // SAFETY: (1), (2).
    let word = unsafe { &(*verdict.as_ptr()).word };
    match word.compare_exchange(UNDECIDED, proposal, site::VERDICT_CAS) {
        Ok(_) => {}
        Err(_) if planted(Fault::LoserRetires) => {}
        Err(decided) => return decided,
    }
    coverage::decided(verdict.as_ptr().addr(), proposal != COMMITTED);
    // SAFETY: (1), (2).
    let entries = unsafe { Verdict::entries(verdict) };
    let installed = if proposal == COMMITTED {
        entries.len()
    } else {
        proposal >> INDEX_SHIFT
    };
    let replaces = proposal == COMMITTED && !planted(Fault::RetireAtInstall);
    // Whoever computes asks for what this thread has committed meanwhile, node by node. What it has only
    // helped with is none of that.
    let one_by_one =
        replaces && (role == Role::Owner && is_computing() || planted(Fault::FreeVerdictAtOnce));
    let settle = || {
        let mut bytes = 0;
        for entry in &entries[..installed] {
            // SAFETY: it was at a head when this thread decided, and so was retired after the guard
            // was pinned, if at all.
            bytes += unsafe { entry.settle(proposal == COMMITTED) };
        }
        bytes
    };
    let replaced = if planted(Fault::RetireBeforeSettling) {
        0
    } else {
        settle()
    };
    // SAFETY: (1) these are they.
    let mut bytes = unsafe { Verdict::layout(entries.len()) }.size();
    if replaces && !one_by_one {
        bytes += replaced;
    }
    if one_by_one {
        for entry in entries.iter().filter(|entry| !entry.base.is_proxy()) {
            // SAFETY: the verdict has replaced it, and only the verdict's winner gets here.
            unsafe { Reclaimer::retire(guard, entry.replaced()) };
        }
    }
    let release = if replaces && !one_by_one {
        release_all
    } else {
        Verdict::release
    };
    // SAFETY: no link leads to it any more, nor to what it has replaced, and only the verdict's winner
    // gets here.
    unsafe { retire(verdict, bytes, release, guard) };
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
        unsafe { Verdict::release(verdict.as_ptr().cast()) };
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
/// As [`Verdict::release`]. 3. It is committed, and the grace of what it has replaced is over.
unsafe fn release_all(verdict: *mut ()) {
    // SAFETY: a verdict is not null.
    let whole = unsafe { NonNull::new_unchecked(verdict.cast()) };
    // SAFETY: (1).
    let entries = unsafe { Verdict::entries(whole) };
    for entry in entries.iter().filter(|entry| !entry.base.is_proxy()) {
        let replaced = entry.replaced();
        // SAFETY: (3), and only here.
        unsafe { replaced.release() };
    }
    // SAFETY: (1), (2).
    unsafe { Verdict::release(verdict) };
}

impl Entry {
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
}
