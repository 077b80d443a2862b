//! Operations that stay away for a while before they are tried again: they leave their lane to others meanwhile.
//!
//! A heap, by the time at which each comes back, and a thread that is started when somebody stays away and ends when
//! nobody does. An engine without threads has none for this either: whoever serves looks at the heap. Only where tasks
//! are all who wait it has one, since a task can't sleep by itself.
#![forbid(unsafe_code)]

use super::record::Work;
use super::shared::Shared;
use crate::raw::quietly;
use crate::sync;
use crate::sync::lock::Lock;
use crate::sync::sleep;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

/// See the header of this file.
pub(super) struct Timer(Lock<Away>);

struct Away {
    heap: BinaryHeap<Reverse<Due>>,
    thread: Thread,
}

/// The thread that sees to it that they come back.
enum Thread {
    None,
    /// It looks at the heap before it sleeps.
    Awake,
    Asleep(Waker),
}

/// An operation, and when it comes back, in nanoseconds of the engine's clock.
struct Due {
    at: u64,
    work: Arc<dyn Work>,
}

impl Due {
    fn key(&self) -> (u64, u64) {
        (self.at, self.work.header().id.get())
    }
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Due {}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Due {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key().cmp(&other.key())
    }
}

impl Timer {
    pub(super) fn new() -> Self {
        Timer(Lock::new(Away {
            heap: BinaryHeap::new(),
            thread: Thread::None,
        }))
    }

    /// Takes those out that come back now.
    pub(super) fn due(&self, now: u64) -> Vec<Arc<dyn Work>> {
        self.0.with(|away| {
            let mut due = Vec::new();
            while away
                .heap
                .peek()
                .is_some_and(|Reverse(first)| first.at <= now)
            {
                due.extend(away.heap.pop().map(|Reverse(first)| first.work));
            }
            due
        })
    }

    /// When the first one comes back.
    pub(super) fn next(&self) -> Option<u64> {
        self.0
            .with(|away| away.heap.peek().map(|Reverse(first)| first.at))
    }
}

impl Shared {
    /// Has an operation, which is pending and in no lane, come back after so long.
    pub(super) fn come_back(self: &Arc<Self>, work: Arc<dyn Work>, after: Duration) {
        let nanos = u64::try_from(after.as_nanos()).unwrap_or(u64::MAX);
        let at = self.ledger.now().saturating_add(nanos);
        self.timer
            .0
            .with(|away| away.heap.push(Reverse(Due { at, work })));
        self.wake_timer();
        if self.has_threads() {
            self.have_time_kept();
        } else {
            // Whoever waits may have slept till the next one, and there was none.
            self.call();
        }
        if self.ledger.gate.cancels() {
            self.bring_all_back();
        }
    }

    /// Starts the thread, if somebody stays away and it doesn't run.
    pub(super) fn have_time_kept(self: &Arc<Self>) {
        let starts = self.timer.0.with(|away| {
            let starts = !away.heap.is_empty() && matches!(away.thread, Thread::None);
            if starts {
                away.thread = Thread::Awake;
            }
            starts
        });
        if !starts {
            return;
        }
        let shared = self.clone();
        if !sync::spawn_in_background("snapcell-timer", move || shared.keep_time()) {
            // Nobody would see to it.
            self.timer.0.with(|away| away.thread = Thread::None);
            self.bring_all_back();
        }
    }

    /// Has the thread look at the heap again.
    fn wake_timer(&self) {
        let waker = self.timer.0.with(|away| match &away.thread {
            Thread::Asleep(waker) => {
                let waker = waker.clone();
                away.thread = Thread::Awake;
                Some(waker)
            }
            _ => None,
        });
        if let Some(waker) = waker {
            quietly(|| waker.wake());
        }
    }

    /// Puts all into their lanes, whenever they were to come back, and has the thread end.
    pub(super) fn bring_all_back(self: &Arc<Self>) {
        self.bring_back(u64::MAX);
        self.wake_timer();
    }

    /// Puts those into their lanes that come back by now. Whether there were any.
    pub(super) fn bring_back(self: &Arc<Self>, now: u64) -> bool {
        let due = self.timer.due(now);
        let is_any = !due.is_empty();
        for work in due {
            work.header().set_away(false);
            self.queue(&work);
        }
        is_any
    }

    /// Until when to sleep, at most, for the first one that comes back.
    pub(super) fn until_next(&self) -> Option<Instant> {
        self.deadline_of(self.timer.next()?)
    }

    /// The thread.
    fn keep_time(self: Arc<Self>) {
        let waker = sleep::waker();
        loop {
            self.bring_back(self.ledger.now());
            let goes_on = self.timer.0.with(|away| {
                let goes_on = !away.heap.is_empty();
                away.thread = if goes_on {
                    Thread::Asleep(waker.clone())
                } else {
                    Thread::None
                };
                goes_on
            });
            if !goes_on {
                return;
            }
            let _ = sleep::park(self.until_next());
        }
    }
}
