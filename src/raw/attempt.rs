//! How a transaction tries to commit.
//!
//! Look at what there is to be done and in which order. Then, under one guard, load all heads and compare what
//! is current with what was read, make what is to be installed, and have the verdict decide (`verdict.rs`). What
//! loses gives the values back for the next attempt.

use super::drive::{self, Outcome, Role, Settled};
use super::log::Log;
use super::node::{Header, Place, take_count};
use super::op::{Op, Prepared};
use super::ops::Ops;
use super::proxy::Proxy;
use super::reclaim::{Computing, Guard, Reclaim, Reclaimer};
use super::retired::Retired;
use super::verdict::{self, Base, Entry, Verdict};
use super::word::{AWAITED, bare, has};
use crate::clock::{Clock, Reading};
use crate::stamp::Stamp;
use crate::sync;
use crate::sync::fault::{Fault, planted};
use crate::sync::orderings::site;
use std::mem;
use std::ptr::{self, NonNull};

/// What became of an attempt to commit.
pub(crate) enum Attempted {
    Committed,
    /// Others were faster, but nothing that was read has changed.
    Lost,
    /// Something that was read has changed.
    Refused {
        index: usize,
        expected: Stamp,
        found: Stamp,
    },
    /// The version of an entity is at its end.
    VersionLimit {
        index: usize,
        found: Stamp,
    },
}

impl Log<'_> {
    /// Tries to commit: all changes, if all that was read is still current.
    ///
    /// `looks` says how often a transaction that writes nothing has to look: once, if what is expected was
    /// seen to be current together; twice, if it comes from elsewhere.
    ///
    /// # Linearization
    /// The exchange on the verdict; that on the head, of a single change; the fence, if nothing changes, or
    /// the one read, if that is all.
    pub(crate) fn attempt(&mut self, looks: usize) -> Attempted {
        let ops = self.ops.get_mut();
        if let Some(refused) = ops.contradiction() {
            return refused;
        }
        let Some(needs_clock) = ops.census() else {
            return match self.reads() {
                0 => Attempted::Committed,
                // One alone was current when it was read.
                1 => self.validate(looks - 1),
                _ => self.validate(looks),
            };
        };
        Reclaimer::release_some_or_give_way();
        // Before the heads are loaded.
        let now = if needs_clock {
            Clock::default().reading()
        } else {
            Reading::Next
        };
        let guard = Reclaimer::pin();
        let time = match ops.prepare(now, &guard) {
            Ok(time) => time,
            Err(refused) => return refused,
        };
        if let [index] = ops.order[..]
            && let op = &mut ops.list[index]
            && !op.change.is_none()
            && !planted(Fault::ValidateThenDecide)
        {
            // SAFETY: (1) prepared under the guard.
            return unsafe { op.commit_alone(time, &guard) };
        }
        ops.commit_together(time, &guard)
    }

    pub(super) fn reads(&self) -> usize {
        let ops = self.ops.borrow();
        ops.list.iter().filter(|op| op.is_read).count()
    }

    /// Whether all that was read is still current, and was so at one moment: what a transaction that
    /// writes nothing commits by.
    ///
    /// # Linearization
    /// The fence.
    pub(super) fn validate(&self, looks: usize) -> Attempted {
        if looks == 0 {
            return Attempted::Committed;
        }
        let ops = self.ops.borrow();
        let guard = Reclaimer::pin();
        for look in 0..looks {
            if look + 1 == looks && !planted(Fault::ValidateWithoutFence) {
                sync::fence(site::SNAPSHOT_FENCE);
            }
            for (index, op) in ops.list.iter().enumerate() {
                if !op.is_read {
                    continue;
                }
                // SAFETY: (1) the log keeps the entity.
                let node = unsafe { op.current(&guard) };
                // SAFETY: the guard protects it.
                let found = unsafe { node.as_ref() }.stamp();
                if let Some(expected) = op.mismatch(found) {
                    return Attempted::Refused {
                        index,
                        expected,
                        found,
                    };
                }
            }
        }
        Attempted::Committed
    }
}

impl Ops {
    /// The refusal, if two stamps are expected of an entity: whichever it has, it hasn't the other one.
    #[inline]
    pub(super) fn contradiction(&self) -> Option<Attempted> {
        let &(index, stamp) = self.contradictions.first()?;
        let op = &self.list[index];
        let guard = Reclaimer::pin();
        // SAFETY: (1) the log keeps the entity.
        let node = unsafe { op.current(&guard) };
        // SAFETY: the guard protects it.
        let found = unsafe { node.as_ref() }.stamp();
        Some(Attempted::Refused {
            index,
            expected: if found == stamp { op.expected } else { stamp },
            found,
        })
    }

