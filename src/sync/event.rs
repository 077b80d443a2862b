//! Where those who wait register.
//!
//! A list of wakers, under a lock. Whoever has something to tell takes the whole list, in a few
//! instructions whatever its length, and wakes them when the lock is free: a waker may do anything, and
//! what it drops may wait as well. An entry knows in which generation of the list it was made, so
//! whoever waits sees by that that it has been woken.
//!
//! # Why the lock is enough
//! *enter* somebody registers; *look* it looks at what it waits for, a second time; *change* somebody
//! changes that; *take* the same one takes the list. If *enter* comes before *take*, *take* finds it.
//! Otherwise the lock orders *take* before *enter*, and so *change* before *look*, which sees it.
#![forbid(unsafe_code)]

use super::backend::sync::{Mutex, MutexGuard};
use slab::Slab;
use std::mem;
use std::sync::PoisonError;
use std::task::Waker;

/// A list of those who wait.
pub(crate) struct Event {
    list: Mutex<List>,
}

struct List {
    generation: u64,
    wakers: Slab<Registered>,
}

/// Whom to wake.
pub(crate) struct Registered {
    pub(crate) waker: Waker,
    /// Whether it is a thread that sleeps, rather than a task.
    pub(crate) is_thread: bool,
}

impl Event {
    pub(crate) fn new() -> Self {
        Event {
            list: Mutex::new(List {
                generation: 0,
                wakers: Slab::new(),
            }),
        }
    }

    /// Registers a waker, until it is taken or the listener is dropped.
    pub(crate) fn listen(&self, waker: &Waker, is_thread: bool) -> Listener<'_> {
        // Cloned before the lock is taken.
        let registered = Registered {
            waker: waker.clone(),
            is_thread,
        };
        let mut list = self.lock();
        Listener {
            event: self,
            generation: list.generation,
            key: list.wakers.insert(registered),
        }
    }

    /// Takes all that are registered, to be woken.
    pub(crate) fn take(&self) -> impl ExactSizeIterator<Item = Registered> + Send + use<> {
        let mut list = self.lock();
        list.generation += 1;
        let taken = mem::take(&mut list.wakers);
        drop(list);
        taken.into_iter().map(|(_, registered)| registered)
    }

    fn lock(&self) -> MutexGuard<'_, List> {
        // Nothing of anybody else's runs under it, so it is never left half done.
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An entry in the list.
pub(crate) struct Listener<'e> {
    event: &'e Event,
    generation: u64,
    key: usize,
}

impl Listener<'_> {
    /// Whether it has been taken. If not, `waker` is what will be woken from now on.
    pub(crate) fn is_woken(&self, waker: &Waker) -> bool {
        let mut waker = waker.clone();
        let mut list = self.event.lock();
        if list.generation != self.generation {
            return true;
        }
        if let Some(entry) = list.wakers.get_mut(self.key) {
            mem::swap(&mut entry.waker, &mut waker);
        }
        // First the lock, then the waker that was there before.
        drop(list);
        false
    }
}

impl Drop for Listener<'_> {
    fn drop(&mut self) {
        let mut list = self.event.lock();
        let waker = if list.generation == self.generation {
            list.wakers.try_remove(self.key)
        } else {
            None
        };
        drop(list);
        drop(waker);
    }
}
