//! What whoever has submitted an operation holds of it.
#![forbid(unsafe_code)]

use super::body::sealed;
use super::class::Class;
use super::current::{self, Around, Context};
use super::id::OperationId;
use super::operation::Operation;
use super::outcome::{OperationError, Reason, SubmitError};
use super::priority::Priority;
use super::record::{self, Promise, Verdict, Work};
use super::shared::Shared;
use super::status::{State, Status};
use super::trace::Trace;
use crate::cell::Entity;
use crate::clock;
use crate::sync::fault::{Fault, planted};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};
use std::time::{Duration, Instant};

/// An operation that was submitted: to wait for it, on a thread or in a task; to look at it; to cancel it.
///
/// Dropping the ticket changes nothing: the operation goes on.
#[must_use = "dropping a ticket doesn't cancel its operation"]
pub struct Ticket<O, F> {
    pub(super) work: Arc<dyn Promise<O, F>>,
}

impl<O: 'static, F: 'static> Ticket<O, F> {
    /// What tells the operation from all others of its engine.
    #[must_use]
    pub fn id(&self) -> OperationId {
        self.work.header().id
    }

    /// What it is called in reports.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.work.header().name
    }

    /// Its class.
    #[must_use]
    pub fn class(&self) -> Class {
        self.work.header().class
    }

    /// When it was submitted, began and ended.
    #[must_use]
    pub fn times(&self) -> Times {
        self.work.header().times()
    }

    /// What it is and how far, as an entity: to wait for, and with its history. If it is
    /// [traced](crate::Operation::traced).
    #[must_use]
    pub fn trace(&self) -> Option<Entity<Trace>> {
        self.work.header().trace.clone()
    }

    /// How far it is.
    #[must_use]
    pub fn status(&self) -> Status {
        self.work.status()
    }

    /// Whether it is done, and waiting for it would return at once.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.work.is_done()
    }

    /// To submit others that are part of it.
    #[must_use]
    pub fn context(&self) -> Context {
        Context {
            work: Some(self.erased()),
            floor: Priority::BACKGROUND,
        }
    }

    /// The operation and all that it is part of, the outermost last.
    #[must_use]
    pub fn chain(&self) -> Vec<OperationId> {
        let work: &dyn Work = &*self.work;
        work.chain().map(|work| work.header().id).collect()
    }

    /// Ends the operation if it hasn't begun. Otherwise it is asked to end before its next attempt, and may succeed
    /// all the same. Whether it was ended by this.
    pub fn cancel(&self) -> bool {
        self.engine()
            .is_some_and(|engine| engine.cancel(&self.erased()))
    }

    /// Changes the priority, and with it that of the operations that are part of this one. It may be one that the
    /// class doesn't allow. What is done is left as it is.
    pub fn set_priority(&self, priority: Priority) {
        record::reprioritize(&self.erased(), priority);
    }

    /// Waits until it is done.
    ///
    /// Inside the closure of another operation, it is run by this thread, if it hasn't begun, or was put back after it
    /// had; and until it is done it is as important as the one that waits.
    ///
    /// # Errors
    /// How it ended, if it did not succeed. Inside the closure of another operation also
    /// [`SelfConflict`](OperationError::SelfConflict), if the two have a target in common, and
    /// [`MayDeadlock`](OperationError::MayDeadlock), if it runs elsewhere already, and isn't part of the one that
    /// waits.
    pub fn wait(self) -> Result<O, OperationError<F>> {
        match self.wait_until(None) {
            Ok(result) => result,
            Err(_) => unreachable!("there is no deadline"),
        }
    }

    /// Waits until it is done, or for so long.
    ///
    /// # Errors
    /// The ticket, if it isn't done then. The operation goes on.
    pub fn wait_timeout(self, timeout: Duration) -> Result<Result<O, OperationError<F>>, Self> {
        match clock::deadline(timeout) {
            Some(deadline) => self.wait_until(Some(deadline)),
            None => Ok(self.wait()),
        }
    }

    fn wait_until(self, deadline: Option<Instant>) -> Result<Result<O, OperationError<F>>, Self> {
        if self.is_done() {
            return Ok(self.take());
        }
        let error = match current::around(self.work.targets()) {
            // In a destructor, between two closures: what this thread serves doesn't go on meanwhile.
            Around::Nothing if current::is_serving() => {
                self.begin_serving(deadline.is_some()).err()
            }
            Around::Nothing => None,
            Around::Busy => Some(OperationError::SelfConflict),
            Around::Inside(waiting) => self.begin_inside(&waiting, deadline.is_some()).err(),
        };
        if let Some(error) = error {
            return Ok(Err(error));
        }
        let Some(engine) = self.engine() else {
            // With the engine all that it had taken has ended.
            return Ok(self.take());
        };
        let work: &(dyn Work + 'static) = &*self.work;
        // Whoever runs it may give it up for a while, and then there may be nobody else who goes on with it.
        let is_inside = current::is_inside();
        let is_so = || self.is_done() || (is_inside && engine.run_instead(&self.erased()));
        let wait = |deadline| engine.wait(deadline, is_so, |waker| work.listen(waker));
        // Whoever waits for it need not wait for its lane to find that it has waited too long.
        let expires = engine.deadline_of(work.header().expires);
        if let Some(expires) = expires
            && deadline.is_none_or(|deadline| expires < deadline)
            && (wait(Some(expires)) || engine.expire_waiting(work))
        {
            return Ok(self.take());
        }
        if wait(deadline) {
            Ok(self.take())
        } else {
            Err(self)
        }
    }

    /// What comes before waiting inside the closure of another operation.
    fn begin_inside(&self, waiting: &Context, has_deadline: bool) -> Result<(), OperationError<F>> {
        let work = self.erased();
        let Some(engine) = self.engine() else {
            return Ok(());
        };
        record::prioritize(&work, waiting.priority(), false);
        let may_wait = engine.run_instead(&work) || has_deadline || self.is_part_of(waiting);
        if may_wait || self.is_done() {
            Ok(())
        } else {
            Err(OperationError::MayDeadlock)
        }
    }

    /// What comes before waiting on a thread that serves, outside of any closure.
    fn begin_serving(&self, has_deadline: bool) -> Result<(), OperationError<F>> {
        let work = self.erased();
        let is_run = self
            .engine()
            .is_some_and(|engine| engine.run_instead(&work));
        if is_run || has_deadline || self.is_done() {
            Ok(())
        } else {
            Err(OperationError::MayDeadlock)
        }
    }

    fn is_part_of(&self, waiting: &Context) -> bool {
        let Some(waiting) = &waiting.work else {
            // What is run on its caller's thread has no record. Its parts are those that have no other parent.
            return true;
        };
        let work: &dyn Work = &*self.work;
        work.chain()
            .any(|work| work.header().id == waiting.header().id)
    }

    fn take(&self) -> Result<O, OperationError<F>> {
        self.work.take().expect("a ticket is waited for once")
    }

    /// The engine, unless its last handle was dropped and it is done.
    pub(super) fn engine(&self) -> Option<Arc<Shared>> {
        self.work.header().lane.engine.upgrade()
    }

    fn erased(&self) -> Arc<dyn Work> {
        self.work.clone()
    }
}

