//! How a thread waits for something that wakes tasks: by a waker that unparks it.
#![forbid(unsafe_code)]

use super::backend::{Thread, current};
pub(crate) use super::backend::{is_over, park};
use std::sync::Arc;
use std::task::{Wake, Waker};

/// What wakes this thread from [`park`].
pub(crate) fn waker() -> Waker {
    Waker::from(Arc::new(Sleeper(current())))
}

struct Sleeper(Thread);

impl Wake for Sleeper {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.unpark();
    }
}
