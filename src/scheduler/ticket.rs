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
use super::short::Done;
use super::status::{State, Status};
use super::trace::Trace;
use crate::cell::Entity;
use crate::clock;
use crate::sync::fault::{Fault, planted};
use crate::sync::sleep;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::ptr;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};
use std::time::{Duration, Instant};

/// An operation that was submitted: to wait for it, on a thread or in a task; to look at it; to cancel it.
///
/// Dropping the ticket changes nothing: the operation goes on.
#[must_use = "dropping a ticket doesn't cancel its operation"]
pub struct Ticket<O, F>(Of<O, F>);

/// What a ticket is of.
enum Of<O, F> {
    Submitted(Arc<dyn Promise<O, F>>),
    /// One that was done by whoever submitted it.
    Done(Done<O, F>),
}

/// Nothing in it is ever pinned.
impl<O, F> Unpin for Ticket<O, F> {}

impl<O: 'static, F: 'static> Ticket<O, F> {
    pub(super) fn of(work: Arc<dyn Promise<O, F>>) -> Self {
        Ticket(Of::Submitted(work))
    }

    #[inline]
    pub(super) fn done(done: Done<O, F>) -> Self {
        Ticket(Of::Done(done))
    }

    /// The operation, unless whoever submitted it has done it.
    pub(super) fn work(&self) -> Option<&Arc<dyn Promise<O, F>>> {
        match &self.0 {
            Of::Submitted(work) => Some(work),
            Of::Done(_) => None,
        }
    }

    /// The engine, unless its last handle was dropped and it is done.
    pub(super) fn engine(&self) -> Option<Arc<Shared>> {
        engine_of(self.work()?)
    }
}

fn engine_of<O, F>(work: &Arc<dyn Promise<O, F>>) -> Option<Arc<Shared>> {
    work.header().lane.engine.upgrade()
}

impl<O: 'static, F: 'static> Ticket<O, F> {
    /// What tells the operation from all others of its engine.
    #[must_use]
    pub fn id(&self) -> OperationId {
        match &self.0 {
            Of::Submitted(work) => work.header().id,
            Of::Done(done) => done.id,
        }
    }

