//! Shared state without locks.
//!
//! An [`Entity`] holds one immutable [`Snapshot`]: a value, and a [`Stamp`] with its version and
//! time. A change is a new snapshot, and a *commit* swaps it in by one compare-and-exchange that
//! succeeds only if the snapshot that the change was computed from is still current. Nobody waits
//! for a lock, nobody sees half of a change, no update is lost.
//!
//! ```
//! use snapcell::Entity;
//!
//! let balance = Entity::new(100_u64);
//! balance.update(|b| b + 50);                        // retried until it commits
//! let seen = balance.snapshot();                     // owned, immutable: keep it, send it
//! match balance.try_commit(seen.stamp(), 7) {        // only if nobody was faster
//!     Ok(committed) => println!("{}", committed.stamp()),
//!     Err(conflict) => println!("{} was overtaken by {}", conflict.proposed(), conflict.current()),
//! }
//! # assert_eq!(*balance.snapshot(), 7);
//! ```
//!
//! # Which read, which write?
//! The page of [`Entity`] has a table of each. In short: [`read`](Entity::read) for a short look,
//! [`snapshot`](Entity::snapshot) for what is kept, a [`Reader`] for hot loops;
//! [`update`](Entity::update) for what follows from the current value,
//! [`try_commit`](Entity::try_commit) for what was computed earlier,
//! [`commit_or_merge`](Entity::commit_or_merge) for what took long.
//!
//! # Several at once?
//! ```
//! use snapcell::Entity;
//!
//! let (ann, bob) = (Entity::new(100), Entity::new(0));
//! snapcell::transaction(|tx| {
//!     let amount = tx.get(&ann)?.min(30);            // all that is read existed at one moment
//!     tx.update(&ann, |n| n - amount)?;
//!     tx.update(&bob, |n| n + amount)?;              // all that is written takes effect at one moment
//!     Ok(())
//! });
//! let both = snapcell::snapshot_of((&ann, &bob));    // and this is what both were at one moment
//! assert_eq!((*both.0, *both.1), (70, 30));
//! ```
//! [`transaction()`] for changes that follow from what is read, [`transaction_or_abort`] for those that may
//! fail, [`Transact`] for limits and tasks, [`try_transaction`] for changes computed earlier,
//! [`snapshot_of`] to look. Parts of a transaction are functions that take `&Transaction`;
//! [patterns](guide::patterns) has a table of which to take. A thread that is stopped in the middle of one stops nobody: others finish it.
//!
//! # What was it before?
//! An entity that is built with [`Retain::All`], or [`Retain::last`], keeps its former snapshots:
//! [`history`](Entity::history), [`at`](Entity::at) a version, [`as_of`](Entity::as_of) a time, and
//! [`snapshot_as_of`] for several entities.
//!
//! # Many of them?
//! With the feature `store` there is `Store`: entities by id, indexes that agree with values at every instant,
//! histories, forks, and trees. The guide to stores begins with a table of which call.
//!
//! # Which goes first?
//! With the feature `scheduler` there is `Engine`: operations with classes and priorities. Those on one entity take
//! turns, the important ones first, and nobody waits for ever; `run` makes one at once, `submit` in its turn. The guide
//! to it begins with a table of which call.
//!
//! # Which wait?
//! [`changed`](Entity::changed) and [`wait_for`](Entity::wait_for) for one condition, awaited or
//! blocking; a [`Watch`] to follow an entity without keeping it open;
//! [`on_commit`](Entity::on_commit) for a closure that is to be called;
//! [`Transaction::retry`] for a change of any of several entities.
//!
//! # Guides
//! * [Limitations](guide::limitations): what it doesn't do, and what it costs. Read this first.
//! * [Patterns](guide::patterns): which read, which write, which wait; async; large values; one hot entity.
//! * `guide::scheduler`, with the feature `scheduler`: classes, priorities, and what happens under overload;
//!   `guide::numbers`: what its figures and events mean, and which to look at.
//! * `guide::migration`, with `store` and `scheduler`: from the names of the Python system that this crate replaces.
//! * [Guarantees](guide::guarantees): linearization point, progress and cost of each operation.
//! * [Orderings](guide::orderings): every atomic access, why it is ordered as it is, and the model
//!   that fails with a weaker one.
//! * [Comparison](guide::comparison): measured beside what one would use instead, defeats first.
//! * [Design](guide::design): why it is built like this, what was measured, what was rejected.
//!
//! # Features
//! * `serde`: `Serialize` for [`Stamp`], [`Snapshot`] and [`Entity`], and for the ids, versions, trees, differences and lineages of
//!   stores, and the metrics of engines; `Deserialize` for [`Stamp`], [`Entity`], ids and metrics.
//! * `store`: `Store`, entities by id; `Forest`, trees of them.
//! * `rayon`: `Store::par_update`, and `Forest::tree` looks at large trees on all processors. With it comes `store`.
//! * `scheduler`: `Engine`, operations with classes and priorities.
//! * `tokio`: `TokioSleep`, so that operations are tried again in tasks of tokio. With it comes `scheduler`.
//! * `tracing`: `Engine::trace_events`. With it comes `scheduler`.
//! * `metrics`: `Metrics::export`, for the facade of this name. With it comes `scheduler`.
//!
//! # Map
//! ```text
//! cell/       the safe face: Entity, Snapshot, Reader, commits, updates, transactions
//! raw/        the unsafe core: nodes, heads, verdicts, lanes, how they are reclaimed and recycled
//! clock       where time comes from
//! stamp       how version and time share a word
//! store/      entities by id (feature `store`): indexes, lineage, trees
//! scheduler/  operations (feature `scheduler`): classes, lanes, who goes first
//! sync/       the only door to atomics, with the table of all orderings
//! ```
//! Each imports only what lies below it. All unsafe code is in `raw/`.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod cell;
mod clock;
mod raw;
#[cfg(feature = "scheduler")]
mod scheduler;
mod stamp;
#[cfg(feature = "store")]
mod store;
mod sync;

