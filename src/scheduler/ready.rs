//! What the threads of an engine may do next: lanes that are parked, and operations that are to be prepared.
//!
//! A row for each priority. A job of the pool, which has no priorities, is a *token*: it takes whatever is the most
//! important when it starts. Each lane that is parked has a token on its way, so none is forgotten. A lane that gets
//! more important while it is parked is put into a higher row as well; whoever finds it first
//! [resumes](crate::raw::Inbox::resume) with it, and its other entry is worth nothing. So it is with an operation that
//! is to be prepared: whoever finds it first begins.
//!
//! # Why no call is lost
//! Whoever puts an entry in calls afterwards; so there are as many calls as entries, and a token that finds an
//! entry worth nothing takes the next one. Whoever finds that there is an entry in the row already leaves it to
//! that one: either it is still there, and its call will come or a token is on its way; or somebody has just taken
//! it, who notes that first ([`Rows::found`]) and looks then: it sees the lane parked by whoever relied on the entry.
//! That one may still be refused the lane, where somebody else has it; who has a lane gives it up empty, or
//! parks it and puts in an entry of its own, since the one that was taken counts no more.
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

/// In which rows something has an entry, a bit for each: one in each row at most. And whether it was begun, at 0.
pub(super) struct Rows(AtomicUsize);

impl Rows {
    pub(super) fn new() -> Self {
        Rows(AtomicUsize::new(0))
    }

    /// Notes that it has an entry at this level. `false`: it has one already.
    fn advertise(&self, level: usize) -> bool {
        let bit = 1 << level;
        self.0.fetch_or(bit, site::ADVERTISE) & bit == 0
    }

    /// Notes that it hasn't any more.
    fn found(&self, level: usize) {
        self.0.fetch_sub(1 << level, site::FOUND);
    }

    /// Whether it has an entry, and wasn't begun.
    pub(super) fn are_waiting(&self) -> bool {
        let rows = self.0.load(site::RECORD_LOAD);
        rows != 0 && rows & 1 << BEGUN == 0
    }
}

/// The level of what was begun.
const BEGUN: usize = 0;

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

    /// Has the lane, which is parked, or will be, found at this level. Whether that is new: then a call is due.
    pub(super) fn advertise(&self, lane: &Arc<Lane>, level: usize) -> bool {
        let is_new = lane.rows.advertise(level);
        if is_new {
            self.rows[level - 1].push(Job::Lane(lane.clone()));
        }
        is_new
    }

    /// Has an operation prepared, as important as it is now. Whether that is new: then a call is due.
    pub(super) fn prepare(&self, work: &Arc<dyn Work>) -> bool {
        let level = usize::from(work.status().priority().get());
        let is_new = work.header().rows_ready.advertise(level);
        if is_new {
            self.rows[level - 1].push(Job::Prepare(work.clone()));
        }
        is_new
    }

    /// Puts an operation back that was taken to be prepared, and isn't. It needs no call: whoever has taken it takes
    /// something else.
    pub(super) fn put_back(&self, work: &Arc<dyn Work>) {
        work.header().rows_ready.found(BEGUN);
        let _ = self.prepare(work);
    }

    /// The most important job. A lane comes with the entry only: whoever gets it resumes.
    pub(super) fn take(&self) -> Option<Job> {
        (0..ROWS).rev().find_map(|row| self.take_at(row))
    }

    /// One of the rows below the most important one, in turn, now and then, for a look at what is passed over: even where
    /// there is always something more important to do, what has lost its patience is to be told.
    pub(super) fn passed_over(&self) -> Option<usize> {
        let taken = self.taken.fetch_add(1, site::NUMBER);
        if !taken.is_multiple_of(LOOK_AFTER) {
            return None;
        }
        let is_filled = |row: &usize| !self.rows[*row].is_empty();
        // That one is served next.
        let best = (0..ROWS).rev().find(is_filled)?;
        let below = || (0..best).filter(is_filled);
        let turn = (taken / LOOK_AFTER).checked_rem(below().count())?;
        below().nth(turn)
    }

    /// The first job of a row.
    pub(super) fn take_at(&self, row: usize) -> Option<Job> {
        let level = row + 1;
        loop {
            let job = self.rows[row].pop()?;
            match &job {
                Job::Lane(lane) => lane.rows.found(level),
                Job::Prepare(work) => {
                    let rows = &work.header().rows_ready;
                    rows.found(level);
                    if usize::from(work.status().priority().get()) < level {
                        // It has got less important.
                        let _ = self.prepare(work);
                        continue;
                    }
                    if !rows.advertise(BEGUN) {
                        continue;
                    }
                }
            }
            return Some(job);
        }
    }
}

#[cfg(all(test, not(any(snapcell_model, snapcell_epoch_model, snapcell_shuttle))))]
mod tests {
    use crate::cell::Entity;
    use crate::scheduler::engine::Engine;
    use crate::scheduler::operation::Operation;
    use crate::scheduler::priority::Priority;
    use std::sync::Mutex;
    use std::sync::mpsc::channel;

    #[test]
    fn a_lane_that_gets_more_important_again_and_again_calls_once_for_each_level() {
        let engine = Engine::builder().workers(1).build();
        let (busy, waiting) = (Entity::new(0_u32), Entity::new(0_u32));
        let ((runs, is_running), (go_on, told)) = (channel(), channel::<()>());
        let told = Mutex::new(told);
        let busy = Operation::update(&busy, move |n| {
            runs.send(()).unwrap();
            told.lock().unwrap().recv().unwrap();
            n + 1
        });
        let busy = engine.submit(busy).unwrap();
        is_running.recv().unwrap();
        let waiting = engine
            .submit(Operation::update(&waiting, |n| n + 1))
            .unwrap();
        for _ in 0..1_000 {
            for priority in [Priority::HIGH, Priority::LOW, Priority::CRITICAL] {
                waiting.set_priority(priority);
            }
        }
        // The job that is busy, one for the lane, and one for each of two levels above.
        assert!(engine.shared.jobs.unfinished() <= 4);
        go_on.send(()).unwrap();
        waiting.wait().unwrap();
        busy.wait().unwrap();
    }
}
