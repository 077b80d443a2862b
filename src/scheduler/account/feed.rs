//! How events get to whoever listens: by rings.
//!
//! Each listener has a ring of its own, of a size that it has chosen. Whoever has something to tell puts it into all
//! rings that want it, and waits for no listener to take it: from a full ring the oldest event goes, and is counted. So
//! a listener that is slow, or gone, costs others nothing but its ring. Where nobody listens, telling is one relaxed
//! load.
//!
//! The rings are crossbeam's, which are not lock-free to the letter. Who is stopped in the few instructions in which it
//! puts an event in, or takes one out, may hold up whoever comes to the same place; and whoever tells, if the ring is
//! full. And to see whether somebody waits, each one takes a short lock.
#![forbid(unsafe_code)]

use super::event::{Event, EventKind, EventKinds};
use crate::clock;
use crate::raw::quietly;
use crate::sync::event::{Event as Readers, Listener as Listening};
use crate::sync::fault::{Fault, planted};
use crate::sync::lock::Lock;
use crate::sync::orderings::site;
use crate::sync::queue::Ring as Queue;
use crate::sync::table::Table;
use crate::sync::{AtomicU64, AtomicUsize, sleep};
use std::fmt;
use std::future::poll_fn;
use std::sync::{Arc, Weak};
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

/// See the header of this file.
pub(in super::super) struct Feed {
    /// The kinds that anybody wants, a bit for each.
    wanted: AtomicUsize,
    rings: Table<Vec<Arc<Ring>>>,
    /// Whoever changes the rings holds this, so that the two above agree.
    changing: Lock<()>,
}

impl Feed {
    pub(in super::super) fn new() -> Self {
        Feed {
            wanted: AtomicUsize::new(0),
            rings: Table::new(Vec::new()),
            changing: Lock::new(()),
        }
    }

    /// Whether anybody wants to know of such an event.
    #[inline]
    pub(in super::super) fn wants(&self, kind: EventKind) -> bool {
        self.wanted.load(site::EVENT_LOOK) >> kind as usize & 1 == 1
    }

    /// Whether anybody wants to know of operations.
    #[inline]
    pub(in super::super) fn wants_of_operations(&self) -> bool {
        self.wanted.load(site::EVENT_LOOK) & EventKinds::OF_OPERATIONS.bits() != 0
    }

    /// Tells whoever wants to know.
    #[cold]
    pub(in super::super) fn tell(&self, event: &Event) {
        let kind = event.kind();
        self.rings.look(|rings| {
            for ring in rings.iter().filter(|ring| ring.wants(kind)) {
                ring.push(event);
            }
        });
    }

    /// Adds a ring.
    pub(super) fn add(&self, ring: &Arc<Ring>) {
        self.change(|rings| rings.push(ring.clone()));
    }

    /// Takes a ring out.
    pub(super) fn remove(&self, ring: &Arc<Ring>) {
        self.change(|rings| rings.retain(|other| !Arc::ptr_eq(other, ring)));
    }

    /// After the kinds that a ring wants have changed.
    pub(super) fn refresh(&self) {
        self.change(|_| {});
    }

    fn change(&self, change: impl Fn(&mut Vec<Arc<Ring>>)) {
        self.changing.with(|()| {
            let mut rings = (*self.rings.get()).clone();
            change(&mut rings);
            let wanted = rings.iter().fold(0, |all, ring| all | ring.kinds());
            self.rings.store(rings);
            self.wanted.store(wanted, site::EVENT_SET);
        });
    }

    /// Nothing more will be told.
    pub(in super::super) fn close(&self) {
        for ring in self.rings.get().iter() {
            ring.close();
        }
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.close();
    }
}

/// A ring is no larger.
const LARGEST: usize = 1 << 24;

/// The events that one listener hasn't seen.
pub(super) struct Ring {
    kinds: AtomicUsize,
    queue: Queue<Event>,
    dropped: AtomicU64,
    closed: AtomicUsize,
    readers: Readers,
}

impl Ring {
    pub(super) fn new(kinds: EventKinds, capacity: usize) -> Arc<Self> {
        Arc::new(Ring {
            kinds: AtomicUsize::new(kinds.bits()),
            queue: Queue::new(capacity.clamp(1, LARGEST)),
            dropped: AtomicU64::new(0),
            closed: AtomicUsize::new(0),
            readers: Readers::new(),
        })
    }

    fn kinds(&self) -> usize {
        self.kinds.load(site::EVENT_LOOK)
    }

    fn wants(&self, kind: EventKind) -> bool {
        self.kinds() >> kind as usize & 1 == 1
    }

