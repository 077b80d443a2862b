//! How an operation takes its place in an attempt: what it finds at its head, and what it is to put there.
//!
//! Each finds what is current by itself, when its turn comes. If some fold or hold it all look before any takes its
//! place, and go from what they have found then: a closure that panics leaves nothing half done.

use super::attempt::Attempted;
use super::drive::{self, Settled};
use super::node::{Header, Place, take_count};
use super::op::{Change, Op};
use super::proxy::Proxy;
use super::reclaim::{Computing, Guard, Reclaim, Reclaimer};
use super::retired::Retired;
use super::verdict::{self, Base, Entry, Verdict};
use super::word::{AWAITED, bare, has};
use crate::stamp::Stamp;
use crate::sync::fault::{Fault, planted};
use crate::sync::orderings::site;
use std::mem;
use std::ptr::{self, NonNull};

impl Op {
    /// Why it can't be done on what was found.
    #[cold]
    pub(super) fn refusal(&self, index: usize, found: Stamp) -> Attempted {
        match self.mismatch(found) {
            Some(expected) => Attempted::Refused {
                index,
                expected,
                found,
            },
            None => Attempted::VersionLimit { index, found },
        }
    }

    /// Finds what is to be replaced, unless it is not what is expected; then its stamp.
    #[inline(always)]
    pub(super) fn look(&self, guard: &Guard) -> Result<Settled, Stamp> {
        // SAFETY: the log keeps the entity.
        let stem = unsafe { self.stem.as_ref() };
        let is_other = |current: NonNull<Header>| {
            // SAFETY: it was found under the guard.
            self.is_read && self.expected != unsafe { current.as_ref() }.stamp()
        };
        // SAFETY: (1) as above.
        let settled = unsafe { drive::load_to_change(&stem.head, guard, is_other) };
        // SAFETY: it was found under the guard.
        let found = unsafe { settled.current.as_ref() }.stamp();
        if self.is_read && self.expected != found {
            return Err(found);
        }
        Ok(settled)
    }

    /// Applies the closures to what was found under the guard, and holds it, if that is asked for.
    pub(super) fn fold_and_hold(&mut self, guard: &Guard) {
        let Some(Settled { current, .. }) = self.found else {
            return;
        };
        if self.change.folds_len > 0 {
            self.fold(current, guard);
        }
        if self.holds_current {
            self.hold(current, guard);
        }
    }

    /// Makes a draft by the closures, of what was found under the guard.
    fn fold(&mut self, current: NonNull<Header>, _guard: &Guard) {
        let Change {
            folds, folds_len, ..
        } = self.change;
        let computing = Computing::begin();
        // SAFETY: (1) they are the operation's; (2) the guard protects the node.
        let draft = unsafe { (self.of.fold)(folds, folds_len, current) };
        drop(computing);
        let before = mem::replace(&mut self.change.draft, draft.as_ptr());
        if !before.is_null() {
            // SAFETY: (1), (2): it was the operation's, made by an earlier attempt.
            unsafe { (self.of.end)(before.cast()) };
        }
    }

    /// Takes a count of what was found under the guard.
    fn hold(&mut self, current: NonNull<Header>, _guard: &Guard) {
        // SAFETY: the guard protects it.
        take_count(unsafe { current.as_ref() });
        let before = mem::replace(&mut self.held, current.as_ptr());
        if let Some(before) = NonNull::new(before) {
            // SAFETY: (1) the count was the operation's.
            unsafe { (self.of.drop_held)(before) };
        }
    }

    /// Finds what is to be replaced, and its sequence number, and puts the draft, if there is one, in its place
    /// behind that, at `time`, which may have to be put off for it. The draft isn't the operation's any more then. If
    /// it can't be done, the draft is where it was, and this is the stamp that was found. `has_looked` says that the
    /// attempt has looked at all heads before.
    #[inline(always)]
    pub(super) fn place(
        &mut self,
        has_looked: bool,
        guard: &Guard,
        time: &mut u64,
    ) -> Result<(Settled, u64, Option<NonNull<Header>>), Stamp> {
        let settled = match self.found {
            Some(found) if has_looked => found,
            _ => self.look(guard)?,
        };
        // SAFETY: it was found under the guard.
        let found = unsafe { settled.current.as_ref() }.stamp();
        // Not before what was only read, either: all that it follows from comes first.
        *time = found.earliest().max(*time);
        // SAFETY: as above; heads are never null.
        let seq = unsafe { &*bare(settled.word) }.seq();
        let Some(mut draft) = NonNull::new(self.change.draft) else {
            return Ok((settled, seq, None));
        };
        let version = match self.reading {
            None => found.next_version(),
            Some(reading) => {
                // Who has a clock of its own may have a history, too.
                if !planted(Fault::RecordSinglesOnly) {
                    // SAFETY: (1) the log keeps the entity; (2) the guard protects what it has found.
                    unsafe { (self.of.record)(self.stem, settled.current) };
                }
                found.next(reading).map(|next| {
                    *time = next.time().max(*time);
                    next.version()
                })
            }
        };
        let version = version.ok_or(found)?;
        self.change.draft = ptr::null_mut();
        self.is_placed = true;
        self.version = version;
        // SAFETY: the draft was the operation's, and nobody else refers to it.
        unsafe { draft.as_mut() }.place(Place::new(Stamp::new(version, *time), seq + 1));
        Ok((settled, seq, Some(draft)))
    }

