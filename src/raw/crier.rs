//! Who wakes those who wait.
//!
//! A commit wakes the first of them itself, and leaves the others to the *crier*, a thread of the
//! crate's that is started when it is needed for the first time. So a commit's cost doesn't grow with
//! their number; and nobody's wake-up depends on what another one does with its own, as it would if
//! they woke each other: a task that has been woken needn't be polled for long, or ever.

use super::end::quietly;
use crate::sync::event::{Event, Registered};
use std::sync::OnceLock;
use std::sync::mpsc::{Sender, channel};

/// What a commit spends on waking, which is about what it takes to wake the crier. It is pinned meanwhile.
const BY_THE_COMMIT: usize = 256;
/// What it takes to wake a thread: a call of the system, where a task goes into a queue, for 1.
const THREAD: usize = 64;

/// Wakes all that are registered: the first ones now, the others soon.
#[cold]
pub(super) fn wake(event: &Event) {
    let mut left = BY_THE_COMMIT;
    let mut all = event.take();
    while left > 0
        && let Some(next) = all.next()
    {
        left = left.saturating_sub(if next.is_thread { THREAD } else { 1 });
        call(next);
    }
    if all.len() == 0 {
        return;
    }
    // In models there are not so many, and no thread but those of the model.
    let rest: Errand = Box::new(move || all.for_each(call));
    match CRIER.get_or_init(hire) {
        Some(crier) => {
            if let Err(unsent) = crier.send(rest) {
                unsent.0();
            }
        }
        None => rest(),
    }
}

/// Calls one. If it panics that has nothing to do with whom it wakes, or with the others.
fn call(registered: Registered) {
    quietly(|| registered.waker.wake());
}

/// Wakers to be called.
type Errand = Box<dyn FnOnce() + Send>;

static CRIER: OnceLock<Option<Sender<Errand>>> = OnceLock::new();

/// Starts the thread, if the system lets us.
fn hire() -> Option<Sender<Errand>> {
    let (sender, errands) = channel::<Errand>();
    let run = move || errands.into_iter().for_each(|errand| errand());
    crate::sync::spawn_in_background("snapcell-crier", run).then_some(sender)
}
