//! Who wakes those who wait.
//!
//! A commit wakes the first of them itself, and leaves the others to the *crier*, a thread of the
//! crate's that is started when it is needed for the first time. So a commit's cost doesn't grow with
//! their number; and nobody's wake-up depends on what another one does with its own, as it would if
//! they woke each other: a task that has been woken needn't be polled for long, or ever.

use super::end::quietly;
use crate::sync::event::Event;
use std::sync::OnceLock;
use std::sync::mpsc::{Sender, channel};
use std::task::Waker;

/// How many a commit wakes itself. It is pinned meanwhile, and to wake a thread is a call of the system.
const BY_THE_COMMIT: usize = 4;

/// Wakes all that are registered: the first ones now, the others soon.
#[cold]
pub(super) fn wake(event: &Event) {
    let mut wakers = event.take();
    wakers.by_ref().take(BY_THE_COMMIT).for_each(call);
    if wakers.len() == 0 {
        return;
    }
    // In models there are not so many, and no thread but those of the model.
    let rest: Errand = Box::new(move || wakers.for_each(call));
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
fn call(waker: Waker) {
    quietly(|| waker.wake());
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
