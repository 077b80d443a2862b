//! Closures that are called for events, on a thread of their own.
//!
//! All handlers of an engine share one ring and one thread, which calls them one after the other for each event: those
//! of a higher priority first, and of one priority in the order in which they came. So a slow handler delays other
//! handlers, but no operation; what doesn't fit into the ring meanwhile is dropped and counted. Who has to be
//! independent of other handlers takes [events](super::feed::Events) of its own.
//!
//! The thread is there while there are handlers. It naps for a millisecond as long as events keep coming, so that
//! whoever tells one need not wake it each time. An engine without threads has none for this either: whoever serves
//! calls the handlers.
#![forbid(unsafe_code)]

use super::event::{Event, EventKinds};
use super::feed::{Feed, Ring};
use crate::clock;
use crate::raw::quietly;
use crate::sync;
use crate::sync::lock::Lock;
use crate::sync::orderings::site;
use crate::sync::sleep;
use crate::sync::{AtomicU64, AtomicUsize};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

/// How many events wait for the handlers at most.
const CAPACITY: usize = 1 << 14;

/// How long the thread naps while events keep coming.
const NAP: Duration = Duration::from_millis(1);

/// In which order handlers are called: those of a higher priority first.
///
/// # Examples
/// ```
/// use snapcell::HandlerPriority;
///
/// assert!(HandlerPriority::CRITICAL > HandlerPriority::HIGH);
/// assert!(HandlerPriority::NORMAL < HandlerPriority(11));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HandlerPriority(pub i32);

impl HandlerPriority {
    /// 1000.
    pub const CRITICAL: Self = HandlerPriority(1000);
    /// 100.
    pub const HIGH: Self = HandlerPriority(100);
    /// 10, the default.
    pub const NORMAL: Self = HandlerPriority(10);
    /// 1.
    pub const LOW: Self = HandlerPriority(1);
}

impl Default for HandlerPriority {
    fn default() -> Self {
        HandlerPriority::NORMAL
    }
}

type Filter = Box<dyn Fn(&Event) -> bool + Send + Sync>;
type Call = Box<dyn Fn(&Event) + Send + Sync>;

/// What a handler wants to know of.
///
/// # Examples
/// ```
/// use snapcell::{EventKind, HandlerPriority, Listener, Priority};
///
/// let urgent = Listener::to(EventKind::Rejected | EventKind::Failed)
///     .when(|event| event.operation.is_some_and(|about| about.priority >= Priority::HIGH))
///     .priority(HandlerPriority::HIGH);
/// ```
#[must_use = "it listens once it is subscribed"]
pub struct Listener {
    kinds: EventKinds,
    filter: Option<Filter>,
    priority: HandlerPriority,
}

impl Listener {
    /// To these kinds of events.
    pub fn to(kinds: impl Into<EventKinds>) -> Self {
        Listener {
            kinds: kinds.into(),
            filter: None,
            priority: HandlerPriority::default(),
        }
    }

    /// Only to those of which this is true. It is asked where handlers are called.
    pub fn when(mut self, is_it: impl Fn(&Event) -> bool + Send + Sync + 'static) -> Self {
        self.filter = Some(Box::new(is_it));
        self
    }

    /// Before or after other handlers.
    pub fn priority(mut self, priority: HandlerPriority) -> Self {
        self.priority = priority;
        self
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener")
            .field("kinds", &self.kinds)
            .field("priority", &self.priority)
            .finish_non_exhaustive()
    }
}

struct Handler {
    kinds: EventKinds,
    priority: HandlerPriority,
    /// `None` at its end.
    filter: Option<Filter>,
    call: Option<Call>,
    /// It is called for nothing that was before this.
    since: Duration,
    is_over: AtomicUsize,
    panics: AtomicU64,
}

