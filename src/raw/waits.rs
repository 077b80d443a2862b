//! Who waits until something that a transaction has read changes.
//!
//! It registers at each entity, and marks what it has read there as awaited (`head.rs`): whoever replaces any
//! of it wakes it. If some of it has been replaced already, there is nothing to wait for.

use super::block::Stem;
use super::head;
use super::log::Log;
use super::node::Header;
use super::reclaim::{Reclaim, Reclaimer};
use crate::sync::event::{Event, Listener};
use crate::sync::fault::{Fault, planted};
use std::marker::PhantomData;
use std::mem;
use std::ptr::NonNull;
use std::task::Waker;

impl<'e> Log<'e> {
    /// Registers at all that was read, to be woken when any of it changes. `None` if some of it has changed.
    pub(crate) fn wait(mut self, waker: &Waker, is_thread: bool) -> Option<Waits<'e>> {
        let mut waits = Waits {
            listeners: Vec::new(),
            handles: Vec::new(),
            entities: PhantomData,
        };
        let reads = self.ops.get_mut().list.iter_mut();
        for op in reads.filter(|op| op.is_read) {
            if mem::take(&mut op.owns_handle) {
                waits.handles.push((op.stem, op.of.drop_handle));
            }
            // SAFETY: (1) the entity is borrowed, or the handle was just moved to where it stays until the
            // listeners are gone.
            let event = unsafe { (op.of.event)(op.stem) };
            // SAFETY: as above.
            let event: &'static Event = unsafe { event.as_ref() };
            waits.listeners.push(event.listen(waker, is_thread));
            let guard = Reclaimer::pin();
            // SAFETY: as above.
            let stem = unsafe { op.stem.as_ref() };
            let is_it = |current: NonNull<Header>| {
                // SAFETY: the guard protects it.
                unsafe { current.as_ref() }.stamp() == op.expected
            };
            // SAFETY: (1) as above.
            let is_marked = unsafe { head::mark(&stem.head, &guard, is_it) };
            if !is_marked && !planted(Fault::RetryWithoutSecondLook) {
                return None;
            }
        }
        Some(waits)
    }
}

/// Gives up a handle of an entity.
type DropHandle = unsafe fn(NonNull<Stem>);

/// Who waits until something that a transaction has read changes.
pub(crate) struct Waits<'e> {
    // Dropped before the handles, which keep the lists that they are on.
    listeners: Vec<Listener<'static>>,
    handles: Vec<(NonNull<Stem>, DropHandle)>,
    entities: PhantomData<&'e ()>,
}

// SAFETY: it keeps handles of entities whose values and extras are `Send + Sync`, as the log demands.
unsafe impl Send for Waits<'_> {}

impl Waits<'_> {
    /// Whether something has changed. If not, `waker` is what will be woken from now on.
    pub(crate) fn is_woken(&self, waker: &Waker) -> bool {
        self.listeners
            .iter()
            .any(|listener| listener.is_woken(waker))
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.listeners.clear();
        for (stem, drop_handle) in self.handles.drain(..) {
            // SAFETY: (1) the handle is ours.
            unsafe { drop_handle(stem) };
        }
    }
}
