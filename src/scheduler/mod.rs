//! Operations, and who goes first.
//!
//! | file | hides |
//! |---|---|
//! | `priority`, `class` | how important an operation may be, and what follows from that |
//! | `retry` | when a loser tries again: a pure function |
//! | `reservation` | how somebody important keeps others off an entity for a while: one word |
//! | `policy` | what becomes of operations that want the same entity |
//! | `operation`, `body` | what an operation does |
//! | `status` | how far it is, and the only ways that may change |
//! | `header` | what the scheduler knows of it, whatever it does |
//! | `record` | an operation that was submitted: status, answer, parents and children |
//! | `outcome` | how it ends if it doesn't succeed |
//! | `ticket` | what whoever has submitted it holds |
//! | `stage` | several that are submitted at the same moment |
//! | `current` | which operation this thread is in |
//! | `local` | what a thread remembers of the engine that it used last |
//! | `queue` | the order in which operations of a lane are picked |
//! | `lane` | what waits for one entity, and how much that is |
//! | `ready` | which lanes are to be served, the important ones first |
//! | `serve` | how that is done |
//! | `fold` | how several are published by one commit |
//! | `run` | how an operation is run beside its lane |
//! | `short` | how whoever submits one that is short runs it |
//! | `many` | the same for several |
//! | `timer` | who stays away before it is tried again |
//! | `claiming` | how it deals with the reservation of its target |
//! | `ledger`, `gate` | how many are under way, and what is noted of them |
//! | `account` | what happened: events, and figures that add up |
//! | `shared` | how an operation is taken in, given its lane, and sent on its way |
//! | `engine`, `builder` | the whole, and what it may be told |
//! | `parts` | how models get at all this |
//! | `protect` | the same in one call, as strong as one likes |
//! | `task` | the same in tasks |
//! | `trace` | an operation as an entity |
//! | `hierarchy` | effective priorities, where parents are ids from outside |
#![forbid(unsafe_code)]

mod account;
mod body;
mod builder;
mod claiming;
mod class;
mod current;
mod engine;
mod fold;
mod gate;
mod header;
mod hierarchy;
mod id;
mod lane;
mod ledger;
mod local;
mod many;
mod operation;
mod outcome;
pub mod parts;
mod policy;
mod priority;
mod protect;
mod queue;
mod ready;
mod record;
pub(crate) mod reservation;
mod retry;
mod run;
mod serve;
mod shared;
mod short;
mod stage;
mod status;
mod task;
mod ticket;
mod timer;
mod trace;

pub use account::{
    About, ChainError, CleanUpError, Cleaned, Counts, DryRun, Event, EventKind, EventKinds, Events,
    Failure, Finding, HandlerPriority, Health, HealthState, KindMetrics, Listener, Measured,
    Metrics, NoRegistry, Operations, Query, Resolved, Spread, Statistics, Stuck, StuckOperation,
    Subscription, TargetId, TargetMetrics, Thresholds, What,
};
pub use body::{Body, Complaint, Targets};
pub use builder::EngineBuilder;
pub use class::{Class, ClassError, ClassPolicy, Policies, PolicyError};
pub use current::Context;
pub use engine::{Engine, ShutDown, StillBusy};
pub use hierarchy::{Hierarchy, HierarchyError};
pub use id::OperationId;
pub use operation::Operation;
pub use outcome::{NotTaken, OperationError, Panic, Reason, Rejection, SubmitError};
pub use policy::Policy;
pub use priority::{Priority, PriorityError};
pub use protect::Protection;
pub use retry::{DelayError, Next, RetryPolicy, Situation};
pub use stage::Stage;
pub use status::{IllegalTransition, State, Status};
pub use task::Sleep;
#[cfg(feature = "tokio")]
pub use task::TokioSleep;
pub use ticket::{Submitted, Ticket, Times};
pub use trace::Trace;
