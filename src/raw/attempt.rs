//! How a transaction tries to commit.
//!
//! Look at what there is to be done and in which order. Then, under one guard, go through it once: load each head,
//! compare what is current with what was read, put the draft in its place, and write the entry (`place.rs`). When all
//! are written nothing is published yet; then the verdict decides (`verdict.rs`). If something is folded or held, all
//! heads are looked at before that.
//!
//! # Who owns a draft
//! The operation, until it is in its place; from then on the attempt. Of one that is refused on the way or aborted
//! the operations take back what they gave, for the next.
//!
//! # The time
//! All that a transaction publishes has one time, which no entity may have been ahead of. Drafts get the time that is
//! known when they are placed: that of the clock, as good as always. If an entity turns out to be ahead of it, all are
//! put off.

use super::drive::{self, Outcome, Role};
use super::log::Log;
use super::op::Op;
use super::ops::{Ops, are_current};
use super::reclaim::{Guard, Reclaim, Reclaimer};
use super::verdict::Verdict;
use crate::clock::Clock;
use crate::stamp::Stamp;
use crate::sync;
use crate::sync::fault::{Fault, planted};
use crate::sync::orderings::site;
use std::ptr::NonNull;

/// What became of an attempt to commit.
pub(crate) enum Attempted {
    Committed,
    /// Others were faster, but nothing that was read has changed, as far as was looked.
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
            Clock::default().now()
        } else {
            0
        };
        let guard = Reclaimer::pin();
        if ops.is_special
            && let Err(refused) = ops.look_first(&guard)
        {
            return refused;
        }
        if let [index] = ops.order[..]
            && !ops.list[index].change.is_none()
            && !planted(Fault::ValidateThenDecide)
        {
            return ops.commit_alone(index, now, &guard);
        }
        ops.commit_together(now, &guard)
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
    #[inline(always)]
    fn census(&mut self) -> Option<bool> {
        let Ops { list, order, .. } = self;
        order.clear();
        let (mut installs, mut needs_clock) = (false, false);
        let mut note = |op: &Op| {
            installs |= op.is_act();
            needs_clock |= op.needs_clock();
        };
        match &list[..] {
            // The most common case, without a branch that nobody can predict.
            [first, second] if first.takes_part() && second.takes_part() => {
                note(first);
                note(second);
                let is_to_be_swapped = first.rank() > second.rank() && !planted(Fault::Unsorted);
                let first = usize::from(is_to_be_swapped);
                order.extend_from_slice(&[first, 1 - first]);
            }
            all => {
                let (mut is_sorted, mut last) = (true, 0);
                for (index, op) in all.iter().enumerate() {
                    if op.takes_part() {
                        note(op);
                        order.push(index);
                        is_sorted &= last <= op.rank();
                        last = op.rank();
                    }
                }
                if !is_sorted && !planted(Fault::Unsorted) {
                    order.sort_unstable_by_key(|&index| list[index].rank());
                }
            }
        }
        installs.then_some(needs_clock)
    }

    /// Looks at all heads, then folds and holds what is current. A closure that panics leaves nothing behind, since
    /// nothing is begun.
    ///
    /// All is looked at once more in between: so everything that closures are about to see was current at one moment,
    /// and with it what was read.
    #[cold]
    #[inline(never)]
    fn look_first(&mut self, guard: &Guard) -> Result<(), Attempted> {
        for &index in &self.order {
            let op = &mut self.list[index];
            let found = op.look(guard).map_err(|found| op.refusal(index, found))?;
            op.found = Some(found);
        }
        if !planted(Fault::FoldWithoutSecondLook) {
            self.look_again(guard)?;
        }
        for &index in &self.order {
            self.list[index].fold_and_hold(guard);
        }
        Ok(())
    }

    /// Whether all that was read, and all that is to be folded, is as it was when it was first looked at.
    ///
    /// Under the guard no address comes again, and what is replaced never becomes current again. So what is the same
    /// twice was current all the while.
    fn look_again(&self, guard: &Guard) -> Result<(), Attempted> {
        let mut is_same = true;
        for &index in &self.order {
            let op = &self.list[index];
            // SAFETY: (1) the log keeps the entity.
            let node = unsafe { op.current(guard) };
            // SAFETY: the guard protects it.
            let found = unsafe { node.as_ref() }.stamp();
            if op.mismatch(found).is_some() {
                return Err(op.refusal(index, found));
            }
            let is_folded = op.change.folds_len > 0;
            is_same &= !is_folded || op.found.is_some_and(|found| found.current == node);
        }
        if is_same {
            Ok(())
        } else {
            Err(Attempted::Lost)
        }
    }

    /// Has a verdict decide over all. `now` is the time, if any needs it, or 0.
    ///
    /// A function of its own, to have the registers for itself.
    #[inline(never)]
    fn commit_together(&mut self, now: u64, guard: &Guard) -> Attempted {
        let len = self.order.len();
        // SAFETY: (1) these are operations.
        let verdict = unsafe { Verdict::make(len) };
        let (mut time, mut are_noted) = (now, true);
        for (place, &index) in self.order.iter().enumerate() {
            let op = &mut self.list[index];
            // SAFETY: the log keeps the entity.
            are_noted &= unsafe { op.stem.as_ref() }.is_transacted();
            let entry = match op.entry(verdict, self.is_special, guard, &mut time) {
                Ok(entry) => entry,
                Err(found) => {
                    let refusal = op.refusal(index, found);
                    // SAFETY: (1) nothing was published. (2) So many are written.
                    unsafe { self.take_back(verdict, place, 0) };
                    return refusal;
                }
            };
            // SAFETY: (1) the verdict is new, and that long; (2) the node is the operation's.
            unsafe { Verdict::write(verdict, place, entry) };
        }
        self.time = time;
        if time != now {
            // SAFETY: (1) all are written, and nothing is published.
            unsafe { Verdict::set_time(verdict, time) };
        }
        if !are_noted {
            // SAFETY: (1) all are written, and nothing is published.
            unsafe { self.note_transacted(verdict) };
        }
        let still = || are_current(&self.list, guard);
        // SAFETY: (1), (2): just now, under the guard. (3) They have taken part in a transaction, and so
        // stay as long as the guard.
        match unsafe { drive::drive(verdict, guard, Role::Owner, still) } {
            Outcome::Committed => Attempted::Committed,
            Outcome::Aborted(installed) => {
                // SAFETY: (1) the verdict says so. (2) All are written, and whoever decided has retired it after
                // the guard was pinned, if at all.
                unsafe { self.take_back(verdict, len, installed) };
                Attempted::Lost
            }
        }
    }

    /// Notes that the entities take part in a transaction, and must stay as long as who looks at it: from the first
    /// install on others come without a handle.
    ///
    /// # Safety
    /// 1. All entries are written, and nothing is published.
    #[cold]
    unsafe fn note_transacted(&self, verdict: NonNull<Verdict>) {
        for (place, &index) in self.order.iter().enumerate() {
            // SAFETY: (1).
            let entry = unsafe { Verdict::entry(verdict, place) };
            if !entry.base.is_proxy() || !planted(Fault::NoteOnlyWritten) {
                // SAFETY: the log keeps the entity.
                unsafe { self.list[index].stem.as_ref() }.note_transacted();
            }
        }
    }

    /// Takes back what was to be installed by an attempt that was aborted.
    ///
    /// # Safety
    /// 1. The attempt is decided so: only the first `installed` nodes were ever at their heads. 2. The first
    ///    `written` entries are whole, and are there.
    #[cold]
    unsafe fn take_back(&mut self, verdict: NonNull<Verdict>, written: usize, installed: usize) {
        for (place, &index) in self.order[..written].iter().enumerate() {
            // SAFETY: (1), (2).
            let entry = unsafe { Verdict::entry(verdict, place) };
            // SAFETY: (1).
            unsafe { self.list[index].take_back(entry, place < installed) };
        }
        if installed == 0 {
            // SAFETY: (1), (2): it was never published.
            unsafe { Verdict::release(verdict.as_ptr().cast()) };
        }
    }

    /// Commits a change of one entity, as a plain commit does.
    #[inline(always)]
    fn commit_alone(&mut self, index: usize, now: u64, guard: &Guard) -> Attempted {
        let op = &mut self.list[index];
        self.time = now;
        let (base, node) = match op.place(self.is_special, guard, &mut self.time) {
            Ok((base, _, Some(node))) => (base, node),
            Ok((_, _, None)) => unreachable!("the operation changes something"),
            Err(found) => return op.refusal(index, found),
        };
        // SAFETY: (1) found just now, under the guard. (2) The draft was placed behind it.
        if unsafe { op.replace(base, node, guard) } {
            Attempted::Committed
        } else {
            op.change.draft = node.as_ptr();
            op.is_placed = false;
            Attempted::Lost
        }
    }
}