    /// What it is called in reports.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match &self.0 {
            Of::Submitted(work) => work.header().kind.name,
            Of::Done(done) => done.kind.name,
        }
    }

    /// Its class.
    #[must_use]
    pub fn class(&self) -> Class {
        match &self.0 {
            Of::Submitted(work) => work.header().kind.class,
            Of::Done(done) => done.kind.class,
        }
    }

    /// When it was submitted, began and ended. Of a [short](crate::Operation::short) one that was done as it was
    /// submitted that is one moment: when its last attempt began.
    #[must_use]
    pub fn times(&self) -> Times {
        match &self.0 {
            Of::Submitted(work) => work.header().times(),
            Of::Done(done) => done.times(),
        }
    }

    /// What it is and how far, as an entity: to wait for, and with its history. If it is
    /// [traced](crate::Operation::traced).
    #[must_use]
    pub fn trace(&self) -> Option<Entity<Trace>> {
        self.work()?.header().trace.clone()
    }

    /// How far it is.
    #[must_use]
    pub fn status(&self) -> Status {
        match &self.0 {
            Of::Submitted(work) => work.status(),
            Of::Done(done) => done.status,
        }
    }

    /// Whether it is done, and waiting for it would return at once.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.work().is_none_or(|work| work.is_done())
    }

    /// To submit others that are part of it. Of a [short](crate::Operation::short) one that was done as it was submitted
    /// nothing is left but how important it was.
    #[must_use]
    pub fn context(&self) -> Context {
        match &self.0 {
            Of::Submitted(work) => Context {
                work: Some(work.clone()),
                floor: Priority::BACKGROUND,
            },
            Of::Done(done) => Context {
                work: None,
                floor: done.status.priority(),
            },
        }
    }

    /// The operation and all that it is part of, the outermost last. Each has the id that its own engine has given it.
    #[must_use]
    pub fn chain(&self) -> Vec<OperationId> {
        match &self.0 {
            Of::Submitted(work) => {
                let work: &dyn Work = &**work;
                work.chain().map(|work| work.header().id).collect()
            }
            Of::Done(done) => vec![done.id],
        }
    }

    /// Ends the operation if it hasn't begun. Otherwise it is asked to end before its next attempt, and may succeed
    /// all the same. Whether it was ended by this.
    ///
    /// # Linearization
    /// The exchange of its status, by which of all who want to begin or to end it one succeeds.
    pub fn cancel(&self) -> bool {
        self.work().is_some_and(|work| {
            let engine = engine_of(work);
            engine.is_some_and(|engine| engine.cancel(&erased(work)))
        })
    }

    /// Changes the priority, and with it that of the operations that are part of this one. It may be one that the
    /// class doesn't allow. What is done is left as it is.
    pub fn set_priority(&self, priority: Priority) {
        if let Some(work) = self.work() {
            record::reprioritize(&erased(work), priority);
        }
    }

    /// Waits until it is done. Blocking, on a thread; where the engine has no threads, this one serves meanwhile.
    ///
    /// Inside the closure of another operation, it is run by this thread, if it hasn't begun, or was put back after it
    /// had; and until it is done it is as important as the one that waits.
    ///
    /// # Errors
    /// How it ended, if it did not succeed. Inside the closure of another operation also
    /// [`SelfConflict`](OperationError::SelfConflict), if the two have a target in common, and
    /// [`MayDeadlock`](OperationError::MayDeadlock), if it runs elsewhere already, and isn't part of the one that
    /// waits. Then it was not waited for, and goes on: it may still succeed.
    #[inline]
    pub fn wait(mut self) -> Result<O, OperationError<F>> {
        match &mut self.0 {
            Of::Submitted(work) => finish(work),
            Of::Done(done) => answer_of(done.take()),
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

    fn wait_until(
        mut self,
        deadline: Option<Instant>,
    ) -> Result<Result<O, OperationError<F>>, Self> {
        let error = match self.work() {
            Some(work) if !work.is_done() => match wait_for(work, deadline) {
                Ok(true) => None,
                Ok(false) => return Err(self),
                Err(error) => Some(error),
            },
            _ => None,
        };
        Ok(error.map_or_else(|| self.take(), Err))
    }

    fn take(&mut self) -> Result<O, OperationError<F>> {
        answer_of(match &mut self.0 {
            Of::Submitted(work) => work.take(),
            Of::Done(done) => done.take(),
        })
    }
}

/// Waits for an operation, and takes its answer.
fn finish<O: 'static, F: 'static>(work: &Arc<dyn Promise<O, F>>) -> Result<O, OperationError<F>> {
    if !work.is_done() {
        let is_done = wait_for(work, None)?;
        debug_assert!(is_done, "there is no deadline");
    }
    answer_of(work.take())
}

fn answer_of<A>(answer: Option<A>) -> A {
    answer.expect("a ticket is waited for once")
}

fn erased<O: 'static, F: 'static>(work: &Arc<dyn Promise<O, F>>) -> Arc<dyn Work> {
    work.clone()
}

/// Waits until an operation is done, or for a deadline. Whether it is done.
fn wait_for<O: 'static, F: 'static>(
    work: &Arc<dyn Promise<O, F>>,
    deadline: Option<Instant>,
) -> Result<bool, OperationError<F>> {
    match current::around(work.targets()) {
        // In a destructor, between two closures: what this thread serves doesn't go on meanwhile.
        Around::Nothing if current::is_serving() => begin_serving(work, deadline.is_some())?,
        Around::Nothing => {}
        Around::Busy => return Err(OperationError::SelfConflict),
        Around::Inside(waiting) => begin_inside(work, &waiting, deadline.is_some())?,
    }
    let Some(engine) = engine_of(work) else {
        // It is being dropped, perhaps by this thread, and with it all that it had taken ends.
        if current::is_serving() && deadline.is_none() && !work.is_done() {
            return Err(OperationError::MayDeadlock);
        }
        return Ok(wait_for_the_end(work, deadline));
    };
    // Whoever runs it may give it up for a while, and then there may be nobody else who goes on with it.
    let is_inside = current::is_inside();
    let is_so = || work.is_done() || (is_inside && engine.run_instead(&erased(work)));
    let listened: &(dyn Work + 'static) = &**work;
    let wait = |deadline| engine.wait(deadline, is_so, |waker| listened.listen(waker));
    // Whoever waits for it need not wait for its lane to find that it has waited too long.
    while let Some(expires) = engine.deadline_of(work.header().expires)
        && deadline.is_none_or(|deadline| expires < deadline)
    {
        if wait(Some(expires)) || engine.expire_waiting(listened) {
            return Ok(true);
        }
        // The clock of the engine may be a little behind that of the system.
        if !engine.ledger.clock.is_monotonic() || engine.ledger.now() >= work.header().expires {
            break;
        }
    }
    Ok(wait(deadline))
}

/// Waits for an operation whose engine is being dropped, by which all that it had taken ends. Whether it is done.
#[cold]
fn wait_for_the_end<O: 'static, F: 'static>(
    work: &Arc<dyn Promise<O, F>>,
    deadline: Option<Instant>,
) -> bool {
    let waker = sleep::waker();
    let listened: &(dyn Work + 'static) = &**work;
    loop {
        listened.listen(&waker);
        if work.is_done() {
            return true;
        }
        if !sleep::park(deadline) && sleep::is_over(deadline) {
            return work.is_done();
        }
    }
}

/// What comes before waiting inside the closure of another operation.
fn begin_inside<O: 'static, F: 'static>(
    work: &Arc<dyn Promise<O, F>>,
    waiting: &Context,
    has_deadline: bool,
) -> Result<(), OperationError<F>> {
    let Some(engine) = engine_of(work) else {
        return Ok(());
    };
    let erased = erased(work);
    record::prioritize(&erased, waiting.priority());
    let may_wait = engine.run_instead(&erased) || has_deadline || is_part_of(&*erased, waiting);
    if may_wait || work.is_done() {
        Ok(())
    } else {
        Err(OperationError::MayDeadlock)
    }
}

/// What comes before waiting on a thread that serves, outside of any closure.
fn begin_serving<O: 'static, F: 'static>(
    work: &Arc<dyn Promise<O, F>>,
    has_deadline: bool,
) -> Result<(), OperationError<F>> {
    let is_run = engine_of(work).is_some_and(|engine| engine.run_instead(&erased(work)));
    if is_run || has_deadline || work.is_done() {
        Ok(())
    } else {
        Err(OperationError::MayDeadlock)
    }
}

fn is_part_of(work: &(dyn Work + 'static), waiting: &Context) -> bool {
    let Some(waiting) = &waiting.work else {
        // What is run on its caller's thread has no record. Its parts are those that have no other parent.
        return true;
    };
    // Not by their ids, which are those of an engine.
    work.chain()
        .any(|work| ptr::addr_eq(work.header(), waiting.header()))
}

/// Awaits the operation, on any runtime. After that it must not be polled again.
///
/// Where the engine has no threads, a poll serves what is ready, and the task is woken when something else is.
/// Inside the closure of another operation a poll runs it, if it hasn't begun; and is
/// [`SelfConflict`](OperationError::SelfConflict), if the two have a target in common. If it runs elsewhere already a poll
/// doesn't ask whether that one waits for the one that polls.
impl<O: 'static, F: 'static> Future for Ticket<O, F> {
    type Output = Result<O, OperationError<F>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Self::Output> {
        match self.work().map(|work| is_done_for(work, cx)) {
            Some(Ok(false)) => Poll::Pending,
            Some(Err(error)) => Poll::Ready(Err(error)),
            Some(Ok(true)) | None => Poll::Ready(self.take()),
        }
    }
}

/// Whether an operation is done; if not, the task is woken when it is.
fn is_done_for<O: 'static, F: 'static>(
    work: &Arc<dyn Promise<O, F>>,
    cx: &mut TaskContext<'_>,
) -> Result<bool, OperationError<F>> {
    if work.is_done() {
        return Ok(true);
    }
    let engine = engine_of(work);
    if let Some(engine) = &engine {
        match current::around(work.targets()) {
            Around::Busy => return Err(OperationError::SelfConflict),
            Around::Inside(_) => _ = engine.run_instead(&erased(work)),
            // In a destructor, between two closures.
            Around::Nothing if current::is_serving() => {
                _ = engine.run_instead(&erased(work));
            }
            Around::Nothing => engine.serve_without_threads(),
        }
    }
    let listened: &dyn Work = &**work;
    listened.listen(cx.waker());
    if planted(Fault::AwaitWithoutSecondLook) {
        return Ok(false);
    }
    if let Some(engine) = engine {
        engine.serve_for(&erased(work));
    }
    Ok(work.is_done())
}

impl<O, F> fmt::Debug for Ticket<O, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (id, status) = match &self.0 {
            Of::Submitted(work) => (work.header().id, work.status()),
            Of::Done(done) => (done.id, done.status),
        };
        f.debug_struct("Ticket")
            .field("operation", &id)
            .field("status", &format_args!("{status}"))
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
