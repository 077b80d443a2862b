//! Operations in tasks: what would block a thread is awaited.
//!
//! As [`run`](Engine::run), such an operation goes beside the lane of its target. So while it waits, and nobody knows
//! for how long its task is left alone, it has nothing that others wait for. What it has reserved it gives back, and is
//! counted out, also if its future is dropped half-way.
#![forbid(unsafe_code)]

use super::body::{Attempt, Body};
use super::claiming::{Claiming, pause};
use super::engine::Engine;
use super::operation::Operation;
use super::outcome::OperationError;
use super::retry::{Next, Situation};
use super::run::Visit;
use super::shared::Shared;
use super::ticket::Ticket;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

/// How a task stays away for a while: what a runtime has for that.
///
/// With the feature `tokio` there is `TokioSleep`. For other runtimes it is a few lines:
/// ```
/// use snapcell::Sleep;
/// use std::time::Duration;
///
/// struct AsyncIo;
///
/// impl Sleep for AsyncIo {
///     async fn sleep(&self, long: Duration) {
/// # /*
///         async_io::Timer::after(long).await;
/// # */ let _ = long;
///     }
/// }
/// ```
pub trait Sleep: Send + Sync {
    /// Is ready after so long.
    fn sleep(&self, long: Duration) -> impl Future<Output = ()> + Send;
}

/// The timers of tokio, for tasks of its runtimes. They have a resolution of a millisecond.
///
/// # Examples
/// ```
/// use snapcell::{Engine, Entity, Operation, TokioSleep};
/// use std::time::Duration;
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let engine = Engine::new();
/// let stock = Entity::new(10);
/// let order = Operation::update(&stock, |n| n - 3);
/// engine.run_async(&order, &TokioSleep).await?;
/// let ticket = engine.submit(order)?;
/// let left = ticket.timeout(Duration::from_secs(60), &TokioSleep).await.expect("that is long")?;
/// assert_eq!(*left, 4);
/// # Ok(())
/// # }
/// ```
#[cfg(feature = "tokio")]
#[cfg_attr(docsrs, doc(cfg(feature = "tokio")))]
#[derive(Clone, Copy, Debug, Default)]
pub struct TokioSleep;

#[cfg(feature = "tokio")]
impl Sleep for TokioSleep {
    async fn sleep(&self, long: Duration) {
        tokio::time::sleep(long).await;
    }
}

impl Engine {
    /// As [`run`](Engine::run), for tasks: between two attempts it awaits, and blocks no thread.
    ///
    /// The closure itself runs in the poll, so it should be short; what takes long or awaits comes first, and its
    /// result goes into the closure. A closure of another operation that a task works for is not known here: say
    /// [`within`](Operation::within).
    ///
    /// Dropping the future cancels the operation, if it hasn't ended.
    ///
    /// # Errors
    /// As [`run`](Engine::run); and [`Cancelled`](OperationError::Cancelled), if meanwhile the engine was shut down so
    /// that what waits is cancelled.
    ///
    /// # Examples
    /// ```
    /// use snapcell::{Engine, Entity, Operation, Sleep};
    /// use std::time::Duration;
    ///
    /// struct AtOnce;
    ///
    /// impl Sleep for AtOnce {
    ///     async fn sleep(&self, _: Duration) {}
    /// }
    ///
    /// let engine = Engine::new();
    /// let stock = Entity::new(10);
    /// let order = Operation::update(&stock, |n| n - 3);
    /// let left = pollster::block_on(engine.run_async(&order, &AtOnce))?;
    /// assert_eq!(*left, 7);
    /// # Ok::<(), snapcell::OperationError<std::convert::Infallible>>(())
    /// ```
    pub fn run_async<'r, B: Body, S: Sleep>(
        &'r self,
        operation: &'r Operation<B>,
        sleep: &'r S,
    ) -> impl Future<Output = Result<B::Output, OperationError<B::Error>>> + Send + 'r {
        self.shared.run_in_task(operation, sleep)
    }
}

