//! A word that says how far something is, and the answer that it leads to.
//!
//! Three bits of the word belong to this file; the others mean what the floor above wants them to.
//!
//! | bits 1–0 | meaning |
//! |---|---|
//! | `EMPTY` | there is no answer yet |
//! | `WRITING` | somebody writes it: whoever set this, from `EMPTY` |
//! | `FULL` | there is one |
//!
//! Bit 2 is set by whoever takes the answer. So an answer is written once and taken once, whoever tries.
//!
//! # Orderings
//! *put* the answer is written; *settle* the word says so; *see* somebody finds that it does, and may be the one who
//! takes it. *put* → *settle* (ANSWER_SETTLE, Release) → *see* (ANSWER_FULL, Acquire). *work* what one did before it
//! changed the word; *next* what the one does who changes it next: *work* → ANSWER_CHANGE (Release) → ANSWER_CHANGE
//! (Acquire) →
//! *next*. Checked by `loom-tests/operation.rs`.

use super::end::quietly;
use crate::sync::orderings::site;
use crate::sync::{AtomicU64, Sole};
use std::cell::UnsafeCell;

const PHASE: u64 = 0b11;
const EMPTY: u64 = 0;
const WRITING: u64 = 1;
const FULL: u64 = 2;
const TAKEN: u64 = 0b100;

/// How many bits of the word are this file's: the others begin there.
pub(crate) const RESERVED_BITS: u32 = 3;

/// See the header of this file.
pub(crate) struct Answer<R> {
    word: AtomicU64,
    answer: UnsafeCell<Option<R>>,
    sole: Sole,
}

// SAFETY: an answer is written by one thread, and taken or dropped by another.
unsafe impl<R: Send> Send for Answer<R> {}
// SAFETY: no two threads get at the answer at once: first the one that sets `WRITING`, until it sets `FULL`, and
// then the one that sets `TAKEN`.
unsafe impl<R: Send> Sync for Answer<R> {}

impl<R> Answer<R> {
    /// Without an answer, and with these bits above.
    pub(crate) fn new(above: u64) -> Self {
        Answer {
            word: AtomicU64::new(above << RESERVED_BITS),
            answer: UnsafeCell::new(None),
            sole: Sole::new(),
        }
    }

    /// The bits above.
    #[inline]
    pub(crate) fn above(&self) -> u64 {
        self.word.load(site::ANSWER_LOAD) >> RESERVED_BITS
    }

    /// Whether there is an answer, taken or not. What was done before it was given happens before this says so.
    #[inline]
    pub(crate) fn is_full(&self) -> bool {
        self.word.load(site::ANSWER_FULL) & PHASE == FULL
    }

    /// Changes the bits above, if they are still as expected.
    ///
    /// # Errors
    /// The bits as they are.
    #[inline]
    pub(crate) fn change(&self, expected: u64, above: u64) -> Result<(), u64> {
        let mut found = self.word.load(site::ANSWER_LOAD);
        loop {
            if found >> RESERVED_BITS != expected {
                return Err(found >> RESERVED_BITS);
            }
            let new = above << RESERVED_BITS | found & (PHASE | TAKEN);
            match self.word.compare_exchange(found, new, site::ANSWER_CHANGE) {
                Ok(_) => return Ok(()),
                Err(newer) => found = newer,
            }
        }
    }

    /// Gives the answer, and changes the bits above to what `above` makes of them. Returns what they were.
    ///
    /// # Errors
    /// The answer, if there is one already.
    pub(crate) fn settle(&self, answer: R, above: impl Fn(u64) -> u64) -> Result<u64, R> {
        let mut found = self.word.load(site::ANSWER_LOAD);
        loop {
            if found & PHASE != EMPTY {
                return Err(answer);
            }
            let writing = found | WRITING;
            match self
                .word
                .compare_exchange(found, writing, site::ANSWER_CHANGE)
            {
                Ok(_) => break,
                Err(newer) => found = newer,
            }
        }
        found |= WRITING;
        self.sole.touch();
        // SAFETY: of all who find `EMPTY` this one has set `WRITING`, and until it sets `FULL` nobody takes.
        unsafe { *self.answer.get() = Some(answer) };
        loop {
            let bits = found >> RESERVED_BITS;
            let new = above(bits) << RESERVED_BITS | FULL;
            match self.word.compare_exchange(found, new, site::ANSWER_SETTLE) {
                Ok(_) => return Ok(bits),
                Err(newer) => found = newer,
            }
        }
    }

    /// Takes the answer, if there is one that nobody has taken.
    pub(crate) fn take(&self) -> Option<R> {
        // Once it is full it stays so.
        if !self.is_full() || self.word.fetch_or(TAKEN, site::ANSWER_TAKE) & TAKEN != 0 {
            return None;
        }
        self.sole.touch();
        // SAFETY: it is full, so nobody writes, and of those who set `TAKEN` this is the one who did.
        unsafe { (*self.answer.get()).take() }
    }
}

impl<R> Drop for Answer<R> {
    fn drop(&mut self) {
        let left = self.answer.get_mut().take();
        quietly(|| drop(left));
    }
}