pub use cell::{
    Builder, Callback, ChangeRefusal, Changes, Closed, CommitError, Committed, Entities, Entity,
    Guard, History, Invalid, Lag, Loaded, Merge, Missing, Moment, Projected, Reader, Refusal,
    Refused, Restart, Restarts, Retain, Retry, Snapshot, Stop, Target, TimedOut, Transact,
    Transacted, Transacting, Transaction, TransactionError, UpdateError, Updated, Waiting, Watch,
    destructor_panics, pin, reclaim, reclamation_lag, snapshot_as_of, snapshot_of, transaction,
    transaction_or_abort, try_transaction,
};
pub use clock::{Clock, ManualClock};
#[cfg(feature = "tokio")]
#[cfg_attr(docsrs, doc(cfg(feature = "tokio")))]
pub use scheduler::TokioSleep;
#[cfg(feature = "scheduler")]
#[cfg_attr(docsrs, doc(cfg(feature = "scheduler")))]
pub use scheduler::{
    About, Body, ChainError, Class, ClassError, ClassPolicy, CleanUpError, Cleaned, Complaint,
    Context, Counts, DelayError, DryRun, Engine, EngineBuilder, Event, EventKind, EventKinds,
    Events, Failure, Finding, HandlerPriority, Health, HealthState, Hierarchy, HierarchyError,
    IllegalTransition, KindMetrics, Listener, Measured, Metrics, Next, NoRegistry, NotTaken,
    Operation, OperationError, OperationId, Operations, Panic, Policies, Policy, PolicyError,
    Priority, PriorityError, Protection, Query, Reason, Rejection, Resolved, RetryPolicy, ShutDown,
    Situation, Sleep, Spread, Stage, State, Statistics, Status, StillBusy, Stuck, StuckOperation,
    SubmitError, Submitted, Subscription, TargetId, TargetMetrics, Targets, Thresholds, Ticket,
    Times, Trace, What,
};
pub use stamp::{ParseStampError, Stamp};
#[cfg(feature = "store")]
#[cfg_attr(docsrs, doc(cfg(feature = "store")))]
pub use store::{
    Absent, Attribute, Attributes, BorrowError, Changed, Children, Diff, Edge, Edit, EntityId,
    Follower, Forest, ForestError, Handle, IdKind, Ids, Inconsistent, Index, Key, Lineage,
    LineageEntry, LineageId, MergeError, MergeRecord, Merged, Moved, Nodes, Origin, ParseIdError,
    PastError, Place, Removed, Repeated, Repetition, Shape, Source, Sources, Store, StoreBuilder,
    StoreError, StoreRefusal, Tree, TreeError, TreeNode, Unknown, Version, VersionError, Versioned,
    Versions, WeakHandle, WeakStore, Within,
};

