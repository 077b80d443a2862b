//! Where those who wait register, and are woken: event-listener, or a stand-in where a model looks on.
//!
//! # Who wakes whom
//! A commit wakes one waiter, the *messenger*, however many there are. The messenger wakes the others,
//! on its own thread, and those wake nobody. So a commit's cost doesn't depend on how many wait; and
//! nobody is woken again and again, as in a chain in which each wakes the next, where those who come
//! back meanwhile keep it going.
//!
//! The messenger wakes in groups, since the list is locked meanwhile and a commit may want it; and no
//! more than were there when it began.
//!
//! A listener that goes away after it was woken, and before it knows, passes its wake-up on, the
//! errand included.

use super::fault::{Fault, planted};
use super::sleep::{self, Batch};
use std::task::{Context, Poll};
use std::time::Instant;

#[cfg(all(
    any(snapcell_model, snapcell_epoch_model, snapcell_shuttle),
    not(snapcell_event_model)
))]
use super::listeners as list;
#[cfg(any(
    not(any(snapcell_model, snapcell_epoch_model, snapcell_shuttle)),
    snapcell_event_model
))]
use real as list;

/// Wake-ups that a messenger delivers under one lock.
const GROUP: usize = 32;

/// A list of listeners.
pub(crate) struct Event(list::Event);

impl Event {
    pub(crate) fn new() -> Self {
        Event(list::Event::new())
    }

    /// Registers.
    pub(crate) fn listen(&self) -> Listener {
        Listener(Some(self.0.listen()))
    }

    /// Wakes one listener, as the messenger. Blocking: the list has a lock, held for short.
    pub(crate) fn wake(&self) {
        let _batch = Batch::begin();
        self.0.notify(1, true);
    }

    /// What the messenger does: wakes all others that are there now.
    pub(crate) fn wake_all(&self) {
        if planted(Fault::MessengerForgets) {
            return;
        }
        let mut left = self.0.len();
        while left > 0 {
            let group = left.min(GROUP);
            let _batch = Batch::begin();
            if self.0.notify(group, false) < group {
                break;
            }
            left -= group;
        }
    }
}

/// Whether somebody who was woken is the messenger.
pub(crate) type Messenger = bool;

/// An entry in the list.
pub(crate) struct Listener(Option<list::Listener>);

impl Listener {
    /// Blocks this thread until it is woken, or until the deadline.
    pub(crate) fn wait(mut self, deadline: Option<Instant>) -> Option<Messenger> {
        sleep::until(deadline, |cx| self.poll(cx))
    }

    /// Whether it has been woken. If not, the task of `cx` is woken in its place.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Messenger> {
        match &mut self.0 {
            Some(listener) => listener.poll(cx),
            None => Poll::Ready(false),
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if planted(Fault::SwallowWake)
            && let Some(listener) = self.0.take()
        {
            listener.swallow();
        }
    }
}

/// event-listener, as far as it is needed.
#[cfg(any(
    not(any(snapcell_model, snapcell_epoch_model, snapcell_shuttle)),
    snapcell_event_model
))]
mod real {
    use super::Messenger;
    use event_listener::{EventListener, IntoNotification, Listener as _};
    use std::future::Future;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    pub(super) struct Event(event_listener::Event<Messenger>);

    impl Event {
        pub(super) fn new() -> Self {
            Event(event_listener::Event::with_tag())
        }

        pub(super) fn listen(&self) -> Listener {
            Listener(self.0.listen())
        }

        /// Wakes so many of those that have not been woken, and says how many there were. What the
        /// caller did before need not be fenced: see the header of `raw/head.rs`.
        pub(super) fn notify(&self, most: usize, messenger: Messenger) -> usize {
            self.0.notify(most.additional().relaxed().tag(messenger))
        }

        pub(super) fn len(&self) -> usize {
            self.0.total_listeners()
        }
    }

    pub(super) struct Listener(EventListener<Messenger>);

    impl Listener {
        pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Messenger> {
            Pin::new(&mut self.0).poll(cx)
        }

        /// Plants a fault.
        pub(super) fn swallow(self) {
            self.0.discard();
        }
    }
}
