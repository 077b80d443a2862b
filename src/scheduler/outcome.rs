//! How an operation ends if it doesn't succeed.
#![forbid(unsafe_code)]

use super::id::OperationId;
use super::priority::Priority;
use std::any::Any;
use std::error::Error;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// An operation that did not succeed. Its entities are as they were; but for [`SelfConflict`](OperationError::SelfConflict) and
/// [`MayDeadlock`](OperationError::MayDeadlock), which say that it was not waited for.
///
/// `F` is the error of its closure.
#[non_exhaustive]
pub enum OperationError<F> {
    /// Its closure returned an error.
    Refused(F),
    /// The validator of the entity refused the value, and says why.
    Invalid(Box<dyn Error + Send + Sync>),
    /// Its closure panicked. Nobody else noticed.
    Panicked(Panic),
    /// The version of the entity is at its end.
    VersionLimit,
    /// The scheduler has ended it.
    Rejected(Rejection),
    /// It was cancelled, or the engine was shut down, before it ran.
    Cancelled,
    /// It wants a target of the very operation that waits for it, which could never go on. Where a [`Ticket`](crate::Ticket)
    /// says so, the operation itself goes on, and may still succeed.
    SelfConflict,
    /// It is waited for inside an operation that it isn't part of, without a deadline: they might wait for each
    /// other. It goes on by itself, and may still succeed.
    MayDeadlock,
    /// The engine doesn't take it.
    NotTaken(NotTaken),
}

/// Why an engine doesn't take an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotTaken {
    /// As many wait as may, and none of them is less important.
    #[error("the queue is full, and nothing in it is less important")]
    Overloaded,
    /// The engine is shut down.
    #[error("the engine is shut down")]
    ShutDown,
    /// The engine knows no such class.
    #[error("the engine knows no such class")]
    UnknownClass,
    /// The class doesn't allow this priority.
    #[error("priority {} is not one that the class allows: from {} to {}", priority.get(), floor.get(), ceiling.get())]
    Priority {
        /// The priority.
        priority: Priority,
        /// The lowest that the class allows.
        floor: Priority,
        /// The highest that it allows.
        ceiling: Priority,
    },
    /// It has no target.
    #[error("the operation has no target")]
    NoTarget,
}

impl<F> OperationError<F> {
    /// Why the scheduler has ended it, if it has.
    #[must_use]
    pub fn rejection(&self) -> Option<&Rejection> {
        match self {
            OperationError::Rejected(rejection) => Some(rejection),
            _ => None,
        }
    }

    /// The error of the closure, if that is what it is.
    #[must_use]
    pub fn into_refused(self) -> Option<F> {
        match self {
            OperationError::Refused(error) => Some(error),
            _ => None,
        }
    }
}

impl<F: fmt::Debug> fmt::Debug for OperationError<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OperationError::Refused(error) => f.debug_tuple("Refused").field(error).finish(),
            OperationError::Invalid(error) => f.debug_tuple("Invalid").field(error).finish(),
            OperationError::Panicked(panic) => f.debug_tuple("Panicked").field(panic).finish(),
            OperationError::VersionLimit => f.write_str("VersionLimit"),
            OperationError::Rejected(why) => f.debug_tuple("Rejected").field(why).finish(),
            OperationError::Cancelled => f.write_str("Cancelled"),
            OperationError::SelfConflict => f.write_str("SelfConflict"),
            OperationError::MayDeadlock => f.write_str("MayDeadlock"),
            OperationError::NotTaken(why) => f.debug_tuple("NotTaken").field(why).finish(),
        }
    }
}