/// Awaits the operation, on any runtime. After that it must not be polled again.
///
/// Where the engine has no threads, a poll serves what is ready, and the task is woken when something else is.
/// Inside the closure of another operation a poll runs it, if it hasn't begun.
impl<O: 'static, F: 'static> Future for Ticket<O, F> {
    type Output = Result<O, OperationError<F>>;

    fn poll(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Self::Output> {
        if !self.is_done() {
            let engine = self.engine();
            if let Some(engine) = &engine {
                match current::around(self.work.targets()) {
                    Around::Inside(_) => _ = engine.run_instead(&self.erased()),
                    // In a destructor, between two closures.
                    Around::Nothing if current::is_serving() => {
                        _ = engine.run_instead(&self.erased());
                    }
                    _ => engine.serve_without_threads(),
                }
            }
            let work: &dyn Work = &*self.work;
            work.listen(cx.waker());
            if planted(Fault::AwaitWithoutSecondLook) {
                return Poll::Pending;
            }
            if let Some(engine) = engine {
                engine.serve_for(&self.erased());
            }
            if !self.is_done() {
                return Poll::Pending;
            }
        }
        Poll::Ready(self.take())
    }
}

impl<O, F> fmt::Debug for Ticket<O, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket")
            .field("operation", &self.work.header().id)
            .field("status", &format_args!("{}", self.work.status()))
            .finish_non_exhaustive()
    }
}

/// What submitting an operation gives: its ticket, or the operation back.
pub type Submitted<B> = Result<
    Ticket<<B as sealed::Body>::Output, <B as sealed::Body>::Error>,
    SubmitError<Operation<B>>,
>;

/// When an operation was submitted, began for the first time, and ended, on the clock of its engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// When it was submitted.
    pub born: Duration,
    /// When it began, if it has.
    pub started: Option<Duration>,
    /// When it ended, if it has.
    pub ended: Option<Duration>,
}

impl Shared {
    /// The moment of the system's clock at which the engine's shows this time, if that is one.
    pub(super) fn deadline_of(&self, time: u64) -> Option<Instant> {
        if time == u64::MAX {
            return None;
        }
        clock::deadline(Duration::from_nanos(time.saturating_sub(self.ledger.now())))
    }

    /// Ends an operation that still waits for its turn, if its patience is over. Whether it has ended, by this or
    /// otherwise.
    pub(super) fn expire_waiting(&self, work: &(dyn Work + 'static)) -> bool {
        let header = work.header();
        if self.ledger.now() >= header.expires {
            let patience = header.patience;
            let _ = work.end_pending(work.rejection(Reason::Expired { patience }), &self.ledger);
        }
        work.is_done()
    }

    /// Ends an operation that hasn't begun, and asks one that has.
    pub(super) fn cancel(&self, work: &Arc<dyn Work>) -> bool {
        loop {
            if work.end_pending(Verdict::Cancelled, &self.ledger) {
                return true;
            }
            let asked = work.change(|status| {
                let same = status.prioritize(status.priority())?;
                if same.state() == State::Pending {
                    // It waits for its turn again: then it can be ended after all.
                    return status.succeed();
                }
                Ok(Status {
                    unwanted: true,
                    ..same
                })
            });
            if asked.is_ok() || work.status().state() != State::Pending {
                break;
            }
        }
        false
    }
}
