//! How operations get into the engine, and answers out of it, whatever their types.

use crate::books::{Answer, Course, Drawn, End, Entry, Meter};
use snapcell::{
    Body, Context, Engine, Operation, OperationError, Priority, Stage, Stamp, SubmitError, Ticket,
};
use std::fmt::Display;
use std::sync::Arc;

/// The way in, for one submitter: operations of a batch are staged, and those of a batch of one are submitted as they
/// are.
pub(crate) struct Door<'e> {
    engine: &'e Engine,
    stage: Option<Stage>,
    /// The operation that was submitted before, in the same batch, and how important it is to be.
    last: Option<(Context, Priority)>,
    pending: Vec<Pending>,
    refused: Vec<Drawn>,
}

/// An operation that was submitted.
pub(crate) struct Pending {
    drawn: Drawn,
    expected: Priority,
    meter: Arc<Meter>,
    ticket: Box<dyn Kept>,
}

impl<'e> Door<'e> {
    /// For one batch.
    pub(crate) fn new(engine: &'e Engine, size: u32) -> Self {
        Door {
            engine,
            stage: (size > 1).then(|| engine.stage()),
            last: None,
            pending: Vec::with_capacity(size as usize),
            refused: Vec::new(),
        }
    }

    /// Takes an operation in. `stamp` finds that of what was published in what it gives.
    pub(crate) fn submit<B: Body<Error: Display>>(
        &mut self,
        drawn: &Drawn,
        meter: &Arc<Meter>,
        operation: Operation<B>,
        stamp: fn(&B::Output) -> Option<Stamp>,
    ) {
        let operation = operation.class(drawn.class).priority(drawn.priority);
        let parent = self.last.as_ref().filter(|_| drawn.is_part);
        let (operation, expected) = match parent {
            Some((parent, priority)) => (operation.within(parent), drawn.priority.max(*priority)),
            None => (operation, drawn.priority),
        };
        let submitted = match &mut self.stage {
            Some(stage) => stage.add(operation),
            None => self.engine.submit(operation),
        };
        match submitted {
            Ok(ticket) => {
                self.last = Some((ticket.context(), expected));
                self.pending.push(Pending {
                    drawn: *drawn,
                    expected,
                    meter: meter.clone(),
                    ticket: Box::new(Ours { ticket, stamp }),
                });
            }
            Err(refused) => self.refuse(drawn, &refused),
        }
    }

    fn refuse<O>(&mut self, drawn: &Drawn, refused: &SubmitError<O>) {
        assert!(
            refused.is_overloaded(),
            "operation {} was not taken: {refused}",
            drawn.id
        );
        self.refused.push(*drawn);
    }

    /// Ends the batch: what was staged is resolved. What was taken, and what was not.
    pub(crate) fn close(self) -> (Vec<Pending>, Vec<Drawn>) {
        if let Some(stage) = self.stage {
            stage.resolve();
        }
        (self.pending, self.refused)
    }
}

impl Pending {
    pub(crate) fn is_done(&self) -> bool {
        self.ticket.is_done()
    }

    /// Has it end, if it hasn't begun.
    pub(crate) fn cancel(&self) {
        self.ticket.cancel();
    }

    pub(crate) fn drawn(&self) -> &Drawn {
        &self.drawn
    }

    /// Waits until it has ended.
    pub(crate) fn end(mut self, thread: u32) -> (Entry, Option<String>) {
        let (answer, course) = self.ticket.end(&self.meter);
        let course = Course {
            expected: self.expected,
            ..course
        };
        let mut entry = Entry::new(self.drawn, thread, &answer, &self.meter, course);
        let status = self.ticket.state();
        if !fits(status, entry.end) {
            // The word says something else than the answer.
            entry.end = End::Broken;
            let complaint = format!("a ticket is {status}, and its answer says {:?}", answer.end);
            return (entry, Some(complaint));
        }
        (entry, answer.complaint)
    }
}

fn fits(state: snapcell::State, end: End) -> bool {
    use snapcell::State;
    match end {
        End::Committed | End::Unchanged => state == State::Succeeded,
        End::Rejected(_) => state == State::Rejected,
        End::Refused | End::Broken => state == State::Failed,
        End::Cancelled => state == State::Cancelled,
        End::NotTaken => false,
    }
}

/// A ticket, whatever it gives.
trait Kept: Send {
    fn is_done(&self) -> bool;
    fn state(&self) -> snapcell::State;
    fn cancel(&self);
    fn end(&mut self, meter: &Meter) -> (Answer, Course);
}

struct Ours<O: 'static, F: 'static> {
    ticket: Ticket<O, F>,
    stamp: fn(&O) -> Option<Stamp>,
}

impl<O: Send + 'static, F: Display + Send + 'static> Kept for Ours<O, F> {
    fn is_done(&self) -> bool {
        self.ticket.is_done()
    }

    fn state(&self) -> snapcell::State {
        self.ticket.status().state()
    }

    fn cancel(&self) {
        // Whether it came in time, its answer tells.
        let _ = self.ticket.cancel();
    }

    fn end(&mut self, meter: &Meter) -> (Answer, Course) {
        // Awaited rather than waited for: so there is still a ticket to ask for times and status.
        let result: Result<O, OperationError<F>> = pollster::block_on(&mut self.ticket);
        let answer = Answer::of(result, meter, self.stamp);
        let (times, status) = (self.ticket.times(), self.ticket.status());
        let course = Course {
            born: times.born,
            started: times.started,
            ended: times.ended.unwrap_or(times.born),
            retries: Some(status.retries()),
            effective: status.priority(),
            expected: status.priority(),
        };
        (answer, course)
    }
}
