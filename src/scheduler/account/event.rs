//! What is told of operations: plain data.
#![forbid(unsafe_code)]

use super::super::class::Class;
use super::super::id::OperationId;
use super::super::outcome::Rejection;
use super::super::priority::Priority;
use crate::cell::{Entity, Lag};
use crate::stamp::Stamp;
use std::fmt;
use std::ops::BitOr;
use std::time::Duration;

/// Something that has happened to an operation, or to the engine.
///
/// Those of one operation come in this order; its [`id`](About::id) is the same in all of them.
///
/// ```text
/// Started ─▶ ( Conflict ─▶ [ Retry ─▶ [ Preempted ] ] | Preempted )* ─▶ Completed | Failed | Rejected | Cancelled
/// ```
/// It is `Preempted` without a conflict where it has stepped back for what is reserved.
///
/// What ends before it has begun has no `Started`. The first phase of an operation in two is no beginning; if that
/// fails, both are told afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Event {
    /// When, on the engine's clock.
    pub at: Duration,
    /// Which operation, if it is about one.
    pub operation: Option<About>,
    /// What.
    pub what: What,
}

impl Event {
    #[inline(always)]
    pub(in super::super) fn new(at: u64, operation: Option<About>, what: What) -> Self {
        Event {
            at: Duration::from_nanos(at),
            operation,
            what,
        }
    }

    /// One that is about no operation.
    pub(super) fn at(at: Duration, what: What) -> Self {
        Event {
            at,
            operation: None,
            what,
        }
    }

    /// Of which kind it is.
    #[must_use]
    pub fn kind(&self) -> EventKind {
        self.what.kind()
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.operation {
            Some(about) => write!(f, "{about} {}", self.what),
            None => self.what.fmt(f),
        }
    }
}

/// The operation that an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct About {
    /// What tells it from all others of its engine. What is [run](crate::Engine::run) on its caller's thread gets one
    /// when something is told of it.
    pub id: OperationId,
    /// What it is called in reports.
    pub name: &'static str,
    /// Its class.
    pub class: Class,
    /// How important it is: its own priority, or a higher one of who depends on it.
    pub priority: Priority,
    /// Its own priority.
    pub own: Priority,
    /// Its target; if it has several, the one by whose lane it went.
    pub target: TargetId,
    /// What it is part of, if that was submitted to the same engine.
    pub parent: Option<OperationId>,
    /// The outermost operation of the same engine that it is part of, or itself.
    pub root: OperationId,
    /// How often it was tried again.
    pub retries: u32,
    /// How often it may be.
    pub budget: u32,
}

impl fmt::Display for About {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {}, priority {},",
            self.name,
            self.id,
            self.priority.get()
        )
    }
}

/// What has happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum What {
    /// It runs, for the first time.
    Started,
    /// Somebody was faster than an attempt.
    Conflict {
        /// The stamp that the attempt was computed from. `None` where it isn't known: for transactions, which have several,
        /// for folds, and for what is run at once.
        expected: Option<Stamp>,
        /// The stamp that it found.
        found: Option<Stamp>,
    },
    /// It will be tried again.
    Retry {
        /// How often it was tried again, this time included.
        number: u32,
        /// How often it may be.
        budget: u32,
        /// How long it stays away before.
        delay: Duration,
    },
    /// It waits for its turn again, since somebody more important has come.
    Preempted {
        /// How important that one is.
        by: Priority,
    },
    /// The scheduler has ended it.
    Rejected(Rejection),
    /// It has committed.
    Completed {
        /// The stamp of what it has published. `None` for transactions.
        stamp: Option<Stamp>,
        /// How long it took, since it was submitted or run. Zero, if it was run and nobody listened when it began.
        took: Duration,
    },
    /// It has succeeded, and found nothing to change. Of the kind [`Completed`](EventKind::Completed), too.
    Unchanged {
        /// The stamp of what it has found. `None` for transactions.
        stamp: Option<Stamp>,
        /// As above.
        took: Duration,
    },
    /// It has failed.
    Failed(Failure),
    /// It was cancelled.
    Cancelled,
    /// More waits to be freed than the [thresholds](crate::Thresholds) allow.
    ReclamationStalled(Lag),
    /// Something else is beyond its threshold: what [`Engine::health`](crate::Engine::health) has found.
    Alert(&'static str),
}

