//! The operations of a transaction: one for each entity.

use super::alternative::Saved;
use super::block::Stem;
use super::kept::Recorder;
use super::log::{Overtaken, Target};
use super::node::Header;
use super::op::{Change, Erased, OfType, Op, Prepared};
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
    let Ops {
        list,
        order,
        journal,
        contradictions,
        ..
    } = ops.get_mut();
    let most = list
        .capacity()
        .max(order.capacity())
        .max(journal.capacity());
    if most.max(contradictions.capacity()) <= MOST_ROOM {
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
    /// Adds an operation that does nothing yet.
    #[inline]
    pub(super) fn push(
        &mut self,
        stem: NonNull<Stem>,
        of: &'static OfType,
        owns_handle: bool,
    ) -> usize {
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
            expected: Stamp::new(0, 0),
            is_read: false,
            held: ptr::null_mut(),
            change: Change::NONE,
            reading: None,
            holds_current: false,
            prepared: Prepared::NOTHING,
        }
        // SAFETY: there is room, and all fields were just written.
        unsafe { self.list.set_len(index + 1) };
        index
    }

    /// The operation of an entity, made now if there is none.
    #[inline]
    pub(super) fn enter<T, X>(&mut self, target: Target<'_, T, X>) -> usize
    where
        T: Send + Sync + 'static,
        X: Recorder<T>,
    {
        let stem = target.handle().stem();
        if let Some(index) = self.find(stem) {
            // A handle that is not needed is not the last one: there is that of the operation.
            return index;
        }
        let owns_handle = matches!(target, Target::Owned(_));
        let index = self.push(stem, const { &Erased::<T, X>::OF }, owns_handle);
        mem::forget(target);
        if index >= FEW {
            self.note_place(stem, index);
        }
        index
    }

    /// What is current of an entity, if it was so at one moment with all that was read before. The commit
    /// depends on it from now on.
    #[inline]
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

    #[inline]
    pub(super) fn find(&mut self, stem: NonNull<Stem>) -> Option<usize> {
        if self.list.len() <= FEW {
            self.list.iter().position(|op| op.stem == stem)
        } else {
            self.find_place(stem)
        }
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
    #[inline]
    pub(super) fn is_unchanged(&self, guard: &Guard, but: usize) -> bool {
        self.list.iter().enumerate().all(|(index, op)| {
            if index == but || !op.is_read {
                return true;
            }
            // SAFETY: (1) the log keeps the entity.
            let node = unsafe { op.current(guard) };
            // SAFETY: the guard protects it.
            op.expected == unsafe { node.as_ref() }.stamp()
        })
    }
}
