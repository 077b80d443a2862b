//! The operations of a transaction: one for each entity.

use super::alternative::Saved;
use super::block::Stem;
use super::log::Overtaken;
use super::node::Header;
use super::op::{Change, Op, Subject, current_of};
use super::reclaim::Guard;
use crate::stamp::Stamp;
use crate::sync::per_thread;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::mem;
use std::ptr::{self, NonNull};

/// Operations that a thread has room for when it begins a transaction.
const ROOM: usize = 8;
/// Operations for which a thread keeps the room.
const MOST_ROOM: usize = 64;
/// Operations up to which one is looked for by going through them.
pub(super) const FEW: usize = 16;

per_thread! {
    /// What the last transaction has left, empty, for the next one.
    static SPARE: Cell<Option<Box<RefCell<Ops>>>> = Cell::new(None);
}

/// Room for the operations of a transaction.
///
/// One pointer is moved: what was written in pieces and is read as a whole right after waits for the store
/// buffer.
#[inline]
pub(super) fn take_spare() -> Box<RefCell<Ops>> {
    let spare = SPARE.try_with(Cell::take).ok().flatten();
    spare.unwrap_or_default()
}

/// Keeps that room, if it isn't large. There must be nothing in it.
#[inline]
pub(super) fn give_spare(mut ops: Box<RefCell<Ops>>) {
    if ops.get_mut().list.capacity() <= MOST_ROOM {
        // Past the end of the thread there is no place, and it is dropped.
        let _ = SPARE.try_with(|spare| spare.set(Some(ops)));
    }
}

/// The operations of one transaction.
#[derive(Default)]
pub(super) struct Ops {
    /// In the order in which they came.
    pub(super) list: Vec<Op>,
    /// Those that take part in the attempt, in the order of their entities' addresses. What an earlier one has
    /// left here means nothing.
    pub(super) order: Vec<usize>,
    /// Whether some have closures, or hold what is current.
    pub(super) is_special: bool,
    /// The time of what an attempt is to publish.
    pub(super) time: u64,
    /// Where each is, when there are many. Made when it is asked for.
    pub(super) places: Option<HashMap<NonNull<Stem>, usize>>,
    /// What was written over while alternatives are tried, to be brought back, and what was lent.
    pub(super) journal: Vec<Saved>,
    /// Stamps that are expected of an entity of which another one is expected too.
    pub(super) contradictions: Vec<(usize, Stamp)>,
    /// Alternatives that are being tried, one in another.
    pub(super) depth: usize,
    /// Whether something that was read has changed. Then nothing more is read: whoever goes on all the same
    /// must not see two values that were never current together.
    pub(super) is_doomed: bool,
}

impl Ops {
    /// Forgets everything. Nothing is lent.
    #[inline(always)]
    pub(super) fn clear(&mut self) {
        // Without operations there is nothing about them, either.
        if self.list.is_empty() {
            debug_assert!(!self.is_rare() && !self.is_doomed && !self.is_special);
            return;
        }
        if self.is_rare() || self.list.iter().any(Op::has_something) {
            self.forget();
        }
        // SAFETY: so many are there, and the drop of none of them would do anything.
        unsafe { self.list.set_len(0) };
        self.is_doomed = false;
        self.is_special = false;
    }

    /// Whether there is what few transactions have.
    #[inline(always)]
    fn is_rare(&self) -> bool {
        self.journal.capacity() | self.contradictions.capacity() != 0 || self.places.is_some()
    }

    /// Of what few transactions have, not even the room is kept.
    #[cold]
    #[inline(never)]
    fn forget(&mut self) {
        self.list.clear();
        self.journal = Vec::new();
        self.contradictions = Vec::new();
        self.places = None;
    }

