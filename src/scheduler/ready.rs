//! What the threads of an engine may do next: lanes that are parked, and operations that are to be prepared.
//!
//! A row for each priority. A job of the pool, which has no priorities, is a *token*: it takes whatever is the most
//! important when it starts. Each lane that is parked has a token on its way, so none is forgotten. A lane that gets
//! more important while it is parked is put into a higher row as well; whoever finds it first
//! [resumes](crate::raw::Inbox::resume) with it, and its other entry is worth nothing.
#![forbid(unsafe_code)]

use super::lane::Lane;
use super::priority::Priority;
use super::record::Work;
use crate::sync::AtomicUsize;
use crate::sync::orderings::site;
use crate::sync::queue::Queue;
use std::sync::Arc;

const ROWS: usize = Priority::CRITICAL.get() as usize;

/// Each so many-th job is preceded by a look at a lane that is passed over.
const LOOK_AFTER: usize = 16;

/// See the header of this file.
pub(super) struct Ready {
    rows: [Queue<Job>; ROWS],
    /// How many jobs were taken.
    taken: AtomicUsize,
}

/// What may be done next.
pub(super) enum Job {
    Lane(Arc<Lane>),
    Prepare(Arc<dyn Work>),
}

impl Ready {
    pub(super) fn new() -> Self {
        Ready {
            rows: std::array::from_fn(|_| Queue::new()),
            taken: AtomicUsize::new(0),
        }
    }

    /// Has the lane, which is parked, or will be, found at this level.
    pub(super) fn advertise(&self, lane: &Arc<Lane>, level: usize) {
        if lane.advertise(level) {
            self.rows[level - 1].push(Job::Lane(lane.clone()));
        }
    }

    /// Has an operation prepared.
    pub(super) fn prepare(&self, work: Arc<dyn Work>) {
        let level = usize::from(work.status().priority().get());
        self.rows[level - 1].push(Job::Prepare(work));
    }

    /// The most important job. A lane comes with the entry only: whoever gets it resumes.
    pub(super) fn take(&self) -> Option<Job> {
        (0..ROWS).rev().find_map(|row| self.take_at(row))
    }

    /// The least important lane, now and then: even where there is always something more important to do, what has lost
    /// its patience is to be told.
    pub(super) fn take_passed_over(&self) -> Option<Arc<Lane>> {
        let taken = self.taken.fetch_add(1, site::NUMBER);
        if !taken.is_multiple_of(LOOK_AFTER) {
            return None;
        }
        let is_filled = |row: &usize| !self.rows[*row].is_empty();
        let row = (0..ROWS).find(is_filled)?;
        if !(row + 1..ROWS).any(|above| is_filled(&above)) {
            // It is served next, or one that is as important.
            return None;
        }
        match self.take_at(row)? {
            Job::Lane(lane) => Some(lane),
            Job::Prepare(work) => {
                self.rows[row].push(Job::Prepare(work));
                None
            }
        }
    }

    fn take_at(&self, row: usize) -> Option<Job> {
        let job = self.rows[row].pop()?;
        if let Job::Lane(lane) = &job {
            lane.found(row + 1);
        }
        Some(job)
    }
}
