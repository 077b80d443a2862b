//! How what an alternative of a transaction has changed is undone.
//!
//! While one is being tried, whatever is written over goes into the journal of the operations. To undo it is to
//! go through that backwards, to where it was when the alternative began. What was undone may have been lent, so
//! it stays there until all goes.

use super::log::Log;
use super::op::{Change, OfType};
use std::mem;

/// A change that was written over.
pub(super) struct Saved {
    pub(super) index: usize,
    pub(super) of: &'static OfType,
    pub(super) change: Change,
}

/// When nothing is lent any more.
impl Drop for Saved {
    fn drop(&mut self) {
        // SAFETY: (1) nothing is lent.
        unsafe { self.of.drop_change(self.change) };
    }
}

/// Of what was undone.
const GONE: usize = usize::MAX;

impl Log<'_> {
    /// Begins an alternative; what it changes can be undone from here on.
    pub(crate) fn begin_alternative(&self) -> usize {
        let mut ops = self.ops.borrow_mut();
        ops.depth += 1;
        ops.journal.len()
    }

    /// Ends an alternative, and undoes its changes if it is to be.
    pub(crate) fn end_alternative(&self, mark: usize, undo: bool) {
        let mut ops = self.ops.borrow_mut();
        let ops = &mut *ops;
        ops.depth -= 1;
        if !undo {
            return;
        }
        let undone = ops.journal.split_off(mark);
        for mut saved in undone.into_iter().rev() {
            if saved.index == GONE {
                ops.journal.push(saved);
                continue;
            }
            let op = &mut ops.list[saved.index];
            let change = &mut op.change;
            if saved.change.folds.is_null()
                && saved.change.draft.is_null()
                && !change.folds.is_null()
            {
                // Only closures were added.
                change.folds_len = saved.change.folds_len;
                continue;
            }
            mem::swap(change, &mut saved.change);
            // It may have been lent, so it goes when all goes.
            saved.index = GONE;
            ops.journal.push(saved);
        }
    }
}