    /// What a verdict has to know, of what [`place`](Self::place) has found and placed.
    #[inline(always)]
    pub(super) fn entry(
        &mut self,
        verdict: NonNull<Verdict>,
        has_looked: bool,
        guard: &Guard,
        time: &mut u64,
    ) -> Result<Entry, Stamp> {
        let (Settled { word, current }, seq, draft) = self.place(has_looked, guard, time)?;
        // SAFETY: the log keeps the entity. A pointer into the whole block, which whoever wakes goes back to.
        let head = unsafe { &raw mut (*self.stem.as_ptr()).head };
        // SAFETY: from a pointer that isn't null.
        let head = unsafe { NonNull::new_unchecked(head) };
        let (node, is_proxy) = match draft {
            Some(draft) => (draft, false),
            None => (Proxy::make(seq + 1), true),
        };
        Ok(Entry {
            verdict,
            head,
            word,
            base: Base::new(seq, is_proxy),
            predecessor: if planted(Fault::PredecessorIsHead) {
                // SAFETY: heads are never null.
                unsafe { NonNull::new_unchecked(bare(word)) }
            } else {
                current
            },
            node,
            kind: &self.of.kind,
        })
    }

    /// Takes back what was to be installed by an attempt that was aborted.
    ///
    /// # Safety
    /// 1. The attempt is decided so, the entry is this operation's, and what is said of its node is true.
    pub(super) unsafe fn take_back(&mut self, entry: &Entry, was_installed: bool) {
        let node = entry.node;
        if entry.base.is_proxy() {
            if !was_installed {
                // SAFETY: (1), (2): nobody has ever seen it.
                unsafe { Proxy::release(node.as_ptr().cast()) };
            }
            return;
        }
        let draft = if was_installed {
            // SAFETY: (1), (2): it was aborted, so nobody looks at the value.
            unsafe { (self.of.refill)(node) }
        } else {
            node
        };
        self.change.draft = draft.as_ptr();
        self.is_placed = false;
    }

    /// Replaces what was found by a node, as a plain commit does. Whether it did.
    ///
    /// # Safety
    /// 1. It was found under the guard. 2. The node is a draft that was put in its place behind it.
    #[inline(always)]
    pub(super) unsafe fn replace(
        &self,
        base: Settled,
        node: NonNull<Header>,
        guard: &Guard,
    ) -> bool {
        let Settled { word, current } = base;
        // SAFETY: the log keeps the entity.
        let head = &unsafe { self.stem.as_ref() }.head;
        let mut expected = word;
        while let Err(found) = head.compare_exchange(expected, node.as_ptr(), site::HEAD_CAS) {
            if bare(found) != bare(word) {
                return false;
            }
            // Somebody has begun to wait.
            expected = found;
        }
        let kind = &self.of.kind;
        let retired = Retired {
            node: current.as_ptr().cast(),
            bytes: kind.bytes,
            release: kind.release,
        };
        // SAFETY: our exchange has replaced it.
        unsafe { Reclaimer::retire(guard, retired) };
        // SAFETY: heads are never null.
        let replaced = unsafe { NonNull::new_unchecked(bare(word)) };
        if replaced != current {
            // SAFETY: (1) our exchange took it out, and something else was current.
            unsafe { verdict::retire_hollow(replaced, kind, guard) };
        }
        if has(expected, AWAITED) {
            // SAFETY: the log keeps the entity. A pointer into the whole block, as in an entry.
            let head = unsafe { &raw mut (*self.stem.as_ptr()).head };
            // SAFETY: from a pointer that isn't null.
            let head = unsafe { NonNull::new_unchecked(head) };
            // SAFETY: (1) the log keeps the entity.
            unsafe { (kind.wake)(head) };
        }
        true
    }
}
