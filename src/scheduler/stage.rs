//! Operations that are submitted at the same moment.
#![forbid(unsafe_code)]

use super::body::Body;
use super::operation::Operation;
use super::policy::Policy;
use super::record::{Verdict, Work};
use super::shared::Shared;
use super::ticket::{Submitted, Ticket};
use crate::raw::Batch;
use crate::sync::lock::Lock;
use crate::sync::per_thread;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Weak};

/// Operations that will be submitted at the same moment: those that want the same entity belong to one round of its
/// lane, and are put in by one exchange.
///
/// Dropping a stage cancels what is in it. What is in it is under way, so whoever [shuts
/// down](crate::Engine::shut_down) its engine, and has all be run, for as long as it takes, resolves or drops it before.
///
/// An operation that is [prepared](crate::Operation::prepared) comes into its lane when that is done, beside others: under
/// [`WinnerTakesAll`](crate::Policy::WinnerTakesAll) those of one stage may come into several rounds.
///
/// # Examples
/// ```
/// use snapcell::{Engine, Entity, Operation, Policy, Priority};
///
/// let engine = Engine::builder().policy(Policy::WinnerTakesAll).build();
/// let value = Entity::new(10);
/// let mut stage = engine.stage();
/// let low = stage.add(Operation::update(&value, |n| n + 1).priority(Priority::LOW)).unwrap();
/// let high = stage.add(Operation::update(&value, |n| n + 100).priority(Priority::HIGH)).unwrap();
/// stage.resolve();
/// assert_eq!(*high.wait().unwrap(), 110);
/// assert!(low.wait().unwrap_err().rejection().is_some());
/// ```
#[must_use = "dropping a stage cancels what is in it"]
pub struct Stage {
    engine: Arc<Shared>,
    staged: Arc<Staged>,
    /// Known to the thread that has added the first one, while this lives.
    open: Option<Arc<u64>>,
}

/// What is in a stage, each with where its lane counts it. It has no entry there yet, so its header says that it isn't
/// counted: a change of its priority must not put it in.
pub(super) struct Staged(Lock<Vec<(Arc<dyn Work>, usize)>>);

impl Staged {
    fn take(&self) -> Vec<(Arc<dyn Work>, usize)> {
        self.0.with(std::mem::take)
    }

    /// Cancels what is in it, which stays there. Whoever has the stage gives the places back.
    pub(super) fn cancel(&self, engine: &Shared) {
        let works: Vec<_> = self
            .0
            .with(|staged| staged.iter().map(|(work, _)| work.clone()).collect());
        for work in works {
            let _ = work.end_pending(Verdict::Cancelled, &engine.ledger);
        }
    }
}

per_thread! {
    /// The stages with something in them that this thread has made: of each the number of its engine.
    static OPEN: RefCell<Vec<Weak<u64>>> = RefCell::new(Vec::new());
}

/// Whether this thread has a stage of the engine, with something in it.
pub(super) fn is_open(engine: &Shared) -> bool {
    let is_its = |open: &Weak<u64>| open.upgrade().is_some_and(|open| *open == engine.id);
    OPEN.try_with(|open| open.borrow().iter().any(is_its))
        .unwrap_or(false)
}

/// Notes that this thread has one, until what this gives is dropped.
fn note_open(engine: &Shared) -> Arc<u64> {
    let stage = Arc::new(engine.id);
    let _ = OPEN.try_with(|open| {
        let mut open = open.borrow_mut();
        open.retain(|other| other.strong_count() > 0);
        open.push(Arc::downgrade(&stage));
    });
    stage
}

impl Stage {
    pub(super) fn new(engine: Arc<Shared>) -> Self {
        Stage {
            engine,
            staged: Arc::new(Staged(Lock::new(Vec::new()))),
            open: None,
        }
    }

    /// Adds an operation, which has its place in the queue from now on.
    ///
    /// # Errors
    /// As [`Engine::submit`](crate::Engine::submit).
    pub fn add<B: Body>(&mut self, operation: Operation<B>) -> Submitted<B> {
        self.add_after(operation, 0)
    }

    /// Adds one that has lost so many attempts before.
    pub(super) fn add_after<B: Body>(
        &mut self,
        operation: Operation<B>,
        lost: u32,
    ) -> Submitted<B> {
        let record = self.engine.take(operation, lost)?;
        let header = record.header();
        let counted = header.counted();
        header.count(0);
        if self.open.is_none() {
            self.open = Some(note_open(&self.engine));
            self.engine.know_stage(&self.staged);
        }
        let work = record.clone();
        self.staged.0.with(|staged| staged.push((work, counted)));
        if self.engine.ledger.gate.cancels() {
            // Whoever has shut it down may not have seen this one.
            let _ = (&*record as &dyn Work).end_pending(Verdict::Cancelled, &self.engine.ledger);
        }
        Ok(Ticket::of(record))
    }

    /// How many are in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.staged.0.with(|staged| staged.len())
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Submits them.
    pub fn resolve(self) {
        let staged = self.staged.take();
        let merges = self.engine.policy == Policy::Merge;
        let mut lanes = BTreeMap::new();
        for (work, counted) in staged {
            if work.is_prepared(merges) {
                work.header().count(counted);
                self.engine.dispatch(work.clone(), &*work);
                continue;
            }
            let level = usize::from(work.status().priority().get());
            let lane = &work.header().lane;
            let (_, batch, best) = lanes
                .entry(lane.target)
                .or_insert_with(|| (lane.clone(), Batch::new(), level));
            *best = level.max(*best);
            // In this order: once it is on a list nobody puts it into another one.
            batch.add(work.clone());
            work.header().count(counted);
        }
        for (lane, batch, best) in lanes.into_values() {
            self.engine.push(&lane, batch, best);
        }
        if self.engine.ledger.gate.cancels() {
            // There may be nobody else any more who would see to it that they are told.
            self.engine.serve_without_threads();
        }
    }

    /// Cancels them.
    pub fn clear(self) {}
}

impl Drop for Stage {
    fn drop(&mut self) {
        for (work, counted) in self.staged.take() {
            let _ = work.end_pending(Verdict::Cancelled, &self.engine.ledger);
            // Nobody else has seen it, so nobody else gives its place back.
            work.header().lane.give_back_at(counted);
        }
    }
}

impl fmt::Debug for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stage")
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}
