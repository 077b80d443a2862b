//! How a thread waits for something that wakes tasks.
//!
//! It polls, by a waker that unparks it, and parks. Whoever wakes it does so under the lock of a list,
//! and a thread that is unparked then runs into that lock at once. So wakers only note which threads
//! they mean while a [`Batch`] of wake-ups is under way; its end unparks them.

use super::backend::{Thread, current, park, per_thread};
use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Instant;

/// Polls until it is ready or the deadline has passed, and sleeps in between.
pub(super) fn until<R>(
    deadline: Option<Instant>,
    mut poll: impl FnMut(&mut Context<'_>) -> Poll<R>,
) -> Option<R> {
    let waker = Waker::from(Arc::new(Sleeper(current())));
    let mut cx = Context::from_waker(&waker);
    loop {
        if let Poll::Ready(result) = poll(&mut cx) {
            return Some(result);
        }
        if !park(deadline) {
            return None;
        }
    }
}

struct Sleeper(Thread);

impl Wake for Sleeper {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let thread = &self.0;
        let noted = NOTED.try_with(|noted| {
            let is_open = noted.batches.get() > 0;
            if is_open {
                noted.threads.borrow_mut().push(thread.clone());
            }
            is_open
        });
        if !noted.unwrap_or(false) {
            thread.unpark();
        }
    }
}

per_thread! {
    static NOTED: Noted = Noted {
        batches: Cell::new(0),
        threads: RefCell::new(Vec::new()),
    };
}

struct Noted {
    /// How many batches are under way, one in another.
    batches: Cell<usize>,
    threads: RefCell<Vec<Thread>>,
}

/// Wake-ups, as long as it lives. Those of threads come true when the outermost one ends.
pub(super) struct Batch(());

impl Batch {
    pub(super) fn begin() -> Self {
        let _ = NOTED.try_with(|noted| noted.batches.set(noted.batches.get() + 1));
        Batch(())
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        let _ = NOTED.try_with(|noted| {
            noted.batches.set(noted.batches.get() - 1);
            if noted.batches.get() == 0 {
                noted
                    .threads
                    .borrow_mut()
                    .drain(..)
                    .for_each(|thread| thread.unpark());
            }
        });
    }
}