impl Handler {
    fn handle(&self, event: &Event) {
        let is_late = event.at < self.since || self.is_over.load(site::EVENT_LOOK) != 0;
        if is_late || !self.kinds.contains(event.kind()) {
            return;
        }
        let handled = catch_unwind(AssertUnwindSafe(|| {
            if self.filter.as_ref().is_none_or(|is_it| is_it(event))
                && let Some(call) = &self.call
            {
                call(event);
            }
        }));
        if let Err(payload) = handled {
            self.panics.fetch_add(1, site::GAUGE_ADD);
            quietly(|| drop(payload));
        }
    }
}

impl Drop for Handler {
    /// Wherever it is dropped, what it holds is somebody else's.
    fn drop(&mut self) {
        quietly(|| drop(self.filter.take()));
        quietly(|| drop(self.call.take()));
    }
}

/// The handlers of an engine. See the header of this file.
pub(in super::super) struct Handlers {
    /// There is none until somebody subscribes: it is large.
    ring: OnceLock<Arc<Ring>>,
    state: Lock<State>,
    /// Whether there should be a thread, and couldn't be.
    lacks_thread: AtomicUsize,
}

struct State {
    /// In the order in which they are called.
    handlers: Arc<Vec<Arc<Handler>>>,
    /// The ring is told of events.
    is_fed: bool,
    has_thread: bool,
    /// Somebody calls the handlers. Others don't meanwhile, so that each event is handled before the next one.
    is_calling: bool,
    /// Somebody else wanted to meanwhile.
    is_wanted: bool,
}

impl Handlers {
    pub(in super::super) fn new() -> Arc<Self> {
        Arc::new(Handlers {
            ring: OnceLock::new(),
            state: Lock::new(State {
                handlers: Arc::new(Vec::new()),
                is_fed: false,
                has_thread: false,
                is_calling: false,
                is_wanted: false,
            }),
            lacks_thread: AtomicUsize::new(0),
        })
    }

    /// Adds a handler, and starts the thread, if there is to be one and there is none.
    pub(in super::super) fn subscribe(
        self: &Arc<Self>,
        feed: &Arc<Feed>,
        listener: Listener,
        call: impl Fn(&Event) + Send + Sync + 'static,
        since: u64,
        threads: bool,
    ) -> Subscription {
        let handler = Arc::new(Handler {
            kinds: listener.kinds,
            priority: listener.priority,
            filter: listener.filter,
            call: Some(Box::new(call)),
            since: Duration::from_nanos(since),
            is_over: AtomicUsize::new(0),
            panics: AtomicU64::new(0),
        });
        // Only made in here, not added to the feed, which takes a lock: shuttle doesn't know `OnceLock`s. Whoever waits for one
        // holds up the only thread there is, so whoever is to fill it must not have to wait.
        let make = || Ring::new(EventKinds::default(), CAPACITY);
        let ring = self.ring.get_or_init(make);
        let starts = self.state.with(|state| {
            if !state.is_fed {
                feed.add(ring);
                state.is_fed = true;
            }
            let earlier = |other: &Arc<Handler>| other.priority >= handler.priority;
            let place = state.handlers.partition_point(earlier);
            set(ring, state, |handlers| {
                handlers.insert(place, handler.clone())
            });
            threads && !std::mem::replace(&mut state.has_thread, threads)
        });
        feed.refresh();
        if starts {
            let handlers = self.clone();
            if !sync::spawn_in_background("snapcell-events", move || handlers.keep_calling()) {
                // Whoever serves has to.
                self.lacks_thread.store(1, site::EVENT_SET);
                self.state.with(|state| state.has_thread = false);
            }
        }
        Subscription {
            handler,
            handlers: self.clone(),
            feed: Some(Arc::downgrade(feed)),
        }
    }

    /// Whether whoever serves has to call the handlers, though the engine has threads.
    #[inline]
    pub(in super::super) fn lacks_thread(&self) -> bool {
        self.lacks_thread.load(site::EVENT_LOOK) != 0
    }