/// The guides. Everything in them that is code is compiled and run.
pub mod guide {
    #[doc = include_str!("docs/limitations.md")]
    pub mod limitations {}

    #[doc = include_str!("docs/patterns.md")]
    pub mod patterns {}

    #[doc = include_str!("docs/guarantees.md")]
    pub mod guarantees {}

    #[doc = include_str!("docs/orderings.md")]
    pub mod orderings {}

    #[cfg(feature = "store")]
    #[cfg_attr(docsrs, doc(cfg(feature = "store")))]
    #[doc = include_str!("docs/store.md")]
    pub mod store {}

    #[cfg(feature = "scheduler")]
    #[cfg_attr(docsrs, doc(cfg(feature = "scheduler")))]
    #[doc = include_str!("docs/scheduler.md")]
    pub mod scheduler {}

    #[cfg(feature = "scheduler")]
    #[cfg_attr(docsrs, doc(cfg(feature = "scheduler")))]
    #[doc = include_str!("docs/numbers.md")]
    pub mod numbers {}

    #[cfg(all(feature = "store", feature = "scheduler"))]
    #[cfg_attr(docsrs, doc(cfg(all(feature = "store", feature = "scheduler"))))]
    #[doc = include_str!("docs/migration.md")]
    pub mod migration {}

    #[doc = include_str!("docs/comparison.md")]
    pub mod comparison {}

    #[doc = include_str!("../DESIGN.md")]
    pub mod design {}

    #[cfg(all(doctest, feature = "store", feature = "scheduler"))]
    #[doc = include_str!("../README.md")]
    mod readme {}
}

/// The orderings and planted faults as data, and the hooks of the model builds. For this crate's own
/// tests; nothing here is stable.
#[doc(hidden)]
pub mod internals {
    #[cfg(feature = "store")]
    pub use crate::cell::ArenaParts;
    #[cfg(feature = "scheduler")]
    pub use crate::scheduler::parts;
    #[cfg(feature = "scheduler")]
    pub use crate::scheduler::reservation::{Claim, Reservation};
    pub use crate::sync::fault::Fault;
    pub use crate::sync::orderings::{Access, Row, TABLE, Weakening};

    /// Whether entities that were looked at one by one still have the stamps that they were seen with: the part of
    /// one thread.
    #[cfg(feature = "store")]
    pub fn are_unchanged<T: Send + Sync + 'static>(
        seen: &[(&crate::Entity<T>, crate::Stamp)],
    ) -> bool {
        crate::cell::is_unchanged(seen.iter().copied())
    }

    /// Starts an execution of a model.
    #[cfg(any(snapcell_model, snapcell_shuttle))]
    pub fn begin() {
        crate::sync::oracle::begin();
        crate::raw::rings::begin();
    }

    /// Ends an execution of a model: nobody may be pinned, and nothing may be left to do.
    #[cfg(any(snapcell_model, snapcell_shuttle))]
    pub fn end() {
        leave();
        crate::sync::oracle::end();
    }

    /// What transactions did since this was asked last: helps, installs by helpers, aborts of what others
    /// could see, installs after the verdict.
    #[cfg(any(snapcell_model, snapcell_shuttle))]
    pub fn coverage() -> [usize; 4] {
        crate::sync::coverage::take()
    }

    /// What the end of a thread does; in models it has to be called before the thread's end.
    #[cfg(any(snapcell_model, snapcell_epoch_model, snapcell_shuttle))]
    pub fn leave() {
        crate::raw::reclaim::leave();
    }
}