impl<O: 'static, F: 'static> Ticket<O, F> {
    /// Awaits the operation, or for so long.
    ///
    /// # Errors
    /// The ticket, if it isn't done then. The operation goes on.
    pub async fn timeout<S: Sleep>(
        mut self,
        long: Duration,
        sleep: &S,
    ) -> Result<Result<O, OperationError<F>>, Self> {
        let mut over = pin!(sleep.sleep(long));
        let answer = poll_fn(|cx| match Pin::new(&mut self).poll(cx) {
            Poll::Ready(answer) => Poll::Ready(Some(answer)),
            Poll::Pending => over.as_mut().poll(cx).map(|()| None),
        });
        answer.await.ok_or(self)
    }
}

impl Shared {
    /// See [`Engine::run_async`].
    async fn run_in_task<B: Body, S: Sleep>(
        &self,
        operation: &Operation<B>,
        sleep: &S,
    ) -> Result<B::Output, OperationError<B::Error>> {
        let mut underway = Underway {
            visit: self.begin(operation)?,
            lost: 0,
            has_ended: false,
        };
        let lane = self.lane(underway.visit.target);
        let mut claim = Claiming::new(&lane, &self.ledger, *underway.visit.kind());
        let begun = self.ledger.now();
        let mut lost = 0;
        let end = loop {
            let terms = match self.terms(&operation.wish) {
                Ok(terms) => terms,
                // Its class was changed meanwhile, and doesn't allow it any more.
                Err(why) => break Attempt::Failed(OperationError::NotTaken(why)),
            };
            if lost > 0 {
                let now = self.ledger.now();
                let next = terms.retry.next(Situation {
                    attempt: lost,
                    retries: terms.retries,
                    age: Duration::from_nanos(now.saturating_sub(begun)),
                    patience: terms.patience,
                    contention: u32::try_from(lane.waiting()).unwrap_or(u32::MAX),
                    entropy: fastrand::u64(..),
                });
                if let Some(error) = underway.visit.over(&terms, next, lost) {
                    break Attempt::Failed(error);
                }
                underway.visit.tell_retry(lost, terms.retries, next);
                match next {
                    Next::Wait(long) => sleep.sleep(long).await,
                    // For less than a timer would take.
                    shorter => pause(shorter),
                }
            }
            let reserves = terms.retry.reserves(lost);
            if reserves || !lane.reservation.is_free() {
                let own = claim.own(self, || underway.visit.id(), underway.visit.priority);
                while let Some(step) = claim.step_back(self, &own, LONGEST_STEP) {
                    let before = self.ledger.now();
                    sleep.sleep(step).await;
                    // A timer may be late.
                    let took = Duration::from_nanos(self.ledger.now().saturating_sub(before));
                    claim.spend(took.saturating_sub(step));
                }
                if reserves {
                    claim.take(self);
                }
            }
            if self.ledger.gate.cancels() {
                break Attempt::Failed(OperationError::Cancelled);
            }
            match underway.visit.attempt(None) {
                Attempt::Lost(overtaken) => underway.visit.lost(lost, overtaken),
                attempt => break attempt,
            }
            lost = lost.saturating_add(1);
            underway.lost = lost;
        };
        underway.has_ended = true;
        underway.visit.settle(end, lost)
    }
}

/// A task steps back for so long at once, in microseconds, before it looks whether it still has to: timers of tasks
/// are no finer.
const LONGEST_STEP: u64 = 1_000;

/// An operation that is under way in a task. It is cancelled if this is dropped before it has ended.
struct Underway<'o, B: Body> {
    visit: Visit<'o, B>,
    lost: u32,
    has_ended: bool,
}

impl<B: Body> Drop for Underway<'_, B> {
    fn drop(&mut self) {
        if !self.has_ended {
            let cancelled = Attempt::Failed(OperationError::Cancelled);
            let _ = self.visit.settle(cancelled, self.lost);
        }
    }
}
