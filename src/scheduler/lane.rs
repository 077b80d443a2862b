//! The lane of one target: what waits for it, how much that is, and who may go on.
//!
//! Operations on one entity go through one lane, one at a time, so they don't get into each other's way. An
//! operation on several entities goes through the lane of the one that comes first in the order of all entities, and
//! commits by a transaction; nobody ever has two lanes, so no two wait for each other.
//!
//! # How many may wait
//! A place is taken before an operation is put in, and given back when its entry is taken out. Where all places
//! are taken, one that is less important gives its place up: whoever comes takes it out of the count of its
//! priority, and leaves word that one of those is to go, which the holder of the lane sees to, the youngest first.
//! An operation that was cancelled keeps its place until its lane comes by.
#![forbid(unsafe_code)]

use super::account::TargetMetrics;
use super::priority::Priority;
use super::queue::Queue;
use super::ready::Rows;
use super::record::Work;
use super::reservation::Reservation;
use super::shared::Shared;
use crate::raw::Inbox;
use crate::sync::orderings::site;
use crate::sync::{AtomicU64, AtomicUsize};
use std::sync::{Arc, Weak};

/// One more than there are priorities.
const LEVELS: usize = Priority::CRITICAL.get() as usize + 1;

/// See the header of this file.
pub(super) struct Lane {
    /// What tells its entity from all others.
    pub(super) target: usize,
    /// Whose it is. An operation finds its engine by its lane.
    pub(super) engine: Weak<Shared>,
    pub(super) inbox: Inbox<dyn Work, Queue>,
    /// For those that don't go through the lane.
    pub(super) reservation: Reservation,
    /// Where it is to be found among what is ready.
    pub(super) rows: Rows,
    /// How many places are taken by operations of each priority, and how many of them are to go: see [`TO_GO`]. One
    /// word, so that the two agree.
    places: [AtomicU64; LEVELS],
    /// How often it was said that one is to go, less how often one went. A hint where to look.
    to_go: AtomicUsize,
    /// Whether it counts the following.
    is_counting: bool,
    /// How many operations were begun in it. Only its holder writes this.
    begun: AtomicU64,
    /// How many attempts on its target lost, in it and beside it.
    conflicts: AtomicU64,
    /// How many waited at most.
    most_waiting: AtomicUsize,
}

/// One that is to go, in the upper half of a word. The lower one counts places.
const TO_GO: u64 = 1 << 32;
const HERE: u64 = TO_GO - 1;

impl Lane {
    /// Whether nothing is in it, and nobody has reserved its target.
    #[inline]
    pub(super) fn is_free(&self) -> bool {
        self.inbox.is_idle() && self.reservation.is_free()
    }

    pub(super) fn new(target: usize, engine: Weak<Shared>, is_counting: bool) -> Self {
        Lane {
            target,
            engine,
            inbox: Inbox::new(Queue::new()),
            reservation: Reservation::new(),
            rows: Rows::new(),
            places: std::array::from_fn(|_| AtomicU64::new(0)),
            to_go: AtomicUsize::new(0),
            is_counting,
            begun: AtomicU64::new(0),
            conflicts: AtomicU64::new(0),
            most_waiting: AtomicUsize::new(0),
        }
    }

    /// Counts an operation that is begun. Only for the holder.
    #[inline]
    pub(super) fn note_begun(&self) {
        if self.is_counting {
            let begun = self.begun.load(site::GAUGE_LOAD);
            self.begun.store(begun + 1, site::GAUGE_STORE);
        }
    }

    /// Counts an attempt that lost.
    pub(super) fn note_conflict(&self) {
        if self.is_counting {
            self.conflicts.fetch_add(1, site::GAUGE_ADD);
        }
    }

    /// What was done in it.
    pub(super) fn metrics(&self) -> TargetMetrics {
        let mut metrics = TargetMetrics::new(self.target);
        metrics.begun = self.begun.load(site::GAUGE_LOAD);
        metrics.conflicts = self.conflicts.load(site::GAUGE_LOAD);
        metrics.waiting = self.waiting() as u64;
        metrics.most_waiting = self.most_waiting.load(site::GAUGE_LOAD) as u64;
        metrics
    }

