//! The stand-in for event-listener in models: what it promises, and no more.
//!
//! * A listener is on the list from the end of `listen` on, and `notify` wakes as many of those that
//!   are there and not woken yet.
//! * One that goes away after it was woken passes the wake-up on.
//! * A `notify` or a `len` that nothing orders after a `listen` may miss it. A lock would order the
//!   two, so here they first look at a count, relaxed, and go home if they see zero. (event-listener
//!   does so too where nobody has listened yet.)

use super::backend::{atomic, sync};
use super::orderings::contract::LISTENERS;
use std::cell::Cell;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

pub(super) struct Event(Arc<List>);

struct List {
    present: atomic::AtomicUsize,
    entries: sync::Mutex<Entries>,
}

#[derive(Default)]
struct Entries {
    next: usize,
    all: Vec<Entry>,
}

struct Entry {
    id: usize,
    woken: Option<bool>,
    waker: Option<Waker>,
}

impl List {
    fn lock(&self) -> sync::MutexGuard<'_, Entries> {
        self.entries.lock().expect("nobody panics under this lock")
    }

    fn wake(entries: &mut Entries, most: usize, messenger: bool) -> usize {
        let mut woken = 0;
        let asleep = entries.all.iter_mut().filter(|entry| entry.woken.is_none());
        for entry in asleep.take(most) {
            entry.woken = Some(messenger);
            if let Some(waker) = entry.waker.take() {
                waker.wake();
            }
            woken += 1;
        }
        woken
    }

    fn remove(&self, entries: &mut Entries, id: usize) -> Option<Entry> {
        let at = entries.all.iter().position(|entry| entry.id == id)?;
        let entry = entries.all.remove(at);
        self.present.store(entries.all.len(), LISTENERS);
        Some(entry)
    }
}

impl Event {
    pub(super) fn new() -> Self {
        Event(Arc::new(List {
            present: atomic::AtomicUsize::new(0),
            entries: sync::Mutex::new(Entries::default()),
        }))
    }

    pub(super) fn listen(&self) -> Listener {
        let mut entries = self.0.lock();
        let id = entries.next;
        entries.next += 1;
        entries.all.push(Entry {
            id,
            woken: None,
            waker: None,
        });
        self.0.present.store(entries.all.len(), LISTENERS);
        Listener {
            list: Arc::clone(&self.0),
            id,
            gone: Cell::new(false),
        }
    }

    pub(super) fn notify(&self, most: usize, messenger: bool) -> usize {
        if self.0.present.load(LISTENERS) == 0 {
            return 0;
        }
        List::wake(&mut self.0.lock(), most, messenger)
    }

    pub(super) fn len(&self) -> usize {
        self.0.present.load(LISTENERS)
    }
}

pub(super) struct Listener {
    list: Arc<List>,
    id: usize,
    /// Whether it has left the list.
    gone: Cell<bool>,
}

impl Listener {
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        let mut entries = self.list.lock();
        if let Some(messenger) = self.take(&mut entries) {
            return Poll::Ready(messenger);
        }
        if let Some(entry) = entries.all.iter_mut().find(|entry| entry.id == self.id) {
            entry.waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }

    /// Leaves the list if it was woken.
    fn take(&self, entries: &mut Entries) -> Option<bool> {
        let woken = entries
            .all
            .iter()
            .find(|entry| entry.id == self.id)?
            .woken?;
        self.list.remove(entries, self.id);
        self.gone.set(true);
        Some(woken)
    }

    /// Plants a fault.
    pub(super) fn swallow(self) {
        let mut entries = self.list.lock();
        self.list.remove(&mut entries, self.id);
        self.gone.set(true);
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if self.gone.get() || std::thread::panicking() {
            return;
        }
        let mut entries = self.list.lock();
        if let Some(entry) = self.list.remove(&mut entries, self.id)
            && let Some(messenger) = entry.woken
        {
            List::wake(&mut entries, 1, messenger);
        }
    }
}
