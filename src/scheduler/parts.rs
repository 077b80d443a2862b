//! The parts of the scheduler as the models of this crate get at them: the lowest layer that shows what a model is
//! about. Nothing here is stable.
#![forbid(unsafe_code)]
#![allow(
    missing_debug_implementations,
    reason = "only models get at these, and they show what they have seen"
)]

use super::account::Counts;
use super::account::tally::{self, Kind, Life};
use super::class::Class;
use super::engine::Engine;
use super::gate;
use super::lane::Lane;
use super::outcome::Reason;
use super::queue::Queue;
use super::ready::Job;
use super::record::{Ending, Work};
use super::shared::Shared;
use super::ticket::Ticket;
use crate::raw;
use crate::sync::sleep;
use std::ops::Deref;
use std::sync::Arc;

/// What a model puts into an inbox.
pub struct Item<T> {
    value: T,
    link: raw::Link<Item<T>>,
}

impl<T: Send + Sync> Item<T> {
    /// An item that is in no inbox.
    pub fn new(value: T) -> Arc<Self> {
        Arc::new(Item {
            value,
            link: raw::Link::new(),
        })
    }
}

impl<T> Deref for Item<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: Send + Sync> raw::Linked for Item<T> {
    fn link(&self) -> &raw::Link<Self> {
        &self.link
    }
}

/// An inbox of such items, with the state of its lane.
pub struct Inbox<T, Q>(raw::Inbox<Item<T>, Q>);

/// The right, and the duty, to serve an inbox.
pub struct Baton<'i, T, Q>(raw::Baton<'i, Item<T>, Q>);

/// An inbox that is served.
pub struct Held<'i, T, Q>(raw::HeldLane<'i, Item<T>, Q>);

impl<T: Send + Sync, Q> Inbox<T, Q> {
    /// An idle one.
    pub fn new(state: Q) -> Self {
        Inbox(raw::Inbox::new(state))
    }

    /// Puts an item in that was never in one. A baton for whoever was first.
    pub fn push(&self, item: &Arc<Item<T>>) -> Option<Baton<'_, T, Q>> {
        self.push_batch(item, raw::Batch::add)
    }

    /// Puts an item in that has changed.
    pub fn push_again(&self, item: &Arc<Item<T>>) -> Option<Baton<'_, T, Q>> {
        self.push_batch(item, raw::Batch::add_again)
    }

    fn push_batch(
        &self,
        item: &Arc<Item<T>>,
        add: fn(&mut raw::Batch<Item<T>>, Arc<Item<T>>),
    ) -> Option<Baton<'_, T, Q>> {
        let mut batch = raw::Batch::new();
        add(&mut batch, item.clone());
        match self.0.push(batch) {
            raw::Pushed::First(baton) => Some(Baton(baton)),
            raw::Pushed::Behind => None,
        }
    }

    /// At which level it is parked, or 0.
    pub fn parked_at(&self) -> usize {
        self.0.parked_at()
    }

    /// Takes a parked one.
    pub fn resume(&self) -> Option<Baton<'_, T, Q>> {
        self.0.resume().map(Baton)
    }
}

impl<'i, T: Send + Sync, Q> Baton<'i, T, Q> {
    /// Takes what is new.
    pub fn open(self) -> (Held<'i, T, Q>, Vec<Arc<Item<T>>>) {
        let (held, items) = self.0.open();
        (Held(held), items)
    }
}

impl<T: Send + Sync, Q> Held<'_, T, Q> {
    /// Takes what is new.
    pub fn take(&mut self) -> Vec<Arc<Item<T>>> {
        self.0.take()
    }

    /// The state of the lane.
    pub fn state(&mut self) -> &mut Q {
        self.0.state()
    }

    /// Gives it up, if nothing is new.
    ///
    /// # Errors
    /// Itself.
    pub fn release(self) -> Result<(), Self> {
        self.0.release().map_err(Held)
    }

    /// Parks it, and says whether something is new.
    pub fn park(self, level: usize) -> bool {
        self.0.park(level)
    }
}

/// The lane of an operation that was submitted, and the rows in which it is found.
pub struct Found {
    engine: Arc<Shared>,
    lane: Arc<Lane>,
}

impl Found {
    /// That of a ticket.
    pub fn new<O: 'static, F: 'static>(ticket: &Ticket<O, F>) -> Self {
        Found {
            engine: ticket.engine().expect("it is there"),
            lane: work(ticket).header().lane.clone(),
        }
    }

    /// Takes the lane, which is parked, past its entry.
    pub fn take(&self) -> Parking<'_> {
        Parking {
            found: self,
            baton: self.lane.inbox.resume().expect("it is parked"),
        }
    }

    /// Takes what is the most important, and resumes with it. Gives it up at once if it was parked, and forgets what
    /// was in it.
    pub fn find(&self) -> bool {
        let Some(Job::Lane(lane)) = self.engine.ready.take() else {
            return false;
        };
        lane.inbox.resume().is_some_and(|baton| {
            let (held, _) = baton.open();
            held.release().is_ok()
        })
    }
}