    pub(super) fn want(&self, kinds: EventKinds) {
        self.kinds.store(kinds.bits(), site::EVENT_SET);
    }

    fn push(&self, event: &Event) {
        if planted(Fault::TellAfterWake) {
            self.wake();
        }
        if self.queue.force_push(*event).is_some() {
            self.dropped.fetch_add(1, site::GAUGE_ADD);
        }
        if !planted(Fault::TellAfterWake) {
            self.wake();
        }
    }

    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    pub(super) fn pop(&self) -> Option<Event> {
        self.queue.pop()
    }

    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(site::GAUGE_LOAD)
    }

    fn close(&self) {
        self.closed.store(1, site::EVENT_SET);
        self.wake();
    }

    /// Whether nothing more will come. Whoever sees this looks into the ring once more.
    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(site::EVENT_LOOK) == 1
    }

    pub(super) fn wake(&self) {
        for reader in self.readers.take() {
            quietly(|| reader.waker.wake());
        }
    }

    /// Registers a thread that sleeps until something is told. Whoever does looks afterwards whether something was.
    pub(super) fn listen(&self, waker: &Waker) -> Listening<'_> {
        self.readers.listen(waker, true)
    }

    /// Waits for an event, until a deadline. `None`: there is none then, or there never will be.
    pub(super) fn wait(&self, deadline: Option<Instant>, waker: &Waker) -> Option<Event> {
        loop {
            let listening = self.listen(waker);
            let is_closed = self.is_closed();
            if let Some(event) = self.pop() {
                return Some(event);
            }
            if is_closed || (!sleep::park(deadline) && sleep::is_over(deadline)) {
                return self.pop();
            }
            drop(listening);
        }
    }
}

/// Events in a ring, to be fetched when it suits: by [`Engine::events`](crate::Engine::events).
///
/// Nobody waits for whoever fetches them. What doesn't fit is [`dropped`](Events::dropped), the oldest first, and
/// counted: what was fetched, what is still there and what was dropped add up to what has happened. Dropping this ends
/// it.
///
/// # Examples
/// ```
/// use snapcell::{Engine, Entity, EventKind, EventKinds, Operation};
///
/// let engine = Engine::new();
/// let events = engine.events(EventKinds::ENDS, 1_000);
/// let stock = Entity::new(10);
/// engine.run(&Operation::update(&stock, |n| n - 1)).unwrap();
/// let event = events.try_next().expect("it is told before `run` returns");
/// assert_eq!(event.kind(), EventKind::Completed);
/// assert_eq!(events.dropped(), 0);
/// ```
#[must_use = "dropping it ends it"]
pub struct Events {
    ring: Arc<Ring>,
    feed: Weak<Feed>,
}

impl Events {
    pub(in super::super) fn new(feed: &Arc<Feed>, kinds: EventKinds, capacity: usize) -> Self {
        let ring = Ring::new(kinds, capacity);
        feed.add(&ring);
        Events {
            ring,
            feed: Arc::downgrade(feed),
        }
    }

    /// The oldest event that was not fetched. It waits for none to come; as to others who are just putting one in, see
    /// [`Engine::events`](crate::Engine::events).
    #[must_use]
    pub fn try_next(&self) -> Option<Event> {
        self.ring.pop()
    }

    /// Awaits an event. `None`: there will be none, since the engine is gone.
    pub async fn next(&self) -> Option<Event> {
        let mut listening: Option<Listening<'_>> = None;
        poll_fn(|cx| {
            loop {
                let is_closed = self.ring.is_closed();
                if let Some(event) = self.ring.pop() {
                    return Poll::Ready(Some(event));
                }
                if is_closed {
                    return Poll::Ready(None);
                }
                if let Some(listening) = &listening
                    && !listening.is_woken(cx.waker())
                {
                    return Poll::Pending;
                }
                // And looks again.
                listening = Some(self.ring.readers.listen(cx.waker(), false));
            }
        })
        .await
    }

    /// Waits for an event on this thread, for so long. `None`: there is none then, or there will be none, since the
    /// engine is gone. Blocking. An engine without threads is not served meanwhile.
    #[must_use]
    pub fn wait(&self, timeout: Option<Duration>) -> Option<Event> {
        let deadline = timeout.and_then(clock::deadline);
        self.ring.wait(deadline, &sleep::waker())
    }

    /// How many events there was no room for.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.ring.dropped()
    }

    /// How many there are to be fetched.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ring.queue.len()
    }

    /// Whether there is none to be fetched.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        if let Some(feed) = self.feed.upgrade() {
            feed.remove(&self.ring);
        }
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events")
            .field("len", &self.len())
            .field("dropped", &self.dropped())
            .finish_non_exhaustive()
    }
}
