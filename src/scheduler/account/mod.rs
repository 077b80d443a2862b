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
#![forbid(unsafe_code)]

pub(super) mod event;
#[cfg(any(feature = "tracing", feature = "metrics"))]
mod export;
pub(super) mod feed;
pub(super) mod handlers;
pub(super) mod histogram;
pub(super) mod metrics;
pub(super) mod tally;

pub use event::{About, Event, EventKind, EventKinds, Failure, TargetId, What};
pub use feed::Events;
pub use handlers::{HandlerPriority, Listener, Subscription};
pub use histogram::Spread;
pub use metrics::{KindMetrics, Metrics, TargetMetrics};
pub use tally::Counts;
