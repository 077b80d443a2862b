//! How a transaction is run: again until it commits, within limits, on a thread or in a task.
//!
//! The loop: run the closure; if it is done, try to commit, and try that again, without the closure, as long
//! as nothing that was read has changed. If something has, run the closure again. If the closure wants to
//! wait, register at all that it has read, mark each as awaited, and wait.
#![forbid(unsafe_code)]

use super::backoff::Backoff;
use super::restart::{Restart, Stop, Why};
use super::transaction::{Belongings, Transaction};
use super::update::Retry;
use crate::clock;
use crate::raw::{Attempted, Waits};
use crate::sync::sleep;
use std::error::Error;
use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// Runs `body` again until it commits: everything that it has written takes effect at one instant, and
/// only if nothing that it has read has changed until then.
///
/// See [`Transaction`] for what can be done in there. For closures that may fail there is
/// [`transaction_or_abort`], for limits and tasks [`Transact`], for changes computed earlier
/// [`try_transaction`](crate::try_transaction).
///
/// # Linearization
/// The exchange on the verdict. Of a single entity that is written, and nothing else read, the one on its
/// head. Of one that writes nothing, the fence before its last look; of a single read, that read.
/// # Progress
/// Lock-free, if `body` ends and doesn't wait: an attempt fails only because another commit succeeded, or
/// because one with a part in it got ahead. One transaction may lose again and again, the more likely the
/// more entities it has; [`Transact`] bounds that.
/// # Panics
/// If the version of an entity is at its end, or if `body` says [`retry`](Transaction::retry) and has read
/// nothing. [`Transact::run`] returns these as errors.
/// # Complexity
/// Of k entities: k + 1 compare-and-exchanges, and a node for each. Entities that are only read have
/// small nodes without a value. A verdict of 16 bytes and 56 for each entity. All memory is recycled. Up to
/// eight entities nothing else is allocated.
/// # Source
/// Harris, Fraser and Pratt, "A practical multi-word compare-and-swap operation" (2002), with sequence
/// numbers instead of a second round of exchanges, and without recursion in helping.
///
/// # Examples
/// ```
/// use snapcell::Entity;
///
/// let (ann, bob) = (Entity::new(100), Entity::new(0));
/// let moved = snapcell::transaction(|tx| {
///     let amount = tx.get(&ann)?.min(30);
///     tx.update(&ann, |n| n - amount)?;
///     tx.update(&bob, |n| n + amount)?;
///     Ok(amount)
/// });
/// assert_eq!((moved, *ann.snapshot(), *bob.snapshot()), (30, 70, 30));
/// ```
pub fn transaction<'e, R>(mut body: impl FnMut(&Transaction<'e>) -> Result<R, Restart>) -> R {
    let body = |tx: &Transaction<'e>| body(tx).map_err(Stop::Restart);
    match run::<_, std::convert::Infallible>(Limits::default(), body) {
        Ok(result) => result,
        Err(error) => panic!("{error}"),
    }
}

/// As [`transaction`], but `body` may give up with an error of its own: then nothing is published.
///
/// # Errors
/// What `body` has given up with. It was computed from what was current at one moment.
/// # Panics
/// As [`transaction`].
///
/// # Examples
/// ```
/// use snapcell::{Entity, Stop, transaction_or_abort};
///
/// let (ann, bob) = (Entity::new(100_u32), Entity::new(0));
/// let transfer = |amount| {
///     transaction_or_abort(|tx| {
///         let left = tx.get(&ann)?.checked_sub(amount).ok_or(Stop::Abort("overdrawn"))?;
///         tx.write(&ann, left);
///         tx.update(&bob, |n| n + amount)?;
///         Ok(())
///     })
/// };
/// assert_eq!(transfer(70), Ok(()));
/// assert_eq!(transfer(70), Err("overdrawn"));
/// assert_eq!((*ann.snapshot(), *bob.snapshot()), (30, 70));
/// ```
pub fn transaction_or_abort<'e, R, F>(
    body: impl FnMut(&Transaction<'e>) -> Result<R, Stop<F>>,
) -> Result<R, F> {
    match run(Limits::default(), body) {
        Ok(result) => Ok(result),
        Err(TransactionError::Aborted(error)) => Err(error),
        Err(error) => panic!("{}", error.map(|_: F| "aborted")),
    }
}

