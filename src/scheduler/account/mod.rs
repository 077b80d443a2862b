//! What happened: events as they come, and figures that add up.
//!
//! | file | hides |
//! |---|---|
//! | `event` | what is told of operations: plain data |
//! | `feed` | how that gets to whoever listens, without anybody waiting |
//! | `handlers` | closures that are called, on a thread of their own, in an order |
//! | `tally` | how many there were, and how they ended: counts of each thread's own |
//! | `histogram` | how long things took |
//! | `metrics` | all that as plain data, and as a report |
//! | `export` | the same for those who collect it from many crates |
//! | `registry` | where the rows of operations are: shards, each under one lock |
//! | `rows` | what is in a shard, and by what it is found |
//! | `query` | what may be asked |
//! | `retention` | which rows are let go of |
//! | `report` | what is said of many rows: statistics, and what is stuck |
//! | `resolve` | who stays of those that want the same target |
//! | `health` | when an engine isn't well |
#![forbid(unsafe_code)]

pub(super) mod event;
#[cfg(any(feature = "tracing", feature = "metrics"))]
mod export;
pub(super) mod feed;
pub(super) mod handlers;
mod health;
pub(super) mod histogram;
pub(super) mod metrics;
mod query;
pub(super) mod registry;
mod report;
mod resolve;
mod retention;
mod rows;
pub(super) mod tally;

pub use event::{About, Event, EventKind, EventKinds, Failure, TargetId, What};
pub use feed::Events;
pub use handlers::{HandlerPriority, Listener, Subscription};
pub use health::{Finding, Health, HealthState, Measured, Thresholds};
pub use histogram::Spread;
pub use metrics::{KindMetrics, Metrics, TargetMetrics};
pub use query::{ChainError, Operations, Query};
pub use report::{Statistics, Stuck, StuckOperation};
pub use resolve::{NoRegistry, Resolved};
pub use retention::{CleanUpError, Cleaned, DryRun};
pub use tally::Counts;
