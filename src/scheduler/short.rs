//! How a short operation is run by whoever submits it, where nothing else waits for its target.
//!
//! To hand an operation over takes longer than to change a number: a record, a place in a queue, a thread that comes
//! for it. Whoever says that an operation is [short](crate::Operation::short) allows what spares all that. Then this is
//! [`run`](crate::Engine::run), if the lane of the target is idle, and leaves an answer in place of a record.
//!
//! # Order
//! A look at the lane is enough, nobody takes it: if it is idle, all that was in it is done, and seen by whoever has looked
//! (INBOX_IDLE). What others submit meanwhile was submitted at the same time as this one; the two may get into each
//! other's way once, as any writer may. What isn't in the lane is overtaken, as it is by all others: what is being prepared,
//! what stays away before it is tried again, and transactions that wait in the lane of another entity.
#![forbid(unsafe_code)]

use super::account::tally::{Incident, Kind};
use super::body::{Attempt, Body};
use super::current;
use super::id::OperationId;
use super::lane::Lane;
use super::local;
use super::operation::Operation;
use super::outcome::OperationError;
use super::policy::Policy;
use super::record::Ending;
use super::run::{Entry, attempt};
use super::shared::Shared;
use super::status::{State, Status};
use super::ticket::{Submitted, Ticket, Times};
use crate::cell::Backoff;
use crate::raw::reclaim::is_computing;
use crate::raw::{Exclusive, quietly};
use std::sync::Arc;
use std::time::Duration;

/// So often whoever submits an operation tries it, before it is handed over after all.
pub(super) const TRIES: u32 = 16;

/// What is left of an operation that was done before its ticket was given.
pub(super) struct Done<O, F> {
    pub(super) id: OperationId,
    pub(super) kind: Kind,
    pub(super) status: Status,
    /// When its last attempt began, in nanoseconds of the engine's clock.
    at: u64,
    answer: Exclusive<Option<Result<O, Box<OperationError<F>>>>>,
}

impl<O, F> Done<O, F> {
    /// All at one moment.
    pub(super) fn times(&self) -> Times {
        let at = Duration::from_nanos(self.at);
        Times {
            born: at,
            started: Some(at),
            ended: Some(at),
        }
    }

    /// Takes the answer, once.
    pub(super) fn take(&mut self) -> Option<Result<O, OperationError<F>>> {
        let answer = self.answer.get_mut().take()?;
        Some(answer.map_err(|error| *error))
    }
}

impl<O, F> Drop for Done<O, F> {
    fn drop(&mut self) {
        if let Some(answer) = self.answer.get_mut().take() {
            quietly(|| drop(answer));
        }
    }
}

/// The ticket of an operation that is done.
///
/// A function of its own, called before two exchanges, so that each word of the ticket is in its place, and the store
/// buffer empty, when the ticket is copied two words at a time, as all who return it do. They would wait otherwise: for
/// a tenth of the time of it all.
#[inline(never)]
fn done<O: 'static, F: 'static>(
    id: OperationId,
    kind: &Kind,
    status: Status,
    at: u64,
    answer: Result<O, Box<OperationError<F>>>,
) -> Ticket<O, F> {
    Ticket::done(Done {
        id,
        kind: *kind,
        status,
        at,
        answer: Exclusive::new(Some(answer)),
    })
}