    /// Adds an operation that changes nothing yet, and has seen an entity with that stamp, if any.
    #[inline(always)]
    fn push(&mut self, subject: Subject, seen: Option<Stamp>) -> usize {
        let Subject {
            stem,
            of,
            owns_handle,
        } = subject;
        let index = self.list.len();
        if index == self.list.capacity() {
            self.list.reserve(ROOM);
        }
        let op = self.list.spare_capacity_mut()[0].as_mut_ptr();
        // Field by field, in place, as said of the spare one.
        macro_rules! set {
            ($($field:ident: $value:expr),* $(,)?) => {
                let _all = |op: &Op| {
                    let Op { $($field: _),* } = op;
                };
                $(
                // SAFETY: the field lies in the place of an operation.
                let field = unsafe { &raw mut (*op).$field };
                // SAFETY: the place is ours, and nothing is there yet.
                unsafe { field.write($value) };
                )*
            };
        }
        set! {
            stem: stem,
            of: of,
            owns_handle: owns_handle,
            expected: seen.unwrap_or_default(),
            is_read: seen.is_some(),
            held: ptr::null_mut(),
            change: Change::NONE,
            reading: None,
            holds_current: false,
            found: None,
            is_placed: false,
            version: 0,
        }
        // SAFETY: there is room, and all fields were just written.
        unsafe { self.list.set_len(index + 1) };
        if index >= FEW {
            self.note_place(stem, index);
        }
        index
    }

    /// The operation of an entity, made now if there is none.
    #[inline(always)]
    pub(super) fn enter(&mut self, subject: Subject) -> usize {
        if let Some(index) = self.find(subject.stem) {
            subject.give_up();
            return index;
        }
        self.push(subject, None)
    }

    /// What is current of an entity that has no operation, as [`see`](Self::see) finds it, and the operation.
    #[inline(always)]
    pub(super) fn see_first(
        &mut self,
        subject: Subject,
        guard: &Guard,
    ) -> Result<(usize, NonNull<Header>), Overtaken> {
        // SAFETY: (1) the subject is borrowed, or has a handle that becomes the log's.
        let node = unsafe { current_of(subject.stem, guard) };
        // SAFETY: the guard protects it.
        let stamp = unsafe { node.as_ref() }.stamp();
        let index = self.push(subject, Some(stamp));
        self.is_doomed |= !are_current(&self.list[..index], guard);
        if self.is_doomed {
            return Err(Overtaken);
        }
        Ok((index, node))
    }

    /// What is current of an entity, if it was so at one moment with all that was read before. The commit
    /// depends on it from now on.
    pub(super) fn see(
        &mut self,
        index: usize,
        guard: &Guard,
    ) -> Result<NonNull<Header>, Overtaken> {
        let op = &mut self.list[index];
        // SAFETY: (1) the log keeps the entity.
        let node = unsafe { op.current(guard) };
        // SAFETY: the guard protects it.
        let stamp = unsafe { node.as_ref() }.stamp();
        let is_read = mem::replace(&mut op.is_read, true);
        if !is_read {
            op.expected = stamp;
        }
        // What was read earlier was current before, and is now: so it was at the moment when this was
        // current.
        let is_fine = if is_read {
            op.expected == stamp
        } else {
            self.is_unchanged(guard, index)
        };
        self.is_doomed |= !is_fine;
        if self.is_doomed {
            return Err(Overtaken);
        }
        Ok(node)
    }

    #[inline(always)]
    pub(super) fn find(&mut self, stem: NonNull<Stem>) -> Option<usize> {
        let len = self.list.len();
        let mut index = 0;
        if len <= FEW {
            while index < len && self.list[index].stem != stem {
                index += 1;
            }
        } else {
            index = self.find_place(stem).unwrap_or(len);
        }
        (index < len).then_some(index)
    }

    #[cold]
    pub(super) fn find_place(&mut self, stem: NonNull<Stem>) -> Option<usize> {
        let Ops { list, places, .. } = self;
        let note = || {
            let places = list.iter().enumerate().map(|(index, op)| (op.stem, index));
            places.collect::<HashMap<_, _>>()
        };
        places.get_or_insert_with(note).get(&stem).copied()
    }

    /// Notes where the newest operation is, if it is noted where the others are.
    #[cold]
    pub(super) fn note_place(&mut self, stem: NonNull<Stem>, index: usize) {
        if let Some(places) = &mut self.places {
            places.insert(stem, index);
        }
    }

    /// Whether all that was read, but for one, is current.
    fn is_unchanged(&self, guard: &Guard, but: usize) -> bool {
        are_current(&self.list[..but], guard) && are_current(&self.list[but + 1..], guard)
    }
}

/// Whether all that was read by these is current.
#[inline(always)]
pub(super) fn are_current(ops: &[Op], guard: &Guard) -> bool {
    // SAFETY: (1) the log keeps the entity.
    ops.iter()
        .all(|op| !op.is_read || unsafe { op.is_current(guard) })
}
