//! An operation that can be watched: what it is, and how far, as an entity.
//!
//! Whoever changes the status of a traced operation commits what has become of it to its trace. The value is
//! computed from the status as it is *after* the snapshot was read that it replaces. So what is committed is never
//! older than what it replaces, whoever is late; and who finds that somebody else has told it already leaves it.
//!
//! How an operation ends is committed before its answer is given, by the only one who may: so whoever has waited for
//! the operation finds its end in the trace. Nothing comes after the end.
#![forbid(unsafe_code)]

use super::account::TargetId;
use super::class::Class;
use super::header::Header;
use super::id::OperationId;
use super::priority::Priority;
use super::record::Work;
use super::status::{State, Status};
use super::ticket::Times;
use crate::cell::{Entity, Retain};
use crate::clock::Clock;
use std::convert::Infallible;
use std::time::Duration;

/// What an operation is, and how far: the value of its [trace](crate::Ticket::trace).
///
/// # Examples
/// ```
/// use snapcell::{Engine, Entity, Operation, State};
///
/// let engine = Engine::new();
/// let stock = Entity::new(10);
/// let ticket = engine.submit(Operation::update(&stock, |n| n - 1).named("order").traced())?;
/// let trace = ticket.trace().expect("it is traced");
/// let end = trace.wait_for(|trace| trace.state.is_final()).wait();
/// assert_eq!((end.name, end.state, end.retries), ("order", State::Succeeded, 0));
/// let states: Vec<_> = trace.history().map(|trace| trace.state).collect();
/// assert_eq!(states, [State::Pending, State::Executing, State::Succeeded]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Trace {
    /// What tells the operation from all others of its engine.
    pub id: OperationId,
    /// What it is called in reports.
    pub name: &'static str,
    /// Its class.
    pub class: Class,
    /// Where it is on its way.
    pub state: State,
    /// How important it is: its own priority, or a higher one of who depends on it.
    pub priority: Priority,
    /// How often it was tried again.
    pub retries: u32,
    /// When it was submitted, began and ended.
    pub times: Times,
    /// Its target; if it has several, the one by whose lane it goes.
    pub target: TargetId,
    /// What it is part of, if that was submitted to the same engine.
    pub parent: Option<OperationId>,
    /// The outermost operation of its engine that it is part of, or itself.
    pub root: OperationId,
    /// Of how many operations of its engine it is part.
    pub depth: u32,
    /// How often it may be tried again.
    pub budget: u32,
    /// Its own priority.
    pub own: Priority,
}

impl Trace {
    /// What is to be told of an operation of this status.
    pub(super) fn of(header: &Header, status: Status) -> Self {
        Trace {
            id: header.id,
            name: header.kind.name,
            class: header.kind.class,
            state: status.state(),
            priority: status.priority(),
            retries: status.retries(),
            times: header.times(),
            target: TargetId(header.lane.target),
            parent: header.parent_here().map(|parent| parent.header().id),
            root: header.root,
            depth: header.depth,
            budget: header.budget,
            own: header.own(),
        }
    }

    /// What there is to tell of an operation now.
    pub(super) fn now(work: &dyn Work) -> Self {
        let status = work.status();
        let mut now = Trace::of(work.header(), status);
        if !status.state().is_final() {
            // It has one a moment before its status tells.
            now.times.ended = None;
        }
        now
    }
}

/// Begins the trace of an operation that has just been made.
pub(super) fn begin(header: &Header, status: Status, clock: Clock) -> Entity<Trace> {
    Entity::builder(Trace::of(header, status))
        .clock(clock)
        .retain(Retain::All)
        .build()
}

impl dyn Work + '_ {
    /// Tells what has become of it, unless that is its end, which [`tell_end`](Header::tell_end) tells.
    pub(super) fn tell(&self) {
        let Some(trace) = &self.header().trace else {
            return;
        };
        let _ = trace.try_update(|told| {
            let status = self.status();
            let now = Trace::of(self.header(), status);
            let is_news = !status.state().is_final() && !told.state.is_final() && now != *told;
            Ok::<_, Infallible>(is_news.then_some(now))
        });
    }
}

impl Header {
    /// Tells how it ends.
    pub(super) fn tell_end(&self, end: impl Fn() -> Status) {
        let Some(trace) = &self.trace else {
            return;
        };
        let _ = trace.try_update(|told| {
            let end = Trace::of(self, end());
            Ok::<_, Infallible>((!told.state.is_final()).then_some(end))
        });
    }

    /// When it was submitted, began and ended.
    pub(super) fn times(&self) -> Times {
        let since = |time| (time != 0).then(|| Duration::from_nanos(time));
        Times {
            born: Duration::from_nanos(self.born),
            started: since(self.started()),
            ended: since(self.ended()),
        }
    }
}