/// A transaction with limits, or in a task.
///
/// # Examples
/// Every knob at once:
/// ```
/// use snapcell::{Entity, Retry, Stop, Transact, TransactionError};
/// use std::time::Duration;
///
/// let stock = Entity::new(0_u32);
/// let limited = Transact::new().retries(Retry::at_most(10)).timeout(Duration::from_millis(1));
/// let taken = limited.run(|tx| match tx.get(&stock)? {
///     0 => Ok(tx.retry()?),
///     n if n > 1_000 => Err(Stop::Abort("impossible")),
///     n => {
///         tx.write(&stock, n - 1);
///         Ok(())
///     }
/// });
/// assert!(matches!(taken, Err(TransactionError::TimedOut { .. })), "nobody brings anything");
/// ```
#[derive(Clone, Copy, Debug, Default)]
#[must_use = "it does nothing until it is run"]
pub struct Transact {
    retry: Retry,
    timeout: Option<Duration>,
}

impl Transact {
    /// Without any limit.
    pub const fn new() -> Self {
        Transact {
            retry: Retry::unbounded(),
            timeout: None,
        }
    }

    /// Bounds the attempts. One counts as failed when somebody else was faster, or when it waits. Default:
    /// unbounded.
    ///
    /// Pauses between attempts are short at first, up to 4 rounds of the processor's pause, then up to 8 and so on: a
    /// bound of a few attempts may be reached within a microsecond.
    pub const fn retries(mut self, retry: Retry) -> Self {
        self.retry = retry;
        self
    }

    /// Bounds the time from the start, after the attempt that is under way. Default: unbounded.
    ///
    /// In a task nobody wakes it for that: there the time is looked at when it is polled. A runtime's own
    /// timeout does better, and may drop the transaction at any moment.
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Runs `body` again until it commits, gives up, or a limit is reached.
    ///
    /// # Errors
    /// [`TransactionError`]. Nothing is published.
    /// # Progress
    /// As [`transaction`]; blocking, if `body` says [`retry`](Transaction::retry).
    pub fn run<'e, R, F>(
        self,
        body: impl FnMut(&Transaction<'e>) -> Result<R, Stop<F>>,
    ) -> Result<R, TransactionError<F>> {
        run(self.limits(), body)
    }