/// The lane, by whoever is about to park it, as if it had just put something into it.
pub struct Parking<'f> {
    found: &'f Found,
    baton: raw::Baton<'f, dyn Work, Queue>,
}

impl Parking<'_> {
    /// Parks the lane, and has it found at this level.
    pub fn park(self, level: usize) {
        self.baton.park(level);
        self.found.engine.ready.advertise(&self.found.lane, level);
    }
}

/// A word, and the answer that it leads to.
pub struct Answer<R>(raw::Answer<R>);

impl<R> Answer<R> {
    /// Without an answer, and with these bits above.
    pub fn new(above: u64) -> Self {
        Answer(raw::Answer::new(above))
    }

    /// Changes the bits above, if they are still as expected.
    pub fn change(&self, expected: u64, above: u64) -> bool {
        self.0.change(expected, above).is_ok()
    }

    /// Gives the answer, if there is none. Whether it did.
    pub fn settle(&self, answer: R) -> bool {
        self.0.settle(answer, |above| above).is_ok()
    }

    /// Takes the answer, if there is one that nobody has taken.
    pub fn take(&self) -> Option<R> {
        self.0.take()
    }
}

/// Counts of operations that are all committed.
pub struct Tally(tally::Tally);

const KIND: Kind = Kind {
    class: Class::NORMAL,
    name: "",
};

impl Default for Tally {
    fn default() -> Self {
        Tally(tally::Tally::new(false))
    }
}

impl Tally {
    /// Counts one that was submitted.
    pub fn submitted(&self) {
        self.0.submitted(&KIND);
    }

    /// Counts one that has ended.
    pub fn ended(&self) {
        let life = || Life {
            lost: 0,
            queueing: None,
            latency: None,
        };
        self.0.ended(&KIND, Ending::Committed, life);
    }

    /// The counts.
    pub fn read(&self) -> Counts {
        self.0.read()
    }
}

/// Whether operations are taken, and how many are under way.
pub struct Gate(gate::Gate<{ gate::MANY }>);

impl Default for Gate {
    fn default() -> Self {
        Gate(gate::Gate::new())
    }
}

impl Gate {
    /// Counts one in, unless it is closed.
    pub fn enter(&self) -> bool {
        self.0.enter()
    }

    /// Counts one out.
    pub fn leave(&self) {
        self.0.leave();
    }

    /// Closes it, and waits until none is under way.
    pub fn shut(&self) {
        self.0.close(false);
        let waker = sleep::waker();
        loop {
            let _listening = self.0.listen(&waker);
            if self.0.is_done() {
                return;
            }
            sleep::park(None);
        }
    }
}

/// Claims an operation, in place of its lane.
pub fn claim<O: 'static, F: 'static>(ticket: &Ticket<O, F>) -> bool {
    let work = work(ticket);
    let engine = ticket.engine().expect("the model has its engine");
    work.claim(work.status(), None, 0, &engine.ledger)
}

/// Runs an operation that was claimed.
pub fn run_claimed<O: 'static, F: 'static>(ticket: &Ticket<O, F>) {
    Claimed::new(ticket).run();
}

/// An operation that was claimed.
pub struct Claimed {
    work: Arc<dyn Work>,
    engine: Arc<Shared>,
}

impl Claimed {
    /// That of a ticket.
    pub fn new<O: 'static, F: 'static>(ticket: &Ticket<O, F>) -> Self {
        Claimed {
            work: work(ticket),
            engine: ticket.engine().expect("it is there"),
        }
    }

    /// Runs it until it has ended.
    pub fn run(self) {
        self.engine.run_alone(&self.work, None);
    }
}

/// Ends an operation that is pending, as the scheduler does to make room.
pub fn evict<O: 'static, F: 'static>(ticket: &Ticket<O, F>) -> bool {
    let work = work(ticket);
    let rejected = work.rejection(Reason::Evicted);
    work.end_pending(rejected, &ticket.engine().expect("it is there").ledger)
}

/// Takes no more operations, and cancels those that wait, as a shut-down does before it waits.
pub fn close(engine: &Engine) {
    engine.shared.close(true);
}

/// Whether an operation was done by whoever submitted it.
pub fn was_at_once<O: 'static, F: 'static>(ticket: &Ticket<O, F>) -> bool {
    ticket.work().is_none()
}

fn work<O: 'static, F: 'static>(ticket: &Ticket<O, F>) -> Arc<dyn Work> {
    ticket.work().expect("it was submitted").clone()
}