impl Shared {
    /// Does a short operation, or has it done, if something is in its way.
    #[inline]
    pub(super) fn submit_short<B: Body>(self: &Arc<Self>, operation: Operation<B>) -> Submitted<B> {
        let entry = match self.ask_at_once(&operation) {
            Some(entry) if self.ledger.gate.enter() => entry,
            // What isn't to be taken is given back by this.
            _ => return self.submit(operation),
        };
        let (mut lost, mut backoff) = (0, None);
        let (result, ending, at) = loop {
            let at = self.ledger.now();
            // Its entity may have the same clock, which need not be asked twice then.
            let now = self.ledger.clock.is_monotonic().then_some(at);
            match attempt(&operation, None, entry.priority, now) {
                Attempt::Committed(output) => break (Ok(output), Ending::Committed, at),
                Attempt::Unchanged(output) => break (Ok(output), Ending::Unchanged, at),
                Attempt::Failed(error) => break (Err(error), Ending::Failed, at),
                Attempt::Lost(_) => {}
            }
            lost += 1;
            if lost == TRIES || self.ask_at_once(&operation).is_none() {
                return self.hand_over(operation, lost);
            }
            backoff
                .get_or_insert_with(|| self.backoff_at(operation.body.targets()[0]))
                .lost();
        };
        let ticket = self.end_at_once(&operation, entry, result, ending, lost, at);
        self.ledger.gate.leave();
        // The destructor of its closure may do anything, and panic, which is nobody's business here.
        let Operation { body, .. } = operation;
        quietly(|| drop(body));
        Ok(ticket)
    }

    /// Notes that an operation was done at once, and how.
    #[inline(always)]
    pub(super) fn end_at_once<B: Body>(
        &self,
        operation: &Operation<B>,
        entry: Entry,
        result: Result<B::Output, OperationError<B::Error>>,
        ending: Ending,
        lost: u32,
        at: u64,
    ) -> Ticket<B::Output, B::Error> {
        let kind = &operation.wish.kind;
        if lost > 0 {
            self.note_lost(kind, operation.body.targets()[0], lost);
        }
        let id = self.next_id();
        // Counted before anybody can learn of it.
        self.ledger.tally.came_and_went(kind, ending, lost);
        if self.ledger.feed.wants_of_operations() {
            // Somebody listens by now.
            let visit = self.visit(operation, entry, None).known_as(id);
            visit.tell_end(&result, ending, 0);
        }
        let state = match ending {
            Ending::Failed => State::Failed,
            _ => State::Succeeded,
        };
        let status = Status {
            state,
            ..Status::new(entry.priority)
        };
        done(id, kind, status, at, result.map_err(Box::new))
    }

    /// Whether nothing may be done at once here, whatever it is.
    #[inline(always)]
    pub(super) fn hands_over(&self) -> bool {
        let is_watched = self.ledger.feed.wants_of_operations() || self.ledger.registry.is_some();
        let is_inside = current::is_inside() || is_computing();
        is_watched || is_inside || self.policy == Policy::WinnerTakesAll
    }

    /// What its class makes of a short operation, if that may be done at once.
    #[inline(always)]
    fn ask_at_once<B: Body>(&self, operation: &Operation<B>) -> Option<Entry> {
        if self.hands_over() || !operation.wish.may_be_done_at_once() {
            return None;
        }
        let is_idle = |lane: &Lane| lane.inbox.is_idle();
        let entry = local::with(self, |local| self.ask(local, operation, is_idle)).ok()?;
        entry.is_free.then_some(entry)
    }

    /// How long whoever was overtaken at an entity stays away: where all change one thing they meet again, and where
    /// there are several they part at once.
    #[cold]
    fn backoff_at(&self, target: usize) -> Backoff {
        let is_again = local::with(self, |local| local.is_overtaken_again(target));
        if is_again {
            Backoff::new()
        } else {
            Backoff::of_several()
        }
    }

    /// Submits one that has lost so often.
    #[cold]
    fn hand_over<B: Body>(self: &Arc<Self>, operation: Operation<B>, lost: u32) -> Submitted<B> {
        let (kind, target) = (operation.wish.kind, operation.body.targets()[0]);
        let taken = self.take(operation, lost);
        self.ledger.gate.leave();
        let record = taken?;
        self.note_lost(&kind, target, lost);
        Ok(self.send(record))
    }

    /// Notes that an operation has lost so often, once it is certain that it was taken.
    #[cold]
    pub(super) fn note_lost(&self, kind: &Kind, target: usize, lost: u32) {
        let lane = self.lane(target);
        for _ in 0..lost {
            self.ledger.tally.note(kind, Incident::Conflict);
            lane.note_conflict();
        }
    }
}
