//! A ticket in somebody's hand, whatever it is a ticket of.

use super::books::{About, Ending, Outcome, Refusal, ending_of, told};
use super::seen::Mechanism;
use super::street::{House, Street};
use snapcell::{Entity, OperationError, Priority, State, Ticket, Trace};
use std::time::Duration;

/// A ticket, what it is about, and the house of its engine.
pub(crate) struct Held<O, F> {
    pub(crate) ticket: Ticket<O, F>,
    pub(crate) house: usize,
    pub(crate) about: About,
}

/// What can be done with any of them.
pub(crate) trait Holding: Send {
    fn cancel(&self) -> bool;
    fn set_priority(&self, priority: Priority);
    fn has_begun(&self) -> bool;
    fn is_done(&self) -> bool;
    /// Waits for it, and writes into the books how it has ended.
    fn settle(self: Box<Self>, street: &Street);
    /// The same, but not longer than this. Then it is given back.
    fn settle_in(self: Box<Self>, time: Duration, street: &Street) -> Option<Box<dyn Holding>>;
    /// Drops the ticket, if that may be: an operation on several entities is followed by its trace or waited for.
    fn let_go(self: Box<Self>, street: &Street);
}

/// `F` is the error of a closure that can't refuse, or the one of those that can.
pub(crate) trait Error: Send + 'static {
    fn refusal(self) -> Refusal;
}

impl Error for Refusal {
    fn refusal(self) -> Refusal {
        self
    }
}

impl Error for std::convert::Infallible {
    fn refusal(self) -> Refusal {
        match self {}
    }
}

/// Writes into the books what is told of an operation.
pub(crate) fn note<O: Outcome, F: Error>(
    house: &House,
    about: About,
    trace: Option<Entity<Trace>>,
    result: Result<O, OperationError<F>>,
    street: &Street,
) {
    let result = result.map_err(|error| match error {
        OperationError::Refused(error) => OperationError::Refused(error.refusal()),
        OperationError::Invalid(why) => OperationError::Invalid(why),
        OperationError::Panicked(panic) => OperationError::Panicked(panic),
        OperationError::VersionLimit => OperationError::VersionLimit,
        OperationError::Rejected(why) => OperationError::Rejected(why),
        OperationError::Cancelled => OperationError::Cancelled,
        OperationError::SelfConflict => OperationError::SelfConflict,
        OperationError::MayDeadlock => OperationError::MayDeadlock,
        OperationError::NotTaken(why) => OperationError::NotTaken(why),
        _ => panic!("an end that the soak doesn't know"),
    });
    let Some(ending) = told(&result, about.temper, about.is_independent, &street.seen) else {
        return house.books.let_go(about, trace);
    };
    if let Some(trace) = trace {
        let traced = ending_of(trace.snapshot().state, about.temper);
        assert_eq!(traced, ending, "broken law: a trace tells another end");
    }
    let version = result.ok().filter(|_| ending == Ending::Committed);
    let version = version.and_then(|output| output.version());
    house.books.told(&about, ending, version);
}

impl<O: Outcome, F: Error> Holding for Held<O, F> {
    fn cancel(&self) -> bool {
        self.ticket.cancel()
    }

    fn set_priority(&self, priority: Priority) {
        self.ticket.set_priority(priority);
    }

    fn has_begun(&self) -> bool {
        self.ticket.status().state() != State::Pending
    }

    fn is_done(&self) -> bool {
        self.ticket.is_done()
    }

    fn settle(self: Box<Self>, street: &Street) {
        let trace = self.ticket.trace();
        let result = self.ticket.wait();
        note(
            &street.houses[self.house],
            self.about,
            trace,
            result,
            street,
        );
    }

    fn settle_in(self: Box<Self>, time: Duration, street: &Street) -> Option<Box<dyn Holding>> {
        let Held {
            ticket,
            house,
            about,
        } = *self;
        let trace = ticket.trace();
        match ticket.wait_timeout(time) {
            Ok(result) => {
                note(&street.houses[house], about, trace, result, street);
                None
            }
            Err(ticket) => {
                street.seen.note(Mechanism::TimedOut);
                Some(Box::new(Held {
                    ticket,
                    house,
                    about,
                }))
            }
        }
    }

    fn let_go(self: Box<Self>, street: &Street) {
        let trace = self.ticket.trace();
        if trace.is_none() && self.about.rooms.len() != 1 {
            return self.settle(street);
        }
        street.seen.note(Mechanism::TicketDropped);
        let Held {
            ticket,
            house,
            about,
        } = *self;
        drop(ticket);
        street.houses[house].books.let_go(about, trace);
    }
}