    /// How many events there was no room for.
    pub(in super::super) fn dropped(&self) -> u64 {
        self.ring.get().map_or(0, |ring| ring.dropped())
    }

    /// Calls the handlers for what there is, unless somebody else does. Whether there was anything.
    pub(in super::super) fn call_all(&self) -> bool {
        let Some(ring) = self.ring.get() else {
            return false;
        };
        if ring.len() == 0 {
            return false;
        }
        let is_somebody_else = self.state.with(|state| {
            state.is_wanted = state.is_calling;
            std::mem::replace(&mut state.is_calling, true)
        });
        if is_somebody_else {
            return false;
        }
        let mut was_any = false;
        let mut goes_on = true;
        while goes_on {
            // What comes in meanwhile may be what a handler has done, and so have no end. It is left to the next call,
            // but for what somebody has left to this one.
            for _ in 0..ring.len() {
                let Some(event) = ring.pop() else {
                    break;
                };
                was_any = true;
                let handlers = self.state.with(|state| state.handlers.clone());
                for handler in handlers.iter() {
                    handler.handle(&event);
                }
            }
            goes_on = self.state.with(|state| {
                state.is_calling = std::mem::take(&mut state.is_wanted);
                state.is_calling
            });
        }
        was_any
    }

    /// The thread.
    fn keep_calling(&self) {
        let Some(ring) = self.ring.get() else {
            return;
        };
        let waker = sleep::waker();
        loop {
            if self.call_all() {
                // Nobody need wake it.
                let _ = sleep::park(clock::deadline(NAP));
                continue;
            }
            let listening = ring.listen(&waker);
            let is_closed = ring.is_closed();
            if self.call_all() {
                continue;
            }
            let ends = self.state.with(|state| {
                let ends = is_closed || state.handlers.is_empty();
                state.has_thread = !ends;
                ends
            });
            if ends {
                return;
            }
            let _ = sleep::park(None);
            drop(listening);
        }
    }
}

/// Changes the list of handlers. Each of them is held elsewhere too, so none is dropped here.
fn set(ring: &Ring, state: &mut State, change: impl FnOnce(&mut Vec<Arc<Handler>>)) {
    let mut handlers = (*state.handlers).clone();
    change(&mut handlers);
    let none = EventKinds::default();
    ring.want(
        handlers
            .iter()
            .fold(none, |all, handler| all | handler.kinds),
    );
    state.handlers = Arc::new(handlers);
}

/// A handler that is subscribed, by [`Engine::subscribe`](crate::Engine::subscribe). Dropping this ends it; a call that
/// is under way goes on.
#[must_use = "dropping a subscription ends it"]
pub struct Subscription {
    handler: Arc<Handler>,
    handlers: Arc<Handlers>,
    /// `None`: it lasts as long as the engine.
    feed: Option<Weak<Feed>>,
}

impl Subscription {
    /// How often the handler has panicked. Nobody else has noticed.
    #[must_use]
    pub fn panics(&self) -> u64 {
        self.handler.panics.load(site::GAUGE_LOAD)
    }

    /// How many events there was no room for, of all handlers of the engine.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.handlers.dropped()
    }

    /// Has it last as long as the engine.
    pub fn forever(mut self) {
        self.feed = None;
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let Some(feed) = self.feed.take() else {
            return;
        };
        self.handler.is_over.store(1, site::EVENT_SET);
        let Some(ring) = self.handlers.ring.get() else {
            return;
        };
        self.handlers.state.with(|state| {
            let others = |other: &Arc<Handler>| !Arc::ptr_eq(other, &self.handler);
            set(ring, state, |handlers| handlers.retain(others));
        });
        if let Some(feed) = feed.upgrade() {
            feed.refresh();
        }
        // The thread ends if nobody is left.
        ring.wake();
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription")
            .field("kinds", &self.handler.kinds)
            .field("priority", &self.handler.priority)
            .field("panics", &self.panics())
            .finish_non_exhaustive()
    }
}