impl<F: fmt::Display> fmt::Display for OperationError<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OperationError::Refused(error) => error.fmt(f),
            OperationError::Invalid(error) => write!(f, "the value is invalid: {error}"),
            OperationError::Panicked(panic) => panic.fmt(f),
            OperationError::VersionLimit => f.write_str("the version is at its end"),
            OperationError::Rejected(why) => why.fmt(f),
            OperationError::Cancelled => f.write_str("the operation was cancelled"),
            OperationError::SelfConflict => {
                f.write_str("the operation wants a target of the one that waits for it")
            }
            OperationError::MayDeadlock => f.write_str(
                "the operation is waited for inside another one that it isn't part of, without a deadline",
            ),
            OperationError::NotTaken(why) => why.fmt(f),
        }
    }
}

impl<F: fmt::Debug + fmt::Display> Error for OperationError<F> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            OperationError::Invalid(error) => Some(&**error),
            _ => None,
        }
    }
}

/// An operation that the engine doesn't take.
pub struct SubmitError<O> {
    operation: Box<O>,
    why: NotTaken,
}

impl<O> SubmitError<O> {
    pub(super) fn new(operation: O, why: NotTaken) -> Self {
        SubmitError {
            operation: Box::new(operation),
            why,
        }
    }

    /// Why.
    #[must_use]
    pub fn why(&self) -> NotTaken {
        self.why
    }

    /// Whether as many wait as may, and none of them is less important.
    #[must_use]
    pub fn is_overloaded(&self) -> bool {
        self.why == NotTaken::Overloaded
    }

    /// The operation.
    #[must_use]
    pub fn into_operation(self) -> O {
        *self.operation
    }
}

impl<O> fmt::Debug for SubmitError<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SubmitError").field(&self.why).finish()
    }
}

impl<O> fmt::Display for SubmitError<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.why.fmt(f)
    }
}

impl<O> Error for SubmitError<O> {}

/// Why, and after how many attempts, the scheduler has ended an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// Why.
    pub reason: Reason,
    /// How important it was at last.
    pub priority: Priority,
    /// How often it was attempted.
    pub attempts: u32,
}

/// Why the scheduler has ended an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// Others were faster, as often as its budget allows.
    Exhausted {
        /// The budget of retries.
        retries: u32,
    },
    /// It has waited for as long as its class is patient.
    Expired {
        /// For how long that is.
        patience: Duration,
    },
    /// A more important one, or an earlier one, has won the round; see
    /// [`Policy::WinnerTakesAll`](crate::Policy::WinnerTakesAll).
    Lost {
        /// Who.
        winner: OperationId,
        /// How important that one was.
        priority: Priority,
    },
    /// The queue was full, and a more important one took its place.
    Evicted,
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mine = self.priority.get();
        match self.reason {
            Reason::Exhausted { retries } => write!(f, "Max retries ({retries}) exceeded"),
            Reason::Expired { patience } => {
                write!(f, "the operation has waited for longer than {patience:?}")
            }
            Reason::Lost { winner, priority } => write!(
                f,
                "the operation, of priority {mine}, lost to {winner}, of priority {}",
                priority.get()
            ),
            Reason::Evicted => write!(
                f,
                "the queue was full, and the operation, of priority {mine}, made room"
            ),
        }
    }
}

impl Error for Rejection {}

/// What a closure has panicked with.
pub struct Panic(Mutex<Box<dyn Any + Send>>);

impl Panic {
    pub(super) fn new(payload: Box<dyn Any + Send>) -> Self {
        Panic(Mutex::new(payload))
    }

    /// The payload, as [`resume_unwind`](std::panic::resume_unwind) takes it.
    #[must_use]
    pub fn into_payload(self) -> Box<dyn Any + Send> {
        self.0.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    /// The message, if it is a text.
    #[must_use]
    pub fn message(&self) -> Option<String> {
        let payload = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let text = payload.downcast_ref::<&str>().map(ToString::to_string);
        text.or_else(|| payload.downcast_ref::<String>().cloned())
    }
}

impl fmt::Debug for Panic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Panic").field(&self.message()).finish()
    }
}

impl fmt::Display for Panic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.message() {
            Some(message) => write!(f, "the closure panicked: {message}"),
            None => f.write_str("the closure panicked"),
        }
    }
}
