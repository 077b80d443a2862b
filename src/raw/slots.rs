//! Where a ring keeps what waits: an array that is as long as a power of two, with positions that only
//! grow.
//!
//! It is what a `VecDeque` in a `RefCell` would be, for one thread and for entries without a
//! destructor, in a third of the instructions: a position is its own index, under a mask.

use super::retired::Retired;
use std::cell::{Cell, UnsafeCell};
use std::mem::{self, MaybeUninit};

/// The first length. Two beacons fit, and what is released while the second one is on its way.
const FIRST: usize = 1024;

type Slot = MaybeUninit<Retired>;

/// The entries from `front` to `back`, each at its position modulo the length.
pub(super) struct Slots {
    slots: UnsafeCell<Vec<Slot>>,
    front: Cell<u64>,
    back: Cell<u64>,
}

impl Slots {
    pub(super) const fn new() -> Self {
        Slots {
            slots: UnsafeCell::new(Vec::new()),
            front: Cell::new(0),
            back: Cell::new(0),
        }
    }

    /// The position of the oldest entry: how many have been taken.
    #[inline(always)]
    pub(super) fn front(&self) -> u64 {
        self.front.get()
    }

    /// The position of the next entry: how many have been put in.
    #[inline(always)]
    pub(super) fn back(&self) -> u64 {
        self.back.get()
    }

    #[inline(always)]
    pub(super) fn len(&self) -> usize {
        (self.back.get() - self.front.get()) as usize
    }

    /// Puts an entry in, at the back, if there is room.
    #[inline(always)]
    pub(super) fn try_push(&self, retired: Retired) -> bool {
        // SAFETY: `Slots` is `!Sync`, no reference leaves this file, and nothing of anybody else's runs
        // while one lives.
        let slots = unsafe { &mut *self.slots.get() };
        if self.len() == slots.len() {
            return false;
        }
        let back = self.back.get();
        let at = index(back, slots.len());
        // SAFETY: the index is below the length, a power of two.
        let slot = unsafe { slots.get_unchecked_mut(at) };
        slot.write(retired);
        self.back.set(back + 1);
        true
    }

    /// Makes room.
    #[cold]
    pub(super) fn grow(&self) {
        // SAFETY: as in `try_push`.
        let slots = unsafe { &mut *self.slots.get() };
        self.resize(slots, (slots.len() * 2).max(FIRST));
    }

    /// Takes the oldest entry out.
    #[inline(always)]
    pub(super) fn pop(&self) -> Option<Retired> {
        let front = self.front.get();
        if front == self.back.get() {
            return None;
        }
        self.front.set(front + 1);
        Some(self.read(front))
    }

    /// Counts an entry that is not kept. There are no others.
    pub(super) fn skip(&self) -> u64 {
        let position = self.back.get();
        self.front.set(position + 1);
        self.back.set(position + 1);
        position
    }

    /// Gives the memory back. There are no entries.
    pub(super) fn close(&self) {
        // SAFETY: as in `try_push`.
        drop(mem::take(unsafe { &mut *self.slots.get() }));
    }

    /// The entries from `position` on.
    pub(super) fn since(&self, position: u64) -> impl DoubleEndedIterator<Item = Retired> {
        (position.max(self.front.get())..self.back.get()).map(|position| self.read(position))
    }

    /// What a long guard made large needn't stay so.
    #[cold]
    pub(super) fn shrink(&self) {
        // SAFETY: as in `try_push`.
        let slots = unsafe { &mut *self.slots.get() };
        if slots.len() > 4 * FIRST && self.len() < slots.len() / 4 {
            let enough = (self.len() * 2).next_power_of_two().max(FIRST);
            self.resize(slots, enough);
        }
    }

    #[inline(always)]
    fn read(&self, position: u64) -> Retired {
        // SAFETY: as in `try_push`.
        let slots = unsafe { &*self.slots.get() };
        // SAFETY: the index is below the length, a power of two.
        let slot = unsafe { slots.get_unchecked(index(position, slots.len())) };
        // SAFETY: callers name positions from `front` on and below `back`, or `front` as it just was:
        // what was put in there has not been written over.
        unsafe { slot.assume_init() }
    }

    #[cold]
    #[inline(never)]
    fn resize(&self, slots: &mut Vec<Slot>, len: usize) {
        let mut larger = vec![Slot::uninit(); len];
        for position in self.front.get()..self.back.get() {
            larger[index(position, len)] = slots[index(position, slots.len())];
        }
        *slots = larger;
    }
}

/// Where a position lies in so many slots, a power of two.
#[inline(always)]
fn index(position: u64, len: usize) -> usize {
    position as usize & (len - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ptr;

    fn entry(number: usize) -> Retired {
        /// # Safety
        /// 1. It does nothing.
        unsafe fn nothing(_: *mut ()) {}
        Retired {
            node: ptr::without_provenance_mut(number),
            bytes: number,
            release: nothing,
        }
    }

    fn push(slots: &Slots, number: usize) {
        if !slots.try_push(entry(number)) {
            slots.grow();
            assert!(slots.try_push(entry(number)));
        }
    }

    #[test]
    fn entries_come_out_in_order_whatever_the_length_becomes() {
        let slots = Slots::new();
        let (mut next_in, mut next_out) = (0, 0);
        for round in 1..=7 {
            for _ in 0..round * 1000 {
                push(&slots, next_in);
                next_in += 1;
            }
            for _ in 0..round * 900 {
                assert_eq!(slots.pop().map(|entry| entry.bytes), Some(next_out));
                next_out += 1;
            }
            slots.shrink();
        }
        assert_eq!(slots.len(), next_in - next_out);
        let rest: Vec<usize> = slots.since(0).map(|entry| entry.bytes).collect();
        assert_eq!(rest, (next_out..next_in).collect::<Vec<_>>());
        let last = slots.since(next_in as u64 - 1).map(|entry| entry.bytes);
        assert_eq!(last.collect::<Vec<_>>(), [next_in - 1]);
        while slots.pop().is_some() {
            next_out += 1;
        }
        assert_eq!((next_out, slots.len()), (next_in, 0));
    }

    #[test]
    fn what_was_large_gets_small_again() {
        let slots = Slots::new();
        (0..100_000).for_each(|number| push(&slots, number));
        let large = slots.slots.into_inner().len();
        assert!(large >= 100_000);

        let slots = Slots::new();
        (0..100_000).for_each(|number| push(&slots, number));
        (0..99_990).for_each(|_| assert!(slots.pop().is_some()));
        slots.shrink();
        assert_eq!(slots.since(0).map(|entry| entry.bytes).next(), Some(99_990));
        assert_eq!(slots.slots.into_inner().len(), FIRST);
    }
}