    /// The same as a future, on any runtime. `body` runs when it is polled, and isn't async itself: what it
    /// needs from elsewhere should be there before.
    ///
    /// It can be dropped at any moment, and then nothing is published, and no hook is called.
    ///
    /// # Examples
    /// ```
    /// use snapcell::{Entity, Stop, Transact};
    ///
    /// let jobs = Entity::new(vec![3, 1]);
    /// let next = Transact::new().start(|tx| {
    ///     let mut rest = tx.get(&jobs)?;
    ///     let Some(next) = rest.pop() else { return Ok(tx.retry()?) };
    ///     tx.write(&jobs, rest);
    ///     Ok::<_, Stop<()>>(next)
    /// });
    /// assert_eq!(pollster::block_on(next), Ok(1));
    /// ```
    pub fn start<'e, R, F, B>(self, body: B) -> Transacting<'e, R, F, B>
    where
        B: FnMut(&Transaction<'e>) -> Result<R, Stop<F>>,
    {
        Transacting {
            limits: self.limits(),
            attempts: 0,
            body,
            waits: None,
            belongings: Belongings::default(),
            result: PhantomData,
        }
    }

    fn limits(self) -> Limits {
        Limits {
            retry: self.retry,
            deadline: self.timeout.and_then(clock::deadline),
        }
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Limits {
    retry: Retry,
    deadline: Option<Instant>,
}

impl Limits {
    /// The error, if a limit is reached after so many attempts.
    fn reached<F>(&self, attempts: u32) -> Option<TransactionError<F>> {
        if self.retry.is_exhausted(attempts) {
            Some(TransactionError::Exhausted { attempts })
        } else if sleep::is_over(self.deadline) {
            Some(TransactionError::TimedOut { attempts })
        } else {
            None
        }
    }
}

/// What came of running the closure once.
enum Step<R, F> {
    Done(Result<R, TransactionError<F>>),
    Overtaken,
    Waits,
}

/// Runs the closure once, and commits what it has written, if nothing that it has read has changed.
fn step<'e, R, F>(
    tx: &mut Transaction<'e>,
    limits: &Limits,
    backoff: &mut Backoff,
    body: &mut impl FnMut(&Transaction<'e>) -> Result<R, Stop<F>>,
) -> Step<R, F> {
    tx.begin();
    let result = match body(tx) {
        Ok(_) if tx.log.is_doomed() => return Step::Overtaken,
        Ok(result) => result,
        Err(Stop::Restart(Restart(Why::Overtaken))) => return Step::Overtaken,
        // Computed from what was never current together, perhaps.
        Err(_) if !tx.log.is_consistent() => return Step::Overtaken,
        Err(Stop::Restart(Restart(Why::Retry))) => return Step::Waits,
        Err(Stop::Abort(error)) => return Step::Done(Err(TransactionError::Aborted(error))),
    };
    loop {
        match tx.log.attempt(1) {
            Attempted::Committed => break,
            Attempted::Refused { .. } => return Step::Overtaken,
            Attempted::VersionLimit { .. } => {
                return Step::Done(Err(TransactionError::VersionLimit));
            }
            // What was read is still current, as far as is known: the same values once more.
            Attempted::Lost => {
                if let Some(error) = limits.reached(tx.attempt) {
                    return Step::Done(Err(error));
                }
                backoff.lost();
                tx.attempt = tx.attempt.saturating_add(1);
            }
        }
    }
    tx.committed();
    Step::Done(Ok(result))
}

fn run<'e, R, F>(
    limits: Limits,
    mut body: impl FnMut(&Transaction<'e>) -> Result<R, Stop<F>>,
) -> Result<R, TransactionError<F>> {
    let mut backoff = Backoff::of_several();
    let mut tx = Transaction::new();
    loop {
        let is_wait = match step(&mut tx, &limits, &mut backoff, &mut body) {
            Step::Done(result) => return result,
            Step::Overtaken => false,
            Step::Waits => true,
        };
        if let Some(error) = limits.reached(tx.attempt) {
            return Err(error);
        }
        if !is_wait {
            backoff.lost();
            continue;
        }
        if !tx.log.has_reads() {
            return Err(TransactionError::NothingToWaitFor);
        }
        let waker = sleep::waker();
        if let Some(waits) = tx.take_log().wait(&waker, true) {
            while !waits.is_woken(&waker) {
                if !sleep::park(limits.deadline) {
                    let attempts = tx.attempt;
                    return Err(TransactionError::TimedOut { attempts });
                }
            }
        }
    }
}

/// A transaction in a task. Made by [`Transact::start`].
#[must_use = "it does nothing until it is awaited"]
pub struct Transacting<'e, R, F, B> {
    limits: Limits,
    attempts: u32,
    body: B,
    waits: Option<Waits<'e>>,
    /// Dropped only when it doesn't wait any more, or it would wake itself.
    belongings: Belongings,
    result: PhantomData<fn() -> (R, F)>,
}

/// Nothing in it is ever pinned.
impl<R, F, B> Unpin for Transacting<'_, R, F, B> {}

/// Attempts in one poll.
const AT_ONCE: u32 = 16;

impl<'e, R, F, B> Future for Transacting<'e, R, F, B>
where
    B: FnMut(&Transaction<'e>) -> Result<R, Stop<F>>,
{
    type Output = Result<R, TransactionError<F>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        if let Some(waits) = &this.waits
            && !waits.is_woken(cx.waker())
        {
            return match this.limits.reached::<F>(0) {
                Some(TransactionError::TimedOut { .. }) => {
                    this.waits = None;
                    this.belongings = Belongings::default();
                    Poll::Ready(Err(TransactionError::TimedOut {
                        attempts: this.attempts,
                    }))
                }
                _ => Poll::Pending,
            };
        }
        this.waits = None;
        this.belongings = Belongings::default();
        let mut backoff = Backoff::of_several();
        let mut tx = Transaction::new();
        tx.attempt = this.attempts;
        for _ in 0..AT_ONCE {
            let step = step(&mut tx, &this.limits, &mut backoff, &mut this.body);
            this.attempts = tx.attempt;
            let is_wait = match step {
                Step::Done(result) => return Poll::Ready(result),
                Step::Overtaken => false,
                Step::Waits => true,
            };
            if let Some(error) = this.limits.reached(tx.attempt) {
                return Poll::Ready(Err(error));
            }
            if is_wait {
                if !tx.log.has_reads() {
                    return Poll::Ready(Err(TransactionError::NothingToWaitFor));
                }
                this.waits = tx.take_log().wait(cx.waker(), false);
                if this.waits.is_some() {
                    this.belongings = tx.take_belongings();
                    tx.begin();
                    return Poll::Pending;
                }
            }
        }
        // Others have been faster each time. They get a chance to be done.
        tx.begin();
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl<R, F, B> fmt::Debug for Transacting<'_, R, F, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transacting")
            .field("attempts", &self.attempts)
            .field("is_waiting", &self.waits.is_some())
            .finish_non_exhaustive()
    }
}

/// A transaction that was not made. All entities are as they were.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TransactionError<F> {
    /// The closure gave up.
    Aborted(F),
    /// Others were faster, as often as the bound allows.
    Exhausted {
        /// How many attempts were made.
        attempts: u32,
    },
    /// It took too long.
    TimedOut {
        /// How many attempts were made.
        attempts: u32,
    },
    /// The closure wants to wait, and has read nothing that could change.
    NothingToWaitFor,
    /// The version of an entity is at its end.
    VersionLimit,
}

impl<F> TransactionError<F> {
    fn map<G>(self, f: impl FnOnce(F) -> G) -> TransactionError<G> {
        match self {
            TransactionError::Aborted(error) => TransactionError::Aborted(f(error)),
            TransactionError::Exhausted { attempts } => TransactionError::Exhausted { attempts },
            TransactionError::TimedOut { attempts } => TransactionError::TimedOut { attempts },
            TransactionError::NothingToWaitFor => TransactionError::NothingToWaitFor,
            TransactionError::VersionLimit => TransactionError::VersionLimit,
        }
    }
}

impl<F: fmt::Display> fmt::Display for TransactionError<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TransactionError::Aborted(error) => write!(f, "aborted: {error}"),
            TransactionError::Exhausted { attempts } => {
                write!(f, "gave up after attempt {attempts}, which lost too")
            }
            TransactionError::TimedOut { attempts } => {
                write!(f, "out of time after attempt {attempts}")
            }
            TransactionError::NothingToWaitFor => {
                f.write_str("the transaction waits for a change, and has read nothing")
            }
            TransactionError::VersionLimit => f.write_str("the version of an entity is at its end"),
        }
    }
}

impl<F: Error + 'static> Error for TransactionError<F> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            TransactionError::Aborted(error) => Some(error),
            _ => None,
        }
    }
}