impl What {
    /// Of which kind it is.
    #[must_use]
    pub fn kind(&self) -> EventKind {
        match self {
            What::Started => EventKind::Started,
            What::Conflict { .. } => EventKind::Conflict,
            What::Retry { .. } => EventKind::Retry,
            What::Preempted { .. } => EventKind::Preempted,
            What::Rejected(_) => EventKind::Rejected,
            What::Completed { .. } | What::Unchanged { .. } => EventKind::Completed,
            What::Failed(_) => EventKind::Failed,
            What::Cancelled => EventKind::Cancelled,
            What::ReclamationStalled(_) => EventKind::ReclamationStalled,
            What::Alert(_) => EventKind::Alert,
        }
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            What::Started => f.write_str("has begun"),
            What::Conflict {
                expected: Some(expected),
                found: Some(found),
            } => write!(f, "expected {expected} and found {found}"),
            What::Conflict { .. } => f.write_str("was overtaken"),
            What::Retry {
                number,
                budget,
                delay,
            } => write!(f, "is tried again ({number} of {budget}) after {delay:?}"),
            What::Preempted { by } => write!(f, "makes way for one of priority {}", by.get()),
            What::Rejected(why) => write!(f, "was rejected: {why}"),
            What::Completed { took, .. } => write!(f, "has committed after {took:?}"),
            What::Unchanged { took, .. } => write!(f, "found nothing to change after {took:?}"),
            What::Failed(failure) => write!(f, "has failed: {failure}"),
            What::Cancelled => f.write_str("was cancelled"),
            What::ReclamationStalled(lag) => write!(
                f,
                "{} snapshots, {} bytes, wait to be freed",
                lag.nodes, lag.bytes
            ),
            What::Alert(what) => f.write_str(what),
        }
    }
}

/// How an operation has failed. Its error itself belongs to whoever waits for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// Its closure returned an error.
    #[error("its closure refused")]
    Refused,
    /// The validator of the entity refused the value.
    #[error("the value is invalid")]
    Invalid,
    /// Its closure panicked.
    #[error("its closure panicked")]
    Panicked,
    /// The version of the entity is at its end.
    #[error("the version is at its end")]
    VersionLimit,
    /// It could not have gone on, or the engine doesn't take it any more.
    #[error("it could not go on")]
    Stuck,
}

/// The kinds of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[repr(u8)]
#[allow(missing_docs, reason = "`What` tells what they mean")]
pub enum EventKind {
    Started,
    Conflict,
    Retry,
    Preempted,
    Rejected,
    Completed,
    Failed,
    Cancelled,
    ReclamationStalled,
    Alert,
}

/// A set of kinds of events.
///
/// # Examples
/// ```
/// use snapcell::{EventKind, EventKinds};
///
/// let ends = EventKind::Completed | EventKind::Failed | EventKind::Rejected | EventKind::Cancelled;
/// assert!(ends.contains(EventKind::Failed) && !ends.contains(EventKind::Started));
/// assert!(EventKinds::ALL.contains(EventKind::Started));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct EventKinds(usize);

impl EventKinds {
    /// All of them.
    pub const ALL: EventKinds = EventKinds((1 << (EventKind::Alert as usize + 1)) - 1);
    /// Those that end an operation.
    pub const ENDS: EventKinds = EventKinds(
        1 << EventKind::Completed as usize
            | 1 << EventKind::Failed as usize
            | 1 << EventKind::Rejected as usize
            | 1 << EventKind::Cancelled as usize,
    );

    /// Those about operations.
    pub(super) const OF_OPERATIONS: EventKinds = EventKinds(
        EventKinds::ALL.0
            & !(1 << EventKind::ReclamationStalled as usize | 1 << EventKind::Alert as usize),
    );

    /// Whether this kind is one of them.
    #[must_use]
    pub const fn contains(self, kind: EventKind) -> bool {
        self.0 >> kind as usize & 1 == 1
    }

    pub(super) const fn bits(self) -> usize {
        self.0
    }
}

impl From<EventKind> for EventKinds {
    fn from(kind: EventKind) -> Self {
        EventKinds(1 << kind as usize)
    }
}

impl<const N: usize> From<[EventKind; N]> for EventKinds {
    fn from(kinds: [EventKind; N]) -> Self {
        kinds.into_iter().collect()
    }
}

impl FromIterator<EventKind> for EventKinds {
    fn from_iter<I: IntoIterator<Item = EventKind>>(kinds: I) -> Self {
        kinds
            .into_iter()
            .fold(EventKinds::default(), |all, kind| all | kind)
    }
}

impl<K: Into<EventKinds>> BitOr<K> for EventKinds {
    type Output = EventKinds;

    fn bitor(self, other: K) -> EventKinds {
        EventKinds(self.0 | other.into().0)
    }
}

impl<K: Into<EventKinds>> BitOr<K> for EventKind {
    type Output = EventKinds;

    fn bitor(self, other: K) -> EventKinds {
        EventKinds::from(self) | other
    }
}

/// What tells a target from all others while it exists.
///
/// # Examples
/// ```
/// use snapcell::{Entity, TargetId};
///
/// let (one, other) = (Entity::new(1), Entity::new(1));
/// assert_eq!(TargetId::of(&one), TargetId::of(&one.clone()));
/// assert_ne!(TargetId::of(&one), TargetId::of(&other));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TargetId(pub(in super::super) usize);

impl TargetId {
    /// That of an entity. It is the same for all its handles, and may be given out again when the last one is gone.
    #[must_use]
    pub fn of<T: Send + Sync + 'static, E: 'static>(entity: &Entity<T, E>) -> Self {
        TargetId(entity.rank())
    }
}

impl fmt::Display for TargetId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

/// It is copied into each ring, so it has to be small.
const _: () = assert!(size_of::<Event>() <= 128);
