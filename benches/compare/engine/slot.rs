//! Where the answer of one operation is left for whoever waits for it.

use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::{self, Thread};

/// A slot for one answer. Filling it takes no lock unless somebody waits.
#[derive(Default)]
pub(super) struct Slot {
    answer: OnceLock<u64>,
    is_awaited: AtomicBool,
    waiter: Mutex<Option<Thread>>,
}

impl Slot {
    pub(super) fn new() -> Arc<Self> {
        Arc::default()
    }

    pub(super) fn fill(&self, answer: u64) {
        let is_first = self.answer.set(answer).is_ok();
        debug_assert!(is_first, "an operation runs once");
        // Pairs with that of `wait`: either this sees that somebody waits, or they see the answer.
        fence(Ordering::SeqCst);
        if self.is_awaited.load(Ordering::Relaxed) {
            let waiter = self.waiter.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(waiter) = &*waiter {
                waiter.unpark();
            }
        }
    }

    pub(super) fn wait(&self) -> u64 {
        if let Some(answer) = self.answer.get() {
            return *answer;
        }
        *self.waiter.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread::current());
        self.is_awaited.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        loop {
            if let Some(answer) = self.answer.get() {
                return *answer;
            }
            thread::park();
        }
    }
}