    /// Takes places for operations, if there are so many, or if one that is less important has one. `false`: there
    /// are none.
    pub(super) fn enter(&self, priority: Priority, capacity: usize) -> bool {
        let level = usize::from(priority.get());
        // First this, so that of several who come at the same time none misses the others.
        self.places[level].fetch_add(1, site::PLACE_COUNT);
        let waiting = self.waiting();
        if waiting <= capacity {
            if self.is_counting && waiting > self.most_waiting.load(site::GAUGE_LOAD) {
                self.most_waiting.fetch_max(waiting, site::GAUGE_ADD);
            }
            return true;
        }
        let marks = |places| (places & HERE > 0).then(|| places - 1 + TO_GO);
        if (1..level).any(|lower| self.change(lower, marks).is_some()) {
            self.to_go.fetch_add(1, site::PLACE_COUNT);
            return true;
        }
        let _ = self.leave_at(level);
        false
    }

    /// Gives back the place of an operation that is counted there; 0 is nowhere.
    pub(super) fn give_back_at(&self, level: usize) {
        if level != 0 {
            let _ = self.leave_at(level);
        }
    }

    /// An operation that has a place is in the queue now, or in another row of it. Only for the holder.
    pub(super) fn note_entry(&self, work: &dyn Work, priority: Priority) {
        let header = work.header();
        let level = usize::from(priority.get());
        let counted = header.counted();
        if counted == level {
            return;
        }
        if counted == 0 {
            return self.enter_again(work, priority);
        }
        // If it was to go there, it has got away by getting more important.
        let _ = self.leave_at(counted);
        self.places[level].fetch_add(1, site::PLACE_COUNT);
        header.count(level);
    }

    /// An operation that had left the queue comes back, whether or not all places are taken. Only for the holder.
    pub(super) fn enter_again(&self, work: &dyn Work, priority: Priority) {
        let level = usize::from(priority.get());
        self.places[level].fetch_add(1, site::PLACE_COUNT);
        work.header().count(level);
    }

    /// An operation leaves the queue; `false`: it has to go, since another one has got its place. Only for the
    /// holder.
    pub(super) fn leave(&self, work: &dyn Work) -> bool {
        let header = work.header();
        let counted = header.counted();
        header.count(0);
        if counted == 0 {
            return true;
        }
        self.leave_at(counted)
    }

    /// One that has to go, the youngest of the least important first. Only for the holder.
    #[inline]
    pub(super) fn evict(&self, queue: &mut Queue) -> Option<Arc<dyn Work>> {
        if self.to_go.load(site::PLACE_LOAD) == 0 {
            return None;
        }
        self.find_one_to_go(queue)
    }

    #[cold]
    fn find_one_to_go(&self, queue: &mut Queue) -> Option<Arc<dyn Work>> {
        for level in 1..LEVELS {
            while self.places[level].load(site::PLACE_LOAD) >= TO_GO {
                let priority = Priority::new(level as u8).expect("a level for each");
                let Some(work) = queue.youngest(priority) else {
                    // It isn't in the queue yet.
                    break;
                };
                let header = work.header();
                if header.counted() != level {
                    // The entry of one that is elsewhere by now.
                    continue;
                }
                header.count(0);
                let _ = self.change(level, |places| places.checked_sub(TO_GO));
                self.to_go.fetch_sub(1, site::PLACE_COUNT);
                return Some(work);
            }
        }
        None
    }

    /// One that is counted there leaves: with its place, or, `false`, as the one that is to go.
    fn leave_at(&self, level: usize) -> bool {
        let leaves = |places: u64| match places & HERE {
            0 => places.checked_sub(TO_GO),
            _ => Some(places - 1),
        };
        let found = self.change(level, leaves);
        debug_assert!(found.is_some(), "it is counted there");
        let has_place = found.is_some_and(|found| found & HERE > 0);
        if !has_place {
            self.to_go.fetch_sub(1, site::PLACE_COUNT);
        }
        has_place
    }

    /// Changes the places of a level, unless there is nothing to change. What they were.
    fn change(&self, level: usize, change: impl Fn(u64) -> Option<u64>) -> Option<u64> {
        let places = &self.places[level];
        let mut found = places.load(site::PLACE_LOAD);
        loop {
            match places.compare_exchange(found, change(found)?, site::PLACE_TAKE) {
                Ok(_) => return Some(found),
                Err(newer) => found = newer,
            }
        }
    }

    /// Whether something more important than that has a place: it waits in the lane, or will in a moment.
    pub(super) fn waiting_above(&self, priority: Priority) -> bool {
        let above = &self.places[usize::from(priority.get()) + 1..];
        let is_taken = |places: &AtomicU64| places.load(site::PLACE_LOAD) & HERE > 0;
        above.iter().any(is_taken)
    }

    /// How many places are taken.
    pub(super) fn waiting(&self) -> usize {
        let here = |places: &AtomicU64| (places.load(site::PLACE_LOAD) & HERE) as usize;
        self.places.iter().map(here).sum()
    }
}