    /// Finds out which operations do something, and in which order: that in which all transactions
    /// install theirs. Whether any needs the clock that all entities share that have none of their own. `None`
    /// if nothing is to be installed.
    #[inline]
    pub(super) fn census(&mut self) -> Option<bool> {
        let Ops { list, order, .. } = self;
        let (mut installs, mut needs_clock, mut is_sorted) = (false, false, true);
        let mut last = None;
        order.clear();
        for (index, op) in list.iter().enumerate() {
            let changes = !op.change.is_none();
            let installs_this = changes | op.holds_current;
            installs |= installs_this;
            needs_clock |= changes & op.reading.is_none();
            let is_read =
                op.is_read && !planted(Fault::NoProxies) && !planted(Fault::ValidateThenDecide);
            if installs_this | is_read {
                order.push(index);
                let rank = op.rank();
                is_sorted &= last < Some(rank);
                last = Some(rank);
            }
        }
        let is_to_be_sorted = !is_sorted && !planted(Fault::Unsorted);
        match &mut order[..] {
            // The most common case, without a branch that nobody can predict.
            [first, second] => {
                let flip = (*first ^ *second) * usize::from(is_to_be_sorted);
                *first ^= flip;
                *second ^= flip;
            }
            all if is_to_be_sorted => all.sort_unstable_by_key(|&index| list[index].rank()),
            _ => {}
        }
        installs.then_some(needs_clock)
    }

    /// Loads all heads, and compares what is current with what is expected. The time of the commit.
    #[inline]
    pub(super) fn prepare(&mut self, now: Reading, guard: &Guard) -> Result<u64, Attempted> {
        let mut time = 0;
        for &index in &self.order {
            let op = &mut self.list[index];
            let found = op.prepare(guard).map_err(|found| Attempted::Refused {
                index,
                expected: op.mismatch(found).unwrap_or(found),
                found,
            })?;
            // Not before what was only read, either: all that it follows from comes first.
            time = if op.change.is_none() {
                found.earliest().max(time)
            } else {
                // Who has a clock of its own may have a history, too.
                if op.reading.is_some() && !planted(Fault::RecordSinglesOnly) {
                    // SAFETY: (1) the log keeps the entity; (2) the guard protects what it has just found.
                    unsafe { (op.of.record)(op.stem, op.prepared.current) };
                }
                match found.next_time(op.reading.unwrap_or(now)) {
                    Some(next) => next.max(time),
                    None => return Err(Attempted::VersionLimit { index, found }),
                }
            };
        }
        Ok(time)
    }

    /// Has a verdict decide over all.
    #[inline]
    pub(super) fn commit_together(&mut self, time: u64, guard: &Guard) -> Attempted {
        let verdict = Verdict::make(self.order.len());
        for (place, &index) in self.order.iter().enumerate() {
            let op = &mut self.list[index];
            if !op.change.is_none() || !planted(Fault::NoteOnlyWritten) {
                // SAFETY: the log keeps the entity.
                unsafe { op.stem.as_ref() }.note_transacted();
            }
            // SAFETY: (1) prepared under the guard.
            let entry = |verdict| unsafe { op.entry(verdict, time) };
            // SAFETY: (1) the verdict is new, and that long; (2) the node is the operation's.
            unsafe { Verdict::write(verdict, place, entry) };
        }
        let still = || self.is_unchanged(guard, usize::MAX);
        // SAFETY: (1), (2): just now, under the guard. (3) They have taken part in a transaction, and so
        // stay as long as the guard.
        let outcome = unsafe { drive::drive(verdict, guard, Role::Owner, still) };
        let Outcome::Aborted(installed) = outcome else {
            for op in &mut self.list {
                op.change.draft = ptr::null_mut();
            }
            return Attempted::Committed;
        };
        for (place, &index) in self.order.iter().enumerate() {
            // SAFETY: (1) the verdict says so.
            unsafe { self.list[index].take_back(place < installed) };
        }
        if installed == 0 {
            // SAFETY: (1), (2): it was never published.
            unsafe { Verdict::release(verdict.as_ptr().cast()) };
        }
        Attempted::Lost
    }
}

impl Op {
    /// Finds what is to be replaced, unless it is not what is expected. Its stamp, in both cases.
    #[inline]
    pub(super) fn prepare(&mut self, guard: &Guard) -> Result<Stamp, Stamp> {
        // SAFETY: the log keeps the entity.
        let stem = unsafe { self.stem.as_ref() };
        let is_other = |current: NonNull<Header>| {
            // SAFETY: it was found under the guard.
            self.mismatch(unsafe { current.as_ref() }.stamp()).is_some()
        };
        // SAFETY: (1) as above.
        let Settled { word, current } =
            unsafe { drive::load_to_change(&stem.head, guard, is_other) };
        // SAFETY: it was found under the guard.
        let found = unsafe { current.as_ref() }.stamp();
        if is_other(current) {
            return Err(found);
        }
        self.prepared.word = word;
        self.prepared.current = current;
        if self.change.folds_len > 0 {
            let computing = Computing::begin();
            // SAFETY: (1) they are the operation's; (2) the guard protects the node.
            let draft =
                unsafe { (self.of.fold)(self.change.folds, self.change.folds_len, current) };
            drop(computing);
            let before = mem::replace(&mut self.change.draft, draft.as_ptr());
            if !before.is_null() {
                // SAFETY: (1), (2): it was the operation's, made by an earlier attempt.
                unsafe { (self.of.end)(before.cast()) };
            }
        }
        if self.holds_current {
            // SAFETY: the guard protects it.
            take_count(unsafe { current.as_ref() });
            let before = mem::replace(&mut self.held, current.as_ptr());
            if let Some(before) = NonNull::new(before) {
                // SAFETY: (1) the count was the operation's.
                unsafe { (self.of.drop_held)(before) };
            }
        }
        Ok(found)
    }

    /// The node that is to be at the head: the draft, put in its place behind what was prepared for, or a
    /// proxy.
    ///
    /// # Safety
    /// 1. It was prepared under a guard that still lives.
    #[inline(always)]
    pub(super) unsafe fn node(&mut self, time: u64) -> NonNull<Header> {
        let Prepared { word, current, .. } = self.prepared;
        // SAFETY: (1); heads are never null.
        let seq = unsafe { &*bare(word) }.seq() + 1;
        let Some(mut draft) = NonNull::new(self.change.draft) else {
            return Proxy::make(seq);
        };
        // SAFETY: (1).
        let found = unsafe { current.as_ref() }.stamp();
        let stamp = Stamp::new(found.next_version(), time);
        self.prepared.stamp = stamp;
        // SAFETY: the draft is the operation's, and nobody else refers to it.
        unsafe { draft.as_mut() }.place(Place::new(stamp, seq));
        draft
    }

    /// # Safety
    /// 1. It was prepared under a guard that still lives.
    #[inline(always)]
    pub(super) unsafe fn entry(&mut self, verdict: NonNull<Verdict>, time: u64) -> Entry {
        // SAFETY: (1).
        let node = unsafe { self.node(time) };
        self.prepared.node = node;
        let Prepared { word, current, .. } = self.prepared;
        // SAFETY: the log keeps the entity. A pointer into the whole block, which whoever wakes goes back to.
        let head = unsafe { &raw mut (*self.stem.as_ptr()).head };
        // SAFETY: from a pointer that isn't null.
        let head = unsafe { NonNull::new_unchecked(head) };
        // SAFETY: (1); heads are never null.
        let base = unsafe { &*bare(word) };
        Entry {
            verdict,
            head,
            word,
            base: Base::new(base.seq(), self.change.is_none()),
            predecessor: if planted(Fault::PredecessorIsHead) {
                NonNull::from(base)
            } else {
                current
            },
            node,
            kind: &self.of.kind,
        }
    }

    /// Takes back what was to be installed by an attempt that was aborted.
    ///
    /// # Safety
    /// 1. The attempt is decided so, and what is said of the node is true.
    pub(super) unsafe fn take_back(&mut self, was_installed: bool) {
        let node = self.prepared.node;
        if self.change.is_none() {
            if !was_installed {
                // SAFETY: (1), (2): nobody has ever seen it.
                unsafe { Proxy::release(node.as_ptr().cast()) };
            }
        } else if was_installed {
            // SAFETY: (1), (2): it was aborted, so nobody looks at the value.
            self.change.draft = unsafe { (self.of.refill)(node) }.as_ptr();
        }
    }

    /// Commits a change of one entity, as a plain commit does.
    ///
    /// # Safety
    /// 1. It was prepared under the guard.
    pub(super) unsafe fn commit_alone(&mut self, time: u64, guard: &Guard) -> Attempted {
        // SAFETY: (1).
        let node = unsafe { self.node(time) }.as_ptr();
        let Prepared { word, current, .. } = self.prepared;
        // SAFETY: the log keeps the entity.
        let head = &unsafe { self.stem.as_ref() }.head;
        let mut expected = word;
        while let Err(found) = head.compare_exchange(expected, node, site::HEAD_CAS) {
            if bare(found) != bare(word) {
                return Attempted::Lost;
            }
            // Somebody has begun to wait.
            expected = found;
        }
        self.change.draft = ptr::null_mut();
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
        Attempted::Committed
    }
}
